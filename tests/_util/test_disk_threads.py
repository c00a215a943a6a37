"""Answers of a disk for those who wait for none, and threads that no one waits for any more."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.clock import LoopClock
from xinference_venv._util.disk_threads import LastKnown, in_abandonable_thread


async def test_who_asks_at_once_gets_one_answer() -> None:
    asked: list[int] = []

    def ask() -> int:
        asked.append(1)
        return len(asked)

    known = LastKnown(ask, patience=60.0)
    assert [*await asyncio.gather(known.now(), known.now())] == [1, 1]
    assert await known.now() == 2


async def test_while_a_disk_does_not_answer_the_last_answer_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = LoopClock(monkeypatch)
    go_on = threading.Event()
    answers = iter([1, 2])

    def ask() -> int:
        go_on.wait()
        return next(answers)

    known = LastKnown(ask, patience=600.0)
    try:
        first = asyncio.create_task(known.now())
        await clock.advance(600.0)
        assert await first is None
        go_on.set()
        assert await known.now() == 1
        go_on.clear()
        second = asyncio.create_task(known.now())
        await clock.advance(600.0)
        assert await second == 1
    finally:
        go_on.set()


async def test_a_disk_that_refuses_an_answer_has_none() -> None:
    def ask() -> int:
        raise PermissionError("not for this user")

    known = LastKnown(ask, patience=60.0)
    assert await known.now() is None


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
