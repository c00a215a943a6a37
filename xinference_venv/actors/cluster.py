"""Start and stop the actors, in pools of our own or of a cluster that embeds us."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import xoscar as xo

from xinference_venv.actors.protocols import SupervisorReference, WorkerReference
from xinference_venv.actors.rpc import SUPERVISOR_UID, WORKER_UID
from xinference_venv.actors.supervisor import VirtualEnvSupervisorActor
from xinference_venv.actors.wire_key import ensure_key, require_key
from xinference_venv.actors.worker import VirtualEnvWorkerActor
from xinference_venv.errors import InvalidInput
from xinference_venv.inventory.cluster_state import HEARTBEAT_SECONDS
from xinference_venv.sentences import sentence
from xinference_venv.service.open_uv import open_uv
from xinference_venv.service.places import find_places
from xinference_venv.store.store import Store

LOOPBACK = "127.0.0.1"
_NO_ADDRESS_OF_OURS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)
SUPERVISOR_SECONDS = 60.0
"""So long a worker that is started waits for its supervisor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalCluster:
    """Both actors in one process; `pool` starts the model processes."""

    pool: Any
    supervisor: SupervisorReference
    worker: WorkerReference


async def create_supervisor(address: str) -> SupervisorReference:
    """Create the supervisor in the pool at `address`; returns a reference."""
    actor = await xo.create_actor(VirtualEnvSupervisorActor, address=address, uid=SUPERVISOR_UID)
    return cast(SupervisorReference, actor)


async def create_worker(
    address: str,
    environ: Mapping[str, str] | None = None,
    *,
    supervisor: str | None = None,
    patience: float = 0.0,
    heartbeat: float = HEARTBEAT_SECONDS,
    worker_id: str | None = None,
) -> WorkerReference:
    """Create the worker of this host in the pool at `address`; returns a reference.

    Settings are read once, here, from `environ` (this process's environment by default). With
    the address of a `supervisor` it joins that one's cluster, for whose answer it waits up to
    `patience` seconds and to which it sends a heartbeat every `heartbeat` seconds; raises
    `IncompatibleVersion`, `WorkerUnavailable` or `DeadlineExceeded` when it can't, and leaves
    nothing of the worker then. There it has a `worker_id`, by default one that its home keeps.
    """
    ambient = os.environ if environ is None else environ
    places = await asyncio.to_thread(find_places, ambient)
    store = await asyncio.to_thread(Store.open, places.root)
    uv = await asyncio.to_thread(open_uv, places, store, ambient)
    worker: WorkerReference = await xo.create_actor(
        VirtualEnvWorkerActor,
        store=store,
        uv=uv,
        settings=places.settings,
        environ=ambient,
        worker_id=worker_id,
        address=address,
        uid=WORKER_UID,
    )
    joined = supervisor is None
    try:
        if supervisor is not None:
            await worker.join(supervisor, patience, heartbeat=heartbeat)
        joined = True
    finally:
        if not joined:
            await worker.stop()
            await xo.destroy_actor(worker)
    return worker


@asynccontextmanager
async def supervisor_pool(
    address: str, *, insecure: bool = False
) -> AsyncIterator[SupervisorReference]:
    """A supervisor in a pool of its own at `address` (``HOST:PORT``); destroyed at the end.

    Raises `InvalidInput` when nothing can listen there, and without ``XOSCAR_AUTH_KEY`` unless it
    is `insecure`: then whoever reaches the address can run code as this user.
    """
    require_key(address, insecure=insecure)
    async with _pool(address) as pool:
        supervisor = await create_supervisor(pool.external_address)
        try:
            yield supervisor
        finally:
            await supervisor.stop()
            await xo.destroy_actor(supervisor)


@asynccontextmanager
async def worker_pool(
    address: str,
    supervisor: str,
    environ: Mapping[str, str] | None = None,
    *,
    heartbeat: float = HEARTBEAT_SECONDS,
    worker_id: str | None = None,
    insecure: bool = False,
) -> AsyncIterator[WorkerReference]:
    """A worker in a pool of its own at `address`, a member of the supervisor's cluster.

    It waits a while for a supervisor that does not answer yet. At the end it leaves the cluster,
    its jobs are cancelled, and their uv has ended. Raises what `create_worker` does, and
    `InvalidInput` when nothing can listen at the address, or without a key as `supervisor_pool`.
    """
    require_key(address, insecure=insecure)
    async with _pool(address) as pool:
        worker = await create_worker(
            pool.external_address,
            environ,
            supervisor=supervisor,
            patience=SUPERVISOR_SECONDS,
            heartbeat=heartbeat,
            worker_id=worker_id,
        )
        try:
            yield worker
        finally:
            await worker.stop()
            await xo.destroy_actor(worker)


@asynccontextmanager
async def local_cluster(environ: Mapping[str, str] | None = None) -> AsyncIterator[LocalCluster]:
    """Both actors in this process, on the loopback address only; stops what runs at the end.

    A process without ``XOSCAR_AUTH_KEY`` gets a random one.
    """
    ensure_key()
    async with AsyncExitStack() as at_the_end:
        pool = await at_the_end.enter_async_context(_pool(LOOPBACK))
        supervisor = await create_supervisor(pool.external_address)
        at_the_end.push_async_callback(xo.destroy_actor, supervisor)
        at_the_end.push_async_callback(supervisor.stop)
        worker = await create_worker(pool.external_address, environ)
        at_the_end.push_async_callback(xo.destroy_actor, worker)
        at_the_end.push_async_callback(worker.stop)
        await supervisor.register_worker(await worker.registration(heartbeat=None))
        yield LocalCluster(pool=pool, supervisor=supervisor, worker=worker)


@asynccontextmanager
async def _pool(address: str) -> AsyncIterator[Any]:
    try:
        # Recovering a pool forgets the interpreter it was started with (measured with xoscar
        # 0.12).
        pool = await xo.create_actor_pool(address=address, n_process=0, auto_recover=False)
    except OSError as error:
        # That of asyncio from Python 3.13 on has none, "could not bind on any address out of":
        # https://github.com/python/cpython/issues/75128
        known = error.errno is None or error.errno in _NO_ADDRESS_OF_OURS
        if not known and not isinstance(error, socket.gaierror):
            raise
        hint = sentence("allowed is an address of this machine, with a port that is free")
        if "AF_UNIX" in str(error):
            hint = sentence(
                "name a short folder of your own in XOSCAR_DIR, where xoscar keeps its sockets"
            )
        raise InvalidInput(
            sentence(
                "can't listen at {address}: {error}",
                address=address,
                error=error.strerror or error,
            ),
            {"hint": hint},
        ) from error
    try:
        yield pool
    finally:
        await pool.stop()
