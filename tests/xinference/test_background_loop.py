"""Async work for callers that block, and its end by another thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from xinference_venv._util.tasks import finish_in_thread
from xinference_venv.errors import JobCancelled
from xinference_venv.xinference.background_loop import BackgroundCall


def test_the_result_is_the_works() -> None:
    async def work() -> int:
        return 7

    assert BackgroundCall(work, "it").result() == 7


def test_the_error_is_the_works() -> None:
    async def work() -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        BackgroundCall(work, "it").result()


def test_a_thread_that_runs_a_loop_can_wait_too() -> None:
    async def work() -> int:
        return 7

    async def waits() -> int:
        return BackgroundCall(work, "it").result()

    assert asyncio.run(waits()) == 7


def test_cancelling_waits_for_the_works_own_end() -> None:
    begun, cleaned = threading.Event(), threading.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()

    running = BackgroundCall(work, "the work")
    begun.wait()
    running.cancel()
    assert cleaned.is_set()
    with pytest.raises(JobCancelled, match="the work was cancelled"):
        running.result()


def test_what_has_ended_is_not_cancelled() -> None:
    async def work() -> int:
        return 7

    running = BackgroundCall(work, "it")
    assert running.result() == 7
    running.cancel()
    assert running.result() == 7


def test_who_cancels_does_not_wait_for_ever_for_a_disk_that_does_not_answer() -> None:
    begun, answered = threading.Event(), threading.Event()

    def write() -> None:
        begun.set()
        answered.wait()

    running = BackgroundCall(lambda: finish_in_thread(write), "the work")
    begun.wait()
    assert not running.cancel(seconds=0.01)
    answered.set()
    assert running.cancel()
    with pytest.raises(JobCancelled, match="the work was cancelled"):
        running.result()
