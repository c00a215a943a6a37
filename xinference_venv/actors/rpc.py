"""Calls to other processes with a deadline: probed first, mapped to our errors.

xoscar waits for ever on a stopped peer, and holds one lock while it connects, so one dead host
would delay the calls to all others: the address is probed before any call that may connect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, TypeVar

import xoscar as xo

from xinference_venv.errors import DeadlineExceeded, WorkerUnavailable

PROBE_SECONDS = 1.0
_T = TypeVar("_T")


async def within(deadline: float, work: Awaitable[_T], what: str) -> _T:
    """The answer, or `DeadlineExceeded` after `deadline` seconds.

    `asyncio.wait_for` would wait for the peer to acknowledge its cancelling, which a stopped
    one never does.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=deadline)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        task.add_done_callback(_ignore_outcome)
        raise DeadlineExceeded(f"{what} did not answer within {deadline:g} s")
    return task.result()


async def probe(address: str) -> None:
    """Raises `WorkerUnavailable` unless something listens at the address."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError) as error:
        why = "no answer" if isinstance(error, TimeoutError) else str(error.strerror or error)
        raise WorkerUnavailable(f"the worker at {address} can't be reached: {why}") from None
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def call(
    address: str, uid: str, method: str, *arguments: Any, deadline: float, here: str, **named: Any
) -> Any:
    """Call a method of an actor within `deadline` seconds; `here` is the caller's own address.

    Raises the callee's own `VirtualEnvError`, `DeadlineExceeded`, or `WorkerUnavailable`.
    """
    if address != here:
        await probe(address)

    async def ask() -> Any:
        reference = await xo.actor_ref(address=address, uid=uid)
        return await getattr(reference, method)(*arguments, **named)

    try:
        return await within(deadline, ask(), f"the worker at {address}")
    except (ConnectionError, EOFError, xo.ServerClosed, xo.ActorNotExist) as error:
        raise WorkerUnavailable(
            f"the worker at {address} ended while it was asked: {error}"
        ) from error


def _ignore_outcome(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
