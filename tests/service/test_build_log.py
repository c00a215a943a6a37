"""The log of a build: lines are seen soon, and it says how the build ended, whatever happened."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from tests import fakes
from xinference_venv.errors import InvalidRequirement, PythonNotFound, UvFailed
from xinference_venv.inventory.job_log import JobLog, Outcome
from xinference_venv.inventory.selection import Selection
from xinference_venv.service.build_log import FLUSH_SECONDS, BuildLog, log_failure
from xinference_venv.store import logs
from xinference_venv.store.logs import logs_of, text_of
from xinference_venv.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "virtualenv")


def build_log(store: Store) -> BuildLog:
    return BuildLog.of(store, fakes.key(), "a-job")


def only(store: Store) -> JobLog:
    [log] = logs_of(store.layout, Selection())
    return log


async def test_lines_are_seen_soon_and_before_the_end(store: Store) -> None:
    log = build_log(store)
    async with log.kept():
        log.note("Resolved 3 packages")
        log.note("Prepared 3 packages")
        assert text_of(only(store)) == ""
        await asyncio.sleep(FLUSH_SECONDS)
        while not text_of(only(store)):  # noqa: ASYNC110 (a thread writes, and tells nobody)
            await asyncio.sleep(0.01)
        assert text_of(only(store)) == "Resolved 3 packages\nPrepared 3 packages\n"
        assert only(store).outcome is Outcome.RUNNING
        log.note("Installed 3 packages")
    assert text_of(only(store)).endswith("Installed 3 packages\n")
    assert only(store).outcome is Outcome.READY


async def test_a_failure_ends_the_log_with_uvs_output(store: Store) -> None:
    error = UvFailed("no such package", {"output": "first\nno such package"})
    with pytest.raises(UvFailed):
        async with build_log(store).kept():
            raise error
    found = only(store)
    assert found.outcome is Outcome.FAILED
    assert found.error == {"code": "uv_failed", "message": "no such package"}
    assert text_of(found) == "no such package\nfirst\nno such package\n"


async def test_what_no_one_foresaw_ends_the_log_as_well(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        async with build_log(store).kept():
            raise ZeroDivisionError("division by zero")
    found = only(store)
    assert found.error == {"code": "error", "message": "ZeroDivisionError: division by zero"}


async def test_a_cancelled_build_says_so(store: Store) -> None:
    begun = asyncio.Event()

    async def build() -> None:
        async with build_log(store).kept():
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(build())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert only(store).outcome is Outcome.CANCELLED


async def test_the_log_of_a_build_that_is_cancelled_at_once_has_ended_and_is_deleted_in_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def build() -> None:
        async with build_log(store).kept():
            await asyncio.Event().wait()

    for _ in range(20):
        building = asyncio.create_task(build())
        # It is opening its log in a thread.
        await asyncio.sleep(0)
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building
    assert {each.outcome for each in logs_of(store.layout, Selection())} == {Outcome.CANCELLED}
    monkeypatch.setattr(logs, "LOGS_KEPT", 3)
    async with build_log(store).kept():
        assert len(list(logs_of(store.layout, Selection()))) == 3


async def test_what_the_file_system_refuses_ends_a_log_with_code_and_reason(store: Store) -> None:
    with pytest.raises(OSError, match="No space left"):
        async with build_log(store).kept():
            raise OSError(errno.ENOSPC, "No space left on device", "/a/file")
    [found] = logs_of(store.layout, Selection())
    assert found.error is not None
    assert found.error["code"] == "store_error"
    assert "/a/file: No space left on device" in found.error["message"]


async def test_a_job_that_fails_before_there_is_a_build_has_a_log(store: Store) -> None:
    error = PythonNotFound("there is no Python 3.9", {"output": "uv's words"})
    request = fakes.request("a-model", model_engine="vLLM", python_version="3.9")
    await log_failure(store, request, "a-job", error)
    found = only(store)
    assert found.header.key == fakes.key("a-model", "vllm", "3.9")
    assert (found.outcome, text_of(found)) == (
        Outcome.FAILED,
        "there is no Python 3.9\nuv's words\n",
    )


async def test_a_failure_is_logged_as_one_when_whoever_asked_is_gone_at_once(store: Store) -> None:
    error = PythonNotFound("there is no Python 3.9")
    logging = asyncio.create_task(log_failure(store, fakes.request(), "a-job", error))
    # It is writing the log in a thread.
    await asyncio.sleep(0)
    logging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await logging
    found = only(store)
    assert found.error == {"code": "python_not_found", "message": "there is no Python 3.9"}
    assert found.ended is not None
    assert found.header.started <= found.ended


async def test_a_request_that_cannot_be_meant_is_no_history(store: Store) -> None:
    await log_failure(store, fakes.request(), "a-job", InvalidRequirement("no requirement"))
    assert list(store.layout.logs.iterdir()) == []


async def test_a_failure_that_cannot_be_logged_stays_the_failure_it_was(store: Store) -> None:
    store.layout.logs.rmdir()
    store.layout.logs.write_text("")
    await log_failure(store, fakes.request(), "a-job", PythonNotFound("there is no Python 3.9"))
