"""Start a model's process, an xoscar sub pool, inside a prepared environment.

Comes in: a `PreparedEnvironment`, which exists only once the environment is published. Comes
out: a `ModelProcess`, whose lease is bound to its pid and is given back when it ends, however.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import psutil
import xoscar as xo
from xoscar.backends.router import Router

from xinference_venv.errors import DeadlineExceeded, ModelStartFailed
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.store.envs.launcher import UNSET_VARIABLE
from xinference_venv.store.host_files import SHARED_MEMORY_HINT, shared_memory_fault

_log = logging.getLogger(__name__)

START_SECONDS = 120.0
_STOP_SECONDS = 10.0
_TOLD_SECONDS = 2.0
_ABANDON_SECONDS = 20.0
_POLL_SECONDS = 0.05
_MARK_VARIABLE = "XINFERENCE_VENV_PROCESS"
# What configures installers has no business in a model's process. XOSCAR_AUTH_KEY stays: a sub
# pool reads it for every frame, without it the model could not be called.
_UNSET_PREFIXES = ("UV_", "PIP_")
_UNSET = frozenset({"NETRC", "XOSCAR_UV_PATH"})


def variables_to_unset(environ: Mapping[str, str]) -> list[str]:
    """The names of the variables that must not reach a model's process."""
    return sorted(
        name
        for name in environ
        if (name.startswith(_UNSET_PREFIXES) or name in _UNSET) and name.isidentifier()
    )


def process_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables to start a prepared environment's `python` with, by whoever starts it.

    `environ` is what the process inherits. `python` is a small program that becomes the
    interpreter: by itself it sets ``VIRTUAL_ENV`` and ``PATH`` and takes ``PYTHONPATH`` away; here
    it is given what else must not reach a model.
    """
    return {UNSET_VARIABLE: " ".join(variables_to_unset(environ))}


class LeaseHolder(Protocol):
    """Whoever gives leases to processes of this host: a reference to the worker's actor."""

    async def bind_lease(self, env_id: str, lease_id: str, pid: int) -> None: ...

    async def release_lease(self, env_id: str, lease_id: str) -> None: ...


@dataclass(kw_only=True, eq=False)
class ModelProcess:
    """A running model process: actors are created at its `address`."""

    address: str
    pid: int
    environment: PreparedEnvironment
    _handle: Any
    _pool: Any
    _worker: LeaseHolder
    _watcher: asyncio.Task[None] | None = field(default=None)
    _removing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ended(self) -> int:
        """Wait for the process to end; returns its exit status, negative for a signal's number."""
        return int(await self._handle.wait())

    async def stop(self) -> None:
        """End the process and give its lease back; safe to call again, also meanwhile."""
        await self._remove()
        if self._watcher is not None:
            await self._watcher

    async def watch(self) -> None:
        """Give the lease back when the process has ended by itself, and let the pool forget it.

        Who stops it later could meet another process of its pid, and a pool that remembers about
        ninety can't start one more: their configuration is too large (xoscar 0.12).
        """
        await self._handle.wait()
        try:
            # A worker that is gone needs no telling: the lease is bound to a pid that is gone too.
            with suppress(ConnectionError, xo.ServerClosed, xo.ActorNotExist):
                await release(self._worker, self.environment)
        finally:
            await self._remove(force=True)

    async def _remove(self, *, force: bool = False) -> None:
        async with self._removing:
            if self.address in self._pool.sub_processes:
                await end_sub_pool(self._pool, self.address, force=force)


async def start_model_process(
    pool: Any,
    worker: LeaseHolder,
    environment: PreparedEnvironment,
    *,
    label: str,
    variables: Mapping[str, str] | None = None,
    deadline: float = START_SECONDS,
) -> ModelProcess:
    """Start a sub pool of `pool` with the environment's interpreter.

    `worker` is a reference to the host's `VirtualEnvWorkerActor`; `variables` are set for the
    process. Raises `ModelStartFailed`, or `DeadlineExceeded` after `deadline` seconds; then, and
    when it is cancelled, the process is ended and the lease given back.
    """
    mark = uuid.uuid4().hex
    # A pool's configuration must fit 10 KiB (xoscar 0.12), so only what differs is passed.
    differing = {
        **(variables or {}),
        _MARK_VARIABLE: mark,
        **process_variables(os.environ),
    }
    appending = asyncio.ensure_future(
        pool.append_sub_pool(
            label=label,
            env=differing,
            start_python=environment.python,
            # A terminal sends Ctrl-C to the whole process group; who started a model ends it.
            suspend_sigint=True,
        )
    )
    started = False
    try:
        async with asyncio.timeout(deadline):
            # Shielded: of a cancelled append xoscar forgets the child, and never reaps it
            # (measured with xoscar 0.12).
            address = await asyncio.shield(appending)
        handle = pool.sub_processes[address]
        await bind(worker, environment, handle.pid)
        started = True
    except TimeoutError:
        raise DeadlineExceeded(
            f"the process of {label} did not start within {deadline:g} s"
        ) from None
    except OSError as error:
        raise ModelStartFailed(
            f"the process of {label} did not start: {error}",
            {
                "hint": f"try in a shell: {environment.python} -c 'import xoscar'"
                if shared_memory_fault() is None
                else SHARED_MEMORY_HINT
            },
        ) from error
    finally:
        if not started:
            await _abandon(pool, worker, environment, mark, appending)
    process = ModelProcess(
        address=address,
        pid=handle.pid,
        environment=environment,
        _handle=handle,
        _pool=pool,
        _worker=worker,
    )
    process._watcher = asyncio.create_task(process.watch())
    what = f"giving back the lease of the process at {address}"
    process._watcher.add_done_callback(partial(_log_failure, what))
    return process


async def end_sub_pool(pool: Any, address: str, *, force: bool = False) -> None:
    """End a process of `pool`, at once by `force`, and forget how to reach it.

    xoscar keeps the way to an address, a socket of that process (measured with xoscar 0.12):
    whoever gets its port next could not be reached from here. It tells the other processes of the
    pool, too, and waits for the answer of each, however busy: that is not waited for here.
    """
    ending = asyncio.ensure_future(pool.sub_processes[address].wait())
    removing = asyncio.ensure_future(
        pool.remove_sub_pool(address, timeout=_STOP_SECONDS, force=force)
    )
    try:
        await asyncio.wait([ending, removing], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([removing], timeout=_TOLD_SECONDS)
        if removing.done():
            removing.result()
    finally:
        ending.cancel()
        if not removing.done():
            what = f"the removal of the process at {address}"
            removing.add_done_callback(partial(_log_failure, what))
        Router.get_instance_or_empty().remove_router(Router([], None, {address: address}))


def _log_failure(what: str, task: asyncio.Future[Any]) -> None:
    """Log what ended a task badly that perhaps no one waits for."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("%s ended badly: %s", what, error)


async def bind(worker: LeaseHolder, environment: PreparedEnvironment, pid: int) -> None:
    """Bind the environment's lease to a process; the host's own interpreter has none."""
    if environment.env_id is not None and environment.lease_id is not None:
        await worker.bind_lease(environment.env_id, environment.lease_id, pid)


async def release(worker: LeaseHolder, environment: PreparedEnvironment) -> None:
    """Give the environment's lease back; the host's own interpreter has none."""
    if environment.env_id is not None and environment.lease_id is not None:
        await worker.release_lease(environment.env_id, environment.lease_id)


async def _abandon(
    pool: Any,
    worker: LeaseHolder,
    environment: PreparedEnvironment,
    mark: str,
    appending: asyncio.Future[str],
) -> None:
    """End the child of an append, however far that is, and let xoscar reap it.

    What takes longer than `_ABANDON_SECONDS`, or than who cancels this waits, goes on by itself.
    """
    killed: set[int] = set()

    def kill() -> None:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if child.environ().get(_MARK_VARIABLE) == mark:
                    child.kill()
                    killed.add(child.pid)

    def known_to_pool() -> str | None:
        ours = (where for where, each in pool.sub_processes.items() if each.pid in killed)
        return next(ours, None)

    async def abandon() -> None:
        kill()
        # The child may not be there yet; once it is gone, the append ends by itself, or waits for
        # the other processes of the pool, however busy.
        while (
            not (await asyncio.wait([appending], timeout=_POLL_SECONDS))[0] and not known_to_pool()
        ):
            kill()
        address = known_to_pool()
        if address is None and appending.done() and appending.exception() is None:
            address = appending.result()
        if address is not None and address in pool.sub_processes:
            await end_sub_pool(pool, address, force=True)
        await release(worker, environment)

    abandoning = asyncio.create_task(abandon())
    what = f"ending the process for {environment.python}, which was not to start,"
    abandoning.add_done_callback(partial(_log_failure, what))
    await asyncio.wait([abandoning], timeout=_ABANDON_SECONDS)
    # Retrieved when it ends, in case no one waits for it any more.
    appending.add_done_callback(lambda each: each.cancelled() or each.exception())
    if abandoning.done():
        abandoning.result()
