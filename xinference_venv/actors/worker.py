"""The worker: one actor for each host, which prepares, lists and removes its environments.

Thin: it holds jobs, builds and locks. What comes and goes are plain JSON values, so callers of
another version of us, or of none, read the same thing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xinference_venv._util.tasks import ignore
from xinference_venv.actors.lock_client import WORKER_UID as WORKER_UID
from xinference_venv.actors.worker_jobs import WorkerJobs
from xinference_venv.diagnosis.diagnose import examine
from xinference_venv.errors import InUse, InvalidInput
from xinference_venv.inventory.eviction import EvictionPolicy
from xinference_venv.inventory.inventory import (
    EnvEntry,
    EnvFilter,
    building_entry,
    check_directory_name,
    plan_removal,
)
from xinference_venv.observability.logging import context_about
from xinference_venv.planning.request import check_python_version
from xinference_venv.service.collect_metrics import measures_of_worker
from xinference_venv.service.garbage_collector import Care
from xinference_venv.service.integrity_checker import NOT_LOOKED_AT, Checks
from xinference_venv.settings import Settings
from xinference_venv.store.lease_admin import lease_entries, release_leases
from xinference_venv.store.listing import entries_of, packages_of
from xinference_venv.store.logs import logs_of, read_on, text_of
from xinference_venv.store.store import Store, remove_entry
from xinference_venv.store.sweep import sweep
from xinference_venv.uv.subprocess import Uv

# Less than a supervisor waits for an answer.
_REMOVAL_SECONDS = 20.0
_REAP_SECONDS = 2.0


class VirtualEnvWorkerActor(WorkerJobs):
    """One host's environments: `WorkerJobs` makes them, this lists, removes and cares for them."""

    def __init__(
        self, *, store: Store, uv: Uv, settings: Settings, environ: Mapping[str, str]
    ) -> None:
        super().__init__(store=store, uv=uv, settings=settings, environ=environ)
        self._checks = Checks(store=store, launches=self._launches)
        standing = EvictionPolicy(max_bytes=settings.max_bytes, older_than=settings.max_unused)
        self._care = Care(launches=self._launches, standing=standing)
        self._launches.on_built = self._care.look_soon
        self._detached: set[str] = set()
        self._reaper: asyncio.Task[None] | None = None

    # Inventory

    async def list_virtual_envs(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        python_version: str | None = None,
    ) -> list[dict[str, Any]]:
        """The environments of this host, as `EnvEntry` with this worker's address."""
        entries = await self._entries(_filter(model_name, model_engine, python_version))
        return [self._addressed(entry) for entry in entries]

    async def list_virtual_env_packages(
        self,
        model_name: str,
        model_engine: str | None = None,
        python_version: str | None = None,
    ) -> list[dict[str, Any]]:
        """The packages of each matching environment: the entry, and its `packages_of`."""
        entries = await self._entries(_filter(model_name, model_engine, python_version))
        return [
            {
                **self._addressed(entry),
                "packages": await asyncio.to_thread(packages_of, self._store, entry),
            }
            for entry in entries
        ]

    async def remove_virtual_env(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        python_version: str | None = None,
        *,
        dry_run: bool = False,
        force: bool = False,
    ) -> dict[str, Any]:
        """Remove the matching environments as `plan_removal` decides; None means any.

        Returns the plan, and as `done` the entries whose key is gone now. Nothing is removed
        when anything is refused at first, so that a refusal leaves what it found; what a launch
        takes meanwhile is refused as well, each by itself.
        """
        wanted = _filter(model_name, model_engine, python_version)
        plan = plan_removal(await self._entries(wanted), wanted, force=force)
        done: list[EnvEntry] = []
        late: list[EnvEntry] = []
        if not dry_run and not plan.refuse:
            for entry in (*plan.remove, *plan.detach):
                stays = await self._remove(entry, force)
                (done if stays is None else late).append(stays or entry)
        return {
            **replace(plan, refuse=(*plan.refuse, *late)).to_dict(),
            "done": [self._addressed(entry) for entry in done],
            "dry_run": dry_run,
        }

    async def _remove(self, planned: EnvEntry, force: bool) -> EnvEntry | None:
        """Remove one entry if, alone with its key, it still may; else it is returned as it is."""
        key = planned.key
        async with self._launches.holding(
            key, "removal", deadline=_REMOVAL_SECONDS, on_wait=ignore
        ):
            only = EnvFilter(
                model_name=key.model_name,
                model_engine=key.model_engine,
                python_version=key.python_version,
            )
            # Older versions may have left several directories that one key means.
            now = [each for each in await self._entries(only) if each.path == planned.path]
            again = plan_removal(now, only, force=force)
            for entry in now:
                if again.refuse or entry.env_id != planned.env_id:
                    return entry
                try:
                    gone = await asyncio.to_thread(remove_entry, self._store, entry)
                except InUse:
                    # A launch took it just now.
                    taken = [each for each in await self._entries(only) if each.path == entry.path]
                    return taken[0] if taken else entry
                if not gone and entry.env_id is not None:
                    self._watch_detached(entry.env_id)
        return None

    async def logs(
        self,
        model_name: str,
        model_engine: str | None = None,
        python_version: str | None = None,
        count: int = 1,
    ) -> list[dict[str, Any]]:
        """The newest `count` logs of a model's jobs, as `JobLog` with their text."""
        wanted = _filter(model_name, model_engine, python_version)

        def read() -> list[dict[str, Any]]:
            newest = itertools.islice(logs_of(self._store.layout, wanted), count)
            return [{**each.to_dict(), "text": text_of(each)} for each in newest]

        found = await asyncio.to_thread(read)
        return [{**each, "worker_address": self.address} for each in found]

    async def read_log(self, log_id: str, offset: int = 0) -> dict[str, Any]:
        """A log's text from `offset` on, as `LogPart`; ask again from its `offset` until `ended`.

        Offsets are in bytes, 0 is the beginning. Raises `InvalidInput`, and `NotFound` when the
        log is gone.
        """
        if offset < 0:
            raise InvalidInput(f"invalid offset {offset}", {"hint": "allowed are 0 and more"})
        part = await asyncio.to_thread(read_on, self._store.layout, log_id, offset)
        return part.to_dict()

    async def verify_virtual_env(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        python_version: str | None = None,
        *,
        hashes: bool = False,
        repair: bool = False,
    ) -> list[dict[str, Any]]:
        """Look closely at the matching environments, and with `repair` make broken ones anew.

        With `hashes` the contents of all files are compared. Each entry as it is then, with
        `faults`, `repaired` and `not_repaired` as `Finding` has them; those that older versions
        left are not looked at, and have no `faults` (null).
        """
        wanted = _filter(model_name, model_engine, python_version)
        before = await self._entries(wanted)
        found = await self._checks.verify(before, hashes=hashes, repair=repair)
        entries = await self._entries(wanted)
        return [
            {**self._addressed(entry), **found.get(entry.key, NOT_LOOKED_AT).to_dict()}
            for entry in entries
        ]

    async def collect_garbage(
        self,
        *,
        max_bytes: int | None = None,
        older_than: float | None = None,
        prune_uv_cache: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Let go what no key and no process needs, and what goes beyond the limits; see `Care`.

        `max_bytes` is for all environments together, `older_than` in seconds since a launch.
        What is in use stays. Raises `InvalidInput`.
        """
        policy = EvictionPolicy(max_bytes=max_bytes, older_than=older_than)
        return await self._care.collect(policy, prune_uv_cache=prune_uv_cache, dry_run=dry_run)

    async def disk_usage(self, timeout: float) -> dict[str, Any]:
        """What is on this host's disk, in bytes; see `Care.disk_usage`. Changes nothing.

        Raises `DeadlineExceeded` after `timeout` seconds.
        """
        return await self._care.disk_usage(timeout)

    async def diagnose(self) -> dict[str, Any]:
        """What is wrong with this host, as `Diagnosis`; see `examine`."""
        return replace(await examine(self._environ), worker_address=self.address).to_dict()

    async def measure(self) -> dict[str, Any]:
        """What this worker counted since its start, and what there is now, as `Measures`."""
        return (await measures_of_worker(self._launches, self._started)).to_dict()

    async def list_models(self) -> list[dict[str, Any]]:
        """The models of this host's catalogue."""
        catalog = await asyncio.to_thread(self._launches.catalog)
        return [each.to_dict() for each in catalog.models.values()]

    # Leases

    async def list_leases(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        python_version: str | None = None,
    ) -> list[dict[str, Any]]:
        """Who uses the matching environments, as `LeaseEntry` with this worker's address."""
        wanted = _filter(model_name, model_engine, python_version)
        entries = await asyncio.to_thread(lease_entries, self._store, wanted)
        return [{**entry.to_dict(), "worker_address": self.address} for entry in entries]

    async def release_leases(
        self, lease_ids: Sequence[str], *, force: bool = False
    ) -> dict[str, Any]:
        """Let go of leases by id: a `ReleaseReport`. Those of the living only with `force`."""
        report = await asyncio.to_thread(release_leases, self._store, lease_ids, force=force)
        return report.to_dict()

    # Life

    async def __post_create__(self) -> None:
        """Clear away what a crash left."""
        self._launches.address = self.address
        await asyncio.to_thread(sweep, self._store)
        context = context_about(worker=self.address)
        context.run(self._checks.start)
        context.run(self._care.start)

    async def stop(self) -> None:
        """Leave the cluster, cancel every job and wait until its uv has ended."""
        await super().stop()
        await self._checks.stop()
        await self._care.stop()
        if self._reaper is not None:
            self._reaper.cancel()

    async def _entries(self, wanted: EnvFilter) -> list[EnvEntry]:
        entries = await asyncio.to_thread(entries_of, self._store, wanted)
        building = [
            building_entry(build.spec.key, str(self._store.layout.key_link(build.spec.key)))
            for build in self._launches.builds.values()
        ]
        there = {entry.path for entry in entries}
        waiting = [entry for entry in building if entry.path not in there]
        return [entry for entry in (*entries, *waiting) if wanted.matches(entry.key)]

    def _addressed(self, entry: EnvEntry) -> dict[str, Any]:
        # Xinference's name for the same: what narrows a question to this worker.
        address = {"actor_ip_address": self.address, "worker_address": self.address}
        return {**entry.to_dict(), **address}

    def _watch_detached(self, env_id: str) -> None:
        """Delete a detached environment when its last holder is gone, which nobody may tell."""
        self._detached.add(env_id)
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap())

    async def _reap(self) -> None:
        while self._detached:
            await asyncio.sleep(_REAP_SECONDS)
            for env_id in list(self._detached):
                if await asyncio.to_thread(self._store.delete_if_unused, env_id):
                    self._detached.discard(env_id)


def _filter(
    model_name: str | None, model_engine: str | None, python_version: str | None
) -> EnvFilter:
    """The filter of untrusted names; raises `InvalidInput`.

    They are only compared, with names of directories among others that older versions made.
    """
    engine = model_engine and check_directory_name(model_engine, "engine name")
    return EnvFilter(
        model_name=None if model_name is None else check_directory_name(model_name, "model name"),
        model_engine=None if engine is None else engine.lower(),
        python_version=None if python_version is None else check_python_version(python_version),
    )
