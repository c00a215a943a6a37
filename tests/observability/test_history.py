"""The history of a cluster: steps of what its workers counted, a day of them."""

from __future__ import annotations

from xinference_venv.observability import metrics
from xinference_venv.observability.cluster_measures import WorkerMeasures
from xinference_venv.observability.history import (
    STEP_SECONDS,
    STEPS_KEPT,
    ClusterHistory,
    History,
)
from xinference_venv.observability.registry import MetricRegistry


def measures(
    address: str = "a:1",
    *,
    started: float = 0.0,
    ready: int = 0,
    failed: int = 0,
    free: int = 10,
    disk: str = "",
) -> WorkerMeasures:
    """What a worker measured: so many launches that ended, each one second in resolving."""
    found = MetricRegistry()
    found.set(metrics.STARTED, value=started)
    found.set(metrics.FREE_BYTES, value=free)
    for outcome, count in (("ready", ready), ("failed", failed)):
        for _ in range(count):
            found.observe(metrics.JOB_SECONDS, outcome, "built", value=2.0)
            found.observe(metrics.PHASE_SECONDS, "resolving", value=1.0)
    return WorkerMeasures(measures=found.report(), worker_address=address, disk_id=disk)


def test_a_step_has_what_ended_in_it_and_the_bytes_that_are_free_at_its_end() -> None:
    history = ClusterHistory(began=0.0)
    history.measured([measures(free=1)], at=1000.0)
    history.measured(
        [measures(ready=1, free=5), measures("b:1", started=1001.0, failed=2)], at=1010.0
    )
    history.measured(
        [measures(ready=3, free=7), measures("b:1", started=1001.0, failed=2)], at=1600.0
    )
    first, second = history.report().steps
    assert (first.at, first.ended, first.phase_seconds) == (
        900.0,
        {"ready": 1, "failed": 2},
        {"resolving": 3.0},
    )
    assert (first.workers, first.free_bytes) == (2, 15)
    assert (second.at, second.ended, second.free_bytes) == (1500.0, {"ready": 2}, 17)


def test_a_disk_that_several_workers_share_is_free_once() -> None:
    history = ClusterHistory(began=0.0)
    workers = [measures("a:1", disk="x"), measures("b:1", disk="x"), measures("c:1", disk="y")]
    history.measured(workers, at=1000.0)
    [step] = history.report().steps
    assert (step.workers, step.free_bytes) == (3, 20)


def test_what_was_counted_before_the_supervisor_began_is_not_of_now() -> None:
    history = ClusterHistory(began=1000.0)
    history.measured([measures(started=10.0, ready=50)], at=1000.0)
    history.measured([measures(started=10.0, ready=51)], at=1001.0)
    assert history.report().steps[0].ended == {"ready": 1}


def test_a_worker_that_is_started_again_counts_from_nothing() -> None:
    history = ClusterHistory(began=1000.0)
    history.measured([measures(started=10.0, ready=5)], at=1000.0)
    history.measured([measures(started=1001.0, ready=2)], at=1002.0)
    assert history.report().steps[0].ended == {"ready": 2}


def test_a_day_is_kept_and_no_worker_that_is_gone() -> None:
    history = ClusterHistory(began=0.0)
    for number in range(STEPS_KEPT + 10):
        history.measured([measures(f"w{number}:1")], at=number * STEP_SECONDS)
        history.keep_only({f"w{number}:1": None})
    steps = history.report().steps
    assert len(steps) == STEPS_KEPT
    assert steps[-1].at == (STEPS_KEPT + 9) * STEP_SECONDS
    assert len(history._known) == 1
    assert History.from_dict(history.report().to_dict()) == history.report()


def test_steps_stay_in_order_when_the_clock_is_set_back_and_nothing_is_lost() -> None:
    history = ClusterHistory(began=0.0)
    for count, at in enumerate((300.0, 1500.0, 1800.0, 1510.0, 1520.0)):
        history.measured([measures(ready=count)], at=at)
    first, second = history.report().steps
    assert (first.at, second.at) == (300.0, 1500.0)
    assert second.ended == {"ready": 4}
    assert second.phase_seconds == {"resolving": 4.0}
