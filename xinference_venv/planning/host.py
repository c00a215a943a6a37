"""What a host has that matters for an environment: facts, and their digest.

Comes from the probe of an interpreter and the scan of its site directories; goes into the spec
(markers, `#system_x#`), the resolution (stubs) and the layer. Nothing here looks at a disk.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import filterfalse

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from xinference_venv._util.records import Record, digest_of

# Nine requirements in ten are of an extra. A marker that joins one by `and` needs no evaluation.
_OF_EXTRA = re.compile(r'(?!.* or ).*;.*\bextra == "([^"]+)"')


@dataclass(frozen=True, kw_only=True)
class Interpreter(Record, name="interpreter"):
    """One Python interpreter, as it describes itself.

    `executable` is the path to start it by, `base_executable` the real path of the interpreter
    that a virtual environment is made from. `tags` are its supported platform tags, best first
    (PEP 425). `markers` are the variables of PEP 508. `search_path` is its `sys.path` without
    the standard library, `PYTHONPATH` and the working directory, in order.
    """

    executable: str
    base_executable: str
    version: str
    markers: Mapping[str, str]
    tags: tuple[str, ...]
    search_path: tuple[str, ...]

    @property
    def minor_version(self) -> str:
        """``MAJOR.MINOR``."""
        return ".".join(self.version.split(".")[:2])

    @property
    def best_tag(self) -> str:
        """The tag of wheels that uv prefers to all others; plain ``linux`` ranks lowest there."""
        return next((tag for tag in self.tags if "-linux_" not in tag), self.tags[0])

    @property
    def is_free_threaded(self) -> bool:
        """Whether it has no global interpreter lock: its ABI ends in ``t`` (PEP 703)."""
        return self.tags[0].split("-")[1].endswith("t")

    @cached_property
    def platform_digest(self) -> str:
        """Equal for interpreters that can use the same wheels and markers.

        The kernel's release and build are left out: an update of it changes no environment.
        """
        kernel = ("platform_release", "platform_version")
        markers = {name: value for name, value in self.markers.items() if name not in kernel}
        return digest_of([self.version, markers, self.tags])


@dataclass(frozen=True, kw_only=True, slots=True)
class HostDistribution(Record, name="host distribution"):
    """A distribution that the host interpreter can import from.

    `name` is normalized (PEP 503), `version` is in normal form (PEP 440). `requires` holds only
    requirements that are valid PEP 508, URLs reduced to names. `location` is the entry of the
    search path that it lies in, `metadata` the name of its metadata folder or file there.
    `direct_url` is where it was installed from when that was no index, without credentials.

    Of its recorded files (`recorded` is false when it has no list of them): `entries` are the
    names in its location that it has files under, `data_files` the paths of those outside of
    it, relative to the interpreter's prefix, and `programs` of those in ``bin``. `scripts` are
    its console scripts, as ``name = module:attribute``. `compiled` says whether it has extension
    modules or shared libraries, and `bound_to` which other distributions these load libraries
    from (by RPATH or DT_NEEDED). `built_with` are those of the compiled ones that it requires whose
    modules its own may use directly, None where that is not known, and `numpy_range` the versions
    of NumPy that these serve with. `shares` names the distributions that own an ``__init__.py`` of
    its. `inode` is that of its metadata: every install of it makes another one.
    """

    name: str
    version: str
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    location: str
    metadata: str
    direct_url: str | None = None
    recorded: bool = True
    entries: tuple[str, ...] = ()
    data_files: tuple[str, ...] = ()
    programs: tuple[str, ...] = field(default=(), compare=False)
    scripts: tuple[str, ...] = ()
    compiled: bool = False
    bound_to: tuple[str, ...] = ()
    built_with: tuple[str, ...] | None = field(default=None, compare=False)
    numpy_range: str | None = field(default=None, compare=False)
    shares: tuple[str, ...] = ()
    inode: int = field(default=0, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """One requirement that applies on this host: the other's normalized name, and the words."""

    name: str
    requirement: Requirement

    def allows(self, version: str | None) -> bool:
        """Whether a version meets it; an unknown version meets only what asks for none."""
        if version is None:
            return not self.requirement.specifier
        return self.requirement.specifier.contains(version)


@dataclass(frozen=True, kw_only=True, slots=True)
class Accelerator(Record, name="accelerator"):
    """What computes besides the CPU: versions as ``12.8``, architecture as ``sm_90``."""

    has_cuda: bool = False
    cuda_version: str | None = None
    cuda_arch: str | None = None
    has_npu: bool = False


_LATER = frozenset({"programs", "inode", "built_with", "numpy_range"})


def _identity(each: HostDistribution) -> list[object]:
    built_for = [each.built_with, each.numpy_range]
    return [
        *(each.name, each.version, each.requires, each.extras, each.compiled),
        *(each.bound_to, each.shares),
        # Hosts that earlier releases saved say nothing of this, and keep their digests.
        *(built_for if any(built_for) else ()),
    ]


@dataclass(frozen=True, kw_only=True)
class HostFacts(Record, name="host facts"):
    """The host interpreter with all that it can see; `skipped` says what was left out and why."""

    interpreter: Interpreter
    distributions: tuple[HostDistribution, ...]
    accelerator: Accelerator
    skipped: tuple[str, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, HostDistribution]:
        """The distributions by normalized name."""
        return {each.name: each for each in self.distributions}

    @cached_property
    def versions(self) -> dict[str, str]:
        """Exact version by normalized name, as `#system_x#` pins it."""
        return {each.name: each.version for each in self.distributions}

    @cached_property
    def needs(self) -> dict[str, tuple[Need, ...]]:
        """What each distribution needs here, by name; the extras it asks of others included."""
        return {each.name: _needs_of(each, self) for each in self.distributions}

    @cached_property
    def whole(self) -> frozenset[str]:
        """The distributions of which all that they need is here, at any depth, and fits."""
        lacking = {
            name
            for name, needs in self.needs.items()
            for need in needs
            if need.name not in self.by_name or not need.allows(self.versions[need.name])
        }
        return frozenset(each for each in self.by_name if lacking.isdisjoint(self.closure(each)))

    def closure(self, name: str) -> set[str]:
        """What a distribution requires, itself included, as far as it is here."""
        closure: set[str] = set()
        waiting = [name]
        while waiting:
            each = waiting.pop()
            if each not in closure and each in self.by_name:
                closure.add(each)
                waiting += [need.name for need in self.needs[each]]
        return closure

    @cached_property
    def digest(self) -> str:
        """Equal on hosts whose locks are interchangeable: no paths go into it."""
        return digest_of(
            [
                self.interpreter.platform_digest,
                self.accelerator.to_dict(),
                sorted(map(_identity, self.distributions)),
            ]
        )

    @cached_property
    def fingerprint(self) -> str:
        """Equal while nothing changed on this very host: places count."""
        ordered = sorted(self.distributions, key=lambda each: each.name)
        # Hosts that earlier releases saved say nothing of these, and keep their names.
        places = [
            {key: each for key, each in one.to_dict().items() if key not in _LATER or each}
            for one in ordered
        ]
        return digest_of([self.digest, self.interpreter.search_path, places])


def is_of_extra(requirement: str) -> bool:
    """Whether a requirement is one of an extra alone, at a glance; some that are pass for none."""
    return _OF_EXTRA.match(requirement) is not None


def _needs_of(distribution: HostDistribution, host: HostFacts) -> tuple[Need, ...]:
    """What a host distribution needs there, the extras that it asks of others included."""
    needs = [
        Need(name=canonicalize_name(requirement.name), requirement=requirement)
        for requirement in map(Requirement, filterfalse(is_of_extra, distribution.requires))
        if _applies(requirement, host, {""})
    ]
    followed: set[tuple[str, str]] = set()
    # Grows on the way: what an extra needs may ask for extras itself, even of the same one.
    for need in needs:
        other = host.by_name.get(need.name)
        asked = {(need.name, extra) for extra in need.requirement.extras} - followed
        if asked and other is not None:
            followed |= asked
            needs += _needs_of_extras(other, host, {extra for _, extra in asked})
    return tuple(needs)


def _applies(requirement: Requirement, host: HostFacts, extras: Collection[str]) -> bool:
    if requirement.marker is None:
        return True
    markers = dict(host.interpreter.markers)
    return any(requirement.marker.evaluate({**markers, "extra": extra}) for extra in extras)


def _needs_of_extras(
    other: HostDistribution, host: HostFacts, extras: Collection[str]
) -> list[Need]:
    needs = []
    named = set(map(canonicalize_name, extras))
    for text in other.requires:
        extra = _OF_EXTRA.match(text)
        if extra is not None and canonicalize_name(extra[1]) not in named:
            continue
        requirement = Requirement(text)
        if _applies(requirement, host, extras) and not _applies(requirement, host, {""}):
            needs.append(Need(name=canonicalize_name(requirement.name), requirement=requirement))
    return needs
