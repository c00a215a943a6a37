"""What is logged and counted of a job, however it ends."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from tests import fakes
from tests.clock import LoopClock
from xinference_venv.errors import InstallFailed, VirtualEnvError, error_from_dict
from xinference_venv.inventory.jobs import Phase, PreparedEnvironment
from xinference_venv.observability.metrics import Source
from xinference_venv.observability.registry import MetricRegistry, Spread
from xinference_venv.service.build_log import BuildLog
from xinference_venv.service.jobs import Build, Job, start_job_task
from xinference_venv.store.store import Store


def a_job() -> Job:
    job = Job(job_id="a-job", request=fakes.request())
    job.say(Phase.QUEUED, "queued")
    return job


def counted(measures: MetricRegistry) -> dict[tuple[str, ...], float]:
    """How many of each there are, by the end of the metric's name and the labels."""
    return {
        (each.metric.name.removeprefix("xinference_venv_"), *each.labels): float(
            sum(each.value.counts) if isinstance(each.value, Spread) else each.value
        )
        for each in measures.samples()
    }


async def ended(job: Job, work: Any, caplog: pytest.LogCaptureFixture) -> MetricRegistry:
    caplog.set_level(logging.INFO)
    measures = MetricRegistry()
    task = start_job_task(job, work, measures, "here")
    await asyncio.wait([task])
    return measures


@pytest.mark.parametrize("source", [None, Source.JOINED, Source.COLD])
async def test_a_ready_job_says_where_its_environment_came_from(
    source: Source | None, caplog: pytest.LogCaptureFixture
) -> None:
    job = a_job()

    async def work() -> None:
        job.say(Phase.RESOLVING, "resolving")
        job.source = source
        job.result = PreparedEnvironment(enabled=True, python="python")
        job.say(Phase.READY, "ready")

    told = (source or Source.RELAUNCH).value
    assert counted(await ended(job, work(), caplog)) == {
        ("job_duration_seconds", "ready", told): 1,
        ("job_phase_duration_seconds", "queued"): 1,
        ("job_phase_duration_seconds", "resolving"): 1,
    }
    begun, end = caplog.records
    assert begun.getMessage() == "the launch begins"
    assert (vars(end)["outcome"], vars(end)["source"], end.levelname) == ("ready", told, "INFO")


@pytest.mark.parametrize("outcome", [Phase.READY, Phase.FAILED])
async def test_an_ended_job_keeps_its_lock_only_for_others_that_may_ask(
    outcome: Phase, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = LoopClock(monkeypatch)
    job = a_job()

    async def work() -> None:
        job.know(fakes.lock())
        job.error = InstallFailed("no space")
        job.say(outcome, "ended")

    await ended(job, work(), caplog)
    # Timers that are due run in the next round of the loop.
    await asyncio.sleep(0.01)
    assert (job.lock is None) == (outcome is Phase.READY)
    await clock.advance(59.0)
    assert (job.lock is None) == (outcome is Phase.READY)
    await clock.advance(1.0)
    assert job.lock is None


async def test_a_job_without_environment_came_from_the_host(
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = a_job()

    async def work() -> None:
        job.result = PreparedEnvironment(enabled=False, python="python")
        job.say(Phase.READY, "ready")

    found = counted(await ended(job, work(), caplog))
    assert found["job_duration_seconds", "ready", "host"] == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InstallFailed("the disk is full"), "install_failed"),
        (error_from_dict({"code": "of_later", "message": "no", "details": {}}), "of_later"),
    ],
)
async def test_a_failed_job_counts_by_the_code_of_its_error_and_is_a_warning(
    error: VirtualEnvError, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    job = a_job()

    async def work() -> None:
        job.error = error
        job.say(Phase.FAILED, str(error))

    found = counted(await ended(job, work(), caplog))
    assert found["job_failures_total", code] == found["job_duration_seconds", "failed", ""] == 1
    assert vars(caplog.records[-1])["code"] == code
    assert caplog.records[-1].levelname == "WARNING"


async def test_a_defect_is_logged_with_its_traceback_when_it_ends_a_job(
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = a_job()

    async def work() -> None:
        job.error = VirtualEnvError("KeyError: 'wheels'")
        job.say(Phase.FAILED, str(job.error))
        raise KeyError("wheels")

    await ended(job, work(), caplog)
    [record] = [each for each in caplog.records if "the launch failed" in each.getMessage()]
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError


async def test_a_job_that_is_cancelled_before_its_first_step_has_ended_and_is_counted_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    measures = MetricRegistry()
    job = a_job()
    task = start_job_task(job, asyncio.sleep(1000), measures, "here")
    task.cancel()
    await asyncio.wait([task])
    # Else whoever follows it would wait for ever.
    report = await job.report(0, timeout=1000)
    assert (report.phase, report.events[-1].phase) == (Phase.CANCELLED, Phase.CANCELLED)
    assert counted(measures)["job_duration_seconds", "cancelled", ""] == 1
    assert caplog.records[-1].getMessage().startswith("the launch was cancelled")


async def test_without_logging_a_failure_is_reported_to_its_caller_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    job = a_job()

    async def work() -> None:
        job.error = InstallFailed("the disk is full")
        job.say(Phase.FAILED, "the disk is full")

    await asyncio.wait([start_job_task(job, work(), MetricRegistry(), "here")])
    assert capsys.readouterr() == ("", "")


async def test_who_joins_a_build_hears_what_it_waits_for(tmp_path: Path) -> None:
    spec = fakes.spec()
    log = BuildLog.of(Store.open(tmp_path), spec.key, "a-job")
    build = Build(spec=spec, request=fakes.request(), log=log)
    first, second = a_job(), a_job()
    build.join(first)
    build.say(Phase.QUEUED, "waiting for another launch")
    build.join(second)
    assert [each.message for each in second.journal.events] == [
        "queued",
        "waiting for another launch",
    ]
