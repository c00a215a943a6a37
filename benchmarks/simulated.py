"""A cluster of simulated workers in one process, for tests and figures of its size.

The supervisor is the real one but for the wire: what it asks is answered by objects that act as
workers do, after delays, or not at all. `simulate` runs with a clock that jumps to whatever
happens next, so what would take a minute takes none, and comes out the same in every run.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import Counter, defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from xinference_venv._util.records import Plain
from xinference_venv.actors import rpc
from xinference_venv.actors.launch_tracker import ClusterLaunches
from xinference_venv.actors.protocols import WorkerProtocol
from xinference_venv.actors.supervisor import VirtualEnvSupervisorActor
from xinference_venv.actors.worker_clients import WorkerClients
from xinference_venv.errors import (
    InstallFailed,
    JobCancelled,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.inventory.cluster_state import (
    HEARTBEAT_SECONDS,
    PROTOCOL,
    Registration,
    WorkerSnapshot,
)
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.environments import Environment, WorkerSkippedItem
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.inventory import EnvEntry, RemovalPlan
from xinference_venv.inventory.jobs import Phase, PreparedEnvironment
from xinference_venv.inventory.replicas import LockSource, taken_back
from xinference_venv.inventory.reports import JobReport, Participants, RemovalReport, Survey
from xinference_venv.inventory.selection import Selection
from xinference_venv.observability.cluster_measures import WorkerMeasures
from xinference_venv.observability.metrics import STARTED
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.service.collect_metrics import timed_question
from xinference_venv.service.jobs import Job, JobRegistry

REQUEST = LaunchRequest(model_name="glow")
_DELAYS = (0.002, 0.3)
_BUILD_SECONDS = (1.0, 5.0)
_LOCK_SECONDS = 25.0
_T = TypeVar("_T")


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: it counts the seconds that a wait would have taken."""

    jumped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; raises `RuntimeError` where a real loop would wait for ever."""
        if timeout is None:
            raise RuntimeError("nothing will ever happen any more")
        self.jumped += max(timeout, 0.0)
        return super().select(0)


class _JumpingLoop(asyncio.SelectorEventLoop):
    """Its clock jumps to the next thing that is due."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since the loop was made, none of which anybody waited."""
        return 1.0 + self._jumping.jumped


def simulate(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine with a clock that jumps."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(work)


@dataclass(kw_only=True, eq=False)
class SimulatedWorker:
    """Answers as a worker does, `delay` seconds after it was asked.

    A `silent` one never answers; where a worker `fails`, so does the installing. `ready`: it
    has the model already, `noted`: as the supervisor knows it. `removals` counts what it removed,
    `cancelled` the jobs.
    """

    address: str
    group: str
    delay: float
    chance: random.Random
    cluster: SimulatedCluster
    incarnation: str = "first"
    silent: bool = False
    fails: bool = False
    ready: bool = False
    noted: bool | None = None
    heartbeat_delay: float = 0.0
    removals: int = 0
    board: JobRegistry = field(default_factory=JobRegistry)

    async def registration(self, *, heartbeat: float | None = None) -> Registration:
        """See the worker's own."""
        return Registration(
            address=self.address,
            incarnation=self.incarnation,
            started=0.0 if self.incarnation == "first" else 1.0,
            protocol=PROTOCOL,
            release="0.1.0",
            host_name=f"host-{self.address}",
            heartbeat=HEARTBEAT_SECONDS,
        )

    def restart(self) -> None:
        """Be started anew: its jobs are gone, and what it is asked must mean the new one."""
        for job in self.board.running():
            if job.task is not None:
                job.task.cancel()
        self.incarnation, self.board = "second", JobRegistry()

    async def answer(
        self, incarnation: str, method: str, arguments: Mapping[str, Plain]
    ) -> rpc.Answer:
        """What the supervisor, or another worker, asks of one incarnation."""
        await asyncio.sleep(self.delay)
        if self.silent:
            await asyncio.Event().wait()
        if incarnation != self.incarnation:
            error = WorkerUnavailable(f"the worker at {self.address} was restarted")
            return rpc.Answer(error=Failure.of(error))
        answered = await rpc.answer(self, WorkerProtocol, method, [], arguments, where=self.address)
        return rpc.Answer.from_dict(answered)

    async def survey(self, request: LaunchRequest) -> Survey:
        """See the worker's own."""
        return Survey(group=self.group, ready=self.ready)

    async def prepare(
        self,
        request: LaunchRequest,
        lock: EnvLock | None = None,
        *,
        job_id: str,
        lock_sources: tuple[LockSource, ...] = (),
        participants: Participants,
        background: bool = False,
    ) -> str:
        """Start a job that asks for the lock as a worker does, and takes a while to build."""
        job = self.board.open(request, job_id)
        job.participants = participants
        job.say(Phase.QUEUED, "queued")
        job.task = asyncio.create_task(self._build(job, lock_sources))
        return job_id

    async def _build(self, job: Job, sources: Sequence[LockSource]) -> None:
        try:
            job.say(Phase.RESOLVING, "resolving")
            lock_digest = f"lock-of-{self.group}"
            if not self.ready:
                lock_digest = await self._lock(sources)
            self.cluster.resolved[job.job_id, self.address].set()
            job.say(Phase.INSTALLING, "installing")
            await asyncio.sleep(self.chance.uniform(*_BUILD_SECONDS))
            if self.fails:
                raise InstallFailed(f"the disk of {self.address} is full")
            self.ready = True
            job.result = PreparedEnvironment(
                enabled=True,
                python="/env/bin/python",
                env_id="env",
                lease_id=f"{job.job_id}-{self.address}",
                lock_digest=lock_digest,
                worker_address=self.address,
            )
            self.cluster.leases.add(f"{job.job_id}-{self.address}")
            job.say(Phase.READY, "ready")
        except InstallFailed as error:
            job.error = error
            job.say(Phase.FAILED, str(error))
        except asyncio.CancelledError:
            job.error = JobCancelled("the job was cancelled")
            job.say(Phase.CANCELLED, str(job.error))

    async def _lock(self, sources: Sequence[LockSource]) -> str:
        for each in sources:
            try:
                digest = self.cluster.workers[each.address].lock_of(each.incarnation, each.job_id)
                return await rpc.within(_LOCK_SECONDS, digest, f"the worker at {each.address}")
            except VirtualEnvError:
                continue
        self.cluster.resolutions[self.group] += 1
        await asyncio.sleep(self.chance.uniform(*_BUILD_SECONDS))
        return f"lock-of-{self.group}"

    async def lock_of(self, incarnation: str, job_id: str | None) -> str:
        """The lock of a job once it is there, or of what is made already."""
        await asyncio.sleep(self.delay)
        if self.silent:
            await asyncio.Event().wait()
        if incarnation != self.incarnation:
            raise WorkerUnavailable(f"the worker at {self.address} was restarted")
        if job_id is None:
            return f"lock-of-{self.group}"
        await self.cluster.resolved[job_id, self.address].wait()
        return f"lock-of-{self.group}"

    async def wait(self, job_id: str, since: int = 0, timeout: float = 30.0) -> JobReport:
        """See the worker's own."""
        return await self.board.find(job_id).report(since, timeout)

    async def cancel(self, job_id: str) -> None:
        """See the worker's own."""
        job = self.board.find(job_id)
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.wait([job.task])

    async def members_of(self, job_id: str) -> Participants:
        """See the worker's own."""
        return self.board.find(job_id).participants

    async def take_back(self, job_id: str) -> None:
        """See the worker's own."""
        self.board.find(job_id).take_back(taken_back(self.address))
        self.cluster.leases.discard(f"{job_id}-{self.address}")

    async def list_virtual_envs(self, selection: Selection) -> tuple[Environment, ...]:
        """One environment, as the real listing has it."""
        entry = EnvEntry(
            key=EnvKey(model_name="glow", model_engine=None, python_version="3.11"),
            path="/v3/glow/3.11",
            real_path="/store/envs/env",
            state=EnvState.READY,
            lock_digest=f"lock-of-{self.group}",
        )
        return (Environment.at(self.address, entry),)

    async def list_skipped_items(self) -> tuple[WorkerSkippedItem, ...]:
        """Nothing of its store is odd."""
        return ()

    async def measure(self) -> WorkerMeasures:
        """That it was started is all it knows."""
        measures = MetricRegistry()
        measures.set(STARTED, value=0.0)
        return WorkerMeasures(measures=measures.report(), worker_address=self.address)

    async def remove_virtual_env(
        self, selection: Selection, *, dry_run: bool = False, force: bool = False
    ) -> RemovalReport:
        """A report of one environment that is gone."""
        self.removals += 1
        return RemovalReport(
            plan=RemovalPlan(remove=(), unlink=(), refuse=()),
            done=await self.list_virtual_envs(selection),
            dry_run=dry_run,
            worker_address=self.address,
        )


class _Clients(WorkerClients):
    """The real ones, whose questions go to simulated workers."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        super().__init__()
        self._simulated = cluster

    def _send(self, address: str, incarnation: str, deadline: float) -> rpc.Send:
        async def send(method: str, arguments: dict[str, Plain]) -> Plain:
            with timed_question(self.measures, address, method):
                return await self._simulated.ask(address, incarnation, method, arguments, deadline)

        return send


class _Supervisor(VirtualEnvSupervisorActor):
    """The real one, with simulated workers."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        super().__init__()
        self._workers = _Clients(cluster)
        self._launches = ClusterLaunches(self._workers)


@dataclass(kw_only=True, eq=False)
class SimulatedCluster:
    """The workers by address, and what they did; `asked` counts the questions by method."""

    supervisor: VirtualEnvSupervisorActor = field(init=False)
    workers: dict[str, SimulatedWorker] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    resolutions: Counter[str] = field(default_factory=Counter)
    resolved: defaultdict[tuple[str, str], asyncio.Event] = field(
        default_factory=lambda: defaultdict(asyncio.Event)
    )
    leases: set[str] = field(default_factory=set)

    @classmethod
    async def start(
        cls, count: int, *, groups: int = 1, silent: int = 0, fails: int = 0, seed: int = 0
    ) -> SimulatedCluster:
        """So many registered workers in `groups` of equal hosts; some are silent, others fail."""
        chance = random.Random(seed)
        cluster = cls()
        for number in range(count):
            address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:7000"
            cluster.workers[address] = SimulatedWorker(
                address=address,
                group=f"group-{number % groups}",
                delay=chance.uniform(*_DELAYS),
                chance=random.Random(number),
                cluster=cluster,
            )
        odd = chance.sample(list(cluster.workers.values()), silent + fails)
        for each in odd[:silent]:
            each.silent = True
        for each in odd[silent:]:
            each.fails = True
        cluster.restart_supervisor()
        for each in cluster.workers.values():
            await cluster.supervisor.register_worker(await each.registration())
        return cluster

    def restart_supervisor(self) -> None:
        """Put one that knows nothing in the supervisor's place."""
        self.supervisor = _Supervisor(self)

    @property
    def silent(self) -> list[str]:
        """The addresses of the workers that never answer."""
        return sorted(each.address for each in self.workers.values() if each.silent)

    async def ask(
        self,
        address: str,
        incarnation: str,
        method: str,
        arguments: Mapping[str, Plain],
        deadline: float,
    ) -> Plain:
        """As `rpc.to_worker` sends, with the same deadline, but no wire."""
        self.asked[method] += 1
        answer = self.workers[address].answer(incarnation, method, arguments)
        answered = await rpc.within(deadline, answer, f"the worker at {address}")
        if answered.error is not None:
            raise answered.error.error()
        return cast(Plain, answered.value)

    async def beat(self) -> None:
        """Let every worker that is not silent send one heartbeat, and register if told to."""
        for each in self.workers.values():
            if not each.silent:
                await self._beat(each)

    async def _beat(self, worker: SimulatedWorker) -> None:
        snapshot = WorkerSnapshot(jobs=len(worker.board.running()), free_bytes=1 << 40)
        if not await self.supervisor.heartbeat(worker.address, worker.incarnation, snapshot):
            await self.supervisor.register_worker(await worker.registration())
            worker.noted = None
        if worker.noted != worker.ready:
            # As a real one, when something has changed.
            models = (REQUEST.model_name,) if worker.ready else ()
            await self.supervisor.note_models(worker.address, worker.incarnation, models)
            worker.noted = worker.ready

    async def keep_beating(self) -> None:
        """Send heartbeats as real workers do, each at its own moment, until cancelled."""

        async def keep(worker: SimulatedWorker) -> None:
            await asyncio.sleep(worker.chance.uniform(0, HEARTBEAT_SECONDS))
            while True:
                if not worker.silent:
                    await self._beat(worker)
                await asyncio.sleep(HEARTBEAT_SECONDS + worker.heartbeat_delay)

        await asyncio.gather(*map(keep, self.workers.values()))

    async def follow(self, job: str) -> tuple[dict[str, Any], int]:
        """The last answer about a launch, as plain JSON values, and how many it took."""
        since, polls = 0, 0
        while True:
            answer = await self.supervisor.wait(job, since)
            polls += 1
            if answer.events:
                since = answer.events[-1].seq
            if answer.has_ended:
                return answer.to_dict(), polls
