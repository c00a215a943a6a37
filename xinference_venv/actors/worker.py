"""The worker: one actor for each host, a thin shell over its `WorkerService`.

What the supervisor asks comes through `answer`, for one incarnation of the worker; a launch
pipeline of the same process calls the other methods directly.
"""

from __future__ import annotations

import asyncio
import platform
import uuid
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version

import xoscar as xo

from xinference_venv._util.records import Plain
from xinference_venv.actors import rpc
from xinference_venv.actors.heartbeat import Heartbeats
from xinference_venv.actors.lock_client import LockSources
from xinference_venv.actors.neighbours import ClusterNeighbours
from xinference_venv.actors.protocols import WorkerProtocol
from xinference_venv.diagnosis.checks import Diagnosis
from xinference_venv.diagnosis.diagnose import examine
from xinference_venv.errors import WorkerUnavailable
from xinference_venv.inventory.cluster_state import HEARTBEAT_SECONDS, PROTOCOL, Registration
from xinference_venv.inventory.environments import Environment, WorkerSkippedItem
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.job_log import LogPart, WholeLog
from xinference_venv.inventory.lease import ReleaseReport, WorkerLease
from xinference_venv.inventory.packages import EnvironmentPackages
from xinference_venv.inventory.replicas import LockSource
from xinference_venv.inventory.reports import (
    BundlePart,
    CollectionReport,
    DiskUsage,
    EnvironmentLock,
    ExportProgress,
    JobReport,
    JobSummary,
    LaunchPlan,
    LockAnswer,
    Participants,
    RemovalReport,
    Survey,
    VerifiedEnvironment,
)
from xinference_venv.inventory.selection import Selection
from xinference_venv.observability.cluster_measures import WorkerMeasures
from xinference_venv.observability.logging import context_about
from xinference_venv.planning.host import Interpreter
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.listed_model import ListedModel
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.relay import WheelFile, WheelPart
from xinference_venv.planning.remote_question import HostQuestion
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.sentences import sentence
from xinference_venv.service.worker_service import WorkerService
from xinference_venv.settings import Settings
from xinference_venv.store.store import Store
from xinference_venv.uv.subprocess import Uv


class VirtualEnvWorkerActor(xo.StatelessActor):  # type: ignore[misc]
    """One host's environments. Stateless in xoscar's sense: calls run concurrently."""

    def __init__(
        self,
        *,
        store: Store,
        uv: Uv,
        settings: Settings,
        environ: Mapping[str, str],
        worker_id: str | None = None,
    ) -> None:
        super().__init__()
        self._environ = environ
        self._service = WorkerService(
            store=store, uv=uv, settings=settings, environ=environ, worker_id=worker_id
        )
        self._incarnation = uuid.uuid4().hex
        self._membership: Heartbeats | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def __post_create__(self) -> None:
        """Clear away what a crash left."""
        await self._service.start(self.address)

    # Launches

    async def prepare(
        self,
        request: LaunchRequest,
        lock: EnvLock | None = None,
        *,
        job_id: str | None = None,
        lock_sources: tuple[LockSource, ...] = (),
        participants: Participants | None = None,
        background: bool = False,
        asked_by: str | None = None,
    ) -> str:
        """Start to make the environment of a request; returns the job's id at once.

        `lock` is one that is known already, made on a host equal to this one; `lock_sources` are
        workers to ask for one before it is resolved here. In a launch on several workers the jobs
        have one id; `participants` is what a supervisor that was restarted has to know. One in the
        `background` comes after all others. `asked_by` names who wants it.
        """
        sources = LockSources(request=request, sources=lock_sources, here=self.address)
        return self._service.prepare(
            request,
            lock,
            job_id=job_id,
            ask=sources.lock,
            participants=participants,
            background=background,
            asked_by=asked_by,
        )

    async def wait(self, job_id: str, since: int = 0, timeout: float = 30.0) -> JobReport:
        """A job's events after number `since`, its result or error; waits for the first event.

        Long-polling: returns after `timeout` seconds at most. It never cancels the job, whatever
        happens to the caller. Raises `UnknownJob`.
        """
        return await self._service.wait(job_id, since, timeout)

    async def cancel(self, job_id: str) -> None:
        """Cancel a job: uv is ended, nothing stays. One that has ended is left as it is.

        A build that other jobs wait for goes on for these. Returns when it is done.
        """
        await self._service.cancel(job_id)

    async def take_back(self, job_id: str) -> None:
        """Let a job that is ready be cancelled, for its launch failed elsewhere.

        Its lease is given back; any other job is left as it is. Raises `UnknownJob`.
        """
        await self._service.take_back(job_id)

    async def plan(self, request: LaunchRequest) -> LaunchPlan:
        """What a launch would do, resolved and not built."""
        return await self._service.plan(request)

    async def list_jobs(self) -> tuple[JobSummary, ...]:
        """The jobs that run or ended not long ago, the newest first."""
        return await self._service.list_jobs()

    # Bundles: environments as files

    async def export_bundle(self, export_id: str, key: EnvKey, timeout: float) -> ExportProgress:
        """Put the bundle of an environment together; see `WorkerService.export_bundle`."""
        return await self._service.export_bundle(export_id, key, timeout)

    async def read_bundle(self, export_id: str, offset: int) -> BundlePart:
        """The bytes of a bundle from an offset on; none at its end."""
        return await self._service.read_bundle(export_id, offset)

    async def end_export(self, export_id: str) -> None:
        """Delete what lies on the disk of a bundle that was read."""
        await self._service.end_export(export_id)

    async def receive_bundle(self, import_id: str, offset: int, data: bytes) -> None:
        """Take the next part of a bundle; see `BundleImports.receive`."""
        await self._service.receive_bundle(import_id, offset, data)

    async def import_bundle(
        self,
        import_id: str,
        *,
        job_id: str | None = None,
        participants: Participants | None = None,
    ) -> str:
        """Start to make the environment of a bundle that has come; returns the job's id."""
        return await self._service.import_bundle(
            import_id, job_id=job_id, participants=participants
        )

    async def end_import(self, import_id: str) -> None:
        """Delete what came of a bundle that does not come whole."""
        await self._service.end_import(import_id)

    # Leases

    async def bind_lease(self, env_id: str, lease_id: str, pid: int) -> None:
        """Hand a lease to the process that uses the environment from now on."""
        await self._service.bind_lease(env_id, lease_id, pid)

    async def release_lease(self, env_id: str, lease_id: str) -> None:
        """Give a lease back; one that is gone is fine."""
        await self._service.release_lease(env_id, lease_id)

    async def list_leases(self, selection: Selection) -> tuple[WorkerLease, ...]:
        """Who uses the matching environments."""
        return await self._service.list_leases(selection)

    async def release_leases(
        self, lease_ids: tuple[str, ...], *, force: bool = False
    ) -> ReleaseReport:
        """Release leases by id; those of living processes only with `force`."""
        return await self._service.release_leases(lease_ids, force=force)

    # Locks for other workers

    async def survey(self, request: LaunchRequest) -> Survey:
        """Which group of equal hosts this one belongs to for a request, and whether it is ready.

        `group` is equal where one lock serves, None where no environment is wanted; `ready`
        says that a launch would find its environment made.
        """
        return await self._service.survey(request)

    async def ready_lock(self, request: LaunchRequest) -> LockAnswer:
        """The lock of what a launch would find made."""
        return await self._service.ready_lock(request)

    async def lock_of_job(self, job_id: str, timeout: float) -> LockAnswer:
        """The lock of a job once it is resolved, or its error; waits up to `timeout` seconds."""
        return await self._service.lock_of_job(job_id, timeout)

    async def members_of(self, job_id: str) -> Participants:
        """Who takes part in a launch on several workers; raises `UnknownJob`."""
        return await self._service.members_of(job_id)

    async def can_plan(self, interpreter: Interpreter) -> bool:
        """Whether this worker would resolve for a host with such an interpreter, and can."""
        return await self._service.can_plan(interpreter)

    async def plan_for_host(self, question: HostQuestion, timeout: float) -> LockAnswer:
        """The lock of a request over the facts of another host, or the error.

        Waits up to `timeout` seconds.
        """
        return await self._service.plan_for_host(question, timeout)

    # Wheels for other workers

    async def can_relay(self, wheel: WheelFile) -> bool:
        """Whether this worker would fetch a wheel for others, and can."""
        return await self._service.can_relay(wheel)

    async def relay(self, wheel: WheelFile, offset: int, timeout: float) -> WheelPart:
        """The bytes of a wheel from an offset on, waited for up to `timeout` seconds.

        See `WheelRelay.part`.
        """
        return await self._service.relay(wheel, offset, timeout)

    # Environments

    async def list_virtual_envs(self, selection: Selection) -> tuple[Environment, ...]:
        """The matching environments of this host."""
        return await self._service.list_virtual_envs(selection)

    async def list_skipped_items(self) -> tuple[WorkerSkippedItem, ...]:
        """What of this host's store could not be visited; see `WorkerService`."""
        return await self._service.list_skipped_items()

    async def list_virtual_env_packages(
        self, selection: Selection
    ) -> tuple[EnvironmentPackages, ...]:
        """The matching environments, each with its packages."""
        return await self._service.list_virtual_env_packages(selection)

    async def list_virtual_env_locks(self, selection: Selection) -> tuple[EnvironmentLock, ...]:
        """The matching environments, each with its lock."""
        return await self._service.list_virtual_env_locks(selection)

    async def remove_virtual_env(
        self, selection: Selection, *, dry_run: bool = False, force: bool = False
    ) -> RemovalReport:
        """Remove the matching environments; see `WorkerService.remove_virtual_env`."""
        return await self._service.remove_virtual_env(selection, dry_run=dry_run, force=force)

    async def verify_virtual_env(
        self, selection: Selection, *, hashes: bool = False, repair: bool = False
    ) -> tuple[VerifiedEnvironment, ...]:
        """Check the matching environments; see `WorkerService.verify_virtual_env`."""
        return await self._service.verify_virtual_env(selection, hashes=hashes, repair=repair)

    async def collect_garbage(
        self,
        *,
        max_bytes: int | None = None,
        older_than: float | None = None,
        prune_uv_cache: bool = False,
        dry_run: bool = False,
    ) -> CollectionReport:
        """Delete what nothing needs; see `WorkerService.collect_garbage`."""
        return await self._service.collect_garbage(
            max_bytes=max_bytes,
            older_than=older_than,
            prune_uv_cache=prune_uv_cache,
            dry_run=dry_run,
        )

    # What there is

    async def logs(self, selection: Selection, count: int = 1) -> tuple[WholeLog, ...]:
        """The newest `count` logs of the jobs of matching environments, with their text."""
        return await self._service.logs(selection, count)

    async def read_log(self, log_id: str, offset: int = 0) -> LogPart:
        """A log's text from `offset` (in bytes) on; see `WorkerService.read_log`."""
        return await self._service.read_log(log_id, offset)

    async def disk_usage(self, timeout: float) -> DiskUsage:
        """What is on this host's disk, in bytes. Raises `DeadlineExceeded`."""
        return await self._service.disk_usage(timeout)

    async def diagnose(self) -> Diagnosis:
        """What is wrong with this host; see `examine`."""
        return replace(await examine(self._environ), worker_address=self.address)

    async def measure(self) -> WorkerMeasures:
        """What this worker counted since its start, and what there is now."""
        return await self._service.measure()

    async def list_models(self) -> tuple[ListedModel, ...]:
        """The models of this host's catalogue."""
        return await self._service.list_models()

    # The cluster

    async def answer(
        self, incarnation: str, method: str, arguments: list[Plain], named: dict[str, Plain]
    ) -> dict[str, Plain]:
        """Call a method for a caller that means this very incarnation; see `rpc.answer`."""
        if incarnation != self._incarnation:
            error = WorkerUnavailable(
                sentence("the worker at {address} was restarted", address=self.address),
                {
                    "hint": sentence(
                        "the request was for the process before the restart; send it again"
                    )
                },
            )
            return rpc.Answer(error=Failure.of(error)).to_dict()
        return await rpc.answer(self, WorkerProtocol, method, arguments, named, where=self.address)

    async def registration(self, *, heartbeat: float | None = HEARTBEAT_SECONDS) -> Registration:
        """What this worker says of itself when it joins a cluster."""
        return Registration(
            address=self.address,
            incarnation=self._incarnation,
            started=self._service.started,
            protocol=PROTOCOL,
            release=version("xinference_venv"),
            host_name=platform.node(),
            heartbeat=heartbeat,
            worker_id=self._service.worker_id,
        )

    async def join(
        self, supervisor: str, patience: float = 0.0, *, heartbeat: float = HEARTBEAT_SECONDS
    ) -> None:
        """Register with the supervisor at this address and send it heartbeats from now on.

        One comes every `heartbeat` seconds. Retries for `patience` seconds while nothing answers
        there. Raises `IncompatibleVersion`, `WorkerUnavailable` and `DeadlineExceeded`.
        """
        await self._service.take_id()
        membership = Heartbeats(
            registration=await self.registration(heartbeat=heartbeat),
            supervisor=supervisor,
            snapshot=self._service.snapshot,
            models=self._service.models_there,
        )
        await membership.join(patience)
        self._membership = membership
        self._service.join(ClusterNeighbours(supervisor=supervisor, here=self.address))
        context = context_about(worker=self.address)
        self._keeping = asyncio.create_task(membership.keep(), context=context)

    async def stop(self) -> None:
        """Leave the cluster, cancel every job and wait until its uv has ended."""
        if self._keeping is not None:
            self._keeping.cancel()
        try:
            if self._membership is not None:
                await self._membership.leave()
        finally:
            # Whatever the supervisor says, no uv of this worker goes on.
            await self._service.stop()
