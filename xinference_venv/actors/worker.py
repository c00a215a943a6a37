"""The worker: one actor for each host, which prepares, lists and removes its environments.

Thin: it holds jobs, builds and locks. What comes and goes are plain JSON values, so callers of
another version of us, or of none, read the same thing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xoscar as xo

from xinference_venv.actors.board import Board, Build, Job
from xinference_venv.actors.hosts import Hosts
from xinference_venv.actors.pipeline import Preparation, in_phase
from xinference_venv.catalog.load import load_catalog
from xinference_venv.config import Settings
from xinference_venv.env import EnvKey, EnvState
from xinference_venv.errors import InvalidRecord, JobCancelled, NotFound, VirtualEnvError
from xinference_venv.host import Interpreter
from xinference_venv.inventory import EnvEntry, EnvFilter, building_entry, plan_removal
from xinference_venv.jobs import Phase, PreparedEnvironment
from xinference_venv.lock import EnvLock
from xinference_venv.request import LaunchRequest, check_engine_name, check_model_name
from xinference_venv.sources import check_launch_find_links
from xinference_venv.spec import EnvSpec, Surroundings, describe, plan_spec, wants_environment
from xinference_venv.store.ambient import real_directory
from xinference_venv.store.identity import identify, this_process
from xinference_venv.store.launcher import LAUNCHER_NAME
from xinference_venv.store.listing import entries_of
from xinference_venv.store.locks import held
from xinference_venv.store.logs import logs_of, open_log, read_log
from xinference_venv.store.removal import remove_entry
from xinference_venv.store.store import Store
from xinference_venv.uv_cli.process import Uv

WORKER_UID = "xinference_venv_worker"
_REMOVAL_SECONDS = 60.0
_REAP_SECONDS = 2.0


class VirtualEnvWorkerActor(xo.StatelessActor):  # type: ignore[misc]
    """One host's environments. Stateless in xoscar's sense: calls run beside each other."""

    def __init__(
        self, *, store: Store, uv: Uv, settings: Settings, environ: Mapping[str, str]
    ) -> None:
        super().__init__()
        self._store = store
        self._uv = uv
        self._settings = settings
        self._hosts = Hosts(store=store, uv=uv, settings=settings, environ=environ)
        self._board = Board()
        self._builds: dict[tuple[EnvKey, str], Build] = {}
        self._key_locks: dict[EnvKey, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._detached: set[str] = set()
        self._reaper: asyncio.Task[None] | None = None

    # Jobs

    async def prepare(self, request: dict[str, Any], lock: dict[str, Any] | None = None) -> str:
        """Start to make the environment of a `LaunchRequest`; returns the job's id at once.

        `lock` is an `EnvLock` that is known already, made on a host equal to this one. Raises
        `InvalidInput` for a request that can't be read.
        """
        job = self._board.open(LaunchRequest.from_dict(request))
        given = None if lock is None else EnvLock.from_dict(lock)
        job.say(Phase.QUEUED, f"queued for {job.request.model_name}")
        job.task = asyncio.create_task(self._run(job, given))
        return job.job_id

    async def wait(self, job_id: str, since: int = 0, timeout: float = 30.0) -> dict[str, Any]:
        """A job's events after number `since`, its result or error; waits for the first event.

        Long-polling: returns after `timeout` seconds at most. It never cancels the job, whatever
        happens to the caller.
        """
        return await self._board.find(job_id).events(since, timeout)

    async def cancel(self, job_id: str) -> None:
        """Cancel a job: uv is ended, nothing stays. One that has ended is left as it is.

        A build that other jobs wait for goes on for these. Returns when it is done.
        """
        job = self._board.find(job_id)
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.wait([job.task])

    async def plan(self, request: dict[str, Any]) -> dict[str, Any]:
        """What a launch would do, resolved and not built: the spec, and the lock or None."""
        parsed = LaunchRequest.from_dict(request)
        spec = await self._spec(parsed, lambda _: None)
        if spec is None:
            return {"enabled": False, "spec": None, "lock": None}
        build = self._new_build(spec.key, job_id := os.urandom(16).hex())
        preparation = await self._preparation(spec, job_id, build)
        known = await asyncio.to_thread(preparation.known)
        if known is not None and not parsed.refresh:
            lock = (await asyncio.to_thread(self._store.env_record, known.env_id)).lock
        else:
            folder = await asyncio.to_thread(self._store.stage, job_id)
            try:
                lock = await in_phase(Phase.RESOLVING, preparation.resolve(folder))
            finally:
                await asyncio.shield(asyncio.to_thread(self._store.unstage, job_id))
        return {"enabled": True, "spec": describe(spec), "lock": lock.to_dict()}

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
        when anything is refused, so that a refusal leaves what it found.
        """
        wanted = _filter(model_name, model_engine, python_version)
        plan = plan_removal(await self._entries(wanted), wanted, force=force)
        done: list[dict[str, Any]] = []
        if not dry_run and not plan.refuse:
            for entry in (*plan.remove, *plan.detach):
                async with self._holding(entry.key, "removal", lambda _: None):
                    gone = await asyncio.to_thread(remove_entry, self._store, entry)
                if not gone and entry.env_id is not None:
                    self._watch_detached(entry.env_id)
                done.append(self._addressed(entry))
        return {**plan.to_dict(), "done": done, "dry_run": dry_run}

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

    # Life

    async def __post_create__(self) -> None:
        """Clear away what a crash left."""
        await asyncio.to_thread(self._store.sweep)

    async def stop(self) -> None:
        """Cancel every job and wait until its uv has ended."""
        await self._board.cancel_all(lambda job: job.task.cancel() if job.task else None)
        if self._reaper is not None:
            self._reaper.cancel()

    # The rest is not called from outside.

    async def _run(self, job: Job, given: EnvLock | None) -> None:
        """One job to its end, which is always an event."""
        try:
            job.result = await self._result(job, given)
            where = job.result.real_path or job.result.python
            job.say(Phase.READY, f"ready: {where}")
        except VirtualEnvError as error:
            job.error = error.with_details(host=self.address)
            job.say(Phase.FAILED, str(error))
        except asyncio.CancelledError:
            job.error = JobCancelled(f"the job for {job.request.model_name} was cancelled")
            job.say(Phase.CANCELLED, str(job.error))
        except Exception as error:
            # The edge of the job: an error nobody foresaw must reach whoever waits.
            job.error = VirtualEnvError(f"{type(error).__name__}: {error}", {"host": self.address})
            job.say(Phase.FAILED, str(job.error))
            raise

    async def _result(self, job: Job, given: EnvLock | None) -> PreparedEnvironment:
        request = job.request
        if wants_environment(request, self._settings):
            spec = await self._spec(request, lambda line: job.say(Phase.PROBING, line))
        else:
            spec = None
        if spec is None:
            facts = await self._hosts.facts()
            return PreparedEnvironment(enabled=False, python=facts.interpreter.executable)
        preparation = await self._preparation(spec, job.job_id, None)
        known = None
        if given is None and not request.refresh:
            known = await asyncio.to_thread(preparation.known)
        if known is not None:
            prepared = await self._leased(job, spec, known.env_id, uv_calls=0)
            if prepared is not None:
                await asyncio.to_thread(
                    self._store.touch, known, host_fingerprint=preparation.host.fingerprint
                )
                return prepared
        return await self._built(job, spec, given)

    async def _built(self, job: Job, spec: EnvSpec, given: EnvLock | None) -> PreparedEnvironment:
        """Join the build of an equal spec, or start one."""
        together = (spec.key, spec.digest)
        build = self._builds.get(together)
        if build is None:
            build = self._new_build(spec.key, job.job_id)
            self._builds[together] = build
            build.join(job)
            build.task = asyncio.create_task(self._build(spec, build, job, given))
            build.task.add_done_callback(lambda _: self._builds.pop(together, None))
        else:
            build.join(job)
        assert build.task is not None
        try:
            # Shielded: this job may be cancelled while others wait on.
            env_id, calls = await asyncio.shield(build.task)
        except asyncio.CancelledError:
            build.jobs.remove(job)
            if not build.jobs and not build.task.done():
                self._builds.pop(together, None)
                build.task.cancel()
                await asyncio.wait([build.task])
            raise
        prepared = await self._leased(job, spec, env_id, uv_calls=calls)
        if prepared is None:
            raise VirtualEnvError(f"the environment {env_id} was removed while it was launched")
        return prepared

    async def _build(
        self, spec: EnvSpec, build: Build, job: Job, given: EnvLock | None
    ) -> tuple[str, int]:
        """Make the environment, alone for its key; returns its id and the uv calls it took."""
        try:
            async with self._holding(spec.key, "launch", lambda m: build.say(Phase.QUEUED, m)):
                preparation = await self._preparation(spec, job.job_id, build)
                known = None
                if given is None and not job.request.refresh:
                    # Another process, or a job before this one, may have made it meanwhile.
                    known = await asyncio.to_thread(preparation.known)
                    known = known if known and self._is_whole(known.env_id) else None
                if known is not None:
                    env_id = known.env_id
                else:
                    lock, lease = await preparation.run(given, refresh=job.request.refresh)
                    env_id = lock.env_id
                    build.lease = lease
                return env_id, preparation.uv.calls
        except VirtualEnvError as error:
            build.note(str(error))
            if output := error.details.get("output"):
                build.note(str(output))
            raise

    def _is_whole(self, env_id: str) -> bool:
        try:
            self._store.env_record(env_id)
        except InvalidRecord:
            return False
        return True
