"""The packages of a lock, each in a tree of its own in the store.

Comes in: a lock, and the private folder of a build. Comes out: the record of each package, in the
order of the lock. What the store lacks uv installs, all at once, into an environment that is
thrown away; from there it is checked and moved into the store. With all there nothing runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from xinference_venv._util.disk_threads import BUILDING
from xinference_venv._util.humanize import counted
from xinference_venv._util.processors import usable_processors
from xinference_venv.errors import InstallFailed, UvFailed, VerificationFailed
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.transfer import Transfer
from xinference_venv.planning.host import Interpreter
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.package import PackageKey, PackageRecord
from xinference_venv.planning.relay import wheels_of, with_files
from xinference_venv.planning.source_builds import with_places
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.sentences import sentence
from xinference_venv.service.free_space import check_free_space
from xinference_venv.service.phases import ReportProgress, in_phase
from xinference_venv.service.wheel_fetcher import WheelFetcher
from xinference_venv.store.envs.compose import make_venv, not_composed
from xinference_venv.store.envs.inspect import site_packages_of
from xinference_venv.store.envs.placement import check_placement
from xinference_venv.store.packages.finish_trees import Filled, finish_trees
from xinference_venv.store.packages.tree_files import StagedTree
from xinference_venv.store.store import Store
from xinference_venv.uv.installer import Builder
from xinference_venv.uv.messages import InstallProgress, Progress, could_not_fetch
from xinference_venv.uv.subprocess import Uv

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Unpacking:
    """One build's packages; `deadline` is in seconds for each uv process.

    After `packages_for`: the names of the packages that the store lacked, whether uv had in its
    cache all of these, the bytes of wheels that it had to fetch, as far as it says, and the bytes
    that were linked to its cache and copied.
    """

    store: Store
    uv: Uv
    spec: EnvSpec
    deadline: float
    say: ReportProgress
    note: Callable[[str], None]
    fetcher: WheelFetcher | None = None
    """What gets wheels through other workers; None without any."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The paths of wheels that are here, by package: nothing of them is fetched."""
    unpacked: frozenset[str] = field(default=frozenset(), init=False)
    was_cached: bool = field(default=True, init=False)
    fetched_bytes: int = field(default=0, init=False)
    linked_bytes: int = field(default=0, init=False)
    copied_bytes: int = field(default=0, init=False)
    _links: bool = field(default=True, init=False)
    _files: dict[str, str] = field(init=False)
    """The same, and of what came through other workers."""

    def __post_init__(self) -> None:
        self._files = dict(self.files)

    async def packages_for(self, lock: EnvLock, folder: Path) -> tuple[PackageRecord, ...]:
        """The package of each entry of a lock; the build at `folder` keeps them as it runs.

        Raises `InstallFailed` with uv's words or the name of what is refused, `StoreError` where
        it does not fit on the disk, `VerificationFailed` where a file is not what its RECORD says.
        """
        keys = {package["name"]: PackageKey.of(package) for package in lock.packages}
        known = await asyncio.to_thread(self._known, keys, folder)
        missing = [package for package in lock.packages if package["name"] not in known]
        if missing:
            self.unpacked = frozenset(package["name"] for package in missing)
            unpack = self._unpack(replace(lock, packages=tuple(missing)), keys, folder)
            known |= await in_phase(Phase.INSTALLING, unpack)
        return tuple(known[package["name"]] for package in lock.packages)

    def _known(
        self, keys: Mapping[str, PackageKey | None], folder: Path
    ) -> dict[str, PackageRecord]:
        wanted = {name: key for name, key in keys.items() if key is not None}
        # Named first: what is found from now on stays.
        self.store.packages.keep(folder, [key.folder for key in wanted.values()])
        found = {name: self.store.packages.get(key) for name, key in wanted.items()}
        return {name: record for name, record in found.items() if record is not None}

    async def _unpack(
        self, lock: EnvLock, keys: Mapping[str, PackageKey | None], folder: Path
    ) -> dict[str, PackageRecord]:
        """Install what the store lacks, and move it there."""
        names = {package["name"] for package in lock.packages}
        sizes = {name: size for name, size in lock.sizes.items() if name in names}
        total = len(names)
        # uv says nothing of small files, nor while an index lets it wait.
        self.say(
            Phase.DOWNLOADING,
            sentence("{total} to install", total=counted(total, "package")),
            done=0,
            total=total,
            done_bytes=0,
            total_bytes=sum(sizes.values()),
        )
        placed = with_places(lock, str(self.store.layout.wheels))
        progress = InstallProgress(total=total, sizes=sizes)
        progress.came(self._files)
        damaged: list[str] = []
        while True:
            sound = tuple(each for each in placed.packages if each["name"] not in damaged)
            try:
                records, contested = await self._round(
                    replace(placed, packages=sound), keys, folder, 0, progress
                )
                break
            except VerificationFailed as error:
                name = error.details.get("package")
                if not isinstance(name, str) or name not in names or name in damaged:
                    raise
                # Whoever wrote into a file of an environment in place wrote into uv's cache. If
                # what is fetched is the same, RECORD is wrong.
                _log.warning("%s in uv's cache: it is fetched again", error.message)
                damaged.append(name)
        for number, name in enumerate([*contested, *damaged], 1):
            # Of two owners of one path only one has its file, so each is installed by itself.
            alone = tuple(each for each in placed.packages if each["name"] == name)
            try:
                more, _ = await self._round(
                    replace(placed, packages=alone),
                    keys,
                    folder,
                    number,
                    progress,
                    fresh_cache=name in damaged,
                )
            except InstallFailed as error:
                if name not in damaged:
                    raise
                raise InstallFailed(
                    sentence(
                        "{name} is damaged in uv's cache and could not be fetched again: {error}",
                        name=name,
                        error=error,
                    ),
                    error.details,
                ) from error
            records |= more
        size = sum(each.size_bytes for each in records.values())
        self.was_cached = progress.was_cached
        self.fetched_bytes = progress.fetched_bytes
        self.linked_bytes, self.copied_bytes = (size, 0) if self._links else (0, size)
        return records

    async def _round(
        self,
        lock: EnvLock,
        keys: Mapping[str, PackageKey | None],
        folder: Path,
        number: int,
        progress: InstallProgress,
        *,
        fresh_cache: bool = False,
    ) -> tuple[dict[str, PackageRecord], Sequence[str]]:
        """Install a lock into an empty environment and take it apart; also who shares a path."""
        transfer = Transfer()

        def on_line(line: str) -> None:
            step = progress.read(line)
            if step is None:
                self.note(line)
            else:
                report(step)

        def on_received(count: int) -> None:
            step = progress.received(count)
            # Also when nothing new came: the rate falls then.
            transfer.count(count, time.monotonic())
            if step is not None:
                report(step)

        def report(step: Progress) -> None:
            fetches = step.phase is Phase.DOWNLOADING
            self.say(
                step.phase,
                step.message,
                done=step.done,
                total=step.total,
                done_bytes=step.done_bytes,
                total_bytes=step.total_bytes,
                bytes_per_second=transfer.bytes_per_second if fetches else None,
                seconds_left=transfer.seconds_left(step.total_bytes) if fetches else None,
            )

        builder = self._builder(folder, number, fresh_cache=fresh_cache)
        # An attempt with another lock, or with what is damaged, may have ended in the middle.
        for left in (builder.env, _trees_of(builder.env)):
            await BUILDING.finish(self.store.disk.discard, left, self.store.layout.trash)
        await BUILDING.finish(_make_empty, builder.env, self.spec.interpreter)
        if number == 0:
            # uv is asked over the empty environment what its cache lacks.
            self._links = await check_free_space(
                with_files(lock, self._files), builder, self.store.layout.root
            )
            await self._relay(lock, builder, progress)
        await self._install(lock, builder, on_line, on_received, progress)
        wanted = {package["name"]: keys[package["name"]] for package in lock.packages}
        trees, contested = await self._take_apart(builder.env, wanted, fetched_now=fresh_cache)
        records = await BUILDING.finish(self._add, trees, builder.env, folder)
        for name, record in records.items():
            for note in record.notes:
                self.note(f"{name}: {note}")
        return records, contested

    async def _install(
        self,
        lock: EnvLock,
        builder: Builder,
        on_line: Callable[[str], None],
        on_received: Callable[[int], None],
        progress: InstallProgress,
    ) -> None:
        try:
            await builder.install(with_files(lock, self._files), on_line, on_received)
        except InstallFailed as error:
            if not could_not_fetch(error):
                raise
            before = len(self._files)
            await self._relay(lock, builder, progress, failed=True)
            if len(self._files) == before:
                raise
            await builder.install(with_files(lock, self._files), on_line, on_received)

    async def _relay(
        self, lock: EnvLock, builder: Builder, progress: InstallProgress, *, failed: bool = False
    ) -> None:
        """Get through other workers what is to come that way, or all when uv `failed` to fetch."""
        wheels = wheels_of(lock) if self.fetcher is not None else {}
        wheels = {name: each for name, each in wheels.items() if name not in self._files}
        if self.fetcher is None or not wheels:
            return
        if not failed:
            wheels = await self.fetcher.wanted(wheels)
        if wheels:
            with suppress(UvFailed):
                uncached = await builder.uncached(with_files(lock, self._files))
                wheels = {name: each for name, each in wheels.items() if name in uncached}
        if not wheels:
            return
        total = sum(each.size or 0 for each in wheels.values())
        arrived = await self.fetcher.fetch(
            wheels,
            builder.scratch / "relayed",
            report=lambda message, done: self.say(
                Phase.DOWNLOADING,
                message,
                done=0,
                total=len(wheels),
                done_bytes=min(done, total),
                total_bytes=total,
            ),
            note=self.note,
        )
        self._files |= {name: str(path) for name, path in arrived.items()}
        progress.came(arrived)

    async def _take_apart(
        self, env: Path, keys: Mapping[str, PackageKey | None], *, fetched_now: bool
    ) -> tuple[Sequence[StagedTree], Sequence[str]]:
        """Whole trees of what was installed into an environment; also who shares a path."""
        site_packages = site_packages_of(env)
        await BUILDING.run(check_placement, env, site_packages)
        filled = Filled(
            env=str(env),
            site_packages=str(site_packages),
            into=str(_trees_of(env)),
            packages=tuple(keys),
            keys={name: key for name, key in keys.items() if key is not None},
            fetched_now=fetched_now,
        )
        forks = min(usable_processors(), self.uv.door.slots)
        if forks < 2 or not await BUILDING.run(filled.is_much):
            return await BUILDING.finish(_by_threads, filled)
        command = await BUILDING.finish(filled.command, forks)
        finished = await self.uv.door.run(
            command, deadline=self.deadline, doing="checking files of packages"
        )
        made = await asyncio.to_thread(filled.result, finished.exit_status, finished.output)
        if made is None:
            raise InstallFailed(
                sentence(
                    "{keys} can't be unpacked: {error}",
                    keys=filled.names,
                    error=sentence(
                        "the process that checks the files ended with {ending}",
                        ending=finished.ending,
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
        return made

    def _add(
        self, trees: Sequence[StagedTree], env: Path, folder: Path
    ) -> dict[str, PackageRecord]:
        self.store.packages.keep(folder, [each.record.key.folder for each in trees])
        records = self.store.packages.add(trees)
        # A build from source may have one of its own here, before the environment itself does.
        for left in (env, _trees_of(env)):
            self.store.disk.discard(left, self.store.layout.trash)
        return {each.key.name: each for each in records}

    def _builder(self, folder: Path, number: int, *, fresh_cache: bool) -> Builder:
        return Builder(
            uv=self.uv,
            spec=self.spec,
            env=folder / f"unpacked-{number}",
            scratch=folder,
            deadline=self.deadline,
            fresh_cache=fresh_cache,
        )


def _trees_of(env: Path) -> Path:
    """Where the packages of an environment are moved to."""
    return env.with_name(f"trees-of-{env.name}")


def _make_empty(env: Path, interpreter: Interpreter) -> None:
    try:
        make_venv(env, interpreter)
    except OSError as error:
        raise not_composed(env, error) from error


def _by_threads(filled: Filled) -> tuple[Sequence[StagedTree], Sequence[str]]:
    split = filled.split()
    return finish_trees(split.trees.values()), split.contested
