"""Work in a thread that is waited for, whoever is cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from xinference_venv._util.tasks import finish_in_thread
from xinference_venv.errors import StoreError


def _fail() -> None:
    raise StoreError("the disk is full")


async def test_the_result_and_the_error_of_the_work_are_the_callers() -> None:
    assert await finish_in_thread("{}-{more}".format, 1, more=2) == "1-2"
    with pytest.raises(StoreError, match="the disk is full"):
        await finish_in_thread(_fail)


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_again_and_again_waits_for_the_end_of_the_work(fails: bool) -> None:
    begun, gate, ended = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        assert gate.wait(10)
        ended.set()
        if fails:
            _fail()

    task = asyncio.create_task(finish_in_thread(work))
    await begun.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.wait([task], timeout=0.01)
        assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
