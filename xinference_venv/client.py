"""A client of the actors: launches to their end, with events as they come, errors as raised.

The CLI and the demo reach every effect through here.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xinference_venv._util.tasks import ignore
from xinference_venv.actors import rpc
from xinference_venv.actors.protocols import SupervisorProtocol as SupervisorProtocol
from xinference_venv.actors.protocols import WorkerReference
from xinference_venv.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    StoreError,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.inventory.diff import check_one
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.gathered import check_found
from xinference_venv.inventory.inventory import EnvEntry, check_has_lock
from xinference_venv.inventory.jobs import JobEvent, Phase, PreparedEnvironment
from xinference_venv.inventory.replicas import Replica, error_of
from xinference_venv.inventory.reports import JobReport, PartReceived
from xinference_venv.inventory.selection import EVERY, Selection
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.runtime.actor_spec import ActorClass
from xinference_venv.sentences import sentence

# What asks a supervisor does without all that a worker needs: such is imported where it is used.
if TYPE_CHECKING:
    from xinference_venv.actors.cluster import supervisor_pool as supervisor_pool
    from xinference_venv.actors.cluster import worker_pool as worker_pool
    from xinference_venv.runtime.model_process import ModelProcess

_log = logging.getLogger(__name__)

_EXPORT_POLL_SECONDS = 1.0
_LAUNCH_FIRST = "`xinference-venv launch` makes it"
# Longer than anything that a supervisor does before it answers.
_ANSWER_SECONDS = 3700.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long whoever launches waits for a supervisor, in seconds.

    Each question how a launch goes waits `poll` for news. An answer that is `late` by more does not
    come: a network that is cut, or a host that lost its power, says nothing. It is asked `again`
    after that, for `restart` at most. Who goes away waits `cancel` until the launch has begun, and
    as long until it is cancelled.
    """

    poll: float = 20.0
    late: float = 30.0
    again: float = 0.25
    restart: float = 60.0
    cancel: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Client:
    """A way to a supervisor; `pool` and `own_worker` are those of this process, for its models.

    `asked_by` names who launches, for the list of jobs.
    """

    supervisor: SupervisorProtocol
    own_worker: WorkerReference | None = None
    pool: Any = None
    asked_by: str | None = None
    patience: Patience = field(default_factory=Patience)
    _processes: list[ModelProcess] = field(default_factory=list, init=False)

    @property
    def worker(self) -> WorkerReference:
        """The worker of this process; raises `InvalidInput` for a client that has none."""
        if self.own_worker is None:
            raise InvalidInput(
                "this client has no worker of its own",
                {"hint": "only the worker's own process starts models and binds their leases"},
            )
        return self.own_worker

    async def prepare(
        self,
        request: LaunchRequest,
        *,
        background: bool = False,
        on_event: Callable[[JobEvent], None] = ignore,
    ) -> PreparedEnvironment:
        """Launch and wait for the end; cancelling this call cancels the job.

        On the host of this client's own worker, if it has one, else wherever the supervisor
        chooses; in the `background` after all others there. Raises the job's own error.
        """
        here = () if self.own_worker is None else (self.own_worker.address,)
        beginning = self.supervisor.prepare(
            request, workers=here, count=1, background=background, asked_by=self.asked_by
        )
        report = await self._follow(await self._begun(beginning), on_event)
        if report.error is not None:
            raise report.error.error()
        assert report.result is not None
        return report.result

    async def prepare_on(
        self,
        request: LaunchRequest,
        *,
        workers: Sequence[str] = (),
        count: int | None = None,
        everywhere: bool = False,
        require: int | None = None,
        background: bool = False,
        on_event: Callable[[JobEvent], None] = ignore,
    ) -> list[Replica]:
        """Launch on several workers and wait for the end; see the supervisor's `prepare`.

        Returns how each of them fared, those that failed included when enough are ready. Raises
        the launch's error; cancelling this call cancels the launch.
        """
        beginning = self.supervisor.prepare(
            request,
            workers=tuple(workers),
            count=count,
            everywhere=everywhere,
            require=require,
            background=background,
            asked_by=self.asked_by,
        )
        report = await self._follow(await self._begun(beginning), on_event)
        if report.error is not None:
            raise report.error.error()
        return list(report.workers)

    async def prefetch(
        self,
        request: LaunchRequest,
        *,
        workers: Sequence[str] = (),
        count: int | None = None,
        require: int | None = None,
        on_event: Callable[[JobEvent], None] = ignore,
    ) -> JobReport:
        """Launch in the background, by default on every worker, and give the leases back.

        Returns how it ended, also when it failed, on each worker. Raises what keeps it from being
        begun; cancelling this call cancels the launch.
        """
        beginning = self.supervisor.prepare(
            request,
            workers=tuple(workers),
            count=count,
            everywhere=not workers and count is None,
            require=require,
            background=True,
            asked_by=self.asked_by,
        )
        report = await self._follow(await self._begun(beginning), on_event)
        await self.release_all(report.workers)
        return report

    async def release_all(self, replicas: Iterable[Replica]) -> None:
        """Give back the leases of a launch; a worker that ended took its own along."""

        async def release(environment: PreparedEnvironment) -> None:
            with suppress(WorkerUnavailable, DeadlineExceeded, NotFound):
                await self.release(environment)

        results = (each.result for each in replicas)
        await asyncio.gather(*(release(each) for each in results if each is not None))

    async def one_ready(self, wanted: Selection) -> Environment:
        """The environment that is meant and ready, on any of the workers that have the same.

        Raises `NotFound` without one, `InvalidInput` where there are several that differ.
        """
        answer = await self.supervisor.list_virtual_envs(wanted)
        check_has_lock(each.entry for each in answer.list)
        ready = [each for each in answer.list if each.entry.state is EnvState.READY]
        check_found(
            answer, ready, f"ready environment of {wanted.model_name!r}", hint=_LAUNCH_FIRST
        )
        if len({(each.entry.key, each.entry.lock_digest) for each in ready}) > 1:
            check_one(str(wanted.model_name), ready, workers=True)
        return ready[0]

    async def export(
        self, environment: Environment, say: Callable[[str, int, int], None]
    ) -> AsyncIterator[bytes]:
        """The bundle of an environment, part by part; `say` hears of what is fetched for it: a
        message, the bytes that are there, and those of all.
        """
        export_id = uuid.uuid4().hex
        address, key = environment.worker_address, environment.entry.key
        try:
            while True:
                progress = await self.supervisor.export_bundle(
                    address, export_id, key, _EXPORT_POLL_SECONDS
                )
                say(progress.message, progress.done_bytes, progress.total_bytes)
                if progress.size is not None:
                    break
            offset = 0
            while offset < progress.size:
                part = await self.supervisor.read_bundle(address, export_id, offset)
                if not part.data:
                    raise StoreError(f"the bundle ended after {offset} of {progress.size} bytes")
                yield part.data
                offset += len(part.data)
        finally:
            with suppress(VirtualEnvError):
                await asyncio.shield(self.supervisor.end_export(address, export_id))

    async def import_bundle(
        self,
        parts: AsyncIterable[bytes],
        total: int,
        *,
        workers: Sequence[str] = (),
        require: int | None = None,
        on_event: Callable[[JobEvent], None] = ignore,
    ) -> tuple[tuple[Replica, ...], VirtualEnvError | None]:
        """Send a bundle of about `total` bytes to workers, by default all, and let them launch it.

        Returns how each fared, and the error where fewer than `require` (all, by default) have
        it. A worker that does not take it is sent no more of it. Cancelling this call cancels the
        launch, and nothing of the bundle is left.
        """
        addresses = await self.supervisor.choose_workers(tuple(workers))
        if require is not None and require > len(addresses):
            raise InvalidInput(
                f"{require} ready workers are required, of {len(addresses)} that are chosen"
            )
        import_id = uuid.uuid4().hex
        refused: dict[str, Replica] = {}
        taking = addresses
        offset = 0
        is_over = False
        try:
            async for part in parts:
                received = await self.supervisor.receive_bundle(
                    import_id, offset, part, workers=taking
                )
                for each in received:
                    if each.error is not None:
                        refused[each.worker_address] = _refused(each)
                taking = tuple(each for each in taking if each not in refused)
                if not taking:
                    break
                offset += len(part)
                on_event(_sent(offset, total))
            made: tuple[Replica, ...] = ()
            if taking:
                beginning = self.supervisor.import_bundle(import_id, workers=taking)
                report = await self._follow(await self._begun(beginning), on_event)
                await self.release_all(report.workers)
                made = report.workers
            is_over = True
        finally:
            if not is_over:
                with suppress(VirtualEnvError):
                    await asyncio.shield(self.supervisor.end_import(import_id, workers=taking))
        replicas = (*made, *refused.values())
        ready = sum(each.phase is Phase.READY for each in replicas)
        needed = len(addresses) if require is None else require
        return replicas, None if ready >= needed else error_of(replicas)

    async def _begun(self, prepare: Awaitable[str]) -> str:
        """The id of a launch that begins; one whose caller is gone by then is cancelled."""
        beginning = asyncio.ensure_future(prepare)
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            with suppress(VirtualEnvError):
                job = await rpc.within(self.patience.cancel, beginning, sentence("the supervisor"))
                await self._cancel(job)
            raise

    async def _follow(self, job: str, on_event: Callable[[JobEvent], None]) -> JobReport:
        """Follow a launch to its end, through a restart of the supervisor if need be."""
        seen = 0
        lost_since: float | None = None
        try:
            while True:
                try:
                    answer = await rpc.within(
                        self.patience.poll + self.patience.late,
                        self.supervisor.wait(job, seen, self.patience.poll),
                        sentence("the supervisor"),
                    )
                except (WorkerUnavailable, DeadlineExceeded):
                    lost_since = lost_since or time.monotonic()
                    if time.monotonic() - lost_since > self.patience.restart:
                        raise
                    await asyncio.sleep(self.patience.again)
                    continue
                lost_since = None
                for event in answer.events:
                    seen = event.seq
                    on_event(event)
                if answer.error is not None or answer.result is not None:
                    return answer
        except (asyncio.CancelledError, BrokenPipeError):
            # Who hears the events may be gone: no caller waits for the launch then.
            await asyncio.shield(self._cancel(job))
            raise

    async def _cancel(self, job: str) -> None:
        try:
            await rpc.within(
                self.patience.cancel, self.supervisor.cancel(job), sentence("the supervisor")
            )
        except (WorkerUnavailable, DeadlineExceeded) as error:
            _log.warning("it is not known whether the launch was cancelled: %s", error)
        except VirtualEnvError as error:
            _log.debug("the launch has ended by itself: %s", error)

    async def start(
        self,
        environment: PreparedEnvironment,
        *,
        label: str,
        variables: Mapping[str, str] | None = None,
    ) -> ModelProcess:
        """Start a model process in a prepared environment; it ends with this client."""
        from xinference_venv.runtime.model_process import start_model_process

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
        from xinference_venv.runtime.remote_actor import create_actor

        await create_actor(process, actor, uid=uid)

    async def release(self, environment: PreparedEnvironment) -> None:
        """Give the lease of a prepared environment back."""
        where, env_id, lease_id = (
            environment.worker_address,
            environment.env_id,
            environment.lease_id,
        )
        if where is not None and env_id is not None and lease_id is not None:
            await self.supervisor.release_lease(where, env_id, lease_id)

    async def entries(self, selection: Selection = EVERY) -> list[EnvEntry]:
        """The environments that match; for the whole answer ask the supervisor."""
        answer = await self.supervisor.list_virtual_envs(selection)
        return [each.entry for each in answer.list]


def supervisor_at(address: str) -> SupervisorProtocol:
    """The supervisor at an address, in another process: its methods, each with a deadline.

    They raise our errors, `WorkerUnavailable` when nothing answers there.
    """
    return rpc.supervisor_by(rpc.to_supervisor(address, deadline=_ANSWER_SECONDS))


def _refused(received: PartReceived) -> Replica:
    return Replica(
        worker_address=received.worker_address,
        incarnation="",
        phase=Phase.FAILED,
        error=received.error,
    )


def _sent(done: int, total: int) -> JobEvent:
    return JobEvent(
        seq=0,
        at=time.time(),
        phase=Phase.QUEUED,
        message="sending the bundle",
        done_bytes=min(done, total),
        total_bytes=total,
    )


@asynccontextmanager
async def connect(supervisor: str, *, asked_by: str | None = None) -> AsyncIterator[Client]:
    """A client of the supervisor at an address; models are started by the workers' own hosts.

    `asked_by` names who launches, for the list of jobs.
    """
    yield Client(supervisor=supervisor_at(supervisor), asked_by=asked_by)


@asynccontextmanager
async def worker_client(
    pool: Any, supervisor: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Client]:
    """A client for a serving cluster's own worker, whose main pool is `pool`.

    Our worker is created in that pool and joins the cluster of the supervisor at an address; see
    `create_worker`. At the end the model processes are stopped, it leaves the cluster, and its
    jobs are cancelled.
    """
    import xoscar as xo

    from xinference_venv.actors.cluster import create_worker

    async with AsyncExitStack() as at_the_end:
        worker = await create_worker(pool.external_address, environ, supervisor=supervisor)
        at_the_end.push_async_callback(xo.destroy_actor, worker)
        at_the_end.push_async_callback(worker.stop)
        client = Client(supervisor=supervisor_at(supervisor), own_worker=worker, pool=pool)
        at_the_end.push_async_callback(client.close)
        yield client


@asynccontextmanager
async def local_client(
    environ: Mapping[str, str] | None = None, *, asked_by: str | None = None
) -> AsyncIterator[Client]:
    """A client of actors that live in this process, on the loopback address only.

    `asked_by` names who launches, for the list of jobs.
    """
    from xinference_venv.actors.cluster import local_cluster

    async with local_cluster(environ) as cluster:
        client = Client(
            supervisor=cluster.supervisor,
            own_worker=cluster.worker,
            pool=cluster.pool,
            asked_by=asked_by,
        )
        try:
            yield client
        finally:
            await client.close()


def __getattr__(name: str) -> object:
    if name not in ("supervisor_pool", "worker_pool"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xinference_venv.actors import cluster

    return getattr(cluster, name)
