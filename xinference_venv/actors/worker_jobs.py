"""The part of the worker that launches: jobs, their leases, and its place in a cluster.

What the supervisor asks comes through `answer`, for one incarnation of the worker; a launch
pipeline of the same host calls the other methods directly.
"""

from __future__ import annotations

import asyncio
import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import xoscar as xo

from xinference_venv.actors import rpc
from xinference_venv.actors.heartbeat import Membership
from xinference_venv.actors.lock_client import LockSources
from xinference_venv.actors.lock_server import LockSharing
from xinference_venv.errors import NotFound, WorkerUnavailable
from xinference_venv.inventory.cluster_state import HEARTBEAT_SECONDS, PROTOCOL, Registration
from xinference_venv.inventory.replicas import LockSource
from xinference_venv.observability.logging import context_about
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.service.host_facts import Hosts
from xinference_venv.service.launch_service import Launches
from xinference_venv.settings import Settings
from xinference_venv.store.host_files import free_bytes
from xinference_venv.store.lease_admin import bind_lease
from xinference_venv.store.process_identity import identify
from xinference_venv.store.store import Store
from xinference_venv.uv.subprocess import Uv


class WorkerJobs(xo.StatelessActor):  # type: ignore[misc]
    """Launches on one host. Stateless in xoscar's sense: calls run beside each other."""

    def __init__(
        self, *, store: Store, uv: Uv, settings: Settings, environ: Mapping[str, str]
    ) -> None:
        super().__init__()
        self._store = store
        self._environ = environ
        self._launches = Launches(
            store=store,
            uv=uv,
            settings=settings,
            hosts=Hosts(store=store, uv=uv, settings=settings, environ=environ),
        )
        self._sharing = LockSharing(launches=self._launches)
        self._incarnation = uuid.uuid4().hex
        self._started = time.time()
        self._membership: Membership | None = None
        self._keeping: asyncio.Task[None] | None = None

    # Jobs

    async def prepare(
        self,
        request: dict[str, Any],
        lock: dict[str, Any] | None = None,
        *,
        job_id: str | None = None,
        lock_sources: Sequence[dict[str, Any]] = (),
        members: Sequence[dict[str, Any]] = (),
        require: int = 1,
    ) -> str:
        """Start to make the environment of a `LaunchRequest`; returns the job's id at once.

        `lock` is an `EnvLock` that is known already, made on a host equal to this one;
        `lock_sources` are workers (`LockSource`) to ask for one before it is resolved here. In a
        launch on several workers the jobs have one id; `members` (`LockSource` as well) and
        `require` are what a supervisor that was started anew has to know. Raises `InvalidInput`
        for a request that can't be read.
        """
        given = None if lock is None else EnvLock.from_dict(lock)
        sources = LockSources(
            request=request,
            sources=tuple(map(LockSource.from_dict, lock_sources)),
            here=self.address,
        )
        job = self._launches.start(
            LaunchRequest.from_dict(request), given, job_id=job_id, ask=sources.lock
        )
        job.members = {"members": list(members), "require": require}
        return job.job_id

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

    async def list_jobs(self) -> list[dict[str, Any]]:
        """The jobs that run or ended not long ago, the newest first.

        `job_id` is what the supervisor calls it: with the worker's address when it is the only
        one of the cluster.
        """
        listed = []
        for job in reversed(self._launches.board.jobs.values()):
            named = job.job_id if job.of_cluster else f"{job.job_id}@{self.address}"
            listed.append({**job.describe(), "job_id": named, "worker_address": self.address})
        return listed

    # Leases

    async def bind_lease(self, env_id: str, lease_id: str, pid: int) -> None:
        """Hand a lease to the process that uses the environment from now on."""
        process = await asyncio.to_thread(identify, pid)
        if process is None:
            raise NotFound(f"there is no process {pid} on this host")
        await asyncio.to_thread(bind_lease, self._store, env_id, lease_id, process)

    async def release_lease(self, env_id: str, lease_id: str) -> None:
        """Give a lease back; one that is gone is fine."""
        await asyncio.to_thread(self._store.release_lease, env_id, lease_id)

    # Locks for other workers

    async def survey(self, request: dict[str, Any]) -> dict[str, Any]:
        """Which group of equal hosts this one belongs to for a request, and whether it is ready.

        `group` is equal where one lock serves, None where no environment is wanted; `standing`
        says that a launch would find its environment made.
        """
        return await self._sharing.survey(LaunchRequest.from_dict(request))

    async def standing_lock(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """The lock of what a launch would find made: `lock` and `error`, one of them None."""
        lock = await self._sharing.standing(LaunchRequest.from_dict(request))
        error = NotFound("the environment is not there any more")
        return {
            "lock": None if lock is None else lock.to_dict(),
            "error": error.to_dict() if lock is None else None,
        }

    async def lock_of_job(self, job_id: str, timeout: float) -> dict[str, Any]:
        """The lock of a job once it is resolved: `lock` and `error`, both None while it is not.

        Long-polling: returns after `timeout` seconds at most. Raises `UnknownJob`.
        """
        job = self._launches.board.find(job_id)
        lock = await self._sharing.of_job(job, timeout)
        return {
            "lock": None if lock is None else lock.to_dict(),
            "error": None if job.error is None else job.error.to_dict(),
        }

    async def members_of(self, job_id: str) -> dict[str, Any]:
        """Who takes part in a launch on several workers; raises `UnknownJob`."""
        return dict(self._launches.board.find(job_id).members)

    # The cluster

    async def answer(
        self, incarnation: str, method: str, arguments: list[Any], named: dict[str, Any]
    ) -> dict[str, Any]:
        """Call a method for one that means this very incarnation; see `rpc.answer`."""
        if incarnation != self._incarnation:
            error = WorkerUnavailable(
                f"the worker at {self.address} was started anew",
                {"hint": "what was asked was meant for the one before; ask again"},
            )
            return {"value": None, "error": error.to_dict()}
        return await rpc.answer(self, method, arguments, named)

    async def registration(self, *, heartbeat: float | None = HEARTBEAT_SECONDS) -> dict[str, Any]:
        """What this worker says of itself when it joins a cluster; see `Registration`."""
        return Registration(
            address=self.address,
            incarnation=self._incarnation,
            started=self._started,
            protocol=PROTOCOL,
            release=version("xinference_venv"),
            host_name=platform.node(),
            heartbeat=heartbeat,
        ).to_dict()

    async def join(
        self, supervisor: str, patience: float = 0.0, *, heartbeat: float = HEARTBEAT_SECONDS
    ) -> None:
        """Register with the supervisor at this address and send it heartbeats from now on.

        One comes every `heartbeat` seconds. Tries again for `patience` seconds while nobody
        answers there. Raises `IncompatibleVersion`, `WorkerUnavailable` and `DeadlineExceeded`.
        """
        membership = Membership(
            registration=Registration.from_dict(await self.registration(heartbeat=heartbeat)),
            supervisor=supervisor,
            snapshot=self._snapshot,
        )
        await membership.join(patience)
        self._membership = membership
        context = context_about(worker=self.address)
        self._keeping = asyncio.create_task(membership.keep(), context=context)

    async def stop(self) -> None:
        """Leave the cluster, cancel every job and wait until its uv has ended."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self._membership is not None:
            await self._membership.leave()
        await self._launches.stop()

    async def _snapshot(self) -> dict[str, Any]:
        running = self._launches.board.running()
        free = await asyncio.to_thread(free_bytes, self._store.layout.root)
        return {"jobs": len(running), "free_bytes": free}
