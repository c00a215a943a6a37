"""The log of one build, as the event loop sees it: lines go in at once, threads write them.

Comes in: what a build says and how it ends. Comes out: a log that is a moment behind.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

from xinference_venv._util.tasks import finish_in_thread
from xinference_venv.errors import InvalidInput, VirtualEnvError
from xinference_venv.inventory.job_log import LogEnding, Outcome
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store.atomic import store_error
from xinference_venv.store.log_writer import LogWriter
from xinference_venv.store.store import Store

# Who follows a log sees a line so much later at most.
FLUSH_SECONDS = 0.2


@dataclass(kw_only=True, eq=False)
class BuildLog:
    """The log of a build, which may say thousands of lines in a second."""

    writer: LogWriter
    _flushing: asyncio.TimerHandle | None = field(default=None, init=False)

    @classmethod
    def of(cls, store: Store, key: EnvKey, job_id: str, asked_by: str | None = None) -> Self:
        """The log of a build that this job began, not opened yet."""
        writer = LogWriter(
            layout=store.layout, disk=store.disk, key=key, job_id=job_id, asked_by=asked_by
        )
        return cls(writer=writer)

    def note(self, line: str) -> None:
        """Add a line, or several."""
        self.writer.add(line)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Open the log, and let its end say how what is done meanwhile has ended."""
        try:
            # Inside: the thread that opens it goes on when this is cancelled.
            await finish_in_thread(self.writer.open)
            yield
        finally:
            ending = self._ending(sys.exception())
            if self._flushing is not None:
                self._flushing.cancel()
            await finish_in_thread(self.writer.end, ending)

    async def fail(self, error: VirtualEnvError) -> None:
        """Keep a log that only says this error, whole even when this is cancelled meanwhile."""

        def write() -> None:
            self.writer.open()
            self.writer.end(self._ending(error))

        await finish_in_thread(write)

    def _flush(self) -> None:
        self._flushing = None
        asyncio.get_running_loop().run_in_executor(None, self.writer.flush)

    def _ending(self, error: BaseException | None) -> LogEnding:
        now = time.time()
        if error is None:
            return LogEnding(outcome=Outcome.READY, ended=now)
        if isinstance(error, asyncio.CancelledError):
            return LogEnding(outcome=Outcome.CANCELLED, ended=now)
        if isinstance(error, OSError):
            error = store_error(error)
        if not isinstance(error, VirtualEnvError):
            message = f"{type(error).__name__}: {error}"
            self.writer.add(message)
            return LogEnding.failed(VirtualEnvError.code, message, ended=now)
        self.writer.add(error.message)
        if output := error.details.get("output"):
            self.writer.add(str(output))
        return LogEnding.failed(error.code, error.message, ended=now)


async def log_failure(
    store: Store,
    request: LaunchRequest,
    job_id: str,
    error: VirtualEnvError,
    *,
    asked_by: str | None = None,
) -> None:
    """Keep a log of a job that failed before there was anything to build.

    An invalid request is no part of a model's history. The Python version of the key
    is not known yet, unless the request names it.
    """
    if isinstance(error, InvalidInput):
        return
    key = EnvKey(
        model_name=request.model_name,
        model_engine=request.model_engine,
        python_version=request.python_version or "unknown",
    )
    # What goes wrong here was not what the caller asked for, who gets the failure itself.
    with suppress(VirtualEnvError):
        await BuildLog.of(store, key, job_id, asked_by).fail(error)
