"""A cluster of real processes: a supervisor on 127.0.0.1, and workers on addresses of their own.

``python -m tests.scenarios.cluster supervisor ADDRESS`` and ``... worker ADDRESS SUPERVISOR``
run until SIGTERM and print their address. Each worker has a home of its own, and a uv that notes
what it is asked; all share an index and uv's cache.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uv import find_uv_bin

from tests.index import Index
from tests.plain import plain
from tests.scenarios.hosts import Host
from tests.scenarios.steps import asking
from tests.wheels import build_wheel
from xinference_venv.actors.cluster import supervisor_pool, worker_pool
from xinference_venv.actors.wire_key import ensure_key
from xinference_venv.cli.session import serve
from xinference_venv.client import Client, connect
from xinference_venv.inventory.replicas import Replica
from xinference_venv.inventory.selection import EVERY, Selection
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.settings import WIRE_KEY_VARIABLE
from xinference_venv.store.paths import StorePaths

# Suspected after three of them, gone after fifteen: a busy machine may run no worker for seconds.
HEARTBEAT_SECONDS = 1.0
_GIVEN_BACK_SECONDS = 180.0
# So long a process may take to start, or the supervisor to see what is only told by silence.
PATIENCE_SECONDS = 180.0
_ROOT = Path(__file__).parents[2]
# Notes its arguments; fails to install while there is a file `broken` beside it, and waits to
# while there is a file `held`.
_UV = """\
#!/bin/sh
echo "$*" >> "{folder}/uv-calls"
if [ -e "{folder}/broken" ] && [ "$1 $2" = "pip install" ]; then
    echo "error: the disk is read-only" >&2
    exit 2
fi
while [ -e "{folder}/held" ] && [ "$1 $2" = "pip install" ]; do sleep 0.05; done
exec "{uv}" "$@"
"""


@dataclass(kw_only=True, eq=False)
class Served:
    """A supervisor or a worker that runs by itself; `folder` has its home if it is a worker.

    `before` is the command that it is started through, if any.
    """

    role: tuple[str, ...]
    address: str
    folder: Path
    environ: Mapping[str, str]
    before: Sequence[str] = ()
    process: asyncio.subprocess.Process | None = None

    @property
    def ip(self) -> str:
        """The host part of the address."""
        return self.address.rpartition(":")[0]

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self.process is not None
        return self.process.pid

    @property
    def layout(self) -> StorePaths:
        """Where the store of the worker's home lies."""
        return StorePaths(self.folder / "home" / "virtualenv")

    @property
    def uv_calls(self) -> list[str]:
        """What the worker's uv was asked since `forget_calls`."""
        calls = self.folder / "uv-calls"
        return calls.read_text().splitlines() if calls.exists() else []

    @property
    def installs(self) -> bool:
        """Whether the worker began to install since `forget_calls`."""
        return any(each.startswith("pip install") for each in self.uv_calls)

    @property
    def resolved(self) -> bool:
        """Whether the worker resolved since `forget_calls`."""
        return any(each.startswith("pip compile") for each in self.uv_calls)

    def forget_calls(self) -> None:
        """Begin to count anew."""
        (self.folder / "uv-calls").unlink(missing_ok=True)

    def break_installing(self, broken: bool = True) -> None:
        """Let each installation of the worker fail, or succeed again."""
        mark = self.folder / "broken"
        if broken:
            mark.touch()
        else:
            mark.unlink()

    def hold_installing(self, held: bool = True) -> None:
        """Let each installation of the worker wait, or go on."""
        mark = self.folder / "held"
        if held:
            mark.touch()
        else:
            mark.unlink()

    async def start(self) -> None:
        """Start it, at the address that it had if it ran before."""
        command = (*self.before, sys.executable, "-m", __name__)
        self.process = await asyncio.create_subprocess_exec(
            *command,
            *(self.role[0], self.address, *self.role[1:]),
            env=self.environ,
            cwd=_ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            line = (await self.process.stdout.readline()).decode().strip()
        assert line, f"the {self.role[0]} at {self.address} ended before it listened"
        self.address = line

    async def kill(self) -> None:
        """End it at once, as kill -9 does."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    def stop(self) -> None:
        """Let it stand still: it listens, and never answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """End a `stop`."""
        os.kill(self.pid, signal.SIGCONT)

    async def end(self) -> None:
        """End it politely, if it still runs."""
        if self.process is not None and self.process.returncode is None:
            self.go_on()
            self.process.terminate()
            await self.process.wait()


@dataclass(kw_only=True, eq=False)
class Cluster:
    """What runs: `client` reaches the supervisor over the wire, `environ` is for new workers."""

    folder: Path
    index: Index
    environ: dict[str, str]
    supervisor: Served
    client: Client
    workers: list[Served] = field(default_factory=list)

    @property
    def wheels(self) -> Path:
        """The folder that the index serves."""
        return self.folder / "wheels"

    def asking(self, *packages: str, model: str, **more: Any) -> LaunchRequest:
        """A launch of a model whose packages come from the index."""
        return asking(self.index, *packages, model=model, **more)

    def at(self, address: str | None) -> Served:
        """The worker at an address."""
        [worker] = [each for each in self.workers if each.address == address]
        return worker

    def forget_calls(self) -> None:
        """Begin to count anew, at every worker and at the index."""
        self.index.clear()
        for each in self.workers:
            each.forget_calls()

    async def add(self, ip: str, before: Sequence[str] = (), **variables: str) -> Served:
        """Start one more worker, on a free port of this address, with variables of its own."""
        worker = self._worker(ip, before, variables)
        self.workers.append(worker)
        await worker.start()
        return worker

    def _worker(self, ip: str, before: Sequence[str], variables: Mapping[str, str]) -> Served:
        folder = self.folder / f"worker-{len(self.workers)}"
        sockets = Path(self.environ["XOSCAR_DIR"], folder.name)
        sockets.mkdir()
        folder.mkdir()
        program = folder / "uv"
        program.write_text(_UV.format(folder=folder, uv=find_uv_bin()))
        program.chmod(0o755)
        return Served(
            role=("worker", self.supervisor.address),
            address=f"{ip}:0",
            folder=folder,
            environ={
                **self.environ,
                "XINFERENCE_HOME": str(folder / "home"),
                "XOSCAR_DIR": str(sockets),
                "XOSCAR_UV_PATH": str(program),
                **variables,
            },
            before=before,
        )

    async def members(self) -> dict[str, dict[str, Any]]:
        """What the supervisor says of each worker, by address."""
        listed = await self.client.supervisor.list_workers()
        return {each.worker_address: plain(each) for each in listed}

    async def until(self, worker: Served, *states: str) -> dict[str, Any]:
        """Wait until the supervisor takes a worker for one of these; what it says of it then."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                member = (await self.members()).get(worker.address)
                if member is not None and member["state"] in states:
                    return member
                await asyncio.sleep(0.02)

    async def settled(self) -> None:
        """Wait until lists are complete: a new supervisor waits for workers of one before it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answer = await self.client.supervisor.list_virtual_envs(EVERY)
                if answer.is_whole:
                    return
                await asyncio.sleep(0.05)

    async def restart(self, worker: Served) -> None:
        """Start a worker that was killed anew, on the same port, and wait until it has joined."""
        await worker.start()
        await self.until(worker, "alive")

    async def launch(self, request: LaunchRequest, **named: Any) -> dict[str, Replica]:
        """Launch on several workers and wait for the end: how each of them fared, by address."""
        replicas = await self.client.prepare_on(request, **named)
        return {each.worker_address: each for each in replicas}

    async def leases(self, model: str) -> list[str]:
        """The addresses of the workers at which a model has a lease, one for each."""
        answer = plain(await self.client.supervisor.list_leases(Selection(model_name=model)))
        assert answer["unreachable"] == []
        return sorted(each["worker_address"] for each in answer["list"])

    async def no_leases(self, model: str) -> None:
        """Wait until a model has no lease: those of a failed launch are given back one by one."""
        async with asyncio.timeout(_GIVEN_BACK_SECONDS):
            while await self.leases(model):  # noqa: ASYNC110 - what only the workers know
                await asyncio.sleep(0.05)


@asynccontextmanager
async def cluster(
    folder: Path, ips: Sequence[str], *, supervisor_ip: str = "127.0.0.1"
) -> AsyncIterator[Cluster]:
    """A cluster with a worker on each of these addresses, all over one host with no packages.

    The index has ``lantern`` 1.0, which needs ``wick``, and ``shade``.
    """
    async with AsyncExitStack() as stack:
        # xoscar makes its sockets there, and the path of a socket has to be short.
        sockets = stack.enter_context(tempfile.TemporaryDirectory())
        # One for all processes of the cluster, this one included.
        ensure_key()
        environ = {
            WIRE_KEY_VARIABLE: os.environ[WIRE_KEY_VARIABLE],
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PIP_CONFIG_FILE": os.devnull,
            "UV_CACHE_DIR": str(folder / "uv-cache"),
            "XINFERENCE_HOME": str(folder / "home"),
            "XOSCAR_DIR": sockets,
        }
        await asyncio.to_thread(Host.make, folder / "host", environ)
        wheels = folder / "wheels"
        wheels.mkdir()
        build_wheel(wheels, "wick", "1.0")
        build_wheel(wheels, "shade", "1.0")
        build_wheel(wheels, "lantern", "1.0", requires=["wick"])
        index = stack.enter_context(Index(wheels))
        supervisor = Served(
            role=("supervisor",), address=f"{supervisor_ip}:0", folder=folder, environ=environ
        )
        stack.push_async_callback(supervisor.end)
        await supervisor.start()
        client = await stack.enter_async_context(connect(supervisor.address))
        running = Cluster(
            folder=folder, index=index, environ=environ, supervisor=supervisor, client=client
        )
        stack.push_async_callback(_end_all, running.workers)
        await asyncio.gather(*map(running.add, ips))
        yield running


async def _end_all(workers: Sequence[Served]) -> None:
    await asyncio.gather(*(each.end() for each in workers))


def loopback(count: int) -> list[str]:
    """As many addresses of this machine: 127.0.0.2, 127.0.0.3, ..."""
    return [f"127.0.0.{number}" for number in range(2, count + 2)]


def _serve(role: str, address: str, *rest: str) -> None:
    def pool() -> AbstractAsyncContextManager[Any]:
        if role == "supervisor":
            return supervisor_pool(address)
        [supervisor] = rest
        return worker_pool(address, supervisor, heartbeat=HEARTBEAT_SECONDS)

    serve(pool, lambda actor: print(actor.address, flush=True))


if __name__ == "__main__":
    _serve(*sys.argv[1:])
