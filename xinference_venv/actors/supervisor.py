"""The supervisor: one actor for the cluster, which asks the workers and joins what they say.

It keeps nothing that it can't ask again: workers register again, and those of a launch know who
else takes part.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import replace

import xoscar as xo

from xinference_venv._util.records import Plain
from xinference_venv._util.tasks import cancel, in_background
from xinference_venv.actors import rpc
from xinference_venv.actors.helper_finder import HelperFinder
from xinference_venv.actors.launch_tracker import ClusterLaunches
from xinference_venv.actors.protocols import SupervisorProtocol, WorkerProtocol
from xinference_venv.actors.worker_clients import ASK_SECONDS, WorkerClients, now
from xinference_venv.diagnosis.checks import Diagnoses, cluster_checks
from xinference_venv.errors import InvalidInput, UnknownJob, VirtualEnvError
from xinference_venv.inventory.cluster_state import (
    Member,
    Registration,
    WorkerSnapshot,
    WorkerStatus,
)
from xinference_venv.inventory.environments import Environments, WorkerSkippedItem, differing
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.job_log import LogPart, WholeLog
from xinference_venv.inventory.lease import Holder, ReleaseReport, WorkerLease
from xinference_venv.inventory.packages import EnvironmentPackages
from xinference_venv.inventory.replicas import Replica
from xinference_venv.inventory.reports import (
    BundlePart,
    CollectionReport,
    DiskUsage,
    EnvironmentLock,
    ExportProgress,
    JobReport,
    JobSummary,
    LaunchPlan,
    PartReceived,
    RemovalReport,
    VerifiedEnvironment,
)
from xinference_venv.inventory.selection import Selection
from xinference_venv.observability.cluster_measures import ClusterMeasures, WorkerMeasures
from xinference_venv.observability.history import ClusterHistory, History
from xinference_venv.planning.host import Interpreter
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.listed_model import ListedModel
from xinference_venv.planning.relay import Neighbour, WheelFile
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.sentences import sentence
from xinference_venv.service.collect_metrics import measures_of_supervisor

_PLAN_SECONDS = 3600.0
# The first part of a bundle is held against the host, whose interpreter may have to be asked.
_PART_SECONDS = 120.0
# For a call that may read every file of every environment, or rebuild some.
_MAINTENANCE_SECONDS = 3600.0
# Prometheus waits ten seconds for all of it.
_MEASURE_SECONDS = 5.0
# How often the history gets what the workers counted, and how old that is for who asks.
_HISTORY_SECONDS = 60.0
_HISTORY_SECONDS_OF_WORKER = 0.3
_HISTORY_AGE_SECONDS = 2.0
# uv and every interpreter may take a minute to answer.
_DIAGNOSIS_SECONDS = 150.0
# For a walk over all files whose end a caller waits for.
_WALK_SECONDS = 50.0

_log = logging.getLogger(__name__)


class VirtualEnvSupervisorActor(xo.StatelessActor):  # type: ignore[misc]
    """The environments of all workers. Stateless in xoscar's sense: calls run concurrently.

    What is asked of several workers is answered as far as they answer: `unreachable` names the
    others, each with the reason, its state, and how old its last snapshot is. `worker` is an IP,
    which means all workers on it, or an address; None means all of the cluster.
    """

    def __init__(self) -> None:
        super().__init__()
        self._workers = WorkerClients()
        self._launches = ClusterLaunches(self._workers)
        self._helpers = HelperFinder(workers=self._workers)
        self._watching: list[asyncio.Task[None]] = []
        self._history = ClusterHistory(began=time.time())
        self._looking = asyncio.Lock()
        self._looked = -_HISTORY_AGE_SECONDS

    async def __post_create__(self) -> None:
        """Learn the own address, which needs no probe."""
        self._workers.address = self.address
        self._watching = [
            in_background(self._workers.watch(), "watching the workers", _log),
            in_background(self._remember(), "gathering the history", _log),
        ]

    async def stop(self) -> None:
        """Follow no launch any more; the workers go on, and a new supervisor follows again."""
        await cancel(*self._watching)
        await self._launches.stop()

    async def answer(
        self, method: str, arguments: list[Plain], named: dict[str, Plain]
    ) -> dict[str, Plain]:
        """Call a method for a worker or a client, of whatever release; see `rpc.answer`."""
        return await rpc.answer(
            self, SupervisorProtocol, method, arguments, named, where=self.address
        )

    # Launches

    async def prepare(
        self,
        request: LaunchRequest,
        *,
        workers: tuple[str, ...] = (),
        count: int | None = None,
        everywhere: bool = False,
        require: int | None = None,
        background: bool = False,
        asked_by: str | None = None,
    ) -> str:
        """Start a launch: by default on one worker, the least busy; on the named `workers` (each
        an IP, which means all on it, or an address), on `count` of these or of all, or
        `everywhere`.

        Equal hosts get one lock: one of them resolves, unless a worker of the cluster has the
        model running with these requirements; then its lock serves (a request to refresh
        resolves again). With fewer than `require` ready (all, by default), the launch fails and
        the leases of the others are given back. One in the `background` comes after all others on
        its workers. `asked_by` names who wants it, for the list of jobs. Returns the launch's id at
        once. Raises `NotFound` and `InvalidInput`.
        """
        if count is None and not workers and not everywhere:
            count = 1
        chosen = self._workers.cluster.choose(list(workers), count, now())
        if require is not None and not 1 <= require <= len(chosen):
            raise InvalidInput(
                sentence(
                    "{require} ready workers are required, of {chosen_count} that are chosen",
                    require=require,
                    chosen_count=len(chosen),
                )
            )
        if len(self._workers.cluster.members) == 1:
            [member] = chosen
            job_id = await self._workers.of(member).prepare(
                request, background=background, asked_by=asked_by
            )
            return f"{job_id}@{member.registration.address}"
        return await self._launches.launch(
            request, chosen, require or len(chosen), background=background, asked_by=asked_by
        )

    async def wait(self, job: str, since: int = 0, timeout: float = 30.0) -> JobReport:
        """A launch's new events, result or error; see `VirtualEnvWorkerActor.wait`.

        `workers` says of each worker how it fares: phase, result, error.
        """
        job_id, address = await self._located(job)
        if address is None:
            return await (await self._launches.find(job_id)).wait(since, timeout)
        member = await self._member_of(job, address)
        worker = self._workers.of(member, deadline=timeout + ASK_SECONDS)
        answer = await worker.wait(job_id, since, timeout)
        replica = Replica(
            worker_address=address,
            incarnation=member.registration.incarnation,
            phase=answer.phase,
            result=answer.result,
            error=answer.error,
        )
        return replace(answer, job_id=job, workers=(replica,))

    async def cancel(self, job: str) -> None:
        """Cancel a launch; returns when nothing of it is left."""
        job_id, address = await self._located(job)
        if address is None:
            await (await self._launches.find(job_id)).cancel()
        else:
            await self._workers.of(await self._member_of(job, address)).cancel(job_id)

    async def list_jobs(self, worker: str | None = None) -> Gathered[JobSummary]:
        """What runs, or ended not long ago, with the end that the launch as a whole gave it."""
        answer = await self._workers.gather(worker, lambda each: each.list_jobs())
        return replace(answer, list=self._launches.known(answer.list))

    async def plan(self, request: LaunchRequest, worker: str | None = None) -> LaunchPlan:
        """What a launch would do on a worker, resolved and not built."""
        return await self._any(worker, deadline=_PLAN_SECONDS).plan(request)

    # Bundles: environments as files

    async def export_bundle(
        self, worker_address: str, export_id: str, key: EnvKey, timeout: float
    ) -> ExportProgress:
        """Let a worker put the bundle of an environment together; how far it is.

        Ask again with the same id until it has a size; see `WorkerService.export_bundle`.
        """
        worker = self._workers.at(worker_address, deadline=timeout + ASK_SECONDS)
        return await worker.export_bundle(export_id, key, timeout)

    async def read_bundle(self, worker_address: str, export_id: str, offset: int) -> BundlePart:
        """The bytes of a worker's bundle from an offset on; none at its end."""
        return await self._workers.at(worker_address).read_bundle(export_id, offset)

    async def end_export(self, worker_address: str, export_id: str) -> None:
        """Let a worker delete what lies on its disk of a bundle that was read."""
        await self._workers.at(worker_address).end_export(export_id)

    async def choose_workers(self, workers: tuple[str, ...]) -> tuple[str, ...]:
        """The addresses of the named workers (each an IP, which means all on it, or an address);
        without any name those of all that a launch may choose. Raises `NotFound`.
        """
        chosen = self._workers.cluster.choose(list(workers), None, now())
        return tuple(each.registration.address for each in chosen)

    async def receive_bundle(
        self, import_id: str, offset: int, data: bytes, *, workers: tuple[str, ...]
    ) -> tuple[PartReceived, ...]:
        """Hand the next part of a bundle on to workers; how each of them took it."""

        async def send(address: str) -> PartReceived:
            try:
                worker = self._workers.at(address, deadline=_PART_SECONDS)
                await worker.receive_bundle(import_id, offset, data)
            except VirtualEnvError as error:
                return PartReceived(worker_address=address, error=Failure.of(error))
            return PartReceived(worker_address=address, error=None)

        return tuple(await asyncio.gather(*map(send, workers)))

    async def import_bundle(self, import_id: str, *, workers: tuple[str, ...]) -> str:
        """Start the launch of a bundle that has come to these workers; returns its id at once.

        It is ready when one of them is: all of them end.
        """
        cluster = self._workers.cluster
        members = [member for each in workers for member in cluster.select(each)]
        return await self._launches.import_bundle(import_id, members)

    async def end_import(self, import_id: str, *, workers: tuple[str, ...]) -> None:
        """Let workers delete what came of a bundle that does not come whole."""

        async def end(address: str) -> None:
            # One that is away deletes it by itself.
            with suppress(VirtualEnvError):
                await self._workers.at(address).end_import(import_id)

        await asyncio.gather(*map(end, workers))

    # Leases

    async def bind_lease(self, worker_address: str, env_id: str, lease_id: str, pid: int) -> None:
        """Hand a lease to a process of the worker's host."""
        await self._workers.at(worker_address).bind_lease(env_id, lease_id, pid)

    async def release_lease(self, worker_address: str, env_id: str, lease_id: str) -> None:
        """Give a lease back."""
        await self._workers.at(worker_address).release_lease(env_id, lease_id)

    async def list_leases(self, selection: Selection) -> Gathered[WorkerLease]:
        """Who uses which environment."""
        return await self._workers.gather(
            selection.worker, lambda worker: worker.list_leases(selection)
        )

    async def release_leases(
        self, lease_ids: tuple[str, ...], *, worker: str | None = None, force: bool = False
    ) -> Gathered[ReleaseReport]:
        """Release leases by id; those of living processes only with `force`.

        Of hosts that share a home only one can judge a lease: what any worker calls alive, none
        releases without `force`.
        """
        alive: list[WorkerLease] = []
        if not force:
            leases = (await self.list_leases(Selection())).list
            alive = [
                each
                for each in leases
                if each.entry.lease.lease_id in lease_ids and each.entry.holder is Holder.ALIVE
            ]
        living = {each.entry.lease.lease_id for each in alive}
        others = tuple(each for each in lease_ids if each not in living)
        answer = await self._workers.gather_each(
            worker, lambda each: each.release_leases(others, force=force), mutating=True
        )
        refusals = (
            ReleaseReport(refused=(each.entry,), worker_address=each.worker_address)
            for each in alive
        )
        return replace(answer, list=(*answer.list, *refusals))

    # Environments

    async def list_virtual_envs(self, selection: Selection) -> Environments:
        """The environments that match.

        `differing` names the models whose replicas were not built from one lock, `skipped` what
        of the workers' stores could not be visited.
        """
        answer = await self._workers.gather(
            selection.worker, lambda worker: worker.list_virtual_envs(selection)
        )
        skipped: tuple[WorkerSkippedItem, ...] = ()
        if answer.list or not answer.unreachable:
            # A worker of an earlier release does not know the method: it has nothing to list.
            with suppress(VirtualEnvError):
                skipped = (
                    await self._workers.gather(
                        selection.worker, lambda worker: worker.list_skipped_items()
                    )
                ).list
        return Environments(
            list=answer.list,
            unreachable=answer.unreachable,
            complete=answer.complete,
            gone=answer.gone,
            differing=differing(answer.list),
            skipped=skipped,
        )

    async def list_virtual_env_packages(
        self, selection: Selection
    ) -> Gathered[EnvironmentPackages]:
        """The environments that match, each with its packages."""
        return await self._workers.gather(
            selection.worker, lambda worker: worker.list_virtual_env_packages(selection)
        )

    async def list_virtual_env_locks(self, selection: Selection) -> Gathered[EnvironmentLock]:
        """The environments that match, each with its lock."""
        return await self._workers.gather(
            selection.worker, lambda worker: worker.list_virtual_env_locks(selection)
        )

    async def remove_virtual_env(
        self, selection: Selection, *, dry_run: bool = False, force: bool = False
    ) -> Gathered[RemovalReport]:
        """Remove the environments that match; each worker removes all of its own, or none."""
        return await self._workers.gather_each(
            selection.worker,
            lambda worker: worker.remove_virtual_env(selection, dry_run=dry_run, force=force),
            # A thousand environments take their time; a worker that is gone is noticed earlier.
            deadline=_MAINTENANCE_SECONDS,
            mutating=True,
        )

    async def verify_virtual_env(
        self, selection: Selection, *, hashes: bool = False, repair: bool = False
    ) -> Gathered[VerifiedEnvironment]:
        """Check the environments that match, and with `repair` rebuild broken ones."""
        return await self._workers.gather(
            selection.worker,
            lambda worker: worker.verify_virtual_env(selection, hashes=hashes, repair=repair),
            deadline=_MAINTENANCE_SECONDS,
            mutating=True,
        )

    async def collect_garbage(
        self,
        *,
        worker: str | None = None,
        max_bytes: int | None = None,
        older_than: float | None = None,
        prune_uv_cache: bool = False,
        dry_run: bool = False,
    ) -> Gathered[CollectionReport]:
        """Delete what nothing needs, and what goes beyond the limits; see the worker's."""
        return await self._workers.gather_each(
            worker,
            lambda each: each.collect_garbage(
                max_bytes=max_bytes,
                older_than=older_than,
                prune_uv_cache=prune_uv_cache,
                dry_run=dry_run,
            ),
            deadline=_MAINTENANCE_SECONDS,
            mutating=True,
        )

    # What there is

    async def logs(self, selection: Selection, count: int = 1) -> Gathered[WholeLog]:
        """The newest `count` logs of each worker."""
        return await self._workers.gather(
            selection.worker, lambda worker: worker.logs(selection, count)
        )

    async def read_log(self, worker_address: str, log_id: str, offset: int = 0) -> LogPart:
        """More of one log of a worker; see `VirtualEnvWorkerActor.read_log`."""
        return await self._workers.at(worker_address).read_log(log_id, offset)

    async def disk_usage(self, worker: str | None = None) -> Gathered[DiskUsage]:
        """What is on the disk of each worker."""
        return await self._workers.gather_each(
            worker,
            lambda each: each.disk_usage(_WALK_SECONDS),
            deadline=_WALK_SECONDS + ASK_SECONDS,
        )

    async def diagnose(self, worker: str | None = None) -> Diagnoses:
        """What is wrong with each host.

        The checks of the cluster compare the hosts: their clocks and releases.
        """
        sent = time.time()
        answer = await self._workers.gather_each(
            worker, lambda each: each.diagnose(), deadline=_DIAGNOSIS_SECONDS
        )
        return Diagnoses(
            list=answer.list,
            unreachable=answer.unreachable,
            complete=answer.complete,
            gone=answer.gone,
            cluster=tuple(cluster_checks(answer.list, sent)),
        )

    async def measure(self) -> ClusterMeasures:
        """The measures of the supervisor and of each worker.

        The metric that a worker is up is 0 for those that did not answer.
        """
        answer: Gathered[WorkerMeasures] = Gathered(list=())
        with suppress(VirtualEnvError):
            # Without a worker, or one that can answer, the supervisor's own numbers say so.
            answer = await self._workers.gather_each(
                None, lambda each: each.measure(), deadline=_MEASURE_SECONDS
            )
        own = measures_of_supervisor(
            self._workers.cluster,
            self._workers.measures,
            answered={each.worker_address for each in answer.list},
            complete=self._workers.is_complete,
            now=now(),
        )
        return ClusterMeasures(
            supervisor=own.report(), list=answer.list, unreachable=answer.unreachable
        )

    async def history(self) -> History:
        """What the cluster did since this supervisor was started, a day of it at most."""
        await self._look()
        return self._history.report()

    async def _remember(self) -> None:
        """Ask the workers every now and then what they have counted, until cancelled."""
        while True:
            # Of many workers less often: no more than a few are asked in a second.
            size = len(self._workers.cluster.members)
            await asyncio.sleep(max(_HISTORY_SECONDS, size * _HISTORY_SECONDS_OF_WORKER))
            await self._look()

    async def _look(self) -> None:
        """Ask the workers what they have counted, unless they were asked just now."""
        async with self._looking:
            if now() - self._looked < _HISTORY_AGE_SECONDS:
                return
            with suppress(VirtualEnvError):
                answer = await self._workers.gather_each(
                    None, lambda each: each.measure(), deadline=_MEASURE_SECONDS
                )
                self._history.measured(answer.list, at=time.time())
            self._history.keep_only(self._workers.cluster.members)
            self._looked = now()

    async def list_models(self, worker: str | None = None) -> tuple[ListedModel, ...]:
        """The models of one worker's catalogue, of one that is alive if it can be chosen."""
        return await self._any(worker).list_models()

    # Workers

    async def list_workers(self) -> tuple[WorkerStatus, ...]:
        """The workers, by address."""
        at = now()
        members = self._workers.cluster.members
        return tuple(member.describe(at) for _, member in sorted(members.items()))

    async def register_worker(self, registration: Registration) -> None:
        """Add a worker, or note that it was restarted.

        Raises `IncompatibleVersion`, and `InvalidInput` for an incarnation that was replaced.
        """
        self._workers.register(registration)

    async def heartbeat(self, address: str, incarnation: str, snapshot: WorkerSnapshot) -> bool:
        """Note that a worker lives; False when it has to register (again)."""
        return self._workers.heartbeat(address, incarnation, snapshot)

    async def note_models(self, address: str, incarnation: str, models: tuple[str, ...]) -> None:
        """Note of which models a worker has environments: only these it is asked for its locks."""
        self._workers.cluster.note_models(address, incarnation, models)

    async def forget_worker(self, wanted: str) -> WorkerStatus:
        """Take out a worker, by id, address or IP, that is not alive; what it was, as listed.

        Raises `NotFound`, and `InvalidInput` for one that is alive, or an IP that several have.
        """
        return self._workers.cluster.forget(wanted, now()).describe(now())

    async def drain_worker(self, wanted: str, *, draining: bool = True) -> WorkerStatus:
        """Give a worker, by id, address or IP, no new launches but those that name it, or end that.

        What runs there goes on. It is not kept when the supervisor is restarted. Raises
        `NotFound`, and `InvalidInput` for an IP that several have.
        """
        return self._workers.cluster.drain(wanted, draining=draining).describe(now())

    async def leave_worker(self, address: str, incarnation: str) -> None:
        """Take out a worker that ends."""
        self._workers.cluster.leave(address, incarnation)

    async def relays_of(self, wheel: WheelFile) -> tuple[Neighbour, ...]:
        """Some workers that can fetch a wheel for others, the same for all who ask."""
        return await self._helpers.find(wheel.origin, lambda each: each.can_relay(wheel))

    async def planners_for(self, interpreter: Interpreter) -> tuple[Neighbour, ...]:
        """Some workers that can resolve for a host with such an interpreter."""
        return await self._helpers.find(
            interpreter.platform_digest, lambda each: each.can_plan(interpreter)
        )

    def _any(self, worker: str | None, *, deadline: float = ASK_SECONDS) -> WorkerProtocol:
        """The least busy worker, of those at an IP or an address if one is given."""
        named = [] if worker is None else [worker]
        [member] = self._workers.cluster.choose(named, 1, now())
        return self._workers.of(member, deadline=deadline)

    async def _located(self, job: str) -> tuple[str, str | None]:
        """The id of a launch, and the worker's address when it is on one alone.

        The only worker of a cluster need not be named.
        """
        job_id, _, address = job.partition("@")
        if address or self._launches.knows(job_id):
            return job_id, address or None
        with suppress(UnknownJob):
            if len(members := self._workers.cluster.members) == 1:
                [(only, member)] = members.items()
                if not (await self._workers.of(member).members_of(job_id)).members:
                    return job_id, only
        return job_id, None

    async def _member_of(self, job: str, address: str) -> Member:
        cluster = self._workers.cluster
        while address not in cluster.members:
            if not await self._workers.may_return():
                raise UnknownJob(
                    sentence("there is no job {job}", job=repr(job)),
                    {
                        "hint": sentence(
                            "its worker is not registered; workers are: {listed}",
                            listed=cluster.listed,
                        )
                    },
                )
        return cluster.members[address]
