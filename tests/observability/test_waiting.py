"""Locks that are waited for, as the measures tell it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from xinference_venv.observability import metrics
from xinference_venv.observability.registry import Metric, MetricRegistry, Spread
from xinference_venv.observability.waiting import counted_waiting


@asynccontextmanager
async def held(lock: asyncio.Lock) -> AsyncIterator[None]:
    async with lock:
        yield


def value(measures: MetricRegistry, metric: Metric) -> Any:
    found = {each.metric.name: each.value for each in measures.samples()}
    return found.get(metric.name)


async def test_who_waits_is_counted_until_it_is_in_and_how_long_it_took() -> None:
    measures, lock = MetricRegistry(), asyncio.Lock()
    await lock.acquire()

    async def enter() -> None:
        async with counted_waiting(measures, "key", held(lock)):
            assert lock.locked()
            assert value(measures, metrics.WAITING) == 0

    entering = asyncio.create_task(enter())
    await asyncio.sleep(0)
    assert value(measures, metrics.WAITING) == 1
    lock.release()
    await entering
    assert not lock.locked()
    waited = value(measures, metrics.WAIT_SECONDS)
    assert isinstance(waited, Spread)
    assert sum(waited.counts) == 1


async def test_who_gives_up_waits_no_longer_and_has_no_duration() -> None:
    measures, lock = MetricRegistry(), asyncio.Lock()
    await lock.acquire()
    entering = asyncio.create_task(counted_waiting(measures, "key", held(lock)).__aenter__())
    await asyncio.sleep(0)
    entering.cancel()
    await asyncio.wait([entering])
    assert value(measures, metrics.WAITING) == 0
    assert value(measures, metrics.WAIT_SECONDS) is None
