"""Where a launch gets its lock from when other workers have it, or are about to.

One of a group of equal hosts resolves, the others ask it. When it dies, the next one in the order
that all of them know takes its place.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xinference_venv.actors import rpc
from xinference_venv.errors import (
    ResolutionFailed,
    UnknownJob,
    VirtualEnvError,
)
from xinference_venv.inventory.replicas import LockSource
from xinference_venv.inventory.reports import LockAnswer
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.sentences import sentence

_POLL_SECONDS = 20.0
_ANSWER_SECONDS = 5.0
_START_SECONDS = 5.0
_AGAIN_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class LockSources:
    """The sources of one launch in the order in which they are asked; `here` is this worker."""

    request: LaunchRequest
    sources: Sequence[LockSource]
    here: str

    async def lock(self, say: Callable[[str], None]) -> EnvLock | None:
        """The lock of the first that gives one; None when this worker is to resolve itself.

        Raises the `ResolutionFailed` of a source: equal hosts would fail alike.
        """
        for source in self.sources:
            say(sentence("asking the worker at {address} for its lock", address=source.address))
            try:
                return await self._lock_of(source)
            except ResolutionFailed:
                raise
            except VirtualEnvError as error:
                say(
                    sentence(
                        "the worker at {address} has no lock to give: {error}",
                        address=source.address,
                        error=error,
                    )
                )
        return None

    async def _lock_of(self, source: LockSource) -> EnvLock:
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                answer = await self._ask(source)
            except UnknownJob:
                # All jobs of a launch are started at once; that one may be on its way.
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if answer.error is not None:
                raise answer.error.error()
            if answer.lock is not None:
                return answer.lock

    async def _ask(self, source: LockSource) -> LockAnswer:
        worker = rpc.worker_by(
            rpc.to_worker(
                source.address,
                source.incarnation,
                deadline=_POLL_SECONDS + _ANSWER_SECONDS,
                here=self.here,
            )
        )
        if source.job_id is None:
            return await worker.ready_lock(self.request)
        return await worker.lock_of_job(source.job_id, _POLL_SECONDS)
