"""The work of one command with the actors of this process, from its start to its end or a signal.

Comes in: what is to be done with a client. Comes out: its result; after SIGINT, SIGTERM
or SIGHUP `Stopped`, once nothing of it goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
    suppress,
)
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from xinference_venv._util.own_process import forbid_inspection, hide_variables, raise_file_limit
from xinference_venv._util.redact import redact_text
from xinference_venv.cli.render.cluster import ClusterOutcome
from xinference_venv.cli.render.environments import LaunchOutcome
from xinference_venv.errors import DeadlineExceeded, InvalidInput, NotFound, WorkerUnavailable
from xinference_venv.inventory.jobs import JobEvent, PreparedEnvironment
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.runtime.actor_spec import ActorClass
from xinference_venv.service.places import SOCKET_VARIABLE, socket_folder
from xinference_venv.settings import WIRE_KEY_VARIABLE

if TYPE_CHECKING:
    from xinference_venv.client import Client
    from xinference_venv.diagnosis.checks import Diagnosis

_T = TypeVar("_T")


class Stopped(Exception):
    """The signal of this number ended the work."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def with_client(work: Callable[[Client], Awaitable[_T]], *, supervisor: str | None = None) -> _T:
    """The result of work with a client; SIGINT, SIGTERM and SIGHUP cancel it and raise `Stopped`.

    The client is of the `supervisor` at an address, by default of actors of this process.
    """
    _guard_process()
    with _sockets_of_our_own():
        _import_xoscar()
        from xinference_venv.client import connect, local_client

        async def act() -> _T:
            opened = local_client() if supervisor is None else connect(supervisor)
            async with opened as client:
                return await work(client)

        return asyncio.run(_until_stopped(act()))


def examine_host(environ: Mapping[str, str]) -> Diagnosis:
    """What is wrong with this host for a process with these variables; see `examine`."""
    from xinference_venv.client import examine

    return asyncio.run(_until_stopped(examine(environ)))


def serve(
    opened: Callable[[], AbstractAsyncContextManager[Any]], ready: Callable[[Any], None]
) -> None:
    """Keep what is opened until SIGINT, SIGTERM or SIGHUP, and end it; `ready` hears of it."""

    async def keep() -> None:
        async with opened() as kept:
            ready(kept)
            await asyncio.Event().wait()

    _guard_process()
    raise_file_limit()
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
        task.cancel()
        await asyncio.wait([task])
        for number in numbers:
            # The process ends with the first one's status, whatever comes until it has.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
    if task.cancelled():
        raise Stopped(stopped.result())
    return task.result()


async def launch_on_workers(
    client: Client,
    request: LaunchRequest,
    *,
    workers: Sequence[str],
    count: int | None,
    everywhere: bool,
    require: int | None,
    following: AbstractContextManager[Callable[[JobEvent], None]],
) -> ClusterOutcome:
    """Launch on workers of a cluster and give their leases back; see `Client.prepare_on`.

    `following` gives the function that hears the events of all of them.
    """
    began = time.monotonic()
    with following as on_event:
        replicas = await client.prepare_on(
            request,
            workers=workers,
            count=count,
            everywhere=everywhere,
            require=require,
            on_event=on_event,
        )
    results = [each.result for each in replicas if each.result is not None]
    await asyncio.gather(*(_give_back(client, each) for each in results))
    return ClusterOutcome(
        model_name=request.model_name,
        model_engine=request.model_engine,
        replicas=tuple(replicas),
        elapsed=time.monotonic() - began,
    )


async def _give_back(client: Client, environment: PreparedEnvironment) -> None:
    # A worker that ended meanwhile took its leases along.
    with suppress(WorkerUnavailable, DeadlineExceeded, NotFound):
        await client.release(environment)


async def launch_model(
    client: Client,
    request: LaunchRequest,
    *,
    following: AbstractContextManager[Callable[[JobEvent], None]],
    show: Callable[[LaunchOutcome], None],
    actor: ActorClass | None,
) -> int:
    """Launch, and run the actor if there is one.

    `following` gives the function that hears the events, `show` gets the outcome when all is up.
    Without an actor the lease is given back at once; with one it ends with the process, which
    this waits for. Returns the exit status of the model's process, 0 when there is none.
    """
    began = time.monotonic()
    with following as on_event:
        environment = await client.prepare(request, on_event=on_event)
    entries = await client.entries(Selection(model_name=request.model_name))
    outcome = LaunchOutcome(
        model_name=request.model_name,
        model_engine=request.model_engine,
        environment=environment,
        entry=next((each for each in entries if each.path == environment.path), None),
        elapsed=time.monotonic() - began,
    )
    if actor is None:
        await client.release(environment)
        show(outcome)
        return 0
    _check_same_python(outcome)
    process = await client.start(environment, label=request.model_name)
    try:
        await client.create_actor(process, actor, uid=request.model_name)
        show(replace(outcome, address=process.address, pid=process.pid))
        try:
            return await process.ended()
        except asyncio.CancelledError:
            # A signal is the ordinary end of a model that runs.
            return 0
    finally:
        await process.stop()


def _check_same_python(outcome: LaunchOutcome) -> None:
    """The helper that creates actors goes over the wire by value, as bytecode."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    there = None if outcome.entry is None else outcome.entry.python
    if there is not None and not there.startswith(f"{here}."):
        raise InvalidInput(
            f"--run creates actors only in Python {here}, that of this program, not in {there}",
            {"hint": f"the environment is ready: start {outcome.environment.python} yourself"},
        )
