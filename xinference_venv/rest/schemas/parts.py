"""What the answers of the API consist of, for its description and for clients made from it.

Answers are sent as the workers give them, which may be of another release: a later one may have
more fields, so none of these forbids them. Times are in seconds since the epoch.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from xinference_venv.diagnosis.checks import Verdict
from xinference_venv.inventory.cluster_state import WorkerState
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.job_log import Outcome
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.lease import Holder
from xinference_venv.planning.lock import Role


class Reply(BaseModel):
    """Plain JSON values, more of them from a later release."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class ErrorIn(Reply):
    """An error that is part of an answer."""

    code: str
    message: str
    details: dict[str, Any]


class Worker(Reply):
    """A worker; `snapshot` is of its last heartbeat, `snapshot_age` is in seconds."""

    worker_address: str
    state: WorkerState
    host_name: str
    release: str
    incarnation: str
    snapshot: dict[str, Any] | None
    snapshot_age: float | None


class SilentWorker(Worker):
    """A worker that did not answer, and why."""

    error: ErrorIn


class Gathered(Reply):
    """What was asked of several workers, and those of them that did not answer it.

    `complete` is false while workers may not have registered again with a new supervisor.
    """

    unreachable: list[SilentWorker]
    complete: bool = True


class Key(Reply):
    """What names an environment."""

    model_name: str
    model_engine: str | None
    python_version: str


class Process(Reply):
    """A process for all time."""

    host: str
    boot: str
    pid: int
    start: str
    namespace: str | None


class Lease(Reply):
    """A process that uses an environment."""

    lease_id: str
    env_id: str
    model_name: str
    model_uid: str | None
    process: Process
    created: float


class JudgedLease(Lease):
    """A lease, and whether its process lives."""

    holder: Holder


class User(Reply):
    """A process that uses a directory without a lease."""

    pid: int
    command: str
    told_by: list[str]


class Entry(Key):
    """An environment; the first fields are named as Xinference names them."""

    path: str
    real_path: str
    state: EnvState
    env_id: str | None
    lock_digest: str | None
    reason: str | None
    size_bytes: int | None
    python: str | None
    installed: int
    inherited: int
    leases: list[JudgedLease]
    shared_with: list[Key]
    layout: str | None
    users: list[User]
    unknown_users: int
    created: float | None
    last_used: float | None


class Environment(Entry):
    """An environment of a worker; `actor_ip_address` is its address as Xinference names it."""

    actor_ip_address: str
    worker_address: str


class Differing(Key):
    """A model whose replicas were not built from one lock: the workers of each lock's digest."""

    locks: dict[str, list[str]]


class Skipped(Reply):
    """A file or folder of a worker's store that could not be read, judged or deleted, and why."""

    path: str
    reason: str
    worker_address: str


class Distribution(Reply):
    """A distribution's part in an environment; `why` is the chain that brought it."""

    name: str
    role: Role
    version: str | None
    why: str
    size: int | None
    asked: bool
    requires: list[str]


class Package(Distribution):
    """A distribution of an environment; `size_bytes` is what one of its own takes there."""

    size_bytes: int | None


class EnvironmentPackages(Environment):
    """An environment with its packages."""

    packages: list[Package]


class OwnPackage(Reply):
    """A package that was installed into an environment, as Xinference tells it."""

    name: str
    version: str | None
    size_bytes: int | None


class Branch(Distribution):
    """A place in a tree: below the branch at `parent` of the list, or at the top (null).

    What a distribution requires stands below its `first` branch only.
    """

    parent: int | None
    first: bool


class ExplainedEnvironment(Environment):
    """An environment: the tree of what is there, and what of the host it does not show."""

    tree: list[Branch]
    not_shown: list[Distribution]


class RemovalReport(Reply):
    """What a worker removes, detaches (files stay for who uses them) and refuses; what is done."""

    worker_address: str
    remove: list[Entry]
    detach: list[Entry]
    refuse: list[Entry]
    done: list[Environment]
    dry_run: bool


class Event(Reply):
    """Something that happened in a launch; counts are of packages, and of their bytes."""

    seq: int
    at: float
    phase: Phase
    message: str
    done: int | None
    total: int | None
    done_bytes: int | None
    total_bytes: int | None
    worker_address: str | None


class Prepared(Reply):
    """What a launch gives; without an environment (`enabled` false) `python` is the host's."""

    enabled: bool
    python: str
    env_id: str | None
    path: str | None
    real_path: str | None
    lease_id: str | None
    lock_digest: str | None
    uv_calls: int
    warnings: list[str]
    worker_address: str | None


class Replica(Reply):
    """One worker's part in a launch."""

    worker_address: str
    incarnation: str
    phase: Phase
    result: Prepared | None
    error: ErrorIn | None


class JobSummary(Reply):
    """A launch as one of its workers tells it; times are of its first and last event."""

    job_id: str
    worker_address: str
    model_name: str
    model_engine: str | None
    phase: Phase
    message: str
    started: float | None
    changed: float | None
    error: ErrorIn | None


class CollectedReport(Reply):
    """What a worker evicted or deleted."""

    worker_address: str
    dry_run: bool
    evict: list[dict[str, Any]]
    skipped: list[dict[str, Any]]
    in_use: list[dict[str, Any]]
    leftovers: list[dict[str, Any]]
    bytes_before: int
    bytes_after: int
    freed_bytes: int
    max_bytes: int | None
    unmanaged: dict[str, Any]
    uv_cache: dict[str, Any]


class MeasuredEnvironment(Reply):
    """An environment; `shared_bytes` are what of it one before it in the list has as well."""

    env_id: str
    keys: list[Key]
    leases: list[Lease]
    busy: bool
    last_used: float
    size_bytes: int
    shared_bytes: int


class DiskUsage(Reply):
    """What a worker's disk holds, in bytes; of `uv_cache` the environments have `shared_bytes`."""

    worker_address: str
    environments: list[MeasuredEnvironment]
    unmanaged: dict[str, Any]
    uv_cache: dict[str, Any]
    free_bytes: int
    total_bytes: int


class VerifiedEnvironment(Environment):
    """An environment and its `faults`; null: it was not looked at."""

    faults: list[str] | None
    repaired: bool | None
    not_repaired: str | None


class HeldLease(JudgedLease):
    """A lease of a worker, and the keys that refer to what it holds."""

    worker_address: str
    keys: list[Key]


class ReleaseReport(Reply):
    """What a worker released, and the environments that nothing needed any more."""

    worker_address: str
    released: list[JudgedLease]
    refused: list[JudgedLease]
    absent: list[str]
    deleted: list[str]


class Model(Reply):
    """A model of the catalogue."""

    model_name: str
    model_type: str | None
    description: str | None
    packages: list[str]
    origin: str


class LogError(Reply):
    """What a job failed with."""

    code: str
    message: str


class Log(Reply):
    """The log of a job; `ended` is null while nothing says that it did."""

    log_id: str
    path: str
    key: Key
    job_id: str
    started: float
    owner: Process
    outcome: Outcome
    ended: float | None
    error: LogError | None


class WholeLog(Log):
    """A log of a worker with its text."""

    worker_address: str
    text: str


class Check(Reply):
    """One thing that was looked at; `hint` says what to do, null when all is well."""

    name: str
    verdict: Verdict
    found: str
    hint: str | None


class Diagnosis(Reply):
    """What was found of one host; `worker_address` is null where it was examined without one."""

    worker_address: str | None
    host_name: str
    release: str
    at: float
    checks: list[Check]
