"""The supervisor as the endpoints ask it: who waits for an answer is told when the server ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from xinference_venv.errors import VirtualEnvError, WorkerUnavailable


@dataclass(kw_only=True, eq=False)
class Asking:
    """A supervisor's methods, which raise `WorkerUnavailable` once `closing` is set."""

    supervisor: Any
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def ask(*arguments: Any, **named: Any) -> Any:
            asked = asyncio.ensure_future(getattr(self.supervisor, method)(*arguments, **named))
            closed = asyncio.ensure_future(self.closing.wait())
            either: list[asyncio.Future[Any]] = [asked, closed]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if not asked.done():
                    raise WorkerUnavailable("this server ends", {"hint": "ask again in a moment"})
                return asked.result()
            finally:
                asked.cancel()
                closed.cancel()

        return ask


_POLL_SECONDS = 20.0


@dataclass(kw_only=True, eq=False)
class GivingBack:
    """Follows launches to their end; what it does not reach the workers give back later."""

    supervisor: Any
    _running: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def after(self, job_id: str) -> None:
        """Give the leases of a launch back when it has ended."""
        task = asyncio.create_task(self._follow(job_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _follow(self, job_id: str) -> None:
        answer: dict[str, Any] = {"events": [], "result": None, "error": None}
        since = 0
        with suppress(VirtualEnvError):
            while answer["result"] is None and answer["error"] is None:
                answer = await self.supervisor.wait(job_id, since, _POLL_SECONDS)
                since = max([since, *(event["seq"] for event in answer["events"])])
            results = [each["result"] for each in answer["workers"] if each["result"] is not None]
            await asyncio.gather(*map(self._give_back, results))

    async def _give_back(self, result: dict[str, Any]) -> None:
        if result["lease_id"] is not None:
            with suppress(VirtualEnvError):
                await self.supervisor.release_lease(
                    result["worker_address"], result["env_id"], result["lease_id"]
                )
