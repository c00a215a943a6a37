"""Records of the log as lines of text or JSON."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from typing import Any

import pytest

from xinference_venv.observability.logging import LogFormat, context_about, formatter_of

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


class Log:
    """A logger of its own, and the lines that it writes."""

    def __init__(self) -> None:
        self.logger = logging.Logger("a.logger")
        self._stream = io.StringIO()
        self.handler = logging.StreamHandler(self._stream)
        self.logger.addHandler(self.handler)

    def write_as(self, log_format: LogFormat) -> None:
        self.handler.setFormatter(formatter_of(log_format))

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log() -> Log:
    made = Log()
    made.write_as(LogFormat.JSON)
    return made


def test_a_record_is_one_document_with_the_time_in_utc(log: Log) -> None:
    log.logger.warning("two %s\nof words", "lines")
    [document] = log.documents
    assert re.fullmatch(TIME, document.pop("time"))
    assert document == {"level": "warning", "logger": "a.logger", "message": "two lines\nof words"}


def test_the_time_is_the_records_whatever_the_zone_of_this_host() -> None:
    record = logging.makeLogRecord({"msg": "it began", "created": 0.25, "levelname": "INFO"})
    text = formatter_of(LogFormat.TEXT).format(record)
    assert text == "1970-01-01T00:00:00.250Z INFO it began"


async def test_whose_a_record_is_is_recognized_by_tasks_and_threads_of_its_context(
    log: Log,
) -> None:
    async def work() -> None:
        log.logger.info("in a task")
        await asyncio.to_thread(log.logger.info, "in a thread")

    about = context_about(worker="10.0.0.1:4000")
    job = about.run(context_about, job="abc", model="a-model")
    await asyncio.create_task(work(), context=job)
    log.logger.info("outside")
    whose = {"job": "abc", "model": "a-model", "worker": "10.0.0.1:4000"}
    told = [{name: each.get(name) for name in whose} for each in log.documents]
    assert told == [whose, whose, dict.fromkeys(whose)]


def test_text_names_whose_it_is_and_no_message_passes_for_another_record(log: Log) -> None:
    log.write_as(LogFormat.TEXT)
    about = context_about(job="abc", model='a "model"', worker="here")
    about.run(log.logger.info, "one\n2026-01-01T00:00:00.000Z INFO two\x1b[31m\rthree")
    first, *rest = log.text.splitlines()
    assert re.fullmatch(TIME + r' INFO \[job=abc model="a \\"model\\"" worker=here\] one', first)
    assert rest == ["  2026-01-01T00:00:00.000Z INFO two\\x1b[31m", "  three"]


def test_what_a_record_says_besides_its_message_is_in_the_document(log: Log) -> None:
    log.logger.info("ended", extra={"outcome": "failed", "duration_seconds": 1.5, "code": "error"})
    [document] = log.documents
    assert (document["outcome"], document["duration_seconds"]) == ("failed", 1.5)
    assert document["code"] == "error"


@pytest.mark.parametrize("log_format", LogFormat)
def test_no_credential_is_written_be_it_in_the_message_or_in_an_exception(
    log: Log, log_format: LogFormat
) -> None:
    log.write_as(log_format)
    try:
        raise ValueError("https://user:pass-word-1@host/simple")
    except ValueError:
        log.logger.exception("asked %s", "https://user:pass-word-2@host/simple")
    about = context_about(model="https://user:pass-word-3@host")
    about.run(log.logger.info, "Authorization: Bearer pass-word-4")
    assert "pass-word" not in log.text
    assert "https://****@host/simple" in log.text
    assert "ValueError" in log.text
