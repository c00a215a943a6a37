"""The worker: one actor for each host, which prepares, lists and removes its environments.

Thin: it holds jobs, builds and locks. What comes and goes are plain JSON values, so callers of
another version of us, or of none, read the same thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import xoscar as xo

from xinference_venv.actors.hosts import Hosts
from xinference_venv.actors.launches import Launches
from xinference_venv.config import Settings
from xinference_venv.errors import NotFound
from xinference_venv.inventory import EnvEntry, EnvFilter, building_entry, plan_removal
from xinference_venv.lock import EnvLock
from xinference_venv.request import (
    LaunchRequest,
    check_engine_name,
    check_model_name,
    check_python_version,
)
from xinference_venv.store.identity import identify
from xinference_venv.store.listing import entries_of
from xinference_venv.store.logs import logs_of, read_log
from xinference_venv.store.removal import remove_entry
from xinference_venv.store.store import Store
from xinference_venv.uv_cli.process import Uv

WORKER_UID = "xinference_venv_worker"
# Less than a supervisor waits for an answer.
_REMOVAL_SECONDS = 20.0
_REAP_SECONDS = 2.0


class VirtualEnvWorkerActor(xo.StatelessActor):  # type: ignore[misc]
    """One host's environments. Stateless in xoscar's sense: calls run beside each other."""

    def __init__(
        self, *, store: Store, uv: Uv, settings: Settings, environ: Mapping[str, str]
    ) -> None:
        super().__init__()
        self._store = store
        self._launches = Launches(
            store=store,
            uv=uv,
            settings=settings,
            hosts=Hosts(store=store, uv=uv, settings=settings, environ=environ),
        )
        self._detached: set[str] = set()
        self._reaper: asyncio.Task[None] | None = None

    # Jobs

    async def prepare(self, request: dict[str, Any], lock: dict[str, Any] | None = None) -> str:
        """Start to make the environment of a `LaunchRequest`; returns the job's id at once.

        `lock` is an `EnvLock` that is known already, made on a host equal to this one. Raises
        `InvalidInput` for a request that can't be read.
        """
        given = None if lock is None else EnvLock.from_dict(lock)
        return self._launches.start(LaunchRequest.from_dict(request), given).job_id

    async def wait(self, job_id: str, since: int = 0, timeout: float = 30.0) -> dict[str, Any]:
        """A job's events after number `since`, its result or error; waits for the first event.

        Long-polling: returns after `timeout` seconds at most. It never cancels the job, whatever
        happens to the caller. Raises `UnknownJob`.
        """
        return await self._launches.board.find(job_id).events(since, timeout)

    async def cancel(self, job_id: str) -> None:
        """Cancel a job: uv is ended, nothing stays. One that has ended is left as it is.

        A build that other jobs wait for goes on for these. Returns when it is done.
        """
        await self._launches.cancel(self._launches.board.find(job_id))

    async def plan(self, request: dict[str, Any]) -> dict[str, Any]:
        """What a launch would do, resolved and not built: `enabled`, `spec`, `lock`."""
        return await self._launches.plan(LaunchRequest.from_dict(request))

    # Leases

    async def bind_lease(self, env_id: str, lease_id: str, pid: int) -> None:
        """Hand a lease to the process that uses the environment from now on."""
        process = await asyncio.to_thread(identify, pid)
        if process is None:
            raise NotFound(f"there is no process {pid} on this host")
        await asyncio.to_thread(self._store.leases.bind, env_id, lease_id, process)

    async def release_lease(self, env_id: str, lease_id: str) -> None:
        """Give a lease back; one that is gone is fine."""
        await asyncio.to_thread(self._store.leases.release, env_id, lease_id)
        await asyncio.to_thread(self._store.delete_if_unused, env_id)

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
        """The packages of each matching environment: the entry, and its lock's distributions."""
        listed = []
        for entry in await self._entries(_filter(model_name, model_engine, python_version)):
            lock = None
            if entry.env_id is not None:
                lock = await asyncio.to_thread(self._store.lock_of, entry.env_id)
            packages = [] if lock is None else [each.to_dict() for each in lock.distributions]
            listed.append({**self._addressed(entry), "packages": packages})
        return listed

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
                (done if await self._remove(entry, force) else late).append(entry)
        return {
            **replace(plan, refuse=(*plan.refuse, *late)).to_dict(),
            "done": [self._addressed(entry) for entry in done],
            "dry_run": dry_run,
        }

    async def _remove(self, planned: EnvEntry, force: bool) -> bool:
        """Remove one entry if, alone with its key, it still may; tells whether its key is gone."""
        key = planned.key
        async with self._launches.holding(
            key, "removal", deadline=_REMOVAL_SECONDS, on_wait=lambda _: None
        ):
            only = EnvFilter(**key.to_dict())
            now = [each for each in await self._entries(only) if each.key == key]
            again = plan_removal(now, only, force=force)
            if again.refuse or any(each.env_id != planned.env_id for each in now):
                return False
            for entry in now:
                gone = await asyncio.to_thread(remove_entry, self._store, entry)
                if not gone and entry.env_id is not None:
                    self._watch_detached(entry.env_id)
        return True

    async def logs(
        self,
        model_name: str,
        model_engine: str | None = None,
        python_version: str | None = None,
        count: int = 1,
    ) -> list[dict[str, Any]]:
        """The newest `count` logs of a model's jobs: header and text."""
        wanted = _filter(model_name, model_engine, python_version)

        def read() -> list[dict[str, Any]]:
            found = []
            for header, path in logs_of(self._store.layout, wanted):
                found.append({**header, "path": str(path), "text": read_log(path)})
                if len(found) >= count:
                    break
            return found

        return await asyncio.to_thread(read)

    async def list_models(self) -> list[dict[str, Any]]:
        """The models of this host's catalogue."""
        catalog = await asyncio.to_thread(self._launches.catalog)
        return [each.to_dict() for each in catalog.models.values()]

    # Life

    async def __post_create__(self) -> None:
        """Clear away what a crash left."""
        self._launches.address = self.address
        await asyncio.to_thread(self._store.sweep)

    async def stop(self) -> None:
        """Cancel every job and wait until its uv has ended."""
        await self._launches.stop()
        if self._reaper is not None:
            self._reaper.cancel()

    async def _entries(self, wanted: EnvFilter) -> list[EnvEntry]:
        entries = await asyncio.to_thread(entries_of, self._store)
        there = {entry.key for entry in entries}
        building = [
            building_entry(build.spec.key, str(self._store.layout.key_link(build.spec.key)))
            for build in self._launches.builds.values()
            if build.spec.key not in there
        ]
        return [entry for entry in (*entries, *building) if wanted.matches(entry.key)]

    def _addressed(self, entry: EnvEntry) -> dict[str, Any]:
        host = str(self.address).rpartition(":")[0]
        return {**entry.to_dict(), "actor_ip_address": host, "worker_address": self.address}

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
    """The filter of untrusted names; raises `InvalidInput`."""
    return EnvFilter(
        model_name=None if model_name is None else check_model_name(model_name),
        model_engine=None if model_engine is None else check_engine_name(model_engine),
        python_version=None if python_version is None else check_python_version(python_version),
    )
