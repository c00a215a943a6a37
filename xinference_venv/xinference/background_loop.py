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

CANCEL_SECONDS = 30.0
"""So long who cancels waits: uv is killed after less, a file system may never answer."""


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

    def cancel(self, seconds: float = CANCEL_SECONDS) -> bool:
        """End the work, and wait for it; whether nothing of it goes on. What has ended stays so.

        What a thread does on the disk ends by itself alone, if need be after the given time.
        """
        either: list[Future[Any]] = [self._begun, self._ended]
        wait(either, return_when=FIRST_COMPLETED)
        if self._begun.done():
            loop, task = self._begun.result()
            # A loop that is closed has nothing to end.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
        return bool(wait([self._ended], timeout=seconds).done)

    def _run(self) -> _T:
        try:
            return asyncio.run(self._main())
        except asyncio.CancelledError:
            raise JobCancelled(f"{self._what} was cancelled") from None

    async def _main(self) -> _T:
        task = asyncio.ensure_future(self._work())
        self._begun.set_result((asyncio.get_running_loop(), task))
        return await task
