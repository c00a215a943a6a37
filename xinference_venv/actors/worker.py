"""The worker: one actor for each host, a thin shell over its `WorkerService`.

What the supervisor asks comes through `answer`, for one incarnation of the worker; a launch
pipeline of the same host calls the other methods directly. What comes and goes are plain JSON
values, so callers of another version of us, or of none, read the same thing.
"""

from __future__ import annotations

import asyncio
import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import xoscar as xo

from xinference_venv.actors import rpc
from xinference_venv.actors.heartbeat import Heartbeats
from xinference_venv.actors.lock_client import WORKER_UID as WORKER_UID
from xinference_venv.actors.lock_client import LockSources
from xinference_venv.diagnosis.diagnose import examine
from xinference_venv.errors import WorkerUnavailable
from xinference_venv.inventory.cluster_state import HEARTBEAT_SECONDS, PROTOCOL, Registration
from xinference_venv.inventory.replicas import LockSource
from xinference_venv.inventory.selection import Selection
from xinference_venv.observability.logging import context_about
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.service.worker_service import WorkerService
from xinference_venv.settings import Settings
from xinference_venv.store.store import Store
from xinference_venv.uv.subprocess import Uv


class VirtualEnvWorkerActor(xo.StatelessActor):  # type: ignore[misc]
    """One host's environments. Stateless in xoscar's sense: calls run concurrently."""

    def __init__(
        self, *, store: Store, uv: Uv, settings: Settings, environ: Mapping[str, str]
    ) -> None:
        super().__init__()
        self._environ = environ
        self._service = WorkerService(store=store, uv=uv, settings=settings, environ=environ)
        self._incarnation = uuid.uuid4().hex
        self._membership: Heartbeats | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def __post_create__(self) -> None:
        """Clear away what a crash left."""
        await self._service.start(self.address)

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
        `require` are what a supervisor that was restarted has to know. Raises `InvalidInput` for
        a request that can't be read.
        """
        sources = LockSources(
            request=request,
            sources=tuple(map(LockSource.from_dict, lock_sources)),
            here=self.address,
        )
        return self._service.prepare(
            LaunchRequest.from_dict(request),
            None if lock is None else EnvLock.from_dict(lock),
            job_id=job_id,
            ask=sources.lock,
            members=members,
            require=require,
        )

    async def wait(self, job_id: str, since: int = 0, timeout: float = 30.0) -> dict[str, Any]:
        """A job's events after number `since`, its result or error; waits for the first event.

        Long-polling: returns after `timeout` seconds at most. It never cancels the job, whatever
        happens to the caller. Raises `UnknownJob`.
        """
        return await self._service.wait(job_id, since, timeout)

    async def cancel(self, job_id: str) -> None:
        """Cancel a job: uv is ended, nothing stays. One that has ended is left as it is."""
        await self._service.cancel(job_id)

    async def plan(self, request: dict[str, Any]) -> dict[str, Any]:
        """What a launch would do, resolved and not built: `enabled`, `spec`, `lock`."""
        return await self._service.plan(LaunchRequest.from_dict(request))

    async def list_jobs(self) -> list[dict[str, Any]]:
        """The jobs that run or ended not long ago, the newest first."""
        return await self._service.list_jobs()

    # Leases

    async def bind_lease(self, env_id: str, lease_id: str, pid: int) -> None:
        """Hand a lease to the process that uses the environment from now on."""
        await self._service.bind_lease(env_id, lease_id, pid)

    async def release_lease(self, env_id: str, lease_id: str) -> None:
        """Give a lease back; one that is gone is fine."""
        await self._service.release_lease(env_id, lease_id)

    async def list_leases(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        python_version: str | None = None,
    ) -> list[dict[str, Any]]:
        """Who uses the matching environments, as `LeaseEntry` with this worker's address."""
        return await self._service.list_leases(_selection(model_name, model_engine, python_version))

    async def release_leases(
        self, lease_ids: Sequence[str], *, force: bool = False
    ) -> dict[str, Any]:
        """Release leases by id: a `ReleaseReport`. Those of the living only with `force`."""
        return await self._service.release_leases(lease_ids, force=force)

    # Locks for other workers

    async def survey(self, request: dict[str, Any]) -> dict[str, Any]:
        """Which group of equal hosts this one belongs to for a request, and whether it is ready."""
        return await self._service.survey(LaunchRequest.from_dict(request))

    async def standing_lock(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """The lock of what a launch would find made: `lock` and `error`, one of them None."""
        return await self._service.standing_lock(LaunchRequest.from_dict(request), timeout)

    async def lock_of_job(self, job_id: str, timeout: float) -> dict[str, Any]:
        """The lock of a job once it is resolved: `lock` and `error`, both None while it is not."""
        return await self._service.lock_of_job(job_id, timeout)

    async def members_of(self, job_id: str) -> dict[str, Any]:
        """Who takes part in a launch on several workers; raises `UnknownJob`."""
        return await self._service.members_of(job_id)

    # Environments

    async def list_virtual_envs(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        python_version: str | None = None,
    ) -> list[dict[str, Any]]:
        """The environments of this host, as `EnvEntry` with this worker's address."""
        return await self._service.list_virtual_envs(
            _selection(model_name, model_engine, python_version)
        )

    async def list_skipped_items(self) -> list[dict[str, Any]]:
        """What of this host's store could not be visited; see `WorkerService`."""
        return await self._service.list_skipped_items()

    async def list_virtual_env_packages(
        self,
        model_name: str,
        model_engine: str | None = None,
        python_version: str | None = None,
    ) -> list[dict[str, Any]]:
        """The packages of each matching environment: the entry, and its `packages_of`."""
        return await self._service.list_virtual_env_packages(
            _selection(model_name, model_engine, python_version)
        )

    async def remove_virtual_env(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        python_version: str | None = None,
        *,
        dry_run: bool = False,
        force: bool = False,
    ) -> dict[str, Any]:
        """Remove the matching environments; see `WorkerService.remove_virtual_env`."""
        return await self._service.remove_virtual_env(
            _selection(model_name, model_engine, python_version), dry_run=dry_run, force=force
        )

    async def verify_virtual_env(
        self,
        model_name: str | None = None,
        model_engine: str | None = None,
        python_version: str | None = None,
        *,
        hashes: bool = False,
        repair: bool = False,
    ) -> list[dict[str, Any]]:
        """Check the matching environments; see `WorkerService.verify_virtual_env`."""
        return await self._service.verify_virtual_env(
            _selection(model_name, model_engine, python_version), hashes=hashes, repair=repair
        )

    async def collect_garbage(
        self,
        *,
        max_bytes: int | None = None,
        older_than: float | None = None,
        prune_uv_cache: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Delete what nothing needs; see `WorkerService.collect_garbage`."""
        return await self._service.collect_garbage(
            max_bytes=max_bytes,
            older_than=older_than,
            prune_uv_cache=prune_uv_cache,
            dry_run=dry_run,
        )

    # What there is

    async def logs(
        self,
        model_name: str,
        model_engine: str | None = None,
        python_version: str | None = None,
        count: int = 1,
    ) -> list[dict[str, Any]]:
        """The newest `count` logs of a model's jobs, as `JobLog` with their text."""
        return await self._service.logs(_selection(model_name, model_engine, python_version), count)

    async def read_log(self, log_id: str, offset: int = 0) -> dict[str, Any]:
        """A log's text from `offset` (in bytes) on; see `WorkerService.read_log`."""
        return await self._service.read_log(log_id, offset)

    async def disk_usage(self, timeout: float) -> dict[str, Any]:
        """What is on this host's disk, in bytes. Raises `DeadlineExceeded`."""
        return await self._service.disk_usage(timeout)

    async def diagnose(self) -> dict[str, Any]:
        """What is wrong with this host, as `Diagnosis`; see `examine`."""
        return replace(await examine(self._environ), worker_address=self.address).to_dict()

    async def measure(self) -> dict[str, Any]:
        """What this worker counted since its start, and what there is now, as `MetricRegistry`."""
        return await self._service.measure()

    async def list_models(self) -> list[dict[str, Any]]:
        """The models of this host's catalogue."""
        return await self._service.list_models()

    # The cluster

    async def answer(
        self, incarnation: str, method: str, arguments: list[Any], named: dict[str, Any]
    ) -> dict[str, Any]:
        """Call a method for a caller that means this very incarnation; see `rpc.answer`."""
        if incarnation != self._incarnation:
            error = WorkerUnavailable(
                f"the worker at {self.address} was restarted",
                {"hint": "the request was for the process before the restart; send it again"},
            )
            return {"value": None, "error": error.to_dict()}
        return await rpc.answer(self, method, arguments, named)

    async def registration(self, *, heartbeat: float | None = HEARTBEAT_SECONDS) -> dict[str, Any]:
        """What this worker says of itself when it joins a cluster; see `Registration`."""
        return Registration(
            address=self.address,
            incarnation=self._incarnation,
            started=self._service.started,
            protocol=PROTOCOL,
            release=version("xinference_venv"),
            host_name=platform.node(),
            heartbeat=heartbeat,
        ).to_dict()

    async def join(
        self, supervisor: str, patience: float = 0.0, *, heartbeat: float = HEARTBEAT_SECONDS
    ) -> None:
        """Register with the supervisor at this address and send it heartbeats from now on.

        One comes every `heartbeat` seconds. Retries for `patience` seconds while nothing answers
        there. Raises `IncompatibleVersion`, `WorkerUnavailable` and `DeadlineExceeded`.
        """
        membership = Heartbeats(
            registration=Registration.from_dict(await self.registration(heartbeat=heartbeat)),
            supervisor=supervisor,
            snapshot=self._service.snapshot,
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
        await self._service.stop()


def _selection(
    model_name: str | None, model_engine: str | None, python_version: str | None
) -> Selection:
    return Selection(
        model_name=model_name, model_engine=model_engine, python_version=python_version
    )
