"""One launch on several workers, as a state: what happens goes in, what is to be done comes out.

Each method is an event; it returns the instructions that follow from it. Whoever runs these feeds
in what came of each. Pure: `now` is a monotonic clock and `at` the time since the epoch, both in
seconds and given by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from xinference_venv.errors import VirtualEnvError, WorkerUnavailable
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.jobs import EVENTS_KEPT, PHASE_ORDER, JobEvent, Phase
from xinference_venv.inventory.replicas import Replica, error_of, phase_of, taken_back
from xinference_venv.inventory.reports import JobReport, JobSummary
from xinference_venv.sentences import sentence

AGAIN_SECONDS = 0.25
# A worker that refuses connections may come back within this time: a network that was split heals.
GRACE_SECONDS = 10.0
# Of very many workers, each of which reports every second what it downloads, none is asked again at
# once.
_PAUSE_SECONDS = 0.002
_LEAST_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class AskForNews:
    """Ask a worker, after `pause` seconds, for the events of its job after number `since`."""

    address: str
    since: int
    pause: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelJob:
    """Cancel a worker's job."""

    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeBack:
    """Let a worker's job, which is ready, not count: its lease is given back."""

    address: str


Instruction = AskForNews | CancelJob | TakeBack
Instructions = tuple[Instruction, ...]


@dataclass(kw_only=True)
class LaunchState:
    """How a launch is going; `outcome` is set once, when its caller gets the result or the error.

    With fewer than `require` workers that can still become ready the launch is lost: workers that
    have not begun to download are cancelled, those that have go on and keep what they download,
    and every lease is given back. The caller does not wait for those that go on.

    `unheard` are workers whose jobs were begun by another supervisor: how far they are is not
    known until they say so, and one that downloads must not be cancelled for that.

    `asked_by` names who wants it; of a launch that another supervisor began its workers say it.
    """

    require: int
    replicas: dict[str, Replica]
    unheard: set[str] = field(default_factory=set)
    asked_by: str | None = None
    outcome: Phase | None = None
    events: list[JobEvent] = field(default_factory=list)
    _next: int = 1
    _since: dict[str, int] = field(default_factory=dict)
    _unanswered_since: dict[str, float] = field(default_factory=dict)
    _cancelled: set[str] = field(default_factory=set)
    _fetching: set[str] = field(default_factory=set)
    _finishing: set[str] = field(default_factory=set)
    _taking_back: set[str] = field(default_factory=set)
    _is_cancelled: bool = False
    _was_lost: bool = field(default=False, init=False)
    _running: dict[str, None] = field(default_factory=dict, init=False)
    """The addresses of the workers that have not ended, in their order."""
    _waited_for: set[str] = field(default_factory=set, init=False)
    """Those of them that the caller waits for."""
    _failed: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        # What is looked at after each event of each worker is counted, not gone through.
        self._running = {
            address: None for address, each in self.replicas.items() if not each.phase.is_last
        }
        self._waited_for = set(self._running)
        self._failed = sum(each.has_failed for each in self.replicas.values())

    @property
    def is_over(self) -> bool:
        """Whether no worker has anything left to do."""
        return not self._running and not self._taking_back

    def begin(self, failed: Mapping[str, VirtualEnvError], *, at: float) -> Instructions:
        """Follow every worker but those where the job could not be started, each with its error."""
        for address, error in failed.items():
            self._fail(address, error, at)
        asked = tuple(AskForNews(address=address, since=0) for address in self._running)
        return (*asked, *self._judged(at))

    def heard(self, address: str, report: JobReport, *, at: float) -> Instructions:
        """A worker reported how its job is going."""
        self.unheard.discard(address)
        self._unanswered_since.pop(address, None)
        if self.replicas[address].phase.is_last:
            return ()
        for event in report.events:
            self._since[address] = event.seq
            if event.total:
                # Its packages are being fetched, though no byte may have come yet.
                self._fetching.add(address)
            self._add(replace(event, worker_address=address))
        self.asked_by = self.asked_by or report.asked_by
        self._put(
            replace(
                self.replicas[address],
                phase=max(report.phase, self.replicas[address].phase, key=PHASE_ORDER.__getitem__),
                result=report.result,
                error=report.error,
            )
        )
        if report.phase.is_last:
            return self._judged(at, address)
        pause = len(self.replicas) * _PAUSE_SECONDS
        asked = self._question(address, pause=0.0 if pause < _LEAST_PAUSE_SECONDS else pause)
        return (asked, *self._judged(at, address))

    def unanswered(
        self, address: str, error: VirtualEnvError, *, is_gone: bool, now: float, at: float
    ) -> Instructions:
        """A worker did not answer; its part fails when it `is_gone` or refuses for too long.

        One that does not answer in time may be stopped, or busy: its heartbeats decide. One that
        can't be reached is waited for a little.
        """
        if self.replicas[address].phase.is_last:
            return ()
        since = self._unanswered_since.setdefault(address, now)
        refused = isinstance(error, WorkerUnavailable)
        if is_gone or (refused and now - since > GRACE_SECONDS):
            return self.failed(address, error, at=at)
        return (self._question(address, pause=AGAIN_SECONDS),)

    def restarted(self, address: str, *, at: float) -> Instructions:
        """A worker does not know the job any more."""
        error = WorkerUnavailable(
            sentence("the worker at {address} was restarted during the launch", address=address)
        )
        return self.failed(address, error, at=at)

    def failed(self, address: str, error: VirtualEnvError, *, at: float) -> Instructions:
        """A worker's part can't be followed to its end, or not be cancelled."""
        if not self.replicas[address].phase.is_last:
            self._fail(address, error, at)
        return self._judged(at, address)

    def cancel(self, *, at: float) -> Instructions:
        """The caller wants none of it any more; what has ended well was handed over already."""
        if self.outcome is Phase.READY:
            return ()
        self._is_cancelled = True
        return self._judged(at)

    def taken_back(self, address: str, *, at: float) -> Instructions:
        """A worker gave its lease back, or is away and gives it back by itself."""
        self._taking_back.discard(address)
        self._end(address, Phase.CANCELLED, taken_back(address))
        return self._judged(at, address)

    def report(self, job_id: str, since: int) -> JobReport:
        """The events after number `since`, and how the launch and each worker is going."""
        # A number of before a restart is one that was not given yet: all is news then.
        since = since if since < self._next else 0
        replicas = tuple(self.replicas.values())
        ready = [each.result for each in replicas if each.phase is Phase.READY]
        failed = self.outcome in (Phase.FAILED, Phase.CANCELLED)
        return JobReport(
            job_id=job_id,
            phase=self.outcome or self._phase(),
            events=tuple(event for event in self.events if event.seq > since),
            result=ready[0] if self.outcome is Phase.READY else None,
            error=Failure.of(error_of(replicas)) if failed else None,
            workers=replicas,
            asked_by=self.asked_by,
        )

    def known(self, job: JobSummary) -> JobSummary:
        """A worker's job, with its end if the launch knows that."""
        replica = self.replicas.get(job.worker_address)
        if replica is None or not replica.phase.is_last:
            return job
        times = [each.at for each in self.events if each.worker_address == job.worker_address]
        return replace(
            job,
            phase=replica.phase,
            error=replica.error,
            message=job.message if replica.error is None else replica.error.message,
            changed=max([*times, job.changed or 0.0]) or None,
        )

    def _phase(self) -> Phase:
        phase = phase_of(list(self.replicas.values()), self.require)
        # Leases are still to be given back.
        return Phase.PUBLISHING if phase.is_last else phase

    def _judged(self, at: float, address: str | None = None) -> Instructions:
        """What follows from what happened, be it to the worker at `address` or to all of them.

        Once a launch is lost, what happens to one worker means nothing to the others any more.
        """
        done: Instructions = ()
        if self._is_lost():
            concerned = [address] if address is not None and self._was_lost else [*self.replicas]
            self._was_lost = True
            done = (*self._cancel(concerned, at), *self._give_back(concerned))
        if self.outcome is None and not self._taking_back and not self._waited_for:
            ended = phase_of(list(self.replicas.values()), self.require)
            self.outcome = ended if ended.is_last else Phase.FAILED
        return done

    def _is_lost(self) -> bool:
        return self._is_cancelled or len(self.replicas) - self._failed < self.require

    def _cancel(self, concerned: Iterable[str], at: float) -> Instructions:
        """Cancel, each once, the workers of a lost launch that do not download yet."""
        cancelled = []
        for address in concerned:
            if address not in self._running or address in self._cancelled:
                continue
            each = self.replicas[address]
            if self._is_cancelled or (address not in self.unheard and not self._downloads(each)):
                self._cancelled.add(address)
                self._waited_for.add(address)
                cancelled.append(CancelJob(address=address))
            elif address not in self.unheard and address not in self._finishing:
                self._finishing.add(address)
                self._waited_for.remove(address)
                words = sentence("other workers failed; it finishes its downloads, which are kept")
                self._say(address, each.phase, words, at)
        return tuple(cancelled)

    def _downloads(self, replica: Replica) -> bool:
        # From this phase on it finishes when others fail: the next launch has what it downloads.
        further = PHASE_ORDER[replica.phase] >= PHASE_ORDER[Phase.DOWNLOADING]
        return further or replica.worker_address in self._fetching

    def _give_back(self, concerned: Iterable[str]) -> Instructions:
        """Take back the ready parts of a lost launch, each once."""
        ready = [
            address
            for address in concerned
            if self.replicas[address].phase is Phase.READY and address not in self._taking_back
        ]
        self._taking_back.update(ready)
        return tuple(TakeBack(address=address) for address in ready)

    def _question(self, address: str, *, pause: float) -> AskForNews:
        return AskForNews(address=address, since=self._since.get(address, 0), pause=pause)

    def _fail(self, address: str, error: VirtualEnvError, at: float) -> None:
        self._end(address, Phase.FAILED, error)
        self._say(address, Phase.FAILED, error.message, at)

    def _end(self, address: str, phase: Phase, error: VirtualEnvError) -> None:
        ended = replace(self.replicas[address], phase=phase, result=None, error=Failure.of(error))
        self._put(ended)

    def _put(self, replica: Replica) -> None:
        """How a worker is going from now on."""
        address = replica.worker_address
        self._failed += replica.has_failed
        self.replicas[address] = replica
        if replica.phase.is_last:
            self._running.pop(address, None)
            self._waited_for.discard(address)

    def _say(self, address: str, phase: Phase, message: str, at: float) -> None:
        self._add(JobEvent(seq=0, at=at, phase=phase, message=message, worker_address=address))

    def _add(self, event: JobEvent) -> None:
        self.events.append(replace(event, seq=self._next))
        self._next += 1
        del self.events[: max(0, len(self.events) - EVENTS_KEPT)]


def jobs_of_launches(
    rows: Iterable[JobSummary], launches: Mapping[str, LaunchState]
) -> tuple[JobSummary, ...]:
    """The jobs that workers list, as their launches ended for them.

    A worker does not know that its ready lease was given back since others failed, or that it was
    itself given up; the launch does. Parts of workers that list nothing are added.
    """
    listed = list(rows)
    there = {(each.job_id, each.worker_address) for each in listed}
    models = {each.job_id: each for each in listed}
    for job_id, state in launches.items():
        for address in state.replicas:
            if job_id in models and (job_id, address) not in there:
                listed.append(replace(models[job_id], worker_address=address))
    return tuple(
        launches[each.job_id].known(each) if each.job_id in launches else each for each in listed
    )
