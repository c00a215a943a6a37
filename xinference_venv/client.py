"""A client of the actors: launches to their end, with events as they come, errors as raised.

The CLI and the demo reach every effect through here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import xoscar as xo

from xinference_venv._util.tasks import ignore
from xinference_venv.actors import rpc
from xinference_venv.actors.cluster import create_worker, local_cluster
from xinference_venv.actors.cluster import supervisor_pool as supervisor_pool
from xinference_venv.actors.cluster import worker_pool as worker_pool
from xinference_venv.actors.heartbeat import SUPERVISOR_UID
from xinference_venv.diagnosis.diagnose import examine as examine
from xinference_venv.errors import VirtualEnvError, WorkerUnavailable, error_from_dict
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.jobs import JobEvent, PreparedEnvironment
from xinference_venv.inventory.replicas import Replica
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.runtime.actor_spec import ActorClass
from xinference_venv.runtime.model_process import ModelProcess, start_model_process
from xinference_venv.runtime.remote_actor import create_actor

_POLL_SECONDS = 20.0
# Longer than anything that a supervisor does before it answers.
_ANSWER_SECONDS = 3700.0
# So long a supervisor may take to come back.
_RESTART_SECONDS = 60.0
_AGAIN_SECONDS = 0.25


@dataclass(frozen=True, kw_only=True)
class Client:
    """A way to a supervisor; `pool` and `worker` are those of this process, for its models."""

    supervisor: Any
    worker: Any
    pool: Any
    _processes: list[ModelProcess] = field(default_factory=list, init=False)

    async def prepare(
        self,
        request: LaunchRequest,
        *,
        on_event: Callable[[JobEvent], None] = ignore,
    ) -> PreparedEnvironment:
        """Launch and wait for the end; cancelling this call cancels the job.

        On the host of this client's `worker`, if it has one, else wherever the supervisor
        chooses. Raises the job's own error.
        """
        here = None if self.worker is None else self.worker.address
        job = await self._begun(self.supervisor.prepare(request.to_dict(), here))
        answer = await self._follow(job, on_event)
        return PreparedEnvironment.from_dict(answer["result"])

    async def prepare_on(
        self,
        request: LaunchRequest,
        *,
        workers: Sequence[str] = (),
        count: int | None = None,
        everywhere: bool = False,
        require: int | None = None,
        on_event: Callable[[JobEvent], None] = ignore,
    ) -> list[Replica]:
        """Launch on several workers and wait for the end; see the supervisor's `prepare`.

        Returns how each of them fared, those that failed included when enough are ready. Raises
        the launch's error; cancelling this call cancels the launch.
        """
        job = await self._begun(
            self.supervisor.prepare(
                request.to_dict(),
                workers=workers,
                count=count,
                everywhere=everywhere,
                require=require,
            )
        )
        answer = await self._follow(job, on_event)
        return [Replica.from_dict(each) for each in answer["workers"]]

    async def _begun(self, prepare: Awaitable[str]) -> str:
        """The id of a launch that begins; one whose caller is gone by then is cancelled."""
        beginning = asyncio.ensure_future(prepare)
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            with suppress(VirtualEnvError):
                await self.supervisor.cancel(await beginning)
            raise

    async def _follow(self, job: str, on_event: Callable[[JobEvent], None]) -> dict[str, Any]:
        """Follow a launch to its last answer, through a restart of the supervisor if need be."""
        seen = 0
        lost_since: float | None = None
        try:
            while True:
                try:
                    answer: dict[str, Any] = await self.supervisor.wait(job, seen, _POLL_SECONDS)
                except WorkerUnavailable:
                    lost_since = lost_since or time.monotonic()
                    if time.monotonic() - lost_since > _RESTART_SECONDS:
                        raise
                    await asyncio.sleep(_AGAIN_SECONDS)
                    continue
                lost_since = None
                for data in answer["events"]:
                    event = JobEvent.from_dict(data)
                    seen = event.seq
                    on_event(event)
                if answer["error"] is not None:
                    raise error_from_dict(answer["error"])
                if answer["result"] is not None:
                    return answer
        except asyncio.CancelledError:
            await asyncio.shield(self.supervisor.cancel(job))
            raise

    async def start(
        self,
        environment: PreparedEnvironment,
        *,
        label: str,
        variables: Mapping[str, str] | None = None,
    ) -> ModelProcess:
        """Start a model process in a prepared environment; it ends with this client."""
        process = await start_model_process(
            self.pool, self.worker, environment, label=label, variables=variables
        )
        self._processes.append(process)
        return process

    async def close(self) -> None:
        """Stop the model processes."""
        await asyncio.gather(*(process.stop() for process in self._processes))

    async def create_actor(self, process: ModelProcess, actor: ActorClass, *, uid: str) -> None:
        """Create an actor in a model process; raises `ModelStartFailed`."""
        await create_actor(process, actor, uid=uid)

    async def release(self, environment: PreparedEnvironment) -> None:
        """Give the lease of a prepared environment back."""
        if environment.lease_id is not None:
            await self.supervisor.release_lease(
                environment.worker_address, environment.env_id, environment.lease_id
            )

    async def entries(self, **wanted: str | None) -> list[EnvEntry]:
        """The environments that match; for the whole answer ask the supervisor."""
        answer = await self.supervisor.list_virtual_envs(**wanted)
        return [EnvEntry.from_dict(each) for each in answer["list"]]


class RemoteSupervisor:
    """A supervisor in another process: its methods, each with a deadline and our errors."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def ask(*arguments: Any, **named: Any) -> Any:
            return await rpc.ask_supervisor(
                self._address,
                SUPERVISOR_UID,
                method,
                *arguments,
                deadline=_ANSWER_SECONDS,
                here="",
                **named,
            )

        return ask


@asynccontextmanager
async def connect(supervisor: str) -> AsyncIterator[Client]:
    """A client of the supervisor at an address; models are started by the workers' own hosts."""
    yield Client(supervisor=RemoteSupervisor(supervisor), worker=None, pool=None)


@asynccontextmanager
async def worker_client(
    pool: Any, supervisor: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Client]:
    """A client for a serving cluster's own worker, whose main pool is `pool`.

    Our worker is created in that pool and joins the cluster of the supervisor at an address; see
    `create_worker`. At the end the model processes are stopped, it leaves the cluster, and its
    jobs are cancelled.
    """
    worker = await create_worker(pool.external_address, environ, supervisor=supervisor)
    client = Client(supervisor=RemoteSupervisor(supervisor), worker=worker, pool=pool)
    try:
        yield client
    finally:
        await client.close()
        await worker.stop()
        await xo.destroy_actor(worker)


@asynccontextmanager
async def local_client(environ: Mapping[str, str] | None = None) -> AsyncIterator[Client]:
    """A client of actors that live in this process, on the loopback address only."""
    async with local_cluster(environ) as cluster:
        client = Client(supervisor=cluster.supervisor, worker=cluster.worker, pool=cluster.pool)
        try:
            yield client
        finally:
            await client.close()
