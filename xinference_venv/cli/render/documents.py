"""What commands print with ``--json`` where it is not what the actors answered."""

from __future__ import annotations

from dataclasses import dataclass, field

from xinference_venv._util.records import Record, inline
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.watch_state import Change


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed(Record, name="failed command"):
    """What a command prints that did nothing of what was asked."""

    error: Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelAddress(Record, name="process of a model"):
    """Where a model's actor is: the address of its process, its pid and its own uid."""

    address: str
    pid: int
    uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched(Record, name="launch"):
    """A launch on this host; `process` is of `--run`."""

    model_name: str
    model_engine: str | None
    enabled: bool
    python: str
    python_version: str | None
    env_id: str | None
    path: str | None
    real_path: str | None
    size_bytes: int | None
    installed: int
    inherited: int
    warnings: tuple[str, ...]
    uv_calls: int
    elapsed_seconds: float
    process: ModelAddress | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchedEnvironment(Record, name="environment of a launch"):
    """The environment of a launch on one worker of a cluster."""

    enabled: bool
    python: str
    env_id: str | None
    path: str | None
    real_path: str | None
    lock_digest: str | None
    uv_calls: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchedWorker(Record, name="worker of a launch"):
    """How one worker fared in a launch."""

    worker_address: str
    state: Phase
    environment: LaunchedEnvironment | None
    error: Failure | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchedOnWorkers(Record, name="launch on a cluster"):
    """A launch on a cluster."""

    model_name: str
    model_engine: str | None
    workers: tuple[LaunchedWorker, ...]
    elapsed_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported(Record, name="export"):
    """A bundle that was written: of which environment, how many wheels, and the file's sha256."""

    file: str
    model_name: str
    model_engine: str | None
    worker_address: str
    packages: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched(Record, name="watched change"):
    """One change, on a line of its own; `at` is when it was seen, in seconds since the epoch."""

    at: float
    change: Change = field(metadata=inline())


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving(Record, name="serving process"):
    """A process that stays: a supervisor, worker or web server, and where it can be reached."""

    process: str
    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WebPage(Record, name="web page"):
    """The page that a supervisor serves as well."""

    web: str
