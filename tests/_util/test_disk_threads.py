"""Answers of a disk for those who wait for none."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.clock import LoopClock
from xinference_venv._util.disk_threads import LastKnown


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
