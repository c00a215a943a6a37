"""A serving cluster in small: its own supervisor and workers, with our actors in their pools.

    python examples/serving_cluster.py FILE...

Two models whose requirements contradict each other (magika 0.5.1 needs numpy 1, magika 1.0.1
gets numpy 2; from Python 3.13 on magika 0.6.3 is the first one) tell the types of the files, each
in two replicas, on two hosts: worker processes on 127.0.0.2 and 127.0.0.3, which are all there is
to see of a real cluster. docs/embedding.md goes through it step by step.

The first run downloads about 250 MB and takes a minute or two, plus 1 GB of disk for uv's cache and
the homes of the workers in $XINFERENCE_HOME.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import xoscar as xo

from xinference_venv.actors.cluster import create_supervisor
from xinference_venv.client import Client, worker_client
from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.runtime.model_process import ModelProcess

HOSTS = ("127.0.0.2", "127.0.0.3")
MODELS = ("magika-0.5" if sys.version_info < (3, 13) else "magika-0.6", "magika-1")
WORKER_UID = "serving_worker"


class FileTypeModel(xo.StatelessActor):  # type: ignore[misc]
    """The model's actor. It lives in the model's process, and only there is magika importable.

    Defined in the workers' main module, so that its code travels there by value.
    """

    def __init__(self) -> None:
        super().__init__()
        from magika import Magika

        self._magika = Magika()

    async def describe(self) -> dict[str, str]:
        """Which environment this is, and the versions in it."""
        import sys
        from importlib.metadata import version

        return {"prefix": sys.prefix, "magika": version("magika"), "numpy": version("numpy")}

    async def predict(self, paths: list[str]) -> list[str]:
        """The type of each file."""
        from pathlib import Path

        found = [self._magika.identify_path(Path(path)).output for path in paths]
        # magika 0.6 renamed the label.
        return [str(getattr(each, "label", None) or each.ct_label) for each in found]


class ServingWorker(xo.StatelessActor):  # type: ignore[misc]
    """Runs models on one host, in processes that only their own worker's pool can start."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._processes: dict[str, ModelProcess] = {}

    async def start_model(self, model_name: str, environment: PreparedEnvironment) -> str:
        """Start a model in a prepared environment of this host; returns its actor's address."""
        process = await self._client.start(environment, label=model_name)
        self._processes[model_name] = process
        await xo.create_actor(FileTypeModel, address=process.address, uid=model_name)
        return process.address

    async def stop_model(self, model_name: str) -> None:
        """End the model's process, which gives its lease back."""
        if (process := self._processes.pop(model_name, None)) is not None:
            await process.stop()


class ServingSupervisor(xo.StatelessActor):  # type: ignore[misc]
    """Launches models on as many workers as are asked for."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._workers: dict[str, list[Any]] = {}

    async def launch_model(self, model_name: str, n_replicas: int) -> list[Any]:
        """References to the replicas: environments from one lock, each started by its worker.

        When one does not start, none stays.
        """
        request = LaunchRequest(model_name=model_name, model_uid=model_name)
        ready = await self._client.prepare_on(request, count=n_replicas)
        # Each worker shares its pool with ours, so they have one address.
        at = [each.worker_address for each in ready]
        workers = [await xo.actor_ref(address=each, uid=WORKER_UID) for each in at]
        self._workers[model_name] = workers
        try:
            async with asyncio.TaskGroup() as starting:
                started = [
                    starting.create_task(worker.start_model(model_name, each.result))
                    for worker, each in zip(workers, ready, strict=True)
                ]
        except BaseExceptionGroup:
            await self.stop_model(model_name)
            raise
        return [await xo.actor_ref(address=each.result(), uid=model_name) for each in started]

    async def stop_model(self, model_name: str) -> None:
        """Stop all replicas of a model."""
        await asyncio.gather(*(each.stop_model(model_name) for each in self._workers[model_name]))


async def run_worker(host: str, supervisor_address: str) -> None:
    """The worker's process, until SIGTERM or Ctrl-C."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    pool = await xo.create_actor_pool(address=host, n_process=0, auto_recover=False)
    async with worker_client(pool, supervisor_address) as client:
        await xo.create_actor(ServingWorker, client, address=pool.external_address, uid=WORKER_UID)
        print(pool.external_address, flush=True)
        await ended.wait()
    await pool.stop()


@asynccontextmanager
async def worker_process(host: str, supervisor: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker in a process and a home of its own, as if it were on another machine."""
    home = Path(os.environ.get("XINFERENCE_HOME", Path.home() / ".xinference"), host)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "worker", host, supervisor),
        env={**os.environ, "XINFERENCE_HOME": str(home)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        if process.stdout is None or not await process.stdout.readline():
            raise SystemExit(f"the worker on {host} did not start")
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def serve(paths: list[str]) -> None:
    """The supervisor's process: launch, ask, stop."""
    # Who reaches a port without the key can't run code there; an operator sets one for all hosts.
    os.environ.setdefault("XOSCAR_AUTH_KEY", secrets.token_hex(32))
    pool = await xo.create_actor_pool(address="127.0.0.1", n_process=0, auto_recover=False)
    address = pool.external_address
    supervisor = await create_supervisor(address)
    client = Client(supervisor=supervisor)
    serving = await xo.create_actor(ServingSupervisor, client, address=address, uid="serving")
    async with worker_process(HOSTS[0], address), worker_process(HOSTS[1], address):
        launches = [serving.launch_model(name, len(HOSTS)) for name in MODELS]
        for model in itertools.chain(*await asyncio.gather(*launches)):
            facts, labels = await asyncio.gather(model.describe(), model.predict(paths))
            print(f"magika {facts['magika']} with numpy {facts['numpy']} at {model.address}")
            print(
                "".join(f"  {each}: {label}\n" for each, label in zip(paths, labels, strict=True))
            )
        for name in MODELS:
            await serving.stop_model(name)
        for entry in await client.entries():
            print(f"{entry.path}: {len(entry.leases)} in use, from lock {entry.lock_digest}")
    await supervisor.stop()
    await pool.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        asyncio.run(run_worker(*sys.argv[2:]))
    else:
        try:
            asyncio.run(serve(sys.argv[1:] or [__file__]))
        except VirtualEnvError as failed:
            raise SystemExit(f"error: {failed.message}\n{failed.details.get('hint', '')}") from None
