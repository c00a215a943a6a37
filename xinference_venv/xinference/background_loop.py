"""Async work for callers that block: each piece has a thread and a loop of its own.

Whoever asks may be on a loop already, and another thread must be able to end the work; so the
work is never on the caller's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, Generic, TypeVar

from xinference_venv.errors import JobCancelled

_T = TypeVar("_T")


class BackgroundCall(Generic[_T]):
    """A piece of work that has begun; `what` it is stands in the error when it is cancelled."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, _T]], what: str) -> None:
        self._work = work
        self._what = what
        self._begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[_T]]] = Future()
        threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="xinference-venv")
        self._ended = threads.submit(self._run)
        threads.shutdown(wait=False)

    def result(self) -> _T:
        """Wait for the end; raises the work's error, and `JobCancelled` when it was cancelled."""
        try:
            return self._ended.result()
        except KeyboardInterrupt:
            self.cancel()
            raise

    def cancel(self) -> None:
        """End the work, and return when nothing of it goes on; one that has ended stays ended."""
        either: list[Future[Any]] = [self._begun, self._ended]
        wait(either, return_when=FIRST_COMPLETED)
        if self._begun.done():
            loop, task = self._begun.result()
            # A loop that is closed has nothing to end.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
        self._ended.exception()

    def _run(self) -> _T:
        try:
            return asyncio.run(self._main())
        except asyncio.CancelledError:
            raise JobCancelled(f"{self._what} was cancelled") from None

    async def _main(self) -> _T:
        task = asyncio.ensure_future(self._work())
        self._begun.set_result((asyncio.get_running_loop(), task))
        return await task
