"""The supervisor as endpoints ask it: when the server stops, what still waits gets an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from xinference_venv.actors.protocols import SupervisorProtocol
from xinference_venv.errors import VirtualEnvError, WorkerUnavailable
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.sentences import sentence


@dataclass(kw_only=True, eq=False)
class SupervisorProxy:
    """A supervisor's methods, which raise `WorkerUnavailable` once `closing` is set."""

    supervisor: SupervisorProtocol
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def ask(*arguments: Any, **named: Any) -> Any:
            asked = asyncio.ensure_future(getattr(self.supervisor, method)(*arguments, **named))
            closed = asyncio.ensure_future(self.closing.wait())
            either: list[asyncio.Future[Any]] = [asked, closed]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if not asked.done():
                    raise WorkerUnavailable(
                        sentence("this server is stopping"),
                        {"hint": sentence("try again in a moment")},
                    )
                return asked.result()
            finally:
                asked.cancel()
                closed.cancel()

        return ask


_POLL_SECONDS = 20.0


@dataclass(kw_only=True, eq=False)
class LeaseReturner:
    """Returns leases when launches have ended; workers return later what it does not reach."""

    supervisor: SupervisorProtocol
    _running: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def after(self, job_id: str) -> None:
        """Give the leases of a launch back when it has ended."""
        task = asyncio.create_task(self._follow(job_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _follow(self, job_id: str) -> None:
        since = 0
        with suppress(VirtualEnvError):
            while True:
                answer = await self.supervisor.wait(job_id, since, _POLL_SECONDS)
                if answer.has_ended:
                    break
                since = max([since, *(event.seq for event in answer.events)])
            results = [each.result for each in answer.workers if each.result is not None]
            await asyncio.gather(*map(self._give_back, results))

    async def _give_back(self, result: PreparedEnvironment) -> None:
        where, env_id, lease_id = result.worker_address, result.env_id, result.lease_id
        if where is not None and env_id is not None and lease_id is not None:
            with suppress(VirtualEnvError):
                await self.supervisor.release_lease(where, env_id, lease_id)
