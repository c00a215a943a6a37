"""What workers answer: environments with their worker, and what became of a removal or a check.

Each is a `Record`: the same plain values on the wire, in the REST API and in ``--json``. Times are
in seconds since the epoch, sizes in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xinference_venv._util.records import Record, inline
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.eviction import EnvUsage, Eviction
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.inventory import EnvEntry, RemovalPlan
from xinference_venv.inventory.jobs import JobEvent, Phase, PreparedEnvironment
from xinference_venv.inventory.replicas import LockSource, Replica
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.provenance import Tree
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.spec import SpecSummary

# Environments


@dataclass(frozen=True, kw_only=True, slots=True)
class RemovalReport(Record, name="removal report"):
    """What a worker removes, unlinks (files stay for who uses them) and refuses; what is done."""

    plan: RemovalPlan = field(metadata=inline())
    done: tuple[Environment, ...]
    dry_run: bool
    worker_address: str

    @property
    def matching(self) -> tuple[EnvEntry, ...]:
        """All entries that the removal is about."""
        return (*self.plan.remove, *self.plan.unlink, *self.plan.refuse)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding(Record, name="finding"):
    """What a verification found of one key's environment; no `faults` at all (None): it did not
    look.

    `repaired` is None when there was nothing to repair, or it was not asked for; when False,
    `not_repaired` says why. `additions` are files in its packages that these did not bring; they
    make nothing broken.
    """

    faults: tuple[str, ...] | None
    repaired: bool | None = None
    not_repaired: str | None = None
    additions: tuple[str, ...] = ()


NOT_LOOKED_AT = Finding(faults=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifiedEnvironment(Record, name="verified environment"):
    """An environment as it is after its verification, and what that found."""

    environment: Environment = field(metadata=inline())
    finding: Finding = field(metadata=inline())

    @property
    def is_broken(self) -> bool:
        """Whether it has faults that were not repaired."""
        return bool(self.finding.faults) and not self.finding.repaired


# Jobs


@dataclass(frozen=True, kw_only=True, slots=True)
class JobReport(Record, name="job"):
    """A launch: its phase and new events, at its end the result or the error.

    `workers` are the parts of the workers, where a supervisor tells; `asked_by` names who wants it.
    """

    job_id: str
    phase: Phase
    events: tuple[JobEvent, ...]
    result: PreparedEnvironment | None
    error: Failure | None
    workers: tuple[Replica, ...] = ()
    asked_by: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether there is a result or an error."""
        return self.result is not None or self.error is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSummary(Record, name="job of a worker"):
    """A launch as one of its workers tells it; times are of its first and last event.

    `launch` is what was asked for, None where that holds a credential. `asked_by` names who wants
    it: a user and host, a token, an address; None where the caller did not say. One in the
    `background` brings something ahead of need; of the workers of its launch `require` must become
    ready.
    """

    job_id: str
    worker_address: str
    model_name: str
    model_engine: str | None
    phase: Phase
    message: str
    started: float | None
    changed: float | None
    error: Failure | None
    launch: LaunchRequest | None = None
    asked_by: str | None = None
    background: bool = False
    require: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchPlan(Record, name="plan of a launch"):
    """What a launch would do; `spec` and `lock` are None where no environment is wanted."""

    enabled: bool
    spec: SpecSummary | None
    lock: EnvLock | None
    worker_address: str

    def explained(self) -> ExplainedPlan:
        """The plan with the tree of its lock."""
        lock = self.lock
        return ExplainedPlan(plan=self, tree=Tree.of(() if lock is None else lock.distributions))


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainedPlan(Record, name="explained plan of a launch"):
    """What a launch would do; `tree` and `not_shown` explain the lock, as an environment's."""

    plan: LaunchPlan = field(metadata=inline())
    tree: Tree = field(metadata=inline())


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey(Record, name="survey"):
    """Which group of equal hosts a worker belongs to for a request; see `SurveyAnswer`."""

    group: str | None
    ready: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LockAnswer(Record, name="lock of another worker"):
    """A lock, or why there is none; neither while it is not known yet."""

    lock: EnvLock | None = None
    error: Failure | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentLock(Record, name="environment with its lock"):
    """An environment, and its lock where it has one that can be read."""

    environment: Environment
    lock: EnvLock | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Participants(Record, name="participants of a launch"):
    """Who takes part in a launch on several workers, and how many must become ready."""

    members: tuple[LockSource, ...] = ()
    require: int = 1


# Bundles


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportProgress(Record, name="progress of an export"):
    """How far a bundle is that a worker puts together: `size` in bytes once it can be read."""

    size: int | None
    message: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BundlePart(Record, name="part of a bundle"):
    """Bytes of a bundle; none at its end."""

    data: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartReceived(Record, name="received part of a bundle"):
    """Whether a worker took a part of a bundle: with an error it has nothing of the bundle left."""

    worker_address: str
    error: Failure | None


# Disk


@dataclass(frozen=True, kw_only=True, slots=True)
class Evicted(Record, name="evicted environment"):
    """What went, or would; `linked_bytes` of it stay, since other names lead to them."""

    eviction: Eviction = field(metadata=inline())
    freed_bytes: int
    linked_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped(Record, name="skipped environment"):
    """What stays against the plan, and why."""

    eviction: Eviction = field(metadata=inline())
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UnneededItem(Record, name="unneeded item"):
    """A file or folder of the store that nothing needs; `kind` says what it was."""

    kind: str
    path: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmanaged(Record, name="unmanaged directories"):
    """What older versions left, which is never collected."""

    count: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class InPlace(Record, name="environments in place"):
    """What the drop-in for Xinference changes in its place, which is never collected."""

    count: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheUsage(Record, name="usage of uv's cache"):
    """uv's cache; `shared_bytes` of it are linked from environments. Without a path: none."""

    path: str | None
    size_bytes: int
    shared_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PrunedCache(Record, name="pruned cache of uv"):
    """uv's cache after it was pruned, if it was; `error` says why it could not be."""

    usage: CacheUsage = field(metadata=inline())
    pruned_bytes: int
    error: Failure | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectionReport(Record, name="collection report"):
    """What a worker's collection of garbage deleted (or would), what stays, and the bytes."""

    dry_run: bool
    evict: tuple[Evicted, ...]
    skipped: tuple[Skipped, ...]
    in_use: tuple[EnvUsage, ...]
    unneeded: tuple[UnneededItem, ...]
    bytes_before: int
    bytes_after: int
    freed_bytes: int
    max_bytes: int | None
    unmanaged: Unmanaged
    in_place: InPlace = field(default_factory=InPlace)
    uv_cache: PrunedCache
    worker_address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskUsage(Record, name="disk usage"):
    """What a worker's disk holds; `relayed_bytes` are wheels that were fetched for others.

    Workers with one `disk_id` are on one file system: what is free there is free for all of them
    once. Those with one `store_id` share a home, and have the same environments. An earlier
    release has neither.
    """

    environments: tuple[EnvUsage, ...]
    unmanaged: Unmanaged
    in_place: InPlace = field(default_factory=InPlace)
    uv_cache: CacheUsage
    free_bytes: int
    total_bytes: int
    worker_address: str
    relayed_bytes: int = 0
    disk_id: str = ""
    store_id: str = ""
