"""A worker in a process of its own, and a caller in another: for faults that one can't have.

``python -m tests.scenarios.processes worker`` runs both actors and prints their address;
``... caller ADDRESS REQUEST`` starts a launch, prints its job and waits for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import xoscar as xo

from tests.plain import plain
from xinference_venv.actors.cluster import local_cluster
from xinference_venv.actors.rpc import SUPERVISOR_UID, WORKER_UID
from xinference_venv.client import Client
from xinference_venv.planning.request import LaunchRequest

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class WorkerProcess:
    """A worker with its supervisor; `client` reaches them over the wire."""

    pid: int
    address: str
    client: Client
    process: asyncio.subprocess.Process

    async def kill(self) -> None:
        """End it at once, as kill -9 does."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def worker_process(environ: Mapping[str, str]) -> AsyncIterator[WorkerProcess]:
    """Start a worker process and end it, politely, if it is still there at the end."""
    # xoscar makes its sockets there, and the path of a socket has to be short.
    with tempfile.TemporaryDirectory() as sockets:
        process = await _start({**environ, "XOSCAR_DIR": sockets}, "worker")
        try:
            address = await _line(process)
            client = Client(
                supervisor=await xo.actor_ref(address=address, uid=SUPERVISOR_UID),
                own_worker=await xo.actor_ref(address=address, uid=WORKER_UID),
            )
            yield WorkerProcess(pid=process.pid, address=address, client=client, process=process)
        finally:
            await _end(process)


@asynccontextmanager
async def caller_process(
    environ: Mapping[str, str], address: str, request: LaunchRequest
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Start a process that launches and waits; comes with the name of its job."""
    process = await _start(environ, "caller", address, json.dumps(request.to_dict()))
    try:
        yield process, await _line(process)
    finally:
        await _end(process)


async def _start(environ: Mapping[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", __name__, *arguments),
        env=environ,
        cwd=_ROOT,
        stdout=asyncio.subprocess.PIPE,
    )


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode().strip()
    assert line, "the process ended before it said anything"
    return line


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()


async def _work() -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with local_cluster(os.environ) as cluster:
        print(cluster.pool.external_address, flush=True)
        await told.wait()


async def _call(address: str, request: str) -> None:
    supervisor = await xo.actor_ref(address=address, uid=SUPERVISOR_UID)
    job = await supervisor.prepare(LaunchRequest.from_dict(json.loads(request)))
    print(job, flush=True)
    seen = 0
    while True:
        answer = plain(await supervisor.wait(job, seen, 60.0))
        # An answer may come without one: when the lock is known, say.
        seen = max([seen, *(event["seq"] for event in answer["events"])])


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    asyncio.run(_work() if role == "worker" else _call(*rest))
