"""A launch through a client, from its beginning to what people read of its end.

Comes in: a request and a client. Comes out: the outcome on this host, which may run a model, or on
the workers of a cluster.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from xinference_venv.cli.render.launch import ClusterOutcome, LaunchOutcome
from xinference_venv.errors import InvalidInput
from xinference_venv.inventory.jobs import JobEvent
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.runtime.actor_spec import ActorClass

if TYPE_CHECKING:
    from xinference_venv.client import Client


async def launch_on_workers(
    client: Client,
    request: LaunchRequest,
    *,
    workers: Sequence[str],
    count: int | None,
    everywhere: bool,
    require: int | None,
    background: bool,
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
            background=background,
            on_event=on_event,
        )
    await client.release_all(replicas)
    return ClusterOutcome(
        model_name=request.model_name,
        model_engine=request.model_engine,
        replicas=tuple(replicas),
        elapsed=time.monotonic() - began,
    )


async def launch_model(
    client: Client,
    request: LaunchRequest,
    *,
    following: AbstractContextManager[Callable[[JobEvent], None]],
    show: Callable[[LaunchOutcome], None],
    actor: ActorClass | None,
    background: bool,
) -> int:
    """Launch, and run the actor if there is one.

    `following` gives the function that hears the events, `show` gets the outcome when all is up.
    Without an actor the lease is given back at once; with one it ends with the process, which
    this waits for. Returns the exit status of the model's process, 0 when there is none.
    """
    began = time.monotonic()
    with following as on_event:
        environment = await client.prepare(request, on_event=on_event, background=background)
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
