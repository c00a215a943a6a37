"""Create an actor in a model's process from a class that only its environment can import.

xoscar sends a class by its name, so the class would have to be importable on both sides, and an
import that fails on the other side only closes the connection. So a helper goes first: it imports
the class inside the environment, creates the actor there and says what went wrong.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import traceback
from types import ModuleType
from typing import Any

import xoscar as xo

from xinference_venv.errors import ModelStartFailed
from xinference_venv.runtime.actor_spec import ActorClass
from xinference_venv.runtime.model_process import ModelProcess


def _runner_class() -> type:
    """The helper's class. One made in a function is sent by value, so the environment need not
    have this package; it has to have the same minor version of Python.
    """

    class Runner(xo.StatelessActor):  # type: ignore[misc]
        async def create(self, actor: dict[str, Any], uid: str) -> dict[str, str] | None:
            """Create the actor; returns what went wrong, else None."""
            # Standard output belongs to whoever started the model.
            os.dup2(2, 1)
            sys.path.extend(actor["paths"])
            try:
                kind = getattr(importlib.import_module(actor["module"]), actor["name"])
                if not (isinstance(kind, type) and issubclass(kind, (xo.Actor, xo.StatelessActor))):
                    raise TypeError(f"{actor['name']} is not an xoscar actor class")
                await xo.create_actor(kind, uid=uid, address=self.address, **actor["arguments"])
            except (Exception, SystemExit) as error:  # noqa: BLE001
                # The edge of the model's process: the caller may not know this class of error.
                return {
                    "error": f"{type(error).__name__}: {error}",
                    "output": traceback.format_exc(),
                }
            return None

    return Runner


async def create_actor(process: ModelProcess, actor: ActorClass, *, uid: str) -> None:
    """Create the actor in the process; raises `ModelStartFailed`, with a traceback if it has one.

    A model may load for as long as it likes, so there is no deadline; who cancels this does not
    wait for it, and ends the process.

    In this process a stand-in takes the place of the actor's module, unless that was imported
    before.
    """
    _stand_in_for(actor)
    described = {
        "module": actor.module,
        "name": actor.name,
        "arguments": actor.arguments,
        "paths": actor.paths,
    }
    creating = asyncio.ensure_future(_create(process.address, described, uid))
    try:
        # Not awaited itself: xoscar waits until the process acknowledges that it is cancelled.
        await asyncio.wait([creating])
        failure = creating.result()
    except asyncio.CancelledError:
        creating.add_done_callback(lambda each: each.cancelled() or each.exception())
        creating.cancel()
        raise
    except (ConnectionError, EOFError, xo.ServerClosed) as error:
        raise ModelStartFailed(
            f"the process {process.pid} ended while {actor} was created in it",
            {"hint": "its own output is above"},
        ) from error
    if failure is not None:
        missing = f"ModuleNotFoundError: No module named {actor.module.partition('.')[0]!r}"
        hint = "name the folder of its module, with --path or the actor's paths"
        raise ModelStartFailed(
            f"{actor} could not be created: {failure['error']}",
            {
                "output": failure["output"],
                **({"hint": hint} if failure["error"] == missing else {}),
            },
        )


async def _create(address: str, described: dict[str, Any], uid: str) -> dict[str, str] | None:
    """Let the helper create an actor in the process at an address; what went wrong, or None."""
    runner = await xo.create_actor(_runner_class(), address=address, uid=f"{uid} (runner)")
    failure: dict[str, str] | None = await runner.create(described, uid)
    await xo.destroy_actor(runner)
    return failure


def _stand_in_for(actor: ActorClass) -> None:
    """Make the class's name known here: the main pool notes of what class each actor is, no more.

    The real module is of the environment; importing another one of that name would be wrong.
    """
    parts = actor.module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        if name not in sys.modules:
            package = ModuleType(name)
            package.__path__ = []
            sys.modules[name] = package
    if not hasattr(sys.modules[actor.module], actor.name):
        stand_in = type(actor.name, (), {"__module__": actor.module})
        setattr(sys.modules[actor.module], actor.name, stand_in)
