"""What supervisor and worker answer, typed: every method that goes over the wire.

The actors implement these; client, REST API and the actors themselves call them, in one process
by reference, across processes through `rpc.remote`. All arguments and answers are plain values or
records.
"""

from __future__ import annotations

from typing import Protocol

from xinference_venv.diagnosis.checks import Diagnoses, Diagnosis
from xinference_venv.inventory.cluster_state import (
    HEARTBEAT_SECONDS,
    Registration,
    WorkerSnapshot,
    WorkerStatus,
)
from xinference_venv.inventory.environments import Environment, Environments, WorkerSkippedItem
from xinference_venv.inventory.gathered import Gathered
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
    PartReceived,
    RemovalReport,
    Survey,
    VerifiedEnvironment,
)
from xinference_venv.inventory.selection import Selection
from xinference_venv.observability.cluster_measures import ClusterMeasures, WorkerMeasures
from xinference_venv.observability.history import History
from xinference_venv.planning.host import Interpreter
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.listed_model import ListedModel
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.relay import Neighbour, WheelFile, WheelPart
from xinference_venv.planning.remote_question import HostQuestion
from xinference_venv.planning.request import LaunchRequest


class SupervisorProtocol(Protocol):
    """The environments of all workers.

    What is asked of several workers is answered as far as they answer: `Gathered.unreachable`
    names the others. `worker` is an IP, which means all workers on it, or an address.
    """

    # Launches

    async def prepare(
        self,
        request: LaunchRequest,
        *,
        workers: tuple[str, ...] = (),
        count: int | None = None,
        everywhere: bool = False,
        require: int | None = None,
        background: bool = False,
        asked_by: str | None = None,
    ) -> str: ...

    async def wait(self, job: str, since: int = 0, timeout: float = 30.0) -> JobReport: ...

    async def cancel(self, job: str) -> None: ...

    async def list_jobs(self, worker: str | None = None) -> Gathered[JobSummary]: ...

    async def plan(self, request: LaunchRequest, worker: str | None = None) -> LaunchPlan: ...

    # Bundles: environments as files

    async def export_bundle(
        self, worker_address: str, export_id: str, key: EnvKey, timeout: float
    ) -> ExportProgress: ...

    async def read_bundle(self, worker_address: str, export_id: str, offset: int) -> BundlePart: ...

    async def end_export(self, worker_address: str, export_id: str) -> None: ...

    async def choose_workers(self, workers: tuple[str, ...]) -> tuple[str, ...]: ...

    async def receive_bundle(
        self, import_id: str, offset: int, data: bytes, *, workers: tuple[str, ...]
    ) -> tuple[PartReceived, ...]: ...

    async def import_bundle(self, import_id: str, *, workers: tuple[str, ...]) -> str: ...

    async def end_import(self, import_id: str, *, workers: tuple[str, ...]) -> None: ...

    # Leases

    async def bind_lease(
        self, worker_address: str, env_id: str, lease_id: str, pid: int
    ) -> None: ...

    async def release_lease(self, worker_address: str, env_id: str, lease_id: str) -> None: ...

    async def list_leases(self, selection: Selection) -> Gathered[WorkerLease]: ...

    async def release_leases(
        self, lease_ids: tuple[str, ...], *, worker: str | None = None, force: bool = False
    ) -> Gathered[ReleaseReport]: ...

    # Environments

    async def list_virtual_envs(self, selection: Selection) -> Environments: ...

    async def list_virtual_env_packages(
        self, selection: Selection
    ) -> Gathered[EnvironmentPackages]: ...

    async def list_virtual_env_locks(self, selection: Selection) -> Gathered[EnvironmentLock]: ...

    async def remove_virtual_env(
        self, selection: Selection, *, dry_run: bool = False, force: bool = False
    ) -> Gathered[RemovalReport]: ...

    async def verify_virtual_env(
        self, selection: Selection, *, hashes: bool = False, repair: bool = False
    ) -> Gathered[VerifiedEnvironment]: ...

    async def collect_garbage(
        self,
        *,
        worker: str | None = None,
        max_bytes: int | None = None,
        older_than: float | None = None,
        prune_uv_cache: bool = False,
        dry_run: bool = False,
    ) -> Gathered[CollectionReport]: ...

    # What there is

    async def logs(self, selection: Selection, count: int = 1) -> Gathered[WholeLog]: ...

    async def read_log(self, worker_address: str, log_id: str, offset: int = 0) -> LogPart: ...

    async def disk_usage(self, worker: str | None = None) -> Gathered[DiskUsage]: ...

    async def diagnose(self, worker: str | None = None) -> Diagnoses: ...

    async def measure(self) -> ClusterMeasures: ...

    async def history(self) -> History: ...

    async def list_models(self, worker: str | None = None) -> tuple[ListedModel, ...]: ...

    # Workers

    async def list_workers(self) -> tuple[WorkerStatus, ...]: ...

    async def register_worker(self, registration: Registration) -> None: ...

    async def heartbeat(self, address: str, incarnation: str, snapshot: WorkerSnapshot) -> bool: ...

    async def note_models(
        self, address: str, incarnation: str, models: tuple[str, ...]
    ) -> None: ...

    async def leave_worker(self, address: str, incarnation: str) -> None: ...

    async def forget_worker(self, wanted: str) -> WorkerStatus: ...

    async def drain_worker(self, wanted: str, *, draining: bool = True) -> WorkerStatus: ...

    # Workers that help others

    async def relays_of(self, wheel: WheelFile) -> tuple[Neighbour, ...]: ...

    async def planners_for(self, interpreter: Interpreter) -> tuple[Neighbour, ...]: ...


class WorkerProtocol(Protocol):
    """The environments of one host. Of a `Selection` the worker counts for nothing here."""

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
    ) -> str: ...

    async def wait(self, job_id: str, since: int = 0, timeout: float = 30.0) -> JobReport: ...

    async def cancel(self, job_id: str) -> None: ...

    async def take_back(self, job_id: str) -> None: ...

    async def list_jobs(self) -> tuple[JobSummary, ...]: ...

    async def plan(self, request: LaunchRequest) -> LaunchPlan: ...

    # Bundles: environments as files

    async def export_bundle(
        self, export_id: str, key: EnvKey, timeout: float
    ) -> ExportProgress: ...

    async def read_bundle(self, export_id: str, offset: int) -> BundlePart: ...

    async def end_export(self, export_id: str) -> None: ...

    async def receive_bundle(self, import_id: str, offset: int, data: bytes) -> None: ...

    async def import_bundle(
        self,
        import_id: str,
        *,
        job_id: str | None = None,
        participants: Participants | None = None,
    ) -> str: ...

    async def end_import(self, import_id: str) -> None: ...

    # Leases

    async def bind_lease(self, env_id: str, lease_id: str, pid: int) -> None: ...

    async def release_lease(self, env_id: str, lease_id: str) -> None: ...

    async def list_leases(self, selection: Selection) -> tuple[WorkerLease, ...]: ...

    async def release_leases(
        self, lease_ids: tuple[str, ...], *, force: bool = False
    ) -> ReleaseReport: ...

    # Locks for other workers

    async def survey(self, request: LaunchRequest) -> Survey: ...

    async def ready_lock(self, request: LaunchRequest) -> LockAnswer: ...

    async def lock_of_job(self, job_id: str, timeout: float) -> LockAnswer: ...

    async def members_of(self, job_id: str) -> Participants: ...

    async def can_plan(self, interpreter: Interpreter) -> bool: ...

    async def plan_for_host(self, question: HostQuestion, timeout: float) -> LockAnswer: ...

    # Wheels for other workers

    async def can_relay(self, wheel: WheelFile) -> bool: ...

    async def relay(self, wheel: WheelFile, offset: int, timeout: float) -> WheelPart: ...

    # Environments

    async def list_virtual_envs(self, selection: Selection) -> tuple[Environment, ...]: ...

    async def list_skipped_items(self) -> tuple[WorkerSkippedItem, ...]: ...

    async def list_virtual_env_packages(
        self, selection: Selection
    ) -> tuple[EnvironmentPackages, ...]: ...

    async def list_virtual_env_locks(self, selection: Selection) -> tuple[EnvironmentLock, ...]: ...

    async def remove_virtual_env(
        self, selection: Selection, *, dry_run: bool = False, force: bool = False
    ) -> RemovalReport: ...

    async def verify_virtual_env(
        self, selection: Selection, *, hashes: bool = False, repair: bool = False
    ) -> tuple[VerifiedEnvironment, ...]: ...

    async def collect_garbage(
        self,
        *,
        max_bytes: int | None = None,
        older_than: float | None = None,
        prune_uv_cache: bool = False,
        dry_run: bool = False,
    ) -> CollectionReport: ...

    # What there is

    async def logs(self, selection: Selection, count: int = 1) -> tuple[WholeLog, ...]: ...

    async def read_log(self, log_id: str, offset: int = 0) -> LogPart: ...

    async def disk_usage(self, timeout: float) -> DiskUsage: ...

    async def diagnose(self) -> Diagnosis: ...

    async def measure(self) -> WorkerMeasures: ...

    async def list_models(self) -> tuple[ListedModel, ...]: ...

    async def registration(
        self, *, heartbeat: float | None = HEARTBEAT_SECONDS
    ) -> Registration: ...


class SupervisorReference(SupervisorProtocol, Protocol):
    """A reference to the supervisor's actor, in this process."""

    @property
    def address(self) -> str: ...

    async def stop(self) -> None: ...


class WorkerReference(WorkerProtocol, Protocol):
    """A reference to the worker's actor, in this process."""

    @property
    def address(self) -> str: ...

    async def join(
        self, supervisor: str, patience: float = 0.0, *, heartbeat: float = HEARTBEAT_SECONDS
    ) -> None: ...

    async def stop(self) -> None: ...
