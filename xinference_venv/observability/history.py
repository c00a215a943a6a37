"""What a cluster did over the last day: what was free on its disks, which launches ended, how long
their phases lasted.

Comes in: the measures of its workers, with the time. Comes out: steps of five minutes, of which a
day is kept, of the same size however many workers there are. A state object, without loop or clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from xinference_venv._util.records import Record
from xinference_venv.observability import metrics
from xinference_venv.observability.cluster_measures import WorkerMeasures
from xinference_venv.observability.metrics import OF_WORKER
from xinference_venv.observability.registry import MetricRegistry, Spread

STEP_SECONDS = 300.0
STEPS_KEPT = 288
"""A day."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryStep(Record, name="step of a history"):
    """What happened from `at` on, in seconds since the epoch, until the next step.

    `workers` are those that answered last in it; `free_bytes` of their disks were free
    then, of a disk that several share once.
    `ended` counts the launches that ended in it by how (``ready``, ``failed``, ``cancelled``),
    `phase_seconds` is how long these were in each phase, together.
    """

    at: float
    workers: int
    free_bytes: int
    ended: Mapping[str, int]
    phase_seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class History(Record, name="history"):
    """The steps that are known, the oldest first, each of `step_seconds`."""

    step_seconds: float
    steps: tuple[HistoryStep, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Counted:
    """What a worker has counted since it was started."""

    started: float
    disk: str
    free_bytes: int
    ended: Mapping[str, int]
    phase_seconds: Mapping[str, float]

    @classmethod
    def of(cls, measures: WorkerMeasures) -> _Counted:
        """The numbers of a worker's measures; raises `InvalidRecord`."""
        started = 0.0
        free = 0
        ended: Counter[str] = Counter()
        seconds: dict[str, float] = {}
        for sample in MetricRegistry.of(measures.measures, OF_WORKER).samples():
            value = sample.value
            if isinstance(value, Spread):
                if sample.metric.name == metrics.JOB_SECONDS.name:
                    ended[sample.labels[0]] += sum(value.counts)
                elif sample.metric.name == metrics.PHASE_SECONDS.name:
                    seconds[sample.labels[0]] = value.sum
            elif sample.metric.name == metrics.STARTED.name:
                started = value
            elif sample.metric.name == metrics.FREE_BYTES.name:
                free = int(value)
        return cls(
            started=started,
            disk=measures.disk_id or measures.worker_address,
            free_bytes=free,
            ended=ended,
            phase_seconds=seconds,
        )


@dataclass(kw_only=True)
class ClusterHistory:
    """The history of a cluster since its supervisor `began`, in seconds since the epoch."""

    began: float
    _steps: deque[HistoryStep] = field(default_factory=lambda: deque(maxlen=STEPS_KEPT))
    _known: dict[str, _Counted] = field(default_factory=dict)

    def measured(self, answers: Iterable[WorkerMeasures], *, at: float) -> None:
        """Workers reported what they have counted so far; raises `InvalidRecord`."""
        now = {each.worker_address: _Counted.of(each) for each in answers}
        begins = at - at % STEP_SECONDS
        ended = Counter[str]()
        seconds: dict[str, float] = defaultdict(float)
        # The step that goes on; where the clock was set back, all that seem to come later.
        while self._steps and self._steps[-1].at >= begins:
            step = self._steps.pop()
            ended.update(step.ended)
            for phase, spent in step.phase_seconds.items():
                seconds[phase] += spent
        for address, counted in now.items():
            before = self._before(address, counted)
            for outcome, count in counted.ended.items():
                ended[outcome] += count - before.ended.get(outcome, 0)
            for phase, spent in counted.phase_seconds.items():
                new = spent - before.phase_seconds.get(phase, 0.0)
                seconds[phase] += new
        step = HistoryStep(
            at=begins,
            workers=len(now),
            free_bytes=sum({each.disk: each.free_bytes for each in now.values()}.values()),
            ended=+ended,
            phase_seconds={phase: spent for phase, spent in seconds.items() if spent > 0.0},
        )
        self._steps.append(step)
        self._known.update(now)

    def _before(self, address: str, counted: _Counted) -> _Counted:
        """What a worker had counted when it was last asked.

        What one that is new to this supervisor counted before that began is of an earlier time.
        """
        known = self._known.get(address)
        if known is not None and known.started == counted.started:
            return known
        is_old = known is None and counted.started < self.began
        return counted if is_old else _NOTHING

    def keep_only(self, addresses: Mapping[str, object]) -> None:
        """Forget what is known of workers that are in the cluster no more; their past stays."""
        self._known = {name: each for name, each in self._known.items() if name in addresses}

    def report(self) -> History:
        """All of it."""
        return History(step_seconds=STEP_SECONDS, steps=tuple(self._steps))


_NOTHING = _Counted(started=0.0, disk="", free_bytes=0, ended={}, phase_seconds={})
