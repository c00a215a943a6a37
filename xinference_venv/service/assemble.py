"""From a lock to a whole environment on disk: fill an empty one, and verify what was made.

Comes in: a lock, and a builder whose empty environment is staged. Comes out: the environment,
with the layer of the host, and what an inspection of it found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from xinference_venv._util.tasks import finish_in_thread
from xinference_venv.errors import StoreError, UvFailed, VerificationFailed, VirtualEnvError
from xinference_venv.inventory.disk_space import check_space, needs_of
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.lock import EnvLock, LockedDistribution, Role
from xinference_venv.planning.overlay import shown_names
from xinference_venv.planning.pylock import Resolution
from xinference_venv.planning.source_builds import BuiltWheel, with_places
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.service.source_builds import SourceBuilding
from xinference_venv.settings import InheritMode
from xinference_venv.store.envs.compose import add_scripts, link_data_files, make_layer, show_layer
from xinference_venv.store.envs.inspect import (
    Inspection,
    inspect_env,
    site_packages_of,
    top_level_modules,
)
from xinference_venv.store.envs.launcher import LAUNCHER_NAME, write_launcher
from xinference_venv.store.envs.placement import check_placement
from xinference_venv.store.host_files import free_bytes, same_file_system
from xinference_venv.store.store import Store
from xinference_venv.uv.installer import Builder
from xinference_venv.uv.interpreters import check_environment, import_modules
from xinference_venv.uv.output import InstallProgress
from xinference_venv.uv.resolver import Resolver
from xinference_venv.uv.subprocess import Uv

_T = TypeVar("_T")


class ReportProgress(Protocol):
    """Tells whoever waits how far a build is; see `Job.say`."""

    def __call__(self, phase: Phase, message: str, **progress: int | None) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Filling:
    """How an environment was filled: whether uv had all in its cache, and links to it.

    `fetched_bytes` are those of wheels that it had to fetch, as far as it says.
    """

    was_cached: bool
    fetched_bytes: int
    links: bool


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

    def builder(self, folder: Path, env: Path) -> Builder:
        """What installs into the environment at `env`; `folder` is for its scratch files."""
        return Builder(uv=self.uv, spec=self.spec, env=env, scratch=folder, deadline=self.deadline)

    def resolver(self, host: HostFacts, stubs: Path | None, folder: Path) -> Resolver:
        """What resolves the spec over a host, whose stub wheels are in `stubs`."""
        return Resolver(
            uv=self.uv,
            spec=self.spec,
            host=host,
            stubs=stubs,
            scratch=folder,
            deadline=self.deadline,
            say=partial(self.say, Phase.RESOLVING),
            note=self.note,
        )

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

    async def wheels_for(self, lock: EnvLock, folder: Path) -> Sequence[BuiltWheel]:
        """A wheel for each source of a lock, built in `folder`; raises `BuildFailed`."""
        building = SourceBuilding(
            store=self.store.wheels,
            builder=self.builder(folder, folder / "build"),
            fill=self.fill,
            say=partial(self.say, Phase.RESOLVING),
            note=self.note,
        )
        return await building.wheels_for(lock)

    async def fill(self, lock: EnvLock, builder: Builder) -> Filling:
        """Put into an empty environment what the lock says, and the layer of the host."""
        staged = builder.env
        sizes = lock.sizes
        total = len(lock.packages)
        progress = InstallProgress(total=total, sizes=sizes)

        def on_line(line: str) -> None:
            step = progress.read(line)
            if step is None:
                self.note(line)
                return
            self.say(
                step.phase,
                step.message,
                done=step.done,
                total=step.total,
                done_bytes=step.done_bytes,
                total_bytes=step.total_bytes,
            )

        self.say(
            Phase.INSTALLING,
            f"installing {total} packages" if total else "linking the host's packages",
            done=0,
            total=total,
            done_bytes=0,
            total_bytes=sum(sizes.values()),
        )
        placed = with_places(lock, str(self.store.layout.wheels))
        room = check_free_space(placed, builder, self.store.layout.root)
        links = await in_phase(Phase.INSTALLING, room)
        site_packages = site_packages_of(staged)
        await in_phase(Phase.INSTALLING, builder.install(placed, on_line))
        # Nothing of the host and nothing of ours is there while wheels are installed: uv would
        # write through links, and a wheel could have the launcher's name.
        await in_phase(Phase.INSTALLING, asyncio.to_thread(check_placement, staged, site_packages))
        await finish_in_thread(self._furnish, lock, staged)
        if self.spec.sees_host:
            await finish_in_thread(self._show_host, lock, staged)
        return Filling(
            was_cached=progress.was_cached, fetched_bytes=progress.fetched_bytes, links=links
        )

    def _furnish(self, lock: EnvLock, staged: Path) -> None:
        """What of an environment is not uv's: the launcher and the layer of the host."""
        write_launcher(self.store.disk, staged, self.spec.interpreter)
        if self.spec.sees_host:
            make_layer(
                self.store.disk,
                staged,
                self.host,
                shown_names(lock, self.host, self.spec.alone),
                unowned=lock.inherit is InheritMode.HOST,
            )

    def _show_host(self, lock: EnvLock, staged: Path) -> None:
        """Let the layer be seen, and add what of the host lies elsewhere."""
        disk, interpreter = self.store.disk, self.host.interpreter
        names = shown_names(lock, self.host, self.spec.alone)
        shown = [each for each in self.host.distributions if each.name in names]
        show_layer(disk, site_packages_of(staged), interpreter.search_path)
        add_scripts(disk, staged, shown)
        link_data_files(disk, staged, interpreter, shown)

    async def verify(self, lock: EnvLock, staged: Path, *, hashes: bool) -> Inspection:
        """Raises `VerificationFailed` unless disk, interpreter and lock agree.

        With `hashes` the contents of all files are compared too.
        """
        await self.check_imports(staged)
        own = top_level_modules(site_packages_of(staged))
        inspection, faults = await asyncio.gather(
            asyncio.to_thread(inspect_env, staged, site_packages_of(staged), hashes=hashes),
            self.check_visible(lock, staged, own),
        )
        installed = inspection.installed.keys()
        faults = [*inspection.faults, *faults]
        for name in sorted(installed - lock.installed.keys()):
            faults.append(f"{name} is installed and not in the lock")
        raise_faults(faults)
        return inspection

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
        self.say(Phase.VERIFYING, f"importing {', '.join(self.spec.import_check)}")
        python = str(env / "bin" / LAUNCHER_NAME)
        failure = await import_modules(
            self.uv.door, python, self.spec.import_check, deadline=self.deadline
        )
        if failure is not None:
            raise VerificationFailed(
                f"the import check failed: {failure.splitlines()[-1]}",
                {
                    "output": failure,
                    "hint": "what the packages declare fits together, what they do does not:"
                    " ask for other versions",
                },
            )


def raise_faults(faults: Sequence[str]) -> None:
    """Raise `VerificationFailed` if there are any faults."""
    if faults:
        raise VerificationFailed(
            "what was installed is not what the lock says: " + "; ".join(faults[:5]),
            {
                "faults": list(faults[:100]),
                "phase": Phase.VERIFYING.value,
                "hint": "a file of uv's cache may have been changed in place:"
                " run `uv cache clean` for the package named, and launch again",
            },
        )


async def in_phase(phase: Phase, work: Awaitable[_T]) -> _T:
    """Let an error say in which phase it happened."""
    try:
        return await work
    except VirtualEnvError as error:
        raise error.with_details(phase=phase.value) from error


def free_at(place: str) -> int:
    """Bytes that are free at a place, which need not be there yet."""
    path = Path(place)
    while not path.exists():
        path = path.parent
    return free_bytes(path)


async def check_free_space(
    lock: EnvLock, builder: Builder, home: Path, free: Callable[[str], int] = free_at
) -> bool:
    """Raises `StoreError` when what a lock installs certainly does not fit.

    Costs no subprocess while it fits whatever uv has in its cache. Returns whether uv links what
    it installs to its cache, rather than copying it.
    """
    cache = builder.uv.door.environment.get("UV_CACHE_DIR", str(home))
    links = await asyncio.to_thread(same_file_system, Path(cache), home)

    def check(uncached: frozenset[str] | None) -> None:
        needs = needs_of(lock.packages, home=str(home), cache=cache, links=links, uncached=uncached)
        check_space(needs, free)

    try:
        await asyncio.to_thread(check, None)
    except StoreError:
        # Perhaps most of it is there already.
        try:
            uncached = await builder.uncached(lock)
        except UvFailed:
            # The install itself will say what is wrong.
            return links
        await asyncio.to_thread(check, uncached)
    return links
