"""The work of one command with the actors of this process, from its start to its end or a signal.

Comes in: what is to be done with a client. Comes out: its result; after SIGINT, SIGTERM
or SIGHUP `Stopped`, once nothing of it goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    contextmanager,
    suppress,
)
from typing import TYPE_CHECKING, Any, TypeVar

from xinference_venv._util.own_process import (
    collect_cycles_seldom,
    forbid_inspection,
    hide_variables,
    raise_file_limit,
    user_and_host,
    without_collections,
)
from xinference_venv._util.redact import redact_text
from xinference_venv.cli.stopped import Stopped
from xinference_venv.service.places import SOCKET_VARIABLE, socket_folder
from xinference_venv.settings import WIRE_KEY_VARIABLE

if TYPE_CHECKING:
    from xinference_venv.client import Client

_T = TypeVar("_T")

# Longer than anything that has to end well, a launch on a cluster included.
END_SECONDS = 180.0


def with_client(work: Callable[[Client], Awaitable[_T]], *, supervisor: str | None = None) -> _T:
    """The result of work with a client; SIGINT, SIGTERM and SIGHUP cancel it and raise `Stopped`.

    The client is of the `supervisor` at an address, by default of actors of this process.
    """
    _guard_process()
    with _sockets_of_our_own():
        with without_collections():
            _import_xoscar()
            from xinference_venv.client import connect, local_client

        async def act() -> _T:
            by = user_and_host()
            if supervisor is not None:
                # xoscar leaves futures of calls that were abandoned, whose errors would be printed
                # (seen with xoscar 0.12).
                asyncio.get_running_loop().set_exception_handler(_log_abandoned)
            opened = (
                local_client(asked_by=by)
                if supervisor is None
                else connect(supervisor, asked_by=by)
            )
            async with opened as client:
                return await work(client)

        return asyncio.run(_until_stopped(act()))


def _log_abandoned(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    import logging

    logging.getLogger(__name__).debug(context["message"], exc_info=context.get("exception"))


def log_lost_calls(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what a loop reports, but not calls that were given up before their peer was gone.

    Each is reported by whoever asked. xoscar leaves their futures, whose tracebacks would be the
    most of a log of some months.
    """
    if type(context.get("exception")).__module__.partition(".")[0] == "xoscar":
        _log_abandoned(loop, context)
    else:
        loop.default_exception_handler(context)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of work without a client; signals end it as `with_client` says."""
    return asyncio.run(_until_stopped(work))


def serve(
    opened: Callable[[], AbstractAsyncContextManager[Any]], ready: Callable[[Any], None]
) -> None:
    """Keep what is opened until SIGINT, SIGTERM or SIGHUP, and end it; `ready` hears of it."""

    async def keep() -> None:
        asyncio.get_running_loop().set_exception_handler(log_lost_calls)
        async with opened() as kept:
            ready(kept)
            await asyncio.Event().wait()

    _guard_process()
    raise_file_limit()
    collect_cycles_seldom()
    with _sockets_of_our_own(), suppress(Stopped):
        _import_xoscar()
        asyncio.run(_until_stopped(keep()))


def _import_xoscar() -> None:
    """Import xoscar as a process of our own needs it; too slow for --help all the same."""
    from xinference_venv.runtime.light_xoscar import import_xoscar_lightly

    import_xoscar_lightly()


def _guard_process() -> None:
    """Guard this process against the code that builds of packages run.

    That runs as the same user, so it may read what the system shows of this process: not the key
    nor the passwords of indexes.
    """
    hide_variables(
        [
            name
            for name, value in os.environ.items()
            if name == WIRE_KEY_VARIABLE or redact_text(value) != value
        ]
    )
    forbid_inspection()


@contextmanager
def _sockets_of_our_own() -> Iterator[None]:
    """Let xoscar keep its sockets in a folder that fits, unless it is loaded already.

    By itself it takes the home directory, which may be missing or read-only, or whose path may
    be longer than that of a socket can be. Model processes get the folder from the environment.
    """
    if "xoscar" in sys.modules:
        yield
        return
    with socket_folder(os.environ) as folder:
        os.environ[SOCKET_VARIABLE] = folder
        yield


def _end_at_last(number: signal.Signals) -> None:
    """End this process in a while, whatever still goes on: a thread that waits for a disk that does
    not answer can't be ended, and the end of the process waits for it.
    """

    def end() -> None:
        what = f"error: {number.name} did not end everything within {END_SECONDS:g} s"
        with suppress(OSError):
            os.write(2, f"{what}: does a disk not answer?\n".encode())
        os._exit(128 + number)

    timer = threading.Timer(END_SECONDS, end)
    timer.daemon = True
    timer.start()


async def _until_stopped(work: Awaitable[_T]) -> _T:
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()

    def stop(number: int) -> None:
        # A second signal must not disturb the cleaning up that the first one began.
        if not stopped.done():
            stopped.set_result(number)

    # A terminal that is closed sends SIGHUP; nohup(1) has it ignored, and so it stays.
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    task = asyncio.ensure_future(work)
    either: list[asyncio.Future[Any]] = [task, stopped]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        _end_at_last(signal.Signals(stopped.result()))
        task.cancel()
        await asyncio.wait([task])
        for number in numbers:
            # The process ends with the first one's status, whatever comes until it has.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
    if task.cancelled():
        raise Stopped(stopped.result())
    return task.result()
