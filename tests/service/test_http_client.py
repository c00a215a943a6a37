"""Requests of our own: the thread that makes one, which no one need wait for."""

from __future__ import annotations

import asyncio
import threading

import pytest

from xinference_venv.service.http_client import in_abandonable_thread


async def test_what_work_in_a_thread_gives_or_raises_comes_back() -> None:
    def fails() -> None:
        raise LookupError("of the work")

    assert await in_abandonable_thread(lambda: 7) == 7
    failing = asyncio.ensure_future(in_abandonable_thread(fails))
    await asyncio.wait([failing], timeout=20)
    with pytest.raises(LookupError, match="of the work"):
        failing.result()


async def test_work_that_is_not_waited_for_any_more_is_left_alone() -> None:
    go_on, done = threading.Event(), threading.Event()

    def work() -> None:
        go_on.wait()
        done.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await in_abandonable_thread(work)
    go_on.set()
    assert await asyncio.to_thread(done.wait, 60)
