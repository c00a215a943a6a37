"""One prepare job: its phases, its events, and which event may follow which.

Pure: the worker applies events and hands them to whoever waits; what they mean is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from xinference_venv._util.records import Fields

EVENTS_KEPT = 2000


class Phase(StrEnum):
    """Where a job stands; the last three end it."""

    QUEUED = "queued"
    PROBING = "probing"
    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    INSTALLING = "installing"
    VERIFYING = "verifying"
    PUBLISHING = "publishing"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_last(self) -> bool:
        """Whether a job in this phase has ended."""
        return self in (Phase.READY, Phase.FAILED, Phase.CANCELLED)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEvent:
    """Something that happened in a job; `at` is in seconds since the epoch.

    `done` and `total` count packages, `done_bytes` and `total_bytes` their bytes, where known.
    `worker_address` says where, in the events of a launch on several workers.
    """

    seq: int
    at: float
    phase: Phase
    message: str
    done: int | None = None
    total: int | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None
    worker_address: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "seq": self.seq,
            "at": self.at,
            "phase": self.phase.value,
            "message": self.message,
            "done": self.done,
            "total": self.total,
            "done_bytes": self.done_bytes,
            "total_bytes": self.total_bytes,
            "worker_address": self.worker_address,
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The way back; raises `InvalidRecord`."""
        fields = Fields("job event", data)
        return cls(
            seq=fields.integer("seq"),
            at=fields.number("at"),
            phase=fields.choice("phase", Phase, Phase),
            message=fields.text("message"),
            done=fields.optional_integer("done"),
            total=fields.optional_integer("total"),
            done_bytes=fields.optional_integer("done_bytes"),
            total_bytes=fields.optional_integer("total_bytes"),
            worker_address=fields.optional_text("worker_address"),
        )


@dataclass(kw_only=True, slots=True)
class JobJournal:
    """The events of one job in order; bounded, so a talkative build cannot fill the memory.

    After an ending event nothing is added: a job ends once. `seconds` is how long it was in each
    phase, up to the last event.
    """

    events: list[JobEvent] = field(default_factory=list)
    next_seq: int = 1
    seconds: dict[Phase, float] = field(default_factory=dict)

    @property
    def phase(self) -> Phase:
        """The phase of the last event."""
        return self.events[-1].phase if self.events else Phase.QUEUED

    def add(self, at: float, phase: Phase, message: str, **progress: int | None) -> JobEvent | None:
        """Append an event and return it, or None when the job has ended before."""
        if self.phase.is_last:
            return None
        event = JobEvent(
            seq=self.next_seq,
            at=at,
            phase=phase,
            message=message,
            done=progress.get("done"),
            total=progress.get("total"),
            done_bytes=progress.get("done_bytes"),
            total_bytes=progress.get("total_bytes"),
        )
        if self.events:
            last = self.events[-1]
            # A clock that was set back is no reason for less than nothing.
            spent = max(0.0, at - last.at)
            self.seconds[last.phase] = self.seconds.get(last.phase, 0.0) + spent
        self.next_seq += 1
        self.events.append(event)
        if len(self.events) > EVENTS_KEPT:
            del self.events[1 : len(self.events) - EVENTS_KEPT + 1]
        return event

    def since(self, seq: int) -> list[JobEvent]:
        """The events after the one with this number."""
        return [event for event in self.events if event.seq > seq]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedEnvironment:
    """What a finished job gives: where the environment is, and the lease on it.

    With `enabled` false no environment was made: `python` is the host's interpreter, and there
    is no lease. `uv_calls` counts the subprocesses that this job took; `worker_address` is of
    the worker on whose host all this is.
    """

    enabled: bool
    python: str
    env_id: str | None = None
    path: str | None = None
    real_path: str | None = None
    lease_id: str | None = None
    lock_digest: str | None = None
    uv_calls: int = 0
    warnings: tuple[str, ...] = ()
    worker_address: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "enabled": self.enabled,
            "python": self.python,
            "env_id": self.env_id,
            "path": self.path,
            "real_path": self.real_path,
            "lease_id": self.lease_id,
            "lock_digest": self.lock_digest,
            "uv_calls": self.uv_calls,
            "warnings": list(self.warnings),
            "worker_address": self.worker_address,
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The way back; raises `InvalidRecord`."""
        fields = Fields("prepared environment", data)
        return cls(
            enabled=fields.flag("enabled", default=True),
            python=fields.text("python"),
            env_id=fields.optional_text("env_id"),
            path=fields.optional_text("path"),
            real_path=fields.optional_text("real_path"),
            lease_id=fields.optional_text("lease_id"),
            lock_digest=fields.optional_text("lock_digest"),
            uv_calls=fields.integer("uv_calls", 0),
            warnings=fields.texts("warnings"),
            worker_address=fields.optional_text("worker_address"),
        )
