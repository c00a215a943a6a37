"""Jobs in one list, as their workers or their logs tell, and which of them an id means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import fakes
from xinference_venv.errors import BuildFailed, InvalidInput, UnknownJob
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.job_list import ListedJob, find_job
from xinference_venv.inventory.job_log import JobLog, LogEnding, LogHeader, Outcome
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.lease import Holder
from xinference_venv.inventory.reports import JobSummary

ID = "0123456789abcdef" * 2
SUMMARY = JobSummary(
    job_id=ID,
    worker_address="10.0.0.1:7000",
    model_name="qwen",
    model_engine="vllm",
    phase=Phase.INSTALLING,
    message="building lamp",
    started=1.5,
    changed=2.5,
    error=None,
    asked_by="ada@host",
)
HEADER = LogHeader(
    key=fakes.key("qwen", "vllm"),
    job_id=ID,
    started=1.5,
    owner=fakes.process(),
    asked_by="ada@host",
)


def of_log(ending: LogEnding | None, writer: Holder = Holder.GONE) -> ListedJob:
    log = JobLog.of("a-log", "/logs/a-log.log", HEADER, ending, writer)
    return ListedJob.of_log(log, "10.0.0.1:7000", last_line="Resolved 3 packages")


def test_a_job_that_goes_on_is_listed_with_the_phase_that_its_worker_names() -> None:
    assert ListedJob.of_summary(SUMMARY) == ListedJob(
        job_id=ID,
        worker_address="10.0.0.1:7000",
        model_name="qwen",
        model_engine="vllm",
        state=Outcome.RUNNING,
        phase="installing",
        message="building lamp",
        started=1.5,
        changed=2.5,
        error=None,
        asked_by="ada@host",
    )


@pytest.mark.parametrize("phase", [each for each in Phase if each.is_last])
def test_a_job_that_ended_is_listed_as_what_it_ended_as(phase: Phase) -> None:
    assert ListedJob.of_summary(replace(SUMMARY, phase=phase)).state.value == phase.value


def test_a_job_that_failed_says_why_in_place_of_its_last_step() -> None:
    failure = Failure(code="uv_failed", message="no such package")
    listed = ListedJob.of_summary(replace(SUMMARY, phase=Phase.FAILED, error=failure))
    assert (listed.message, listed.error) == ("no such package", failure)


def test_a_job_of_a_log_without_an_ending_says_its_last_line() -> None:
    assert of_log(None, Holder.ALIVE) == ListedJob(
        job_id=ID,
        worker_address="10.0.0.1:7000",
        model_name="qwen",
        model_engine="vllm",
        state=Outcome.RUNNING,
        phase=None,
        message="Resolved 3 packages",
        started=1.5,
        changed=None,
        error=None,
        asked_by="ada@host",
    )
    assert of_log(None).state is Outcome.DIED


def test_a_job_of_a_log_with_an_ending_says_when_and_as_what_it_ended_and_why_it_failed() -> None:
    ready = of_log(LogEnding(outcome=Outcome.READY, ended=4.0))
    assert (ready.state, ready.changed, ready.message) == (
        Outcome.READY,
        4.0,
        "Resolved 3 packages",
    )
    failed = of_log(LogEnding.failed("uv_failed", "no such package", ended=4.0))
    assert (failed.state, failed.message) == (Outcome.FAILED, "no such package")
    assert failed.error == Failure(code="uv_failed", message="no such package")


def test_an_ending_of_another_release_that_lacks_code_or_message_is_a_failed_build() -> None:
    failed = of_log(LogEnding(outcome=Outcome.FAILED, ended=4.0, error={}))
    assert failed.error == Failure(code=BuildFailed.code, message="")


def jobs(*ids: str) -> list[ListedJob]:
    return [ListedJob.of_summary(replace(SUMMARY, job_id=each)) for each in ids]


def test_a_job_is_found_by_its_id_and_by_the_beginning_that_a_listing_shows() -> None:
    other = "f" * 32
    listed = jobs(other, ID)
    assert find_job(listed, ID).job_id == ID
    assert listed[1].short_id == ID[:12]
    assert find_job(listed, listed[1].short_id).job_id == ID
    assert find_job(listed, ID[:6]).job_id == ID


def test_a_whole_id_is_found_though_it_is_short_or_the_beginning_of_another() -> None:
    assert find_job(jobs("abc", "abcdefg"), "abc").job_id == "abc"


def test_the_parts_of_one_launch_on_several_workers_are_one_job() -> None:
    parts = [
        replace(each, worker_address=f"10.0.0.{number}:7000")
        for number, each in enumerate(jobs(ID, ID))
    ]
    assert find_job(parts, ID[:8]).job_id == ID


def test_a_beginning_of_less_than_six_characters_names_no_job() -> None:
    with pytest.raises(InvalidInput, match=r"'01234' is too short .* at least 6 characters"):
        find_job(jobs(ID), ID[:5])


def test_a_beginning_that_several_jobs_have_is_refused_with_their_ids() -> None:
    one, other = f"{'a' * 31}1", f"{'a' * 31}2"
    with pytest.raises(InvalidInput, match=f"of 2 jobs: {one}, {other}"):
        find_job(jobs(one, ID, other), "aaaaaa")


def test_an_id_of_no_job_is_not_found_and_the_hint_names_the_listing() -> None:
    with pytest.raises(UnknownJob, match="'fedcba'") as caught:
        find_job(jobs(ID), "fedcba")
    assert caught.value.hint == "`xinference-venv jobs` lists them"
