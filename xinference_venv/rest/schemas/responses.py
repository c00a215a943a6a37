"""What each route answers; `parts` has what that consists of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from xinference_venv.inventory.jobs import Phase
from xinference_venv.rest.schemas.parts import (
    Branch,
    Check,
    CollectedReport,
    Diagnosis,
    Differing,
    DiskUsage,
    Distribution,
    Environment,
    EnvironmentPackages,
    ErrorIn,
    Event,
    ExplainedEnvironment,
    Gathered,
    HeldLease,
    JobSummary,
    Log,
    Model,
    OwnPackage,
    Prepared,
    ReleaseReport,
    RemovalReport,
    Replica,
    Reply,
    Skipped,
    VerifiedEnvironment,
    WholeLog,
    Worker,
)
from xinference_venv.rest.tokens import Scope


class ErrorReply(Reply):
    """What went wrong: `code` for programs, `message` for people, `details` that say more.

    `detail` is the message with what to do about it.
    """

    code: str
    message: str
    details: dict[str, Any]
    detail: str


class Environments(Gathered):
    """The environments of all workers that answered."""

    list: Sequence[Environment]
    differing: Sequence[Differing]
    skipped: Sequence[Skipped]


class Packages(Gathered):
    """Environments with their packages.

    Where one environment alone matches, what Xinference says of it stands beside: which it is,
    and the packages of its own.
    """

    list: Sequence[EnvironmentPackages]
    model_name: str | None = None
    model_engine: str | None = None
    python_version: str | None = None
    worker_ip: str | None = None
    packages: Sequence[OwnPackage] | None = None


class Explained(Gathered):
    """Environments, explained."""

    list: Sequence[ExplainedEnvironment]


class Removal(Gathered):
    """`result`: whether all that matches is gone, or would be."""

    result: bool
    list: Sequence[RemovalReport]


class Requirement(Reply):
    """A valid package line: its normalized `name`, where it tells one, and itself."""

    name: str | None
    text: str


class Accepted(Reply):
    """A launch that has begun; `GET /v1/jobs/{job_id}` tells how it goes."""

    job_id: str


class Job(Reply):
    """A launch: its phase and events, at its end the result or the error, and each worker."""

    job_id: str
    phase: Phase
    events: list[Event]
    result: Prepared | None
    error: ErrorIn | None
    workers: list[Replica]


class Jobs(Gathered):
    """What runs, or ended not long ago."""

    list: Sequence[JobSummary]


class Planned(Reply):
    """What a launch would do; `spec` and `lock` are null where no environment is wanted.

    `tree` and `not_shown` explain the lock, as those of an environment.
    """

    enabled: bool
    spec: dict[str, Any] | None
    lock: dict[str, Any] | None
    tree: Sequence[Branch]
    not_shown: Sequence[Distribution]
    worker_address: str


class Collected(Gathered):
    """For each worker what went (or would), what stays, and how many bytes that makes."""

    list: Sequence[CollectedReport]


class Verified(Gathered):
    """What was found of each environment."""

    list: Sequence[VerifiedEnvironment]


class Leases(Gathered):
    """Who uses which environment."""

    list: Sequence[HeldLease]


class Released(Gathered):
    """`result`: whether the lease is gone."""

    result: bool
    list: Sequence[ReleaseReport]


class Workers(Reply):
    """The workers of the cluster."""

    list: Sequence[Worker]


class Models(Reply):
    """The models of one worker's catalogue."""

    list: Sequence[Model]


class Logs(Gathered):
    """The newest logs of each worker."""

    list: Sequence[WholeLog]


class LogPart(Reply):
    """Text of a log; ask again from `offset` (in bytes) until `ended`."""

    log: Log
    text: str
    offset: int
    ended: bool


class Diagnoses(Gathered):
    """What is wrong with each host; `cluster` are the checks that compare them."""

    list: Sequence[Diagnosis]
    cluster: Sequence[Check]


class Disk(Gathered):
    """What is on the disks of the workers; takes as long as a walk over all files."""

    list: Sequence[DiskUsage]


class Access(Reply):
    """The scopes of who asks: those of the token, all where no tokens are needed."""

    scopes: list[Scope]


class Alive(Reply):
    """The process lives."""

    status: Literal["alive"]


class Ready(Reply):
    """Launches can be asked for: so many workers are there, so many of them alive."""

    status: Literal["ready"]
    workers: int
    alive: int
