"""The supervisor as the endpoints ask it: who waits for an answer is told when the server ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from xinference_venv.errors import WorkerUnavailable


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
