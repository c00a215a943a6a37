"""What a supervisor measures of many workers, some of them silent, gone or of another release."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.simulated import SimulatedCluster, simulate
from tests.plain import plain
from xinference_venv.errors import DeadlineExceeded, NotFound, WorkerUnavailable
from xinference_venv.observability.cluster_measures import WorkerMeasures
from xinference_venv.observability.metrics import OF_SUPERVISOR
from xinference_venv.observability.registry import MeasuresReport, MetricRegistry, Spread
from xinference_venv.service.collect_metrics import timed_question

# Less than the ten seconds that Prometheus waits.
SCRAPE_SECONDS = 6.0


def of(answer: dict[str, Any], name: str) -> dict[tuple[str, ...], Any]:
    """The values of a supervisor's own metric by their labels."""
    samples = MetricRegistry.of(
        MeasuresReport.from_dict(answer["supervisor"]), OF_SUPERVISOR
    ).samples()
    return {
        each.labels: each.value for each in samples if each.metric.name == f"xinference_venv_{name}"
    }


def test_unreachable_workers_are_named_down_and_delay_no_scrape() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(200, silent=5)
        began = asyncio.get_running_loop().time()
        answer = plain(await cluster.supervisor.measure())
        assert asyncio.get_running_loop().time() - began < SCRAPE_SECONDS
        down = [address for (address,), up in of(answer, "worker_up").items() if not up]
        assert sorted(down) == cluster.silent
        assert sorted(each["worker_address"] for each in answer["unreachable"]) == cluster.silent
        assert len(answer["list"]) == 195

    simulate(run())


def test_a_supervisor_without_workers_and_one_whose_workers_know_no_metrics_still_measure() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(0)
        alone = plain(await cluster.supervisor.measure())
        assert (alone["list"], of(alone, "cluster_complete")) == ([], {(): 0.0})
        cluster = await SimulatedCluster.start(2)
        for worker in cluster.workers.values():
            worker.measure = _unknown  # type: ignore[method-assign]
        answer = plain(await cluster.supervisor.measure())
        assert list(of(answer, "worker_up").values()) == [0.0, 0.0]

    simulate(run())


async def _unknown() -> WorkerMeasures:
    raise NotFound("'measure' is not known here")


def test_heartbeats_are_counted_and_a_worker_that_left_is_measured_no_more() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(3)
        await cluster.beat()
        await cluster.beat()
        assert set(of(plain(await cluster.supervisor.measure()), "heartbeats_total").values()) == {
            2.0
        }
        address, worker = next(iter(cluster.workers.items()))
        await cluster.supervisor.leave_worker(address, worker.incarnation)
        answer = plain(await cluster.supervisor.measure())
        for name in ("heartbeats_total", "worker_up", "worker_info", "worker_state"):
            found = of(answer, name)
            assert found
            assert address not in {labels[0] for labels in found}

    simulate(run())


def test_a_question_counts_by_how_it_was_answered() -> None:
    measures = MetricRegistry()
    for error in (None, NotFound("no"), WorkerUnavailable("gone"), DeadlineExceeded("late")):
        try:
            with timed_question(measures, "here", "list_jobs"):
                if error is not None:
                    raise error
        except (NotFound, WorkerUnavailable, DeadlineExceeded):
            continue
    try:
        with timed_question(measures, "here", "list_jobs"):
            raise asyncio.CancelledError
    except asyncio.CancelledError:
        """Whoever asked went away, which says nothing of the worker."""
    failures = {
        each.labels: each.value for each in measures.samples() if "fail" in each.metric.name
    }
    codes = ("not_found", "worker_unavailable", "deadline_exceeded")
    assert failures == {("here", "list_jobs", code): 1.0 for code in codes}
    [took] = [each.value for each in measures.samples() if "duration" in each.metric.name]
    assert isinstance(took, Spread)
    assert sum(took.counts) == 2
