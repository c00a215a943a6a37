"""What a worker does on its host: prepare, list, check and remove environments, for many callers.

Comes in: requests, names and ids, from whoever may ask (the actor of this host, a test). Comes out:
reports. It knows no actors: the locks of other workers come through a function.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from functools import partial
from typing import Protocol

from xinference_venv._util.disk_threads import UPKEEP, LastKnown
from xinference_venv.errors import InvalidInput, NotFound, VirtualEnvError
from xinference_venv.inventory.cluster_state import WorkerSnapshot
from xinference_venv.inventory.environments import Environment, WorkerSkippedItem
from xinference_venv.inventory.eviction import EvictionPolicy
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.inventory import EnvEntry, building_entry, plan_removal
from xinference_venv.inventory.job_log import LogPart, WholeLog
from xinference_venv.inventory.lease import ReleaseReport, WorkerLease
from xinference_venv.inventory.packages import EnvironmentPackages
from xinference_venv.inventory.reports import (
    NOT_LOOKED_AT,
    BundlePart,
    CollectionReport,
    DiskUsage,
    EnvironmentLock,
    ExportProgress,
    JobReport,
    JobSummary,
    LaunchPlan,
    LockAnswer,
    Participants,
    RemovalReport,
    Survey,
    VerifiedEnvironment,
)
from xinference_venv.inventory.selection import Selection
from xinference_venv.observability.cluster_measures import WorkerMeasures
from xinference_venv.observability.logging import context_about
from xinference_venv.planning.host import Interpreter
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.listed_model import ListedModel
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.relay import WheelFile, WheelPart
from xinference_venv.planning.remote_question import HostQuestion
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.sentences import sentence
from xinference_venv.service.bundle_export import BundleExports
from xinference_venv.service.bundle_import import BundleImports
from xinference_venv.service.bytecode_compiler import BytecodeCompiler
from xinference_venv.service.collect_metrics import measures_of_worker
from xinference_venv.service.garbage_collector import GarbageCollector
from xinference_venv.service.host_facts import HostFactsReader
from xinference_venv.service.integrity_checker import IntegrityChecker
from xinference_venv.service.jobs import AskLock, no_lock_elsewhere
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.service.lock_server import LockSharing
from xinference_venv.service.remote_planner import Planners, RemotePlanner
from xinference_venv.service.remover import Remover
from xinference_venv.service.wheel_fetcher import Relays, WheelFetcher
from xinference_venv.service.wheel_relay import Reachable, WheelRelay
from xinference_venv.settings import RelayMode, Settings
from xinference_venv.store.host_files import disk_id, free_bytes
from xinference_venv.store.lease_admin import bind_lease, lease_entries, release_leases
from xinference_venv.store.listing import entries_of, models_of
from xinference_venv.store.logs import logs_of, read_on, text_of
from xinference_venv.store.process_identity import identify
from xinference_venv.store.shown import packages_in
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep
from xinference_venv.store.worker_id import take_worker_id
from xinference_venv.uv.subprocess import Uv


class Neighbours(Relays, Planners, Protocol):
    """The other workers of a cluster."""


class WorkerService:
    """The environments of one host. `address` names the worker in what it answers, `worker_id` in
    its cluster, from start to start: by default an id that the home keeps.

    Calls run concurrently; `start` comes before all others, `stop` after them.
    """

    def __init__(
        self,
        *,
        store: Store,
        uv: Uv,
        settings: Settings,
        environ: Mapping[str, str],
        worker_id: str | None = None,
        address: str = "",
    ) -> None:
        self.address = address
        self.worker_id = worker_id or ""
        self._kept = ExitStack()
        self.started = time.time()
        self._store = store
        hosts = HostFactsReader(store=store, uv=uv, settings=settings, environ=environ)
        self._launches = LaunchService(
            store=store, uv=uv, settings=settings, hosts=hosts, address=address
        )
        self._reachable = Reachable(
            settings=settings, environment=uv.door.environment, pip=hosts.pip
        )
        self._relay = WheelRelay(
            store=store,
            settings=settings,
            reachable=self._reachable,
            measures=self._launches.measures,
        )
        self._exports = BundleExports(launches=self._launches, relay=self._relay)
        self._imports = BundleImports(launches=self._launches)
        self._sharing = LockSharing(launches=self._launches)
        self._integrity = IntegrityChecker(store=store, launches=self._launches)
        policy = EvictionPolicy(max_bytes=settings.max_bytes, older_than=settings.max_unused)
        self._garbage = GarbageCollector(launches=self._launches, policy=policy)
        self._compiler = BytecodeCompiler(store=store, door=uv.door)
        self._launches.on_built = self._on_built
        self._remover = Remover(launches=self._launches, entries=self._entries)
        self._free = LastKnown(partial(free_bytes, store.layout.root))
        self._models = LastKnown(partial(models_of, store))

    async def start(self, address: str) -> None:
        """Clear away what a crash left, then check and collect in the background."""
        self.address = self._launches.address = address
        await UPKEEP.run(sweep, self._store)
        context = context_about(worker=address)
        context.run(self._integrity.start)
        context.run(self._garbage.start)
        context.run(self._compiler.start)

    async def stop(self) -> None:
        """Cancel every job and wait until its uv has ended.

        What can't be ended as it should, on a disk that takes no more, is raised at the end.
        """
        async with AsyncExitStack() as last_first:
            last_first.callback(self._kept.close)
            for each in (
                *(self._remover, self._compiler, self._garbage, self._integrity, self._sharing),
                *(self._relay, self._imports, self._exports, self._launches),
            ):
                last_first.push_async_callback(each.stop)

    def _on_built(self) -> None:
        self._garbage.look_soon()
        self._compiler.look_soon()

    async def take_id(self) -> None:
        """Have the id that the home keeps, unless one was given; for a worker of a cluster."""
        if not self.worker_id:
            self.worker_id = await asyncio.to_thread(take_worker_id, self._store, self._kept)

    def join(self, neighbours: Neighbours) -> None:
        """Get wheels and locks through the workers of a cluster, as the settings say."""
        if self._relay.settings.relay is not RelayMode.OFF:
            self._launches.fetcher = WheelFetcher(
                neighbours=neighbours, relay=self._relay, disk=self._store.disk
            )
            self._launches.planner = RemotePlanner(neighbours=neighbours, reachable=self._reachable)

    async def snapshot(self) -> WorkerSnapshot:
        """What a heartbeat says of this host: jobs that run, and bytes that are free."""
        running = self._launches.registry.running()
        return WorkerSnapshot(jobs=len(running), free_bytes=await self._free.now())

    async def models_there(self) -> tuple[str, ...] | None:
        """The names of the models that have environments here, in order; None if not known yet."""
        return await self._models.now()

    # Jobs

    def prepare(
        self,
        request: LaunchRequest,
        lock: EnvLock | None = None,
        *,
        job_id: str | None = None,
        ask: AskLock = no_lock_elsewhere,
        participants: Participants | None = None,
        background: bool = False,
        asked_by: str | None = None,
    ) -> str:
        """Start to make the environment of a request; returns the job's id at once.

        `lock` is one that is known already, made on a host equal to this one; `ask` may find one
        elsewhere before it is resolved here. In a launch on several workers the jobs have one id;
        `participants` is what a supervisor that was restarted has to know. One in the `background`
        comes after all others. `asked_by` names who wants it.
        """
        job = self._launches.start(
            request, lock, job_id=job_id, ask=ask, background=background, asked_by=asked_by
        )
        job.participants = participants or Participants()
        return job.job_id

    async def wait(self, job_id: str, since: int = 0, timeout: float = 30.0) -> JobReport:
        """A job's events after number `since`, its result or error; waits for the first event.

        Long-polling: returns after `timeout` seconds at most. It never cancels the job, whatever
        happens to the caller. Raises `UnknownJob`.
        """
        return await self._launches.registry.find(job_id).report(since, timeout)

    async def cancel(self, job_id: str) -> None:
        """Cancel a job: uv is ended, nothing stays. One that has ended is left as it is.

        A build that other jobs wait for goes on for these. Returns when it is done.
        """
        await self._launches.cancel(self._launches.registry.find(job_id))

    async def take_back(self, job_id: str) -> None:
        """Let a job that is ready be cancelled, for its launch failed elsewhere.

        Its lease is given back; any other job is left as it is. Raises `UnknownJob`.
        """
        await self._launches.take_back(self._launches.registry.find(job_id))

    async def plan(self, request: LaunchRequest) -> LaunchPlan:
        """What a launch would do, resolved and not built."""
        return await self._launches.plan(request)

    async def list_jobs(self) -> tuple[JobSummary, ...]:
        """The jobs that run or ended not long ago, the newest first."""
        jobs = reversed(self._launches.registry.jobs.values())
        return tuple(job.describe(self.address) for job in jobs)

    # Bundles: environments as files

    async def export_bundle(self, export_id: str, key: EnvKey, timeout: float) -> ExportProgress:
        """Put the bundle of an environment together; see `BundleExports.prepare`."""
        return await self._exports.prepare(export_id, key, timeout)

    async def read_bundle(self, export_id: str, offset: int) -> BundlePart:
        """The bytes of a bundle from an offset on; none at its end."""
        return BundlePart(data=await self._exports.read(export_id, offset))

    async def end_export(self, export_id: str) -> None:
        """Delete what lies on the disk of a bundle that was read."""
        await self._exports.end(export_id)

    async def receive_bundle(self, import_id: str, offset: int, data: bytes) -> None:
        """Take the next part of a bundle; see `BundleImports.receive`."""
        await self._imports.receive(import_id, offset, data)

    async def import_bundle(
        self,
        import_id: str,
        *,
        job_id: str | None = None,
        participants: Participants | None = None,
    ) -> str:
        """Start to make the environment of a bundle that has come; returns the job's id."""
        job = await self._imports.launch(import_id, job_id)
        job.participants = participants or Participants()
        return job.job_id

    async def end_import(self, import_id: str) -> None:
        """Delete what came of a bundle that does not come whole."""
        await self._imports.end(import_id)

    # Leases

    async def bind_lease(self, env_id: str, lease_id: str, pid: int) -> None:
        """Hand a lease to the process that uses the environment from now on."""
        process = await asyncio.to_thread(identify, pid)
        if process is None:
            raise NotFound(sentence("there is no process {pid} on this host", pid=pid))
        await asyncio.to_thread(bind_lease, self._store, env_id, lease_id, process)

    async def release_lease(self, env_id: str, lease_id: str) -> None:
        """Give a lease back; one that is gone is fine."""
        await asyncio.to_thread(self._store.release_lease, env_id, lease_id)

    async def list_leases(self, selection: Selection) -> tuple[WorkerLease, ...]:
        """Who uses the matching environments."""
        entries = await asyncio.to_thread(lease_entries, self._store, selection)
        return tuple(WorkerLease(entry=each, worker_address=self.address) for each in entries)

    async def release_leases(
        self, lease_ids: Sequence[str], *, force: bool = False
    ) -> ReleaseReport:
        """Release leases by id; those of living processes only with `force`."""
        return await asyncio.to_thread(
            release_leases,
            self._store,
            lease_ids,
            force=force,
            worker_address=self.address,
        )

    # Locks for other workers

    async def survey(self, request: LaunchRequest) -> Survey:
        """Which group of equal hosts this one belongs to for a request, and whether it is ready.

        `group` is equal where one lock serves, None where no environment is wanted; `ready`
        means that a launch would find its environment built.
        """
        return await self._sharing.survey(request)

    async def ready_lock(self, request: LaunchRequest) -> LockAnswer:
        """The lock of the environment that a launch would find ready."""
        lock = await self._sharing.lock_if_ready(request)
        gone = NotFound(sentence("the environment is not there any more"))
        return LockAnswer(lock=lock, error=Failure.of(gone) if lock is None else None)

    async def lock_of_job(self, job_id: str, timeout: float) -> LockAnswer:
        """The lock of a job once it is resolved, or its error.

        Long-polling: returns after `timeout` seconds at most. Raises `UnknownJob`.
        """
        job = self._launches.registry.find(job_id)
        lock = await self._sharing.of_job(job, timeout)
        return LockAnswer(lock=lock, error=None if job.error is None else Failure.of(job.error))

    async def members_of(self, job_id: str) -> Participants:
        """Who takes part in a launch on several workers; raises `UnknownJob`."""
        return self._launches.registry.find(job_id).participants

    async def can_plan(self, interpreter: Interpreter) -> bool:
        """Whether this worker would resolve for a host with such an interpreter, and can."""
        return await self._sharing.can_plan(interpreter, self._reachable)

    async def plan_for_host(self, question: HostQuestion, timeout: float) -> LockAnswer:
        """The lock of a request over the facts of another host, or the error.

        Long-polling: returns after `timeout` seconds at most, then without either.
        """
        try:
            return LockAnswer(lock=await self._sharing.for_host(question, timeout), error=None)
        except VirtualEnvError as error:
            return LockAnswer(lock=None, error=Failure.of(error))

    # Wheels for other workers

    async def can_relay(self, wheel: WheelFile) -> bool:
        """Whether this worker would fetch a wheel for others, and can."""
        return await self._relay.can_relay(wheel)

    async def relay(self, wheel: WheelFile, offset: int, timeout: float) -> WheelPart:
        """The bytes of a wheel from an offset on; see `WheelRelay.part`."""
        return await self._relay.part(wheel, offset, timeout)

    # Inventory

    async def list_virtual_envs(self, selection: Selection) -> tuple[Environment, ...]:
        """The environments of this host."""
        return tuple(map(self._addressed, await self._entries(selection)))

    async def list_skipped_items(self) -> tuple[WorkerSkippedItem, ...]:
        """What of this host's store could not be visited."""
        found = await asyncio.to_thread(self._store.skipped.all)
        return tuple(WorkerSkippedItem(item=each, worker_address=self.address) for each in found)

    async def list_virtual_env_locks(self, selection: Selection) -> tuple[EnvironmentLock, ...]:
        """The lock of each matching environment, None where there is none that can be read."""
        entries = await self._entries(selection)
        return await asyncio.to_thread(
            lambda: tuple(
                EnvironmentLock(
                    environment=self._addressed(each),
                    lock=None if each.env_id is None else self._store.lock_of(each.env_id),
                )
                for each in entries
            )
        )

    async def list_virtual_env_packages(
        self, selection: Selection
    ) -> tuple[EnvironmentPackages, ...]:
        """The packages of each matching environment, and what its view leads to."""
        entries = await self._entries(selection)
        return await asyncio.to_thread(packages_in, self._store, entries, self.address)

    async def remove_virtual_env(
        self,
        selection: Selection,
        *,
        dry_run: bool = False,
        force: bool = False,
    ) -> RemovalReport:
        """Remove the matching environments as `plan_removal` decides.

        Returns the plan, and as `done` the entries whose key is gone now. Nothing is removed
        when anything is refused at first, so that a refusal leaves what it found; what a launch
        takes meanwhile is refused as well, each by itself.
        """
        plan = plan_removal(await self._entries(selection), selection.matches, force=force)
        done: list[EnvEntry] = []
        late: list[EnvEntry] = []
        if not dry_run and not plan.refuse:
            planned = (*plan.remove, *plan.unlink)
            done, late = await self._remover.remove(planned, selection, force=force)
        return RemovalReport(
            plan=replace(plan, refuse=(*plan.refuse, *late)),
            done=tuple(map(self._addressed, done)),
            dry_run=dry_run,
            worker_address=self.address,
        )

    async def logs(self, selection: Selection, count: int = 1) -> tuple[WholeLog, ...]:
        """The newest `count` logs of the jobs of matching environments, with their text."""

        def read() -> tuple[WholeLog, ...]:
            newest = itertools.islice(logs_of(self._store.layout, selection), count)
            return tuple(
                WholeLog(log=each, text=text_of(each), worker_address=self.address)
                for each in newest
            )

        return await asyncio.to_thread(read)

    async def read_log(self, log_id: str, offset: int = 0) -> LogPart:
        """A log's text from `offset` on; ask again from its `offset` until `ended`.

        Offsets are in bytes, 0 is the beginning. Raises `InvalidInput`, and `NotFound` when the
        log is gone.
        """
        if offset < 0:
            raise InvalidInput(
                sentence("invalid offset {offset}", offset=offset),
                {"hint": sentence("allowed are 0 and more")},
            )
        return await asyncio.to_thread(read_on, self._store.layout, log_id, offset)

    async def verify_virtual_env(
        self,
        selection: Selection,
        *,
        hashes: bool = False,
        repair: bool = False,
    ) -> tuple[VerifiedEnvironment, ...]:
        """Look closely at the matching environments, and with `repair` build broken ones again.

        With `hashes` the contents of all files are compared. Each entry as it is then, with
        `faults`, `repaired` and `not_repaired` as `Finding` has them; those that older versions
        left are not looked at, and have no `faults` (null).
        """
        before = await self._entries(selection)
        found = await self._integrity.verify(before, hashes=hashes, repair=repair)
        entries = await self._entries(selection)
        return tuple(
            VerifiedEnvironment(
                environment=self._addressed(entry), finding=found.get(entry.key, NOT_LOOKED_AT)
            )
            for entry in entries
        )

    async def collect_garbage(
        self,
        *,
        max_bytes: int | None = None,
        older_than: float | None = None,
        prune_uv_cache: bool = False,
        dry_run: bool = False,
    ) -> CollectionReport:
        """Delete what no key and no process needs, and what exceeds the limits.

        See `GarbageCollector`.

        `max_bytes` is for all environments together, `older_than` in seconds since a launch.
        What is in use stays. Raises `InvalidInput`.
        """
        policy = EvictionPolicy(max_bytes=max_bytes, older_than=older_than)
        return await self._garbage.collect(policy, prune_uv_cache=prune_uv_cache, dry_run=dry_run)

    async def disk_usage(self, timeout: float) -> DiskUsage:
        """What is on this host's disk, in bytes; changes nothing.

        See `GarbageCollector.disk_usage`. Raises `DeadlineExceeded` after `timeout` seconds.
        """
        return await self._garbage.disk_usage(timeout)

    async def measure(self) -> WorkerMeasures:
        """What this worker counted since its start, and what there is now."""
        measures = await measures_of_worker(self._launches, self.started)
        return WorkerMeasures(
            measures=measures.report(),
            worker_address=self.address,
            disk_id=await asyncio.to_thread(disk_id, self._store.layout.root),
        )

    async def list_models(self) -> tuple[ListedModel, ...]:
        """The models of this host's catalogue."""
        return tuple(each.listed for each in await self._launches.models())

    async def _entries(self, selection: Selection) -> list[EnvEntry]:
        entries = await asyncio.to_thread(entries_of, self._store, selection)
        building = [
            building_entry(build.spec.key, str(self._store.layout.key_link(build.spec.key)))
            for build in self._launches.builds.values()
        ]
        there = {entry.path for entry in entries}
        waiting = [entry for entry in building if entry.path not in there]
        return [entry for entry in (*entries, *waiting) if selection.matches(entry.key)]

    def _addressed(self, entry: EnvEntry) -> Environment:
        return Environment.at(self.address, entry)
