"""Small worlds drawn at random: what we call consistent is, what we call impossible has no way.

A world is a host, an index and a request over a handful of names. Whether a request can be met
is found by trying everything; whether what a process sees fits together, by what ``pip check``
looks at, in the facts of the lock for many worlds and in real processes for a few.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import packaging
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from uv import find_uv_bin

from tests import fakes
from tests.scenarios.hosts import Host
from tests.uv.conftest import line, this_interpreter
from tests.wheels import build_wheel
from xinference_venv._util.tasks import ignore
from xinference_venv.client import local_client
from xinference_venv.errors import ResolutionFailed
from xinference_venv.planning.host import HostDistribution, HostFacts
from xinference_venv.planning.lock import EnvLock, Role, locked_distributions
from xinference_venv.planning.overlay import hidden_names, host_part, shown_names
from xinference_venv.planning.pylock import Resolution
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.sources import PackageSources
from xinference_venv.settings import InheritMode
from xinference_venv.uv.environment import scrubbed_environment
from xinference_venv.uv.passes import Passes
from xinference_venv.uv.resolver import Resolver
from xinference_venv.uv.stub_wheels import write_stubs
from xinference_venv.uv.subprocess import ProcessRunner, Uv

pytestmark = pytest.mark.uv

Releases = Mapping[str, Mapping[str, tuple[str, ...]]]
"""What each version of each name requires."""

NAMES = ("ant", "bee", "cat", "dog")
VERSIONS = ("1.0", "1.1", "2.0")


@dataclass(frozen=True, kw_only=True)
class World:
    """A host and an index, and what is asked of them; `compiled` names packages of the host."""

    host: Releases
    index: Releases
    request: tuple[str, ...]
    roots: tuple[str, ...]
    mode: InheritMode
    constraints: tuple[str, ...] = ()
    compiled: frozenset[str] = frozenset()

    @property
    def facts(self) -> HostFacts:
        """The host as its scan would find it."""
        distributions: list[HostDistribution] = [
            fakes.distribution(name, version, *requires, compiled=name in self.compiled)
            for name, releases in self.host.items()
            for version, requires in releases.items()
        ]
        return fakes.host(*distributions, interpreter=this_interpreter())

    @property
    def wanted(self) -> list[Requirement]:
        """All that must be there."""
        return [Requirement(text) for text in (*self.request, *self.roots)]

    @property
    def bounds(self) -> list[Requirement]:
        """What each has to meet that is there."""
        return [Requirement(text) for text in self.constraints]


names = st.sampled_from(NAMES)
requirements = st.builds(
    "{}{}".format, names, st.sampled_from(["", "", ">=1.1", "<2", ">=2", "==1.0", "!=1.1"])
)
some_requirements = st.lists(requirements, max_size=2).map(tuple)


def releases(most: int) -> st.SearchStrategy[Releases]:
    """For each of some names so many versions at most, with what they require."""
    of_one = st.dictionaries(
        st.sampled_from(VERSIONS), some_requirements, min_size=1, max_size=most
    )
    return st.dictionaries(names, of_one, min_size=2)


worlds = st.builds(
    World,
    host=releases(1),
    index=releases(3),
    request=st.lists(requirements, min_size=1, max_size=3).map(tuple),
    roots=st.lists(names, max_size=1).map(tuple),
    mode=st.sampled_from([InheritMode.HOST, InheritMode.EXACT]),
    constraints=some_requirements,
)
compiled_worlds = st.builds(
    lambda world, compiled: replace(world, compiled=compiled), worlds, st.frozensets(names)
)


# By trying everything


def solutions(world: World, *, of_host_alone: bool = False) -> Iterator[dict[str, str]]:
    """Every set of releases, of host and index, that serves the request and what it needs."""
    choices: dict[str, list[tuple[str, list[Requirement]] | None]] = {}
    for name in NAMES:
        choices[name] = [None]
        for version, requires in world.host.get(name, {}).items():
            choices[name].append((version, [_relaxed(text, world) for text in requires]))
        for version, requires in world.index.get(name, {}).items():
            # Where the host's copy of a version can't serve, the index's may.
            if not of_host_alone:
                choices[name].append((version, [Requirement(text) for text in requires]))
    for chosen in product(*choices.values()):
        there = {name: each for name, each in zip(NAMES, chosen, strict=True) if each is not None}
        needed = [*world.wanted, *(need for _, needs in there.values() for need in needs)]
        bounds = [bound for bound in world.bounds if bound.name in there]
        if all(
            need.name in there and need.specifier.contains(there[need.name][0])
            for need in (*needed, *bounds)
        ):
            yield {name: version for name, (version, _) in there.items()}


def _relaxed(text: str, world: World) -> Requirement:
    """What a package of the host requires: a version that the host violates is no condition."""
    requirement = Requirement(text)
    for version in world.host.get(requirement.name, {}):
        if not requirement.specifier.contains(version):
            return Requirement(requirement.name)
    return requirement


# What a process would see


@dataclass(frozen=True, kw_only=True)
class View:
    """The distributions that a process sees: the version and what it requires, by name."""

    versions: Mapping[str, str]
    requires: Mapping[str, Sequence[str]]

    @property
    def faults(self) -> set[tuple[str, str, str]]:
        """What ``pip check`` would find: name, version and the requirement that is not met."""
        found = set()
        for name, texts in self.requires.items():
            for requirement in map(Requirement, texts):
                version = self.versions.get(requirement.name)
                if version is None or not requirement.specifier.contains(version):
                    found.add((name, self.versions[name], str(requirement)))
        return found


def view_of_host(world: World) -> View:
    """The host as a process of its own sees it."""
    each = [(name, *of) for name, found in world.host.items() for of in found.items()]
    return View(
        versions={name: version for name, version, _ in each},
        requires={name: requires for name, _, requires in each},
    )


def view_of(lock: EnvLock, world: World) -> View:
    """What a process in an environment of this lock sees."""
    host = view_of_host(world)
    shown = shown_names(lock, world.facts, ())
    versions = {name: host.versions[name] for name in shown}
    requires = {name: host.requires[name] for name in shown}
    for name, version in lock.installed.items():
        assert version is not None and name not in versions
        versions[name], requires[name] = version, world.index[name][version]
    return View(versions=versions, requires=requires)


async def resolved(world: World, folder: Path, uv: Uv) -> tuple[Resolution, EnvLock]:
    """The resolution of a world's request, and the lock of it."""
    for each in ("index", "stubs", "scratch"):
        (folder / each).mkdir()
    for name, versions in world.index.items():
        for version, requires in versions.items():
            build_wheel(folder / "index", name, version, requires=requires)
    write_stubs(world.facts, folder / "stubs")
    spec = fakes.spec(
        *map(line, world.request),
        sources=PackageSources(no_index=True, find_links=(str(folder / "index"),)),
        interpreter=this_interpreter(),
        roots=world.roots,
        inherit=world.mode,
        constraints=world.constraints,
    )
    passes = Passes(
        uv=uv,
        spec=spec,
        host=world.facts,
        stubs=folder / "stubs",
        scratch=folder / "scratch",
        deadline=60.0,
        note=ignore,
    )
    resolution, hidden = await Resolver(passes=passes, say=ignore).resolve()
    lock = fakes.lock(
        *resolution.packages,
        distributions=(
            *locked_distributions(resolution, {}),
            *host_part(hidden, resolution.installed, world.facts),
        ),
        inherit=world.mode,
    )
    return resolution, lock


def check(world: World, lock: EnvLock) -> None:
    """What is asked for is there, and nothing is broken that the host had not broken before."""
    view = view_of(lock, world)
    for wanted in world.wanted:
        assert wanted.specifier.contains(view.versions[wanted.name])
    for bound in world.bounds:
        serving = [*lock.with_role(Role.INSTALLED), *lock.with_role(Role.INHERITED)]
        versions = [each.version or "" for each in serving if each.name == bound.name]
        assert all(map(bound.specifier.contains, versions))
    faults = view.faults - view_of_host(world).faults
    assert faults == set()
    inherited = {each.name for each in lock.with_role(Role.INHERITED)}
    assert inherited.isdisjoint(hidden_names(lock))
    # What the host lacks for what the request needs of it is installed.
    lacking = [fault for fault in view.faults if fault[0] in {*inherited, *lock.installed}]
    assert all(Requirement(text).name in view.versions for _, _, text in lacking)


@pytest.fixture(scope="module")
def uv(uv_cache: Path) -> Uv:
    """The real uv."""
    environment = scrubbed_environment(os.environ, cache_dir=str(uv_cache))
    return Uv(program=find_uv_bin(), door=ProcessRunner(environment=environment, slots=2))


def resolve(world: World, uv: Uv) -> tuple[Resolution, EnvLock] | None:
    """None when it is called impossible."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return asyncio.run(resolved(world, Path(folder), uv))
        except ResolutionFailed:
            return None


# Of each name another copy serves: the host's and the index's, of the same version.
TWO_COPIES = World(
    host={"bee": {"1.0": ("ant>=1.1",)}, "dog": {"1.0": ()}},
    index={"ant": {"1.0": ()}, "bee": {"1.0": ()}, "dog": {"1.0": ("ant>=1.1",)}},
    request=("bee", "dog"),
    roots=(),
    mode=InheritMode.HOST,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(world=worlds)
@example(world=TWO_COPIES)
def test_what_is_called_consistent_is_and_what_is_called_impossible_has_no_solution(
    world: World, uv: Uv
) -> None:
    found = resolve(world, uv)
    possible = next(solutions(world), None)
    assert (found is None) == (possible is None), possible
    if found is None:
        event("impossible")
        return
    resolution, lock = found
    check(world, lock)
    of_host_alone = next(solutions(world, of_host_alone=True), None)
    assert (not resolution.installed) == (of_host_alone is not None)
    event("of the host alone" if of_host_alone else "mixed")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(world=compiled_worlds)
def test_what_is_called_consistent_is_where_packages_are_compiled_with_each_other(
    world: World, uv: Uv
) -> None:
    found = resolve(world, uv)
    if found is None:
        return
    resolution, lock = found
    check(world, lock)
    shown = shown_names(lock, world.facts, ()) & world.compiled
    for name, version in resolution.installed.items():
        if name not in world.compiled & world.host.keys():
            continue
        [before] = world.host[name]
        for each in shown:
            [requires] = world.host[each].values()
            if name in [Requirement(text).name for text in requires]:
                assert str(version)[:3] == before[:3]


# In real processes

PIP_CHECK = """
import json, sys
from importlib.metadata import distributions
seen = {}
for each in distributions():
    seen.setdefault(each.metadata["Name"], each)
sys.path.append(sys.argv[1])
from packaging.requirements import Requirement
faults = []
for name, each in seen.items():
    for text in each.requires or []:
        requirement = Requirement(text)
        other = seen.get(requirement.name)
        if other is None or not requirement.specifier.contains(other.version):
            faults.append([name, each.version, str(requirement)])
print(json.dumps([{name: each.version for name, each in seen.items()}, faults]))
"""


def as_seen_by(python: str, lent: Path) -> tuple[dict[str, str], set[tuple[str, ...]]]:
    """Version by name of what an interpreter sees, and what of it is broken."""
    done = subprocess.run(
        [python, "-I", "-c", PIP_CHECK, str(lent)], capture_output=True, text=True, check=True
    )
    versions, faults = json.loads(done.stdout)
    return versions, {tuple(fault) for fault in faults}


async def launched(world: World, folder: Path, environ: dict[str, str]) -> None:
    """Launch in a real home over a real host, and look at what a process there sees."""
    host = Host.make(folder / "host", environ)
    for name, of_name in world.host.items():
        for version, requires in of_name.items():
            host.add(name, version, *requires)
    wheels, lent = folder / "wheels", folder / "lent"
    for place in (wheels, lent):
        place.mkdir()
    # Without its metadata, which would be seen, too.
    (lent / "packaging").symlink_to(Path(packaging.__file__).parent)
    for name, of_name in world.index.items():
        for version, requires in of_name.items():
            build_wheel(wheels, name, version, requires=requires)
    environ |= {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "XINFERENCE_VIRTUAL_ENV_MUST_IMPORT": ",".join(world.roots),
    }
    request = LaunchRequest.from_dict(
        {
            "model_name": "glow",
            "virtualenv": {"packages": world.request},
            "constraints": world.constraints,
            "inherit": world.mode.value,
        }
    )
    async with local_client(environ) as client:
        env = await client.prepare(request)
    versions, faults = as_seen_by(env.python, lent)
    for wanted in world.wanted:
        assert wanted.specifier.contains(versions[wanted.name])
    _, known_faults = as_seen_by(host.python, lent)
    assert faults <= known_faults


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    world=worlds.filter(
        lambda world: any(solutions(world)) and not any(solutions(world, of_host_alone=True))
    )
)
def test_a_real_process_sees_what_pip_would_call_consistent(world: World, uv_cache: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "XINFERENCE_HOME": f"{folder}/home",
            "UV_CACHE_DIR": str(uv_cache),
        }
        asyncio.run(launched(world, Path(folder), environ))
