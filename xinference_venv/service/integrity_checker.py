"""Environments are checked: in the background, and verified and repaired when asked.

Comes in: a store, and launches to rebuild what is broken. Goes out: marks in environments that
are broken, warnings in the log, and for whoever asked what was found and what became of it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from xinference_venv._util.disk_threads import UPKEEP
from xinference_venv._util.tasks import cancel, in_background
from xinference_venv.errors import (
    DeadlineExceeded,
    InvalidRecord,
    JobCancelled,
    StoreError,
    VirtualEnvError,
)
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.reports import Finding
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.sentences import sentence
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.store.envs.broken_marker import bounded
from xinference_venv.store.envs.verify import broken_at_a_glance, check_env, due_envs
from xinference_venv.store.in_place import in_place_faults
from xinference_venv.store.packages.retention import remove_additions
from xinference_venv.store.store import Store

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

# A process that lives for one command ends before it would be kept busy.
_FIRST_SECONDS = 10.0
_ROUND_SECONDS = 24 * 3600.0
# After each distribution: launches of the same process have the processor to themselves again.
_PAUSE_SECONDS = 0.005


@dataclass(kw_only=True)
class IntegrityChecker:
    """The checks of one worker."""

    store: Store
    launches: LaunchService
    _stopped: threading.Event = field(default_factory=threading.Event)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Check every environment in the background from now on, once a day."""
        self._task = in_background(self._watch(), "checking environments", _log)

    async def stop(self) -> None:
        """End the checks; returns when none looks at anything any more."""
        self._stopped.set()
        if self._task is not None:
            await cancel(self._task)

    async def verify(
        self, entries: Iterable[EnvEntry], *, hashes: bool, repair: bool
    ) -> dict[EnvKey, Finding]:
        """Look closely at the environments of these keys, and rebuild broken ones on request.

        What is being built, was left by older versions, or is gone by now, is left out. One that
        is changed in its place is set up again by who changes it.
        """
        in_place = [each for each in entries if each.state is EnvState.IN_PLACE]
        env_ids = {each.key: each.env_id for each in entries if each.env_id is not None}
        faults = {}
        began = time.time()
        for env_id in dict.fromkeys(env_ids.values()):
            faults[env_id] = await self._checked(env_id, hashes, since=began)
        found = {
            key: seen for key, env_id in env_ids.items() if (seen := faults[env_id]) is not None
        }
        findings = {}
        for key, seen in found.items():
            hindrance = await self._repair(key, hashes) if seen and repair else None
            findings[key] = Finding(
                faults=seen,
                repaired=hindrance is None if seen and repair else None,
                not_repaired=hindrance,
                additions=await UPKEEP.finish(self._additions, env_ids[key], began, repair),
            )
        for entry in in_place:
            seen = await self._looked_at(Path(entry.real_path))
            findings[entry.key] = Finding(
                faults=seen,
                repaired=False if seen and repair else None,
                not_repaired="Xinference sets it up: launch the model again there, after"
                " `xinference-venv remove` if need be"
                if seen and repair
                else None,
            )
        return findings

    async def _looked_at(self, env: Path) -> tuple[str, ...]:
        """What is wrong with an environment that is changed in its place."""

        def look(pause: Callable[[], None]) -> tuple[str, ...]:
            return bounded(list(in_place_faults(self.store.disk, env, pause)))

        return await self._while_awaited(look)

    async def _checked(
        self, env_id: str, hashes: bool, since: float = math.inf
    ) -> tuple[str, ...] | None:
        def check(pause: Callable[[], None]) -> tuple[str, ...] | None:
            return check_env(self.store, env_id, hashes=hashes, pause=pause, since=since)

        return await self._while_awaited(check)

    async def _while_awaited(self, look: Callable[[Callable[[], None]], _T]) -> _T:
        """The result of a look, which is given what ends it once it is not wanted any more."""
        ended = threading.Event()

        def pause() -> None:
            if ended.is_set() or self._stopped.is_set():
                raise JobCancelled(sentence("the check was stopped"))

        try:
            return await UPKEEP.run(look, pause)
        finally:
            # A thread can't be cancelled: it gets a signal.
            ended.set()

    async def _repair(self, key: EnvKey, hashes: bool) -> str | None:
        """Launch again what a key was launched with; returns why its environment is not whole then.

        The repair of another key that shares it may have served this one already.
        """
        if not (faults := await self._faults_now(key, hashes)):
            return None
        record = await asyncio.to_thread(self.store.key_record, key)
        if record is None or record.request is None:
            return "its request was not kept, or had credentials: launch the model again"
        try:
            await self._launch(LaunchRequest.from_dict(record.request))
        except VirtualEnvError as error:
            return str(error) if error.hint is None else f"{error} ({error.hint})"
        faults = await self._faults_now(key, hashes)
        return f"it was launched again, and is still broken: {faults[0]}" if faults else None

    async def _faults_now(self, key: EnvKey, hashes: bool) -> tuple[str, ...]:
        env_id = await asyncio.to_thread(self.store.env_of, key)
        return () if env_id is None else await self._checked(env_id, hashes) or ()

    async def _launch(self, request: LaunchRequest) -> None:
        """Launch and give the lease back; raises the job's error."""
        job = self.launches.start(request, None)
        assert job.task is not None
        try:
            await asyncio.wait([job.task])
        finally:
            await self.launches.cancel(job)
        if job.error is not None:
            raise job.error
        if job.lease is not None:
            env_id, lease_id = job.lease.env_id, job.lease.lease_id
            await asyncio.to_thread(self.store.release_lease, env_id, lease_id)

    async def _watch(self) -> None:
        await asyncio.sleep(_FIRST_SECONDS)
        while True:
            try:
                await self._round()
            except (VirtualEnvError, OSError) as error:
                _log.warning("environments could not be checked today: %s", error)
            await asyncio.sleep(_ROUND_SECONDS)

    async def _round(self) -> None:
        """Look at all for a moment, then closely at one after the other."""
        broken = await UPKEEP.run(broken_at_a_glance, self.store)
        for env_id, fault in broken.items():
            _warn(self.store, env_id, fault)
        began = time.time()
        for env_id in await UPKEEP.run(due_envs, self.store, began):
            try:
                faults = await UPKEEP.finish(
                    check_env, self.store, env_id, hashes=False, pause=self._rest, since=began
                )
            except VirtualEnvError as error:
                _log.warning("an environment can't be checked: %s", error)
                continue
            if faults and env_id not in broken:
                _warn(self.store, env_id, "; ".join(faults))
        for folder in await UPKEEP.run(self._trees):
            await UPKEEP.finish(self._tidy, folder, began)

    def _trees(self) -> list[str]:
        return [*self.store.packages.folders(), *self.store.joined.folders()]

    def _additions(self, env_id: str, since: float, remove: bool) -> tuple[str, ...]:
        """What lies in the packages of an environment that these did not bring.

        With `remove` it is deleted where no process uses the package, and what is left is returned.
        """
        try:
            folders = self.store.trees_of(env_id)
        except (InvalidRecord, StoreError):
            return ()
        left: list[str] = []
        for folder in folders:
            tree, found = self._added(folder, since)
            removed = remove_additions(self.store, tree, found) if remove and found else []
            left += (each for each in found if each not in removed)
        return bounded(left)

    def _added(self, folder: str, since: float) -> tuple[Path, tuple[str, ...]]:
        """A tree, and what lies in it that no package brought, by a look at or after `since`."""
        package = self.store.layout.package(folder)
        if package.is_dir():
            check = self.store.packages.verify(folder, since=since, pause=self._rest)
            return package, check.additions
        check = self.store.joined.verify(folder, since=since, pause=self._rest)
        return self.store.layout.joined_tree(folder), check.additions

    def _tidy(self, folder: str, since: float) -> None:
        """Delete what processes wrote next to the modules of a package, when none uses it.

        A look at the package since then is enough.
        """
        try:
            tree, found = self._added(folder, since)
            removed = remove_additions(self.store, tree, found) if found else []
        except (StoreError, DeadlineExceeded) as error:
            _log.warning("a package can't be checked: %s", error)
            return
        for addition in found:
            done = "deleted" if addition in removed else "left, since a process may use it"
            _log.warning("%s does not belong to its package: %s", addition, done)

    def _rest(self) -> None:
        if self._stopped.wait(_PAUSE_SECONDS):
            raise JobCancelled(sentence("the check was stopped"))


def _warn(store: Store, env_id: str, fault: str) -> None:
    _log.warning("the environment %s is broken: %s", store.layout.env(env_id), fault)
