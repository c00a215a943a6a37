"""What a log's first and last line say, and what that means together with its writer's fate."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import fakes
from xinference_venv.errors import InvalidRecord
from xinference_venv.inventory.job_log import JobLog, LogEnding, LogHeader, Outcome, spoken
from xinference_venv.inventory.lease import Holder

HEADER = LogHeader(
    key=fakes.key(), job_id="a-job", started=1.5, owner=fakes.process(), asked_by="a@b"
)
FAILED = LogEnding.failed("uv_failed", "no such package", ended=4.0)


def log(ending: LogEnding | None, writer: Holder) -> JobLog:
    return JobLog.of("an-id", "/logs/an-id.log", HEADER, ending, writer)


def test_headers_endings_and_logs_are_records() -> None:
    fakes.check_record(HEADER, may_be_absent={"version", "asked_by"})
    fakes.check_record(FAILED, may_be_absent={"version", "error"})
    fakes.check_record(
        LogEnding(outcome=Outcome.READY, ended=4.0), may_be_absent={"version", "error"}
    )
    fakes.check_record(
        log(FAILED, Holder.GONE), may_be_absent={"version", "error", "ended", "asked_by"}
    )


def test_a_header_and_an_ending_are_read_from_their_lines() -> None:
    assert LogHeader.from_line(HEADER.line.encode()) == HEADER
    assert LogEnding.from_line(FAILED.line.encode()) == FAILED


@pytest.mark.parametrize("line", [b"", b"no JSON", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_no_header_and_no_ending(line: bytes) -> None:
    with pytest.raises(InvalidRecord, match="header of a log: it is not JSON"):
        LogHeader.from_line(line)
    assert LogEnding.from_line(b"#ended " + line) is None
    assert LogEnding.from_line(b"#ended {}") is None


@given(st.binary())
def test_any_bytes_are_a_header_or_refused(line: bytes) -> None:
    with suppress(InvalidRecord):
        assert LogHeader.from_line(line).job_id is not None


@given(st.binary())
def test_any_bytes_after_the_mark_are_an_ending_or_none(rest: bytes) -> None:
    found = LogEnding.from_line(b"#ended " + rest)
    assert found is None or isinstance(found, LogEnding)


@given(st.text())
def test_no_output_can_be_taken_for_the_ending(text: str) -> None:
    for line in (text, f"#ended {text}", FAILED.line):
        assert LogEnding.from_line(spoken(line).encode("utf-8", "replace")) is None
    assert spoken("Resolved 3 packages") == "Resolved 3 packages"


@pytest.mark.parametrize(
    ("writer", "outcome", "last"),
    [
        (Holder.ALIVE, Outcome.RUNNING, False),
        (Holder.GONE, Outcome.DIED, True),
        (Holder.UNKNOWN, Outcome.UNKNOWN, False),
    ],
)
def test_without_an_ending_the_fate_of_the_writer_tells(
    writer: Holder, outcome: Outcome, last: bool
) -> None:
    found = log(None, writer)
    assert (found.outcome, found.ended, found.error) == (outcome, None, None)
    assert found.outcome.is_last is last


@pytest.mark.parametrize("writer", Holder)
def test_an_ending_counts_whatever_became_of_the_writer(writer: Holder) -> None:
    found = log(FAILED, writer)
    assert (found.outcome, found.ended) == (Outcome.FAILED, 4.0)
    assert found.error == {"code": "uv_failed", "message": "no such package"}
    assert found.outcome.is_last


def test_the_message_of_an_ending_is_short_and_without_secrets() -> None:
    message = "https://user:hunter22@index.example/ failed" + "x" * 10_000
    ending = LogEnding.failed("uv_failed", message, ended=4.0)
    assert (ending.outcome, ending.ended) == (Outcome.FAILED, 4.0)
    error = ending.error
    assert error is not None
    assert error["code"] == "uv_failed"
    assert error["message"].startswith("https://****@index.example/ failed")
    assert len(error["message"]) == 1000
