"""The jobs of a host or a cluster in one list: how each fares, as its workers or its log tell.

Comes in: what workers answer of their jobs, or the logs of a home. Comes out: a `ListedJob` each.
Times are in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from xinference_venv._util.records import Record
from xinference_venv.errors import BuildFailed, InvalidInput, UnknownJob
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.job_log import JobLog, Outcome

if TYPE_CHECKING:
    from xinference_venv.inventory.reports import JobSummary

SHORT_ID = 12
"""So many characters of a job's id are shown."""
_SHORTEST_PREFIX = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedJob(Record, name="listed job"):
    """A job. `state` is `Outcome`'s; `phase` is where it stands, None where only its log tells.

    `changed` is when it was last heard of, or ended. `asked_by` names who wanted it, where that is
    known.
    """

    job_id: str
    worker_address: str
    model_name: str
    model_engine: str | None
    state: Outcome
    phase: str | None
    message: str
    started: float | None
    changed: float | None
    error: Failure | None
    asked_by: str | None = None

    @classmethod
    def of_summary(cls, job: JobSummary) -> Self:
        """A job as its worker describes it."""
        return cls(
            job_id=job.job_id,
            worker_address=job.worker_address,
            model_name=job.model_name,
            model_engine=job.model_engine,
            state=Outcome(job.phase.value) if job.phase.is_last else Outcome.RUNNING,
            phase=job.phase.value,
            message=job.message if job.error is None else job.error.message,
            started=job.started,
            changed=job.changed,
            error=job.error,
            asked_by=job.asked_by,
        )

    @classmethod
    def of_log(cls, log: JobLog, worker_address: str, *, last_line: str) -> Self:
        """A job as its log tells; `last_line` is the last one that says something."""
        error = None
        if log.error is not None:
            code = log.error.get("code", BuildFailed.code)
            error = Failure(code=code, message=log.error.get("message", ""))
        return cls(
            job_id=log.header.job_id,
            worker_address=worker_address,
            model_name=log.header.key.model_name,
            model_engine=log.header.key.model_engine,
            state=log.outcome,
            phase=None,
            message=last_line if error is None else error.message,
            started=log.header.started,
            changed=log.ended,
            error=error,
            asked_by=log.header.asked_by,
        )

    @property
    def short_id(self) -> str:
        """The beginning of the id, which `find_job` understands."""
        return self.job_id[:SHORT_ID]


def find_job(jobs: Sequence[ListedJob], named: str) -> ListedJob:
    """The job that an id or the beginning of one means; its entry of any worker.

    Raises `UnknownJob`, and `InvalidInput` for what is too short or means several.
    """
    found = {each.job_id: each for each in jobs if each.job_id.startswith(named)}
    if named in found:
        return found[named]
    if len(named) < _SHORTEST_PREFIX:
        raise InvalidInput(
            f"{named!r} is too short for the beginning of a job's id,"
            f" which has at least {_SHORTEST_PREFIX} characters"
        )
    if len(found) > 1:
        raise InvalidInput(f"{named!r} is the beginning of {len(found)} jobs: {', '.join(found)}")
    if not found:
        raise UnknownJob(
            f"there is no job {named!r}", {"hint": "`xinference-venv jobs` lists them"}
        )
    return next(iter(found.values()))
