"""Calls to other processes with a deadline: probed first, mapped to our errors.

xoscar waits for ever on a stopped peer, and holds one lock while it connects, so one dead host
would delay the calls to all others: the address is probed before any call that may connect.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any, TypeVar

import xoscar as xo

from xinference_venv.errors import (
    DeadlineExceeded,
    IncompatibleVersion,
    StoreError,
    VirtualEnvError,
    WorkerUnavailable,
    error_from_dict,
)

PROBE_SECONDS = 1.0
_CANCEL_AGAIN_SECONDS = 0.5
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
        _abandon(task)
        raise
    if not done:
        _abandon(task)
        raise DeadlineExceeded(f"{what} did not answer within {deadline:g} s")
    return task.result()


def _abandon(task: asyncio.Future[Any]) -> None:
    """Cancel a call, and once more: the first time xoscar only asks the peer to acknowledge it."""
    task.add_done_callback(_ignore_outcome)
    task.cancel()
    asyncio.get_running_loop().call_later(_CANCEL_AGAIN_SECONDS, task.cancel)


async def probe(address: str, what: str) -> None:
    """Raises `WorkerUnavailable` unless something listens at the address."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError) as error:
        why = "no answer" if isinstance(error, TimeoutError) else str(error.strerror or error)
        raise WorkerUnavailable(f"{what} can't be reached: {why}") from None
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def call(
    address: str,
    uid: str,
    method: str,
    *arguments: Any,
    deadline: float,
    here: str,
    what: str | None = None,
    **named: Any,
) -> Any:
    """Call a method of an actor within `deadline` seconds; `here` is the caller's own address.

    `what` names the callee in errors. Raises the callee's own `VirtualEnvError`,
    `DeadlineExceeded`, or `WorkerUnavailable`, and `TypeError` before anything is sent when an
    argument is no plain JSON value.
    """
    what = what or f"the worker at {address}"
    _check_plain([arguments, named], method)
    if address != here:
        await probe(address, what)

    async def ask() -> Any:
        reference = await xo.actor_ref(address=address, uid=uid)
        return await getattr(reference, method)(*arguments, **named)

    try:
        return await within(deadline, ask(), what)
    except VirtualEnvError as error:
        # xoscar raises a class of its own making, whose words begin with an address and a pid.
        raise error_from_dict(error.to_dict()) from error
    except (ConnectionError, EOFError, xo.ServerClosed, xo.ActorNotExist) as error:
        raise WorkerUnavailable(
            f"{what} closed the connection while it was asked: {error}",
            {"hint": "if it still runs: is XOSCAR_AUTH_KEY the same on both sides?"},
        ) from error


async def ask_worker(
    address: str,
    uid: str,
    incarnation: str,
    method: str,
    *arguments: Any,
    deadline: float,
    here: str,
    **named: Any,
) -> Any:
    """The answer of this very incarnation of a worker; raises what the worker says went wrong.

    Values and errors come as plain JSON values, whatever release the worker is of.
    """
    response = await call(
        address,
        uid,
        "answer",
        incarnation,
        method,
        list(arguments),
        named,
        deadline=deadline,
        here=here,
    )
    if response["error"] is not None:
        raise error_from_dict(response["error"]).with_details(host=address)
    return response["value"]


async def ask_supervisor(
    address: str,
    uid: str,
    method: str,
    *arguments: Any,
    deadline: float,
    here: str,
    **named: Any,
) -> Any:
    """As `ask_worker`, of the supervisor at an address, in whatever incarnation."""
    response = await call(
        address,
        uid,
        "answer",
        method,
        list(arguments),
        named,
        deadline=deadline,
        here=here,
        what=f"the supervisor at {address}",
    )
    if response["error"] is not None:
        raise error_from_dict(response["error"])
    return response["value"]


async def answer(
    actor: Any, method: str, arguments: Sequence[Any], named: Mapping[str, Any]
) -> dict[str, Any]:
    """What a method of an actor of this process gives: `value` and `error`, one of them None.

    Plain JSON values both, so that no release has to unpickle what another one raises.
    """
    try:
        asked = None if method.startswith("_") else getattr(actor, method, None)
        if asked is None or not inspect.iscoroutinefunction(asked):
            raise _of_another_release(f"{method!r} is not known at {actor.address}")
        try:
            inspect.signature(asked).bind(*arguments, **named)
        except TypeError as error:
            raise _of_another_release(
                f"{method!r} does not accept these arguments at {actor.address}: {error}"
            ) from None
        return {"value": await asked(*arguments, **named), "error": None}
    except VirtualEnvError as error:
        response = error
    except OSError as error:
        # On the other side it would pass for one of the connection, or of a disk over there.
        response = StoreError(str(error) or type(error).__name__)
    return {"value": None, "error": response.to_dict()}


def _of_another_release(message: str) -> IncompatibleVersion:
    return IncompatibleVersion(
        message,
        {"hint": f"release {version('xinference_venv')} runs there; install the same on both"},
    )


def _check_plain(value: object, method: str) -> None:
    """Raises `TypeError` for what a peer might not be able to unpickle.

    That would drop the connection, and fail every call in flight on it.
    """
    if isinstance(value, dict):
        _check_plain([*value, *value.values()], method)
    elif isinstance(value, list | tuple):
        for each in value:
            _check_plain(each, method)
    elif type(value) not in (str, int, float, bool, type(None)):
        raise TypeError(f"{method} is asked with a {type(value).__name__}, no plain JSON value")


def _ignore_outcome(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
