"""What each route answers; `parts` has what that consists of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from xinference_venv.jobs import Phase
from xinference_venv.rest.parts import (
    CollectedReport,
    Differing,
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
    Prepared,
    ReleaseReport,
    RemovalReport,
    Replica,
    Reply,
    VerifiedEnvironment,
    WholeLog,
    Worker,
)


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


class Packages(Gathered):
    """Environments with their packages."""

    list: Sequence[EnvironmentPackages]


class Explained(Gathered):
    """Environments, explained."""

    list: Sequence[ExplainedEnvironment]


class Removal(Gathered):
    """`result`: whether all that matches is gone, or would be."""

    result: bool
    list: Sequence[RemovalReport]


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
    """What a launch would do; `spec` and `lock` are null where no environment is wanted."""

    enabled: bool
    spec: dict[str, Any] | None
    lock: dict[str, Any] | None
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


class Alive(Reply):
    """The process lives."""

    status: Literal["alive"]


class Ready(Reply):
    """Launches can be asked for: so many workers are there, so many of them alive."""

    status: Literal["ready"]
    workers: int
    alive: int
