"""Threads for work on the disk that takes long, and answers for those who wait for no disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Generic, ParamSpec, TypeVar

from xinference_venv._util.tasks import finish

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DiskThreads:
    """Threads of their own for work on the disk that may take long, `count` of them at most.

    `asyncio.to_thread` has a handful for the whole process, which heartbeats, leases and listings
    wait for; what walks, hashes, copies or deletes trees must not take these.
    """

    def __init__(self, name: str, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=f"xinference-venv-{name}")

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do the work in one of these threads; what is cancelled goes on there if it has begun."""
        return await self._begin(work, *args, **kwargs)

    async def finish(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The same, to its end even when this is cancelled meanwhile; see `finish_in_thread`."""
        running = self._begin(work, *args, **kwargs)
        await finish(running)
        return running.result()

    def _begin(
        self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Future[_T]:
        call = partial(copy_context().run, work, *args, **kwargs)
        return asyncio.get_running_loop().run_in_executor(self._threads, call)

    def leave(self, work: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Let the work be done in one of these threads; the process does not end before it has.

        What it raises is lost, so it must report its own failures.
        """
        self._threads.submit(copy_context().run, partial(work, *args, **kwargs))


BUILDING = DiskThreads("building", 8)
"""For launches: packages are taken apart, trees joined, environments composed."""
UPKEEP = DiskThreads("upkeep", 4)
"""For all else that takes long: sizes are measured, files hashed, trees deleted."""


async def in_abandonable_thread(work: Callable[[], _T]) -> _T:
    """Do the work in a thread that is not waited for once this is cancelled.

    The end of the process would wait for those of `asyncio.to_thread`, and neither a resolver of
    names nor a disk that does not answer can be interrupted.
    """
    outcome: Future[_T] = Future()
    # From now on it can't be cancelled, as the thread can't.
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 (the edge of a thread: it is raised to who waits)
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)


class LastKnown(Generic[_T]):
    """What `ask` says of a disk, for those who wait for none: the last answer if it takes long."""

    def __init__(self, ask: Callable[[], _T], *, patience: float = 0.5) -> None:
        self._ask = ask
        self._patience = patience
        self._last: _T | None = None
        self._asking: asyncio.Task[_T] | None = None

    async def now(self) -> _T | None:
        """The answer; after `patience` seconds the one before. None where none is known, or the
        system refuses one.
        """
        if (asking := self._asking) is None:
            asking = self._asking = asyncio.create_task(asyncio.to_thread(self._ask))
        await asyncio.wait([asking], timeout=self._patience)
        if asking.done():
            if self._asking is asking:
                self._asking = None
            try:
                self._last = asking.result()
            except OSError:
                self._last = None
        return self._last
