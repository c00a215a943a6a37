"""From a lock to an environment on disk: gather its packages, plan its view, compose, verify.

Comes in: a lock, and a folder to stage in. Comes out: the environment, whole and verified.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

from xinference_venv._util.disk_threads import BUILDING
from xinference_venv._util.humanize import counted
from xinference_venv._util.processors import usable_processors
from xinference_venv._util.records import digest_of, to_plain
from xinference_venv.errors import StoreError, VerificationFailed
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.import_proof import ProofFailure
from xinference_venv.planning.joins import (
    HostSite,
    Join,
    find_joins,
    install_order,
    joined_owners,
)
from xinference_venv.planning.lock import EnvLock, LockedDistribution, Role
from xinference_venv.planning.overlay import shown_names
from xinference_venv.planning.package import (
    JoinMember,
    JoinPlan,
    PackageRecord,
    Release,
)
from xinference_venv.planning.pylock import Resolution
from xinference_venv.planning.source_builds import BuiltWheel
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.planning.view import (
    JoinedTree,
    Place,
    Prefix,
    ViewPlan,
    importable_name,
    partition_host,
    plan_view,
)
from xinference_venv.sentences import joined, sentence
from xinference_venv.service.import_prover import ImportProver
from xinference_venv.service.phases import ReportProgress, in_phase
from xinference_venv.service.source_builds import SourceBuilding
from xinference_venv.service.unpack import Unpacking
from xinference_venv.service.wheel_fetcher import WheelFetcher
from xinference_venv.settings import InheritMode, ViewKind
from xinference_venv.store.envs.compose import (
    Composed,
    Composition,
    library_of,
    not_composed,
    placing_of,
)
from xinference_venv.store.envs.launcher import LAUNCHER_NAME
from xinference_venv.store.envs.proofs import is_proved, keep_proof
from xinference_venv.store.envs.real_files import Placed, Placing
from xinference_venv.store.host.looks import host_looks, requirers
from xinference_venv.store.host.scan import prefix_of
from xinference_venv.store.host.sites import host_part, read_sites
from xinference_venv.store.paths import VENV_NAME
from xinference_venv.store.store import Store, interpreter_facts
from xinference_venv.uv.installer import Builder
from xinference_venv.uv.interpreters import check_environment, import_modules
from xinference_venv.uv.passes import Passes
from xinference_venv.uv.resolver import Resolver
from xinference_venv.uv.subprocess import Uv

MakeEnvironment = Callable[[EnvLock, Builder], Awaitable[None]]

_NO_MODULE = re.compile(r"^ModuleNotFoundError: No module named '(?P<name>[^']+)'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What an environment is composed of: the plan of its view, its packages and how they came.

    Equal for environments that show the same from the same places is `digest`, the plan's.
    `unpacked` are the names of the packages that were not in the store until now, whose files were
    all checked for it. `was_cached` and `fetched_bytes` say what uv had to fetch for these,
    `linked_bytes` and `copied_bytes` how they came into the store.
    """

    plan: ViewPlan
    digest: str
    packages: tuple[PackageRecord, ...]
    unpacked: frozenset[str]
    was_cached: bool
    fetched_bytes: int
    linked_bytes: int
    copied_bytes: int


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """What it takes to make environments of one spec; `deadline` is in seconds for each process."""

    store: Store
    uv: Uv
    spec: EnvSpec
    host: HostFacts
    deadline: float
    say: ReportProgress
    note: Callable[[str], None]
    fetcher: WheelFetcher | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """The paths of wheels that are here, by package."""

    def builder(self, folder: Path, env: Path) -> Builder:
        """What installs into the environment at `env`; `folder` is for its scratch files."""
        return Builder(uv=self.uv, spec=self.spec, env=env, scratch=folder, deadline=self.deadline)

    def resolver(
        self,
        host: HostFacts,
        stubs: Path | None,
        folder: Path,
        *,
        unfit: Mapping[Release, str] = MappingProxyType({}),
        unusable: Mapping[str, str] = MappingProxyType({}),
        refresh: bool = False,
        build_python: str | None = None,
        yielding: Mapping[str, str] = MappingProxyType({}),
    ) -> Resolver:
        """What resolves the spec over a host, whose stub wheels are in `stubs`.

        `Passes` and `Resolver` say what the rest is.
        """
        passes = Passes(
            uv=self.uv,
            spec=self.spec,
            host=host,
            stubs=stubs,
            scratch=folder,
            deadline=self.deadline,
            note=self.note,
            build_python=build_python,
            refresh=refresh,
            unfit=unfit,
            unusable=dict(unusable),
        )
        return Resolver(passes=passes, say=partial(self.say, Phase.RESOLVING), yielding=yielding)

    async def lock(
        self, resolution: Resolution, distributions: Iterable[LockedDistribution]
    ) -> EnvLock:
        """The lock of a resolution, with the distributions that the environment shows or hides."""
        return EnvLock(
            packages=resolution.packages,
            distributions=tuple(distributions),
            python_version=self.spec.interpreter.version,
            platform_digest=self.spec.interpreter.platform_digest,
            inherit=self.spec.inherit,
            host_digest=self.host.digest if self.spec.sees_host else None,
            spec_digest=self.spec.digest,
            uv_version=await self.uv.version(),
            warnings=(*self.spec.warnings, *resolution.warnings),
        )

    async def wheels_for(
        self, lock: EnvLock, folder: Path, make: MakeEnvironment | None = None
    ) -> Sequence[BuiltWheel]:
        """A wheel for each source of a lock, built in `folder`; raises `BuildFailed`.

        What is built without isolation sees an environment that `make` makes, by default one
        that is composed.
        """
        building = SourceBuilding(
            store=self.store.wheels,
            builder=self.builder(folder, folder / "build" / VENV_NAME),
            make=make or self._make_for_builds,
            say=partial(self.say, Phase.RESOLVING),
            note=self.note,
        )
        return await building.wheels_for(lock)

    async def gather(self, lock: EnvLock, folder: Path) -> Contents:
        """Bring the packages of a lock into the store, and plan what an environment shows.

        All that is there already stays while `folder`, a private one of the staging, is there.
        """
        unpacking = Unpacking(
            store=self.store,
            uv=self.uv,
            spec=self.spec,
            deadline=self.deadline,
            say=self.say,
            note=self.note,
            fetcher=self.fetcher,
            files=self.files,
        )
        packages = await in_phase(Phase.INSTALLING, unpacking.packages_for(lock, folder))
        self.say(
            Phase.COMPOSING,
            sentence(
                "planning what {packages} and the host show",
                packages=counted(len(packages), "package"),
            ),
        )
        planning = BUILDING.finish(self._plan, lock, packages, folder)
        plan = await in_phase(Phase.COMPOSING, planning)
        return Contents(
            plan=plan,
            digest=digest_of(plan.to_dict()),
            packages=tuple(packages),
            unpacked=unpacking.unpacked,
            was_cached=unpacking.was_cached,
            fetched_bytes=unpacking.fetched_bytes,
            linked_bytes=unpacking.linked_bytes,
            copied_bytes=unpacking.copied_bytes,
        )

    async def compose(self, contents: Contents, env: Path) -> Composed:
        """Make the environment of a plan at `env`; see `store.envs.compose`."""
        composition = await self.begin(contents, env)
        return await in_phase(Phase.COMPOSING, BUILDING.finish(composition.complete))

    async def begin(self, contents: Contents, env: Path) -> Composition:
        """Make of it what its interpreter sees; the rest is to be completed."""
        count = len(contents.plan.links)
        is_linked = contents.plan.kind is ViewKind.LINKS
        what = f"{count} links" if is_linked else f"the files of {count} names"
        self.say(Phase.COMPOSING, sentence("composing {what}", what=what))
        return await in_phase(Phase.COMPOSING, self._begin(contents, env))

    async def _begin(self, contents: Contents, env: Path) -> Composition:
        layout, interpreter = self.store.layout, self.spec.interpreter
        forks = min(usable_processors(), self.uv.door.slots)
        placing = placing_of(layout, env, contents.plan, interpreter, contents.packages, forks)
        placed = None if placing is None else await self._placed(placing, env)
        composition = Composition(
            disk=self.store.disk,
            layout=layout,
            env=env,
            plan=contents.plan,
            interpreter=interpreter,
        )
        await BUILDING.finish(composition.begin, placed)
        return composition

    async def _placed(self, placing: Placing, env: Path) -> Placed:
        """What a process of its own has placed of an environment's files."""
        try:
            command = await BUILDING.finish(placing.command, env / "files.json")
            finished = await self.uv.door.run(
                command, deadline=self.deadline, doing="copying files of packages"
            )
            placed = placing.result(finished.exit_status, finished.output)
        except OSError as error:
            raise not_composed(env, error) from error
        if placed is not None:
            await BUILDING.finish(self.store.disk.unlink, env / "files.json")
            return placed
        raise StoreError(
            sentence(
                "could not compose the environment {env}: {error}",
                env=env,
                error=sentence(
                    "the process that copies the files ended with {ending}", ending=finished.ending
                ),
            ),
            {
                "exit_status": finished.exit_status,
                "output": "\n".join(finished.tail),
                "hint": sentence(
                    "launch again; the system may have run out of memory (see its log)"
                ),
            },
        )

    async def _make_for_builds(self, lock: EnvLock, builder: Builder) -> None:
        contents = await self.gather(lock, builder.scratch)
        await self.compose(contents, builder.env.parent)

    def _plan(self, lock: EnvLock, packages: Sequence[PackageRecord], folder: Path) -> ViewPlan:
        """What an environment of these packages shows; joined trees that it needs are made."""
        visible: frozenset[str] = frozenset()
        sites: tuple[HostSite, ...] = ()
        loose = lock.inherit is InheritMode.HOST
        if self.spec.sees_host:
            visible = shown_names(lock, self.host, self.spec.alone)
            sites = read_sites(self.host)
        partition = partition_host(sites, self.host.distributions, visible, loose=loose)
        ordered = install_order(packages)
        prefix = Prefix(
            ordered,
            [each for each in self.host.distributions if each.name in visible],
            host_prefix=prefix_of(self.host.interpreter),
            library=os.path.dirname(library_of(self.spec.interpreter)),
        )
        disk, layout = self.store.disk, self.store.layout
        looking = requirers(self.host, visible, lock.installed.keys())
        while True:
            looks = host_looks(disk, layout, self.host, looking, prefix)
            joins = find_joins(
                ordered, partition.merged, visible, looks, prefix.installed_for(looks)
            )
            # What of the host gets another place by that may look for its neighbours there.
            if looking >= (owners := joined_owners(joins, partition.merged, visible)):
                break
            looking |= owners
        plans = [self._join_plan(join, visible, loose=loose) for join in joins]
        self.store.packages.keep(folder, [plan.folder for plan in plans])
        joined = [
            JoinedTree(
                folder=plan.folder,
                record=self.store.joined.make(plan, folder),
                packages=join.packages,
                locations=tuple(share.location for share in join.host),
                reasons=join.reasons,
            )
            for join, plan in zip(joins, plans, strict=True)
        ]
        return plan_view(
            ordered,
            joined,
            partition,
            visible,
            loose=loose,
            prefix=prefix,
            host_looks=itertools.chain.from_iterable(looks.values()),
            kind=self.spec.view,
        )

    def _join_plan(self, join: Join, visible: Collection[str], *, loose: bool) -> JoinPlan:
        # Of two owners of one path the later member wins: what is installed comes after the host,
        # and of the host what is found first on its search path comes last.
        parts = [host_part(self.host, share, visible, loose=loose) for share in reversed(join.host)]
        members = (
            *(JoinMember(host=part) for part in parts),
            *(JoinMember(tree=tree) for tree in join.packages),
        )
        return JoinPlan(members=members)

    async def verify(
        self, lock: EnvLock, contents: Contents, env: Path, completed: Awaitable[object]
    ) -> None:
        """Raises `VerificationFailed` unless what the interpreter sees is what the lock says.

        What was proved once of the same trees over the same host takes no process again. Modules
        are imported only when the environment is `completed`.
        """
        roles = sorted([each.name, each.role.value] for each in lock.distributions)
        interpreter = interpreter_facts(self.spec.interpreter.base_executable)
        proof = digest_of(
            [
                *(contents.digest, roles, list(self.spec.import_check)),
                *(self.host.fingerprint, to_plain(interpreter)),
            ]
        )
        if await asyncio.to_thread(is_proved, self.store.disk, self.store.layout, proof):
            return
        venv = env / VENV_NAME
        links = (each for each in contents.plan.links if each.place is not Place.HOST)
        own = {name for each in links if (name := importable_name(each.name)) is not None}
        raise_faults(await self.check_visible(lock, venv, sorted(own)))
        await completed
        await self.check_imports(venv)
        await asyncio.to_thread(keep_proof, self.store.disk, self.store.layout, proof)

    async def find_import_failures(
        self, lock: EnvLock, contents: Contents, venv: Path, failed: Collection[str]
    ) -> Sequence[ProofFailure]:
        """What is compiled against the host's packages and does not work next to them.

        Packages that `failed` before must work as well.
        """
        prover = ImportProver(
            store=self.store, door=self.uv.door, spec=self.spec, host=self.host, say=self.say
        )
        return await prover.find_failures(contents.packages, lock, venv, failed)

    async def check_visible(
        self, lock: EnvLock, env: Path, own: Collection[str] = ()
    ) -> Sequence[str]:
        """Where an environment's interpreter sees other distributions than the lock says.

        The modules of `own` must be found in the environment itself.
        """
        inherited = [each.name for each in lock.with_role(Role.INHERITED)]
        return await check_environment(
            self.uv.door,
            str(env / "bin" / "python"),
            seen=[*inherited, *lock.installed],
            unseen=[each.name for each in lock.with_role(Role.HIDDEN)],
            own=own,
            deadline=self.deadline,
        )

    async def check_imports(self, env: Path) -> None:
        """Let a fresh interpreter import what must be importable; `VerificationFailed` if not."""
        if not self.spec.import_check:
            return
        self.say(
            Phase.VERIFYING,
            sentence("importing {import_check}", import_check=", ".join(self.spec.import_check)),
        )
        python = str(env / "bin" / LAUNCHER_NAME)
        failure = await import_modules(
            self.uv.door, python, self.spec.import_check, deadline=self.deadline
        )
        if failure is not None:
            last = failure.splitlines()[-1]
            raise VerificationFailed(
                sentence("the import check failed: {failure}", failure=last),
                {"output": failure, "hint": _way_to_import(last, self.spec.import_check)},
            )


def _way_to_import(failure: str, checked: Sequence[str]) -> str:
    """What to do when one of the `checked` modules can't be imported."""
    missing = _NO_MODULE.search(failure)
    if missing and any(f"{name}.".startswith(f"{missing['name']}.") for name in checked):
        return sentence("check the name of the module, or ask for a package that has it")
    return sentence(
        "their requirements fit together, but the packages don't work together:"
        " ask for other versions"
    )


def raise_faults(faults: Sequence[str]) -> None:
    """Raise `VerificationFailed` if there are any faults."""
    if faults:
        raise VerificationFailed(
            sentence(
                "what was installed is not what the lock says: {faults}", faults=joined(faults[:5])
            ),
            {
                "faults": list(faults[:100]),
                "phase": Phase.VERIFYING.value,
            },
        )
