"""A client of the actors: launches to their end, with events as they come, errors as raised.

The CLI and the demo reach every effect through here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from xinference_venv.actor_class import ActorClass
from xinference_venv.actors.cluster import local_cluster
from xinference_venv.errors import error_from_dict
from xinference_venv.inventory import EnvEntry
from xinference_venv.jobs import JobEvent, PreparedEnvironment
from xinference_venv.launch import ModelProcess, start_model_process
from xinference_venv.request import LaunchRequest
from xinference_venv.runner import create_actor

_POLL_SECONDS = 20.0


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
        on_event: Callable[[JobEvent], None] = lambda _: None,
    ) -> PreparedEnvironment:
        """Launch and wait for the end; cancelling this call cancels the job.

        Raises the job's own error.
        """
        job = await self.supervisor.prepare(request.to_dict())
        seen = 0
        try:
            while True:
                answer = await self.supervisor.wait(job, seen, _POLL_SECONDS)
                for data in answer["events"]:
                    event = JobEvent.from_dict(data)
                    seen = event.seq
                    on_event(event)
                if answer["error"] is not None:
                    raise error_from_dict(answer["error"])
                if answer["result"] is not None:
                    return PreparedEnvironment.from_dict(answer["result"])
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
            await self.worker.release_lease(environment.env_id, environment.lease_id)

    async def entries(self, **wanted: str | None) -> list[EnvEntry]:
        """The environments that match; for the whole answer ask the supervisor."""
        answer = await self.supervisor.list_virtual_envs(**wanted)
        return [EnvEntry.from_dict(each) for each in answer["list"]]


@asynccontextmanager
async def local_client(environ: Mapping[str, str] | None = None) -> AsyncIterator[Client]:
    """A client of actors that live in this process, on the loopback address only."""
    async with local_cluster(environ) as cluster:
        client = Client(supervisor=cluster.supervisor, worker=cluster.worker, pool=cluster.pool)
        try:
            yield client
        finally:
            await client.close()
