"""What each command prints with ``--json``, described by the same models as the answers of REST.

Comes out: a JSON Schema (draft 2020-12) for each kind of document. The command line itself does
without: it prints what the actors answered, and tests compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import TypeAdapter

from xinference_venv.inventory.diff import Change
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.watch_state import Event, Kind
from xinference_venv.planning.lock import Role
from xinference_venv.rest.schemas.parts import (
    CollectedReport,
    Environment,
    EnvironmentPackages,
    ErrorIn,
    ExplainedEnvironment,
    Gathered,
    ReleaseReport,
    RemovalReport,
    Reply,
    SilentWorker,
    VerifiedEnvironment,
)
from xinference_venv.rest.schemas.responses import (
    Diagnoses,
    Environments,
    Leases,
    Logs,
    Models,
    Packages,
    Planned,
    Workers,
)

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Failed(Reply):
    """What a command prints that did nothing of what was asked."""

    error: ErrorIn


class ModelProcess(Reply):
    """Where a model's actor is: the address of its process, its pid and its own uid."""

    address: str
    pid: int
    uid: str


class Launched(Reply):
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
    warnings: list[str]
    uv_calls: int
    elapsed_seconds: float
    process: ModelProcess | None


class LaunchedEnvironment(Reply):
    """The environment of a launch on one worker of a cluster."""

    enabled: bool
    python: str
    env_id: str | None
    path: str | None
    real_path: str | None
    lock_digest: str | None
    uv_calls: int
    warnings: list[str]


class LaunchedWorker(Reply):
    """How one worker fared in a launch."""

    worker_address: str
    state: Phase
    environment: LaunchedEnvironment | None
    error: ErrorIn | None


class LaunchedOnWorkers(Reply):
    """A launch on a cluster."""

    model_name: str
    model_engine: str | None
    workers: list[LaunchedWorker]
    elapsed_seconds: float


class ExplainedPackages(EnvironmentPackages, ExplainedEnvironment):
    """An environment with its packages, and the tree of what requires what."""


class Explained(Gathered):
    """Environments, explained."""

    list: Sequence[ExplainedPackages]


class ComparedPackage(Reply):
    """A package as one of two environments has it."""

    version: str | None
    role: Role


class Changed(Reply):
    """A package that two environments don't have alike."""

    name: str
    change: Change
    a: ComparedPackage | None
    b: ComparedPackage | None


class Differences(Reply):
    """From environment a to environment b; so many packages are the `same`."""

    a: Environment
    b: Environment
    changes: list[Changed]
    same: int
    unreachable: list[SilentWorker]


class Removed(Gathered):
    """For each worker what it removed, or would; `error` when one refused or did not answer."""

    list: Sequence[RemovalReport]
    error: ErrorIn | None = None


class Released(Gathered):
    """For each worker which leases it released."""

    list: Sequence[ReleaseReport]
    error: ErrorIn | None = None


class Verified(Gathered):
    """What was found of each environment."""

    list: Sequence[VerifiedEnvironment]
    error: ErrorIn | None = None


class Collected(Gathered):
    """For each worker what went (or would), what stays, and how many bytes that makes."""

    list: Sequence[CollectedReport]
    error: ErrorIn | None = None


class Diagnosed(Diagnoses):
    """What is wrong with each host; `error` when a worker did not answer."""

    error: ErrorIn | None = None


class Watched(Reply):
    """One change, on a line of its own; `value` is all that the actors say of what changed.

    `name` tells it from others of its kind, `label`, `state` and `text` are for people.
    """

    at: float
    kind: Kind
    event: Event
    worker_address: str | None
    name: str
    label: str
    state: str
    text: str
    value: dict[str, Any]


class Serving(Reply):
    """A process that stays, and where it can be reached; `web` is the page of a supervisor."""

    process: Literal["supervisor", "worker", "web"]
    address: str
    web: str | None = None


DOCUMENTS: Mapping[str, type[Reply]] = {
    "launch": Launched,
    "launch-supervisor": LaunchedOnWorkers,
    "launch-dry-run": Planned,
    "list": Environments,
    "packages": Packages,
    "explain": Explained,
    "diff": Differences,
    "remove": Removed,
    "models": Models,
    "watch": Watched,
    "logs": Logs,
    "leases": Leases,
    "release": Released,
    "doctor": Diagnosed,
    "verify": Verified,
    "gc": Collected,
    "supervisor": Serving,
    "worker": Serving,
    "workers": Workers,
    "web": Serving,
}
"""By command; a kind of `launch` that prints another one has its option behind the name."""


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of a document: what the command prints, or that it failed."""
    either: Any = DOCUMENTS[name] | Failed
    words = name.replace("launch-", "launch --")
    described = TypeAdapter(either).json_schema()
    return {"$schema": _DIALECT, "title": f"xinference-venv {words} --json", **described}
