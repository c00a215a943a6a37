"""The log of a job, apart from its file: who writes it, how the job ended.

Comes in: the first and the last line of a log, and the judgement over its writer. Comes out: what
the log is of and the outcome. A log is UTF-8 text: a line of JSON that says what it is of
(`LogHeader`), the output, and once the job has ended a line that says how (`LogEnding`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from xinference_venv._util.records import Record, inline
from xinference_venv._util.redact import redact_text
from xinference_venv.errors import InvalidRecord
from xinference_venv.inventory.lease import Holder, ProcessIdentity
from xinference_venv.planning.key import EnvKey
from xinference_venv.sentences import sentence

_ENDING_MARK = "#ended "
_MESSAGE_CHARACTERS = 1000


class Outcome(StrEnum):
    """How a job ended, as its log tells.

    `DIED`: its process ended without ending it. `UNKNOWN`: nothing says that it ended, and its
    process, of another host, can't be judged.
    """

    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DIED = "died"
    UNKNOWN = "unknown"

    @property
    def is_last(self) -> bool:
        """Whether nothing will be added to the log."""
        return self not in (Outcome.RUNNING, Outcome.UNKNOWN)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogHeader(Record, name="header of a log", version=1):
    """The first line; `started` is in seconds since the epoch, `owner` writes the log.

    `asked_by` is who wanted the job, None of an earlier release or a program that does not say.
    """

    key: EnvKey
    job_id: str
    started: float
    owner: ProcessIdentity
    asked_by: str | None = None

    @property
    def line(self) -> str:
        """The header as it stands in the log."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """The way back from a line; raises `InvalidRecord`."""
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            raise InvalidRecord(sentence("header of a log: it is not JSON")) from None
        return cls.from_dict(data)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogEnding(Record, name="ending of a log", version=1):
    """The last line; `ended` is in seconds since the epoch.

    `error` has ``code`` and ``message`` of what a job failed with.
    """

    outcome: Outcome
    ended: float
    error: Mapping[str, str] | None = None

    @classmethod
    def failed(cls, code: str, message: str, *, ended: float) -> Self:
        """The ending of a job that failed; the message is shortened, the log has all of it."""
        shown = redact_text(message)[:_MESSAGE_CHARACTERS]
        return cls(outcome=Outcome.FAILED, ended=ended, error={"code": code, "message": shown})

    @property
    def line(self) -> str:
        """The ending as it stands in the log."""
        return _ENDING_MARK + json.dumps(self.to_dict())

    @classmethod
    def from_line(cls, line: bytes) -> Self | None:
        """The ending that a line is, or None for any other line."""
        if not line.startswith(_ENDING_MARK.encode()):
            return None
        try:
            return cls.from_dict(json.loads(line[len(_ENDING_MARK) :]))
        except (InvalidRecord, ValueError, RecursionError):
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobLog(Record, name="log"):
    """What is known of a log besides its text; `ended` is None while the job runs."""

    header: LogHeader = field(metadata=inline())
    log_id: str
    path: str
    outcome: Outcome
    ended: float | None
    error: Mapping[str, str] | None

    @classmethod
    def of(
        cls, log_id: str, path: str, header: LogHeader, ending: LogEnding | None, writer: Holder
    ) -> Self:
        """A log as its lines and the judgement over the process that writes it tell."""
        by_writer = {
            Holder.ALIVE: Outcome.RUNNING,
            Holder.GONE: Outcome.DIED,
            Holder.UNKNOWN: Outcome.UNKNOWN,
        }
        return cls(
            log_id=log_id,
            path=path,
            header=header,
            outcome=by_writer[writer] if ending is None else ending.outcome,
            ended=None if ending is None else ending.ended,
            error=None if ending is None else ending.error,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LogPart(Record, name="part of a log"):
    """Some text of a log, and from where to read on; `ended` says that nothing will follow."""

    log: JobLog
    text: str
    offset: int
    ended: bool


def spoken(line: str) -> str:
    """A line of a build as it may stand in a log, where it can't be taken for the ending."""
    return f" {line}" if line.startswith(_ENDING_MARK) else line


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeLog(Record, name="whole log"):
    """A log of a worker with its text."""

    log: JobLog = field(metadata=inline())
    text: str
    worker_address: str
