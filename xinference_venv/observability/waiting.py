"""Entering what others may have: who waits is counted, and how long it took."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from xinference_venv.observability import metrics
from xinference_venv.observability.registry import MetricRegistry


@asynccontextmanager
async def counted_waiting(
    measures: MetricRegistry, resource: str, lock: AbstractAsyncContextManager[None]
) -> AsyncIterator[None]:
    """Enter a lock; a wait that fails or is cancelled has no duration."""
    async with AsyncExitStack() as held:
        began = time.monotonic()
        with measures.during(metrics.WAITING, resource):
            await held.enter_async_context(lock)
        measures.observe(metrics.WAIT_SECONDS, resource, value=time.monotonic() - began)
        yield
