"""One prepare job: its phases, its events, and which event may follow which.

Pure: the worker applies events and hands them to whoever waits; what they mean is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from xinference_venv._util.records import Record

EVENTS_KEPT = 2000
EVENTS_KEPT_OF_ENDED = 50


class Phase(StrEnum):
    """Where a job stands; the last three end it."""

    QUEUED = "queued"
    PROBING = "probing"
    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    INSTALLING = "installing"
    COMPOSING = "composing"
    VERIFYING = "verifying"
    PUBLISHING = "publishing"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_last(self) -> bool:
        """Whether a job in this phase has ended."""
        return self in (Phase.READY, Phase.FAILED, Phase.CANCELLED)


PHASE_ORDER = {phase: number for number, phase in enumerate(Phase)}


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEvent(Record, name="job event"):
    """Something that happened in a job; `at` is in seconds since the epoch.

    `done` and `total` count packages, `done_bytes` and `total_bytes` their bytes, where known: in
    a download those that arrive, with `bytes_per_second` and `seconds_left` at that rate.
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
    bytes_per_second: int | None = None
    seconds_left: int | None = None
    worker_address: str | None = None

    @property
    def text(self) -> str:
        """The phase and the message, as `with_phase` joins them."""
        return with_phase(self.phase.value, self.message)


def with_phase(phase: str, message: str, by: str = ": ") -> str:
    """What a job does in one text; a message that begins with the word of its phase is enough."""
    begins = (
        message.lower().startswith(phase) and not message[len(phase) : len(phase) + 1].isalnum()
    )
    return message if begins else f"{phase}{by}{message}"


@dataclass(kw_only=True, slots=True)
class JobJournal:
    """The events of one job in order; bounded, so a talkative build cannot fill the memory.

    After an ending event nothing is added: a job ends once, and one that was ready may be taken
    back since its launch failed elsewhere. A phase never comes after a later one:
    what is done again belongs to the phase that it is done for. `seconds` is how long it was in
    each phase, up to the last event.
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
            phase=max(phase, self.phase, key=PHASE_ORDER.__getitem__),
            message=message,
            worker_address=None,
            **progress,
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

    def take_back(self, at: float, message: str) -> JobEvent | None:
        """Let a job that was ready be cancelled, and return the event; None in any other phase."""
        if self.phase is not Phase.READY:
            return None
        event = JobEvent(seq=self.next_seq, at=at, phase=Phase.CANCELLED, message=message)
        self.next_seq += 1
        self.events.append(event)
        return event

    def shorten(self) -> None:
        """Keep the first event and the last ones alone, of a job that was followed to its end."""
        del self.events[1 : max(1, len(self.events) - EVENTS_KEPT_OF_ENDED)]

    def since(self, seq: int) -> list[JobEvent]:
        """The events after the one with this number."""
        return [event for event in self.events if event.seq > seq]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedEnvironment(Record, name="prepared environment"):
    """What a finished job gives: where the environment is, and the lease on it.

    With `enabled` false no environment was made: `python` is the host's interpreter, and there
    is no lease. `uv_calls` counts the subprocesses that this job took; `worker_address` is of
    the worker on whose host all this is.
    """

    enabled: bool = True
    python: str
    env_id: str | None = None
    path: str | None = None
    real_path: str | None = None
    lease_id: str | None = None
    lock_digest: str | None = None
    uv_calls: int = 0
    warnings: tuple[str, ...] = ()
    worker_address: str | None = None
