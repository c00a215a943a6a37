"""Removals on one host: each environment alone with its key, many at a time, files deleted last.

Comes in: entries that may go by a plan. Comes out: which of them are gone, and which stay after
all. While files are deleted no lock is held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field, replace

from xinference_venv._util.disk_threads import UPKEEP
from xinference_venv._util.tasks import cancel, finish, ignore, in_background
from xinference_venv.errors import DeadlineExceeded, InUse, VirtualEnvError
from xinference_venv.inventory.inventory import EnvEntry, plan_removal
from xinference_venv.inventory.selection import Selection
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.store.removal import remove_entries
from xinference_venv.store.store import Store

# So many keys are held at once, each by an open file, for some tens of milliseconds.
_AT_ONCE = 100
# Less than a supervisor waits for an answer.
_REMOVAL_SECONDS = 20.0
_REAP_SECONDS = 2.0

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Remover:
    """The removals of one worker; `entries` lists what there is."""

    launches: LaunchService
    entries: Callable[[Selection], Awaitable[list[EnvEntry]]]
    _unlinked: set[str] = field(default_factory=set, init=False)
    _reaper: asyncio.Task[None] | None = field(default=None, init=False)

    @property
    def _store(self) -> Store:
        return self.launches.store

    async def stop(self) -> None:
        """Watch for the end of no holder any more; the next start sees what has no key."""
        if self._reaper is not None:
            await cancel(self._reaper)

    async def remove(
        self, planned: Sequence[EnvEntry], selection: Selection, *, force: bool
    ) -> tuple[list[EnvEntry], list[EnvEntry]]:
        """Remove planned entries, all of the selection; which are gone, and which stay as they are.

        What a launch has taken since it was planned stays.
        """
        removal = _Removal(remover=self, selection=selection, force=force)
        try:
            for start in range(0, len(planned), _AT_ONCE):
                await removal.remove_free(planned[start : start + _AT_ONCE])
            await removal.remove_others()
        finally:
            await finish(*removal.deleting)
        gone = [each for each in planned if each.path not in removal.stay]
        return gone, list(removal.stay.values())

    def watch_unlinked(self, env_id: str) -> None:
        """Delete an environment without a key when its last holder is gone; no event says so."""
        self._unlinked.add(env_id)
        if self._reaper is None or self._reaper.done():
            self._reaper = in_background(self._reap(), "deleting what is used no more", _log)

    async def _reap(self) -> None:
        while self._unlinked:
            await asyncio.sleep(_REAP_SECONDS)
            for env_id in list(self._unlinked):
                try:
                    gone, trashed = await asyncio.to_thread(self._store.trash_if_unused, env_id)
                except DeadlineExceeded:
                    # A launch or a removal has it: it is looked at again.
                    continue
                except VirtualEnvError as error:
                    _log.warning("an environment without a key stays: %s", error)
                    self._unlinked.discard(env_id)
                    continue
                if gone:
                    self._unlinked.discard(env_id)
                    await UPKEEP.run(self._store.delete_trashed, trashed)


@dataclass(kw_only=True)
class _Removal:
    """One removal; `stay` are the entries that stay after all, by path, as they are now, `others`
    those that something else holds.
    """

    remover: Remover
    selection: Selection
    force: bool
    stay: dict[str, EnvEntry] = field(default_factory=dict)
    others: list[EnvEntry] = field(default_factory=list)
    deleting: list[asyncio.Task[None]] = field(default_factory=list)

    async def remove_free(self, some: Sequence[EnvEntry]) -> None:
        """Remove those whose keys are free, all at once; the others are left for later."""
        held: list[EnvEntry] = []
        async with AsyncExitStack() as locks:
            # In one order, so that no two removals wait for each other.
            for entry in sorted(some, key=lambda each: each.key.digest):
                # A launch may have it, or older versions have left several directories for one key.
                with suppress(DeadlineExceeded):
                    await locks.enter_async_context(self._hold(entry, deadline=0.0))
                    held.append(entry)
            try:
                await self._remove_held(held, self.selection)
            except DeadlineExceeded:
                # A process that holds the lock of one of them keeps no other.
                held.clear()
        self.others += [entry for entry in some if not any(entry is each for each in held)]

    async def remove_others(self) -> None:
        """Wait for each of the others, and remove it."""
        for entry in self.others:
            only = Selection(model_name=entry.key.model_name)
            try:
                async with self._hold(entry, deadline=_REMOVAL_SECONDS):
                    await self._remove_held([entry], only)
            except DeadlineExceeded as error:
                self._keep(entry, error)

    def _hold(self, entry: EnvEntry, *, deadline: float) -> AbstractAsyncContextManager[None]:
        return self.remover.launches.hold_key(
            entry.key, "removal", deadline=deadline, on_wait=ignore
        )

    async def _remove_held(self, held: Sequence[EnvEntry], selection: Selection) -> None:
        """Remove those that still may go; their keys are held."""
        store = self.remover.launches.store
        now = {each.path: each for each in await self.remover.entries(selection)} if held else {}
        going: list[EnvEntry] = []
        for planned in held:
            if (entry := now.get(planned.path)) is None:
                continue
            again = plan_removal([entry], entry.key.__eq__, force=self.force)
            if again.refuse or entry.env_id != planned.env_id:
                self.stay[entry.path] = entry
            else:
                going.append(entry)
        removed = await UPKEEP.finish(remove_entries, store, going)
        trashed = [each.trashed for each in removed if each.trashed is not None]
        if trashed:
            deletion = UPKEEP.run(store.delete_trashed, *trashed)
            self.deleting.append(asyncio.create_task(deletion))
        for each in removed:
            if isinstance(each.error, InUse):
                # A launch took it just now.
                again_listed = await self.remover.entries(selection)
                taken = [entry for entry in again_listed if entry.path == each.entry.path]
                self.stay[each.entry.path] = taken[0] if taken else each.entry
            elif each.error is not None:
                # One that the system does not let us remove keeps no other.
                self._keep(each.entry, each.error)
            elif not each.gone and each.entry.env_id is not None:
                self.remover.watch_unlinked(each.entry.env_id)

    def _keep(self, entry: EnvEntry, error: VirtualEnvError) -> None:
        self.remover.launches.store.skipped.keep(entry.path, error)
        self.stay[entry.path] = replace(entry, reason=str(error))
