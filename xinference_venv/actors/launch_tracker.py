"""Launches on several workers, followed from the supervisor: events joined, the policy applied.

What is known here can be asked again of the workers, who know who else takes part; so a
supervisor that was restarted follows on.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from xinference_venv.actors.protocols import WorkerProtocol
from xinference_venv.actors.worker_clients import WorkerClients, now
from xinference_venv.errors import (
    DeadlineExceeded,
    JobCancelled,
    UnknownJob,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.inventory.cluster_state import Member, WorkerState
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.jobs import EVENTS_KEPT, JobEvent, Phase
from xinference_venv.inventory.replicas import (
    LockSource,
    Replica,
    SurveyAnswer,
    assign_sources,
    error_of,
    is_lost,
    phase_of,
)
from xinference_venv.inventory.reports import JobReport, Participants
from xinference_venv.planning.request import LaunchRequest

_POLL_SECONDS = 20.0
_ANSWER_SECONDS = 5.0
_AGAIN_SECONDS = 0.25
# An answer says how every worker fares: what many say at about the same time goes into one.
_TOGETHER_SECONDS = 0.1
# So long a worker that can't be reached may come back: a network that was split heals.
_GRACE_SECONDS = 10.0
_SURVEY_SECONDS = 30.0
_SPARE_SECONDS = 5.0
# So many of a launch's workers know all the others: enough to find it again after a restart.
_WITNESSES = 8
_LAUNCHES_KEPT = 200


ToWorker = Callable[[str, str, float], WorkerProtocol]
"""The worker at an address, in one incarnation, asked with a deadline in seconds."""


@dataclass(kw_only=True, eq=False)
class LaunchTracker:
    """One launch; `is_gone` tells whether a worker was given up."""

    job_id: str
    require: int
    to_worker: ToWorker
    is_gone: Callable[[str], bool]
    replicas: dict[str, Replica]
    events: list[JobEvent] = field(default_factory=list)
    _next: int = 1
    _ended: Phase | None = None
    _task: asyncio.Task[None] | None = None
    _lost: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def start(
        cls,
        job_id: str,
        members: Iterable[tuple[str, str]],
        *,
        require: int,
        to_worker: ToWorker,
        is_gone: Callable[[str], bool],
        failed: Mapping[str, VirtualEnvError],
    ) -> LaunchTracker:
        """Follow the jobs of these workers (address, incarnation); `failed` ones never began."""
        replicas = {}
        for address, incarnation in members:
            replica = Replica(worker_address=address, incarnation=incarnation)
            if address in failed:
                replica = replace(replica, phase=Phase.FAILED, error=Failure.of(failed[address]))
            replicas[address] = replica
        launch = cls(
            job_id=job_id, require=require, to_worker=to_worker, is_gone=is_gone, replicas=replicas
        )
        for address, error in failed.items():
            launch._say(address, Phase.FAILED, error.message)
        launch._task = asyncio.create_task(launch._follow_all())
        return launch

    @property
    def has_ended(self) -> bool:
        """Whether every replica has, and the policy was applied."""
        return self._ended is not None

    async def wait(self, since: int, timeout: float) -> JobReport:
        """The events after number `since` and how it stands; waits for the first new one."""
        if not self._after(since) and not self.has_ended:
            await _wait_for(self._changed, timeout)
        await _wait_for(self._over, min(timeout, _TOGETHER_SECONDS))
        replicas = list(self.replicas.values())
        phase = self._ended or phase_of(replicas, self.require)
        ready = [each for each in replicas if each.phase is Phase.READY]
        failed = self._ended in (Phase.FAILED, Phase.CANCELLED)
        return JobReport(
            job_id=self.job_id,
            phase=phase if self.has_ended or not phase.is_last else Phase.PUBLISHING,
            events=tuple(self._after(since)),
            result=ready[0].result if self._ended is Phase.READY else None,
            error=Failure.of(error_of(replicas)) if failed else None,
            workers=tuple(replicas),
        )

    async def cancel(self) -> None:
        """Cancel the jobs of all workers; returns when nothing of them is left, or unreachable."""
        await self._cancel_running()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Follow no more; the workers' jobs go on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _after(self, since: int) -> list[JobEvent]:
        # A number of before a restart is one that was not given yet: all is news then.
        since = since if since < self._next else 0
        return [event for event in self.events if event.seq > since]

    async def _follow_all(self) -> None:
        running = [
            asyncio.create_task(self._follow(replica))
            for replica in list(self.replicas.values())
            if not replica.phase.is_last
        ]
        try:
            await self._cancel_if_lost()
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
        replicas = list(self.replicas.values())
        if is_lost(replicas, self.require):
            await asyncio.gather(
                *(self._give_back(each) for each in replicas if each.phase is Phase.READY)
            )
        self._ended = phase_of(replicas, self.require)
        self._over.set()
        self._wake()

    async def _follow(self, replica: Replica) -> None:
        """Follow one worker's job, and end the launch with it where the policy says so."""
        try:
            await self._follow_to_end(replica)
        except VirtualEnvError as error:
            # An unexpected error must end this part too: a caller waits for the launch.
            self._end(replica.worker_address, Phase.FAILED, error)
        if self.replicas[replica.worker_address].phase is not Phase.READY:
            await self._cancel_if_lost()

    async def _cancel_if_lost(self) -> None:
        if not self._lost and is_lost(list(self.replicas.values()), self.require):
            self._lost = True
            await self._cancel_running()

    async def _follow_to_end(self, replica: Replica) -> None:
        """Follow one worker's job to its end, or to that of the worker."""
        address, since = replica.worker_address, 0
        silent_since: float | None = None
        while not self.replicas[address].phase.is_last:
            try:
                answer = await self._worker(replica, _POLL_SECONDS + _ANSWER_SECONDS).wait(
                    self.job_id, since, _POLL_SECONDS
                )
            except (WorkerUnavailable, DeadlineExceeded) as error:
                now = asyncio.get_running_loop().time()
                silent_since = silent_since or now
                refused = isinstance(error, WorkerUnavailable)
                patience = now - silent_since
                if self.is_gone(address) or (refused and patience > _GRACE_SECONDS):
                    self._end(address, Phase.FAILED, error)
                    return
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            except UnknownJob:
                self._end(
                    address,
                    Phase.FAILED,
                    WorkerUnavailable(f"the worker at {address} was restarted during the launch"),
                )
                return
            silent_since = None
            for event in answer.events:
                since = event.seq
                self._add(replace(event, worker_address=address))
            self.replicas[address] = replace(
                self.replicas[address],
                phase=answer.phase,
                result=answer.result,
                error=answer.error,
            )
            self._wake()

    async def _cancel_running(self) -> None:
        async def cancel(replica: Replica) -> None:
            try:
                await self._worker(replica, _POLL_SECONDS).cancel(self.job_id)
            except VirtualEnvError as error:
                self._end(replica.worker_address, Phase.FAILED, error)

        running = [each for each in self.replicas.values() if not each.phase.is_last]
        await asyncio.gather(*map(cancel, running))

    async def _give_back(self, replica: Replica) -> None:
        """Give the lease of a ready replica back, since the launch failed elsewhere."""
        result = replica.result
        if result is not None and result.env_id is not None and result.lease_id is not None:
            worker = self._worker(replica, _POLL_SECONDS)
            try:
                await worker.release_lease(result.env_id, result.lease_id)
            except VirtualEnvError:
                # It is not bound: the worker gives it back by itself.
                return
        error = JobCancelled(f"ready on {replica.worker_address}, given back: others failed")
        self.replicas[replica.worker_address] = replace(
            replica, phase=Phase.CANCELLED, result=None, error=Failure.of(error)
        )

    def _worker(self, replica: Replica, deadline: float) -> WorkerProtocol:
        return self.to_worker(replica.worker_address, replica.incarnation, deadline)

    def _end(self, address: str, phase: Phase, error: VirtualEnvError) -> None:
        if self.replicas[address].phase.is_last:
            return
        self.replicas[address] = replace(
            self.replicas[address], phase=phase, error=Failure.of(error)
        )
        self._say(address, phase, error.message)

    def _say(self, address: str, phase: Phase, message: str) -> None:
        self._add(
            JobEvent(seq=0, at=time.time(), phase=phase, message=message, worker_address=address)
        )
        self._wake()

    def _add(self, event: JobEvent) -> None:
        self.events.append(replace(event, seq=self._next))
        self._next += 1
        del self.events[: max(0, len(self.events) - EVENTS_KEPT)]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class ClusterLaunches:
    """The launches on several workers that were started here, or found again through these."""

    def __init__(self, workers: WorkerClients) -> None:
        self._workers = workers
        self._launches: dict[str, LaunchTracker] = {}

    async def launch(self, request: LaunchRequest, chosen: list[Member], require: int) -> str:
        """Start the jobs of a launch on several workers, or on one of several; returns its id."""
        job_id = uuid.uuid4().hex
        surveys = await asyncio.gather(
            *(self._survey(each, request, _SURVEY_SECONDS) for each in chosen)
        )
        failed = {
            member.registration.address: survey
            for member, survey in zip(chosen, surveys, strict=True)
            if isinstance(survey, VirtualEnvError)
        }
        if len(failed) == len(chosen):
            # Bad input is bad everywhere: there is nothing to follow.
            raise next(iter(failed.values()))
        surveyed = [each for each in surveys if isinstance(each, SurveyAnswer)]
        refresh = request.refresh
        others = []
        if not refresh and any(each.wants_lock for each in surveyed):
            others = await self._survey_others(chosen, request)
        sources = assign_sources(job_id, surveyed, others, refresh=refresh)
        members = [
            LockSource(
                address=member.registration.address,
                incarnation=member.registration.incarnation,
                job_id=job_id,
            )
            for member in chosen
        ]

        healthy = [each.address for each in members if each.address not in failed]
        witnesses = set(healthy[:_WITNESSES])

        async def start(member: Member) -> None:
            address = member.registration.address
            if address in failed:
                return
            knows_all = members if address in witnesses else []
            try:
                await self._workers.of(member).prepare(
                    request,
                    job_id=job_id,
                    lock_sources=sources[address],
                    participants=Participants(members=tuple(knows_all), require=require),
                )
            except VirtualEnvError as error:
                failed[address] = error

        await asyncio.gather(*map(start, chosen))
        self._follow(job_id, members, require, failed)
        return job_id

    async def _survey_others(
        self, chosen: list[Member], request: LaunchRequest
    ) -> list[SurveyAnswer]:
        """The workers that are not part of a launch: some may have a lock to give."""
        at = now()
        named = {member.registration.address for member in chosen}
        others = [
            member
            for address, member in self._workers.cluster.members.items()
            if address not in named and member.state(at) is WorkerState.ALIVE
        ]
        told = await asyncio.gather(
            *(self._survey(each, request, _SPARE_SECONDS) for each in others)
        )
        return [each for each in told if isinstance(each, SurveyAnswer)]

    async def _survey(
        self, member: Member, request: LaunchRequest, deadline: float
    ) -> SurveyAnswer | VirtualEnvError:
        try:
            answer = await self._workers.of(member, deadline=deadline).survey(request)
        except VirtualEnvError as error:
            return error
        return SurveyAnswer(
            address=member.registration.address,
            incarnation=member.registration.incarnation,
            group=answer.group,
            standing=answer.standing,
        )

    def _follow(
        self,
        job_id: str,
        members: Sequence[LockSource],
        require: int,
        failed: dict[str, VirtualEnvError],
    ) -> LaunchTracker:
        ended = [each for each, launch in self._launches.items() if launch.has_ended]
        for each in ended[: max(0, len(ended) - _LAUNCHES_KEPT)]:
            del self._launches[each]
        following = LaunchTracker.start(
            job_id,
            [(each.address, each.incarnation) for each in members],
            require=require,
            to_worker=self._to_worker,
            is_gone=partial(self._is_gone, {each.address: each.incarnation for each in members}),
            failed=failed,
        )
        self._launches[job_id] = following
        return following

    async def find(self, job_id: str) -> LaunchTracker:
        """The launch, found again through its workers after a restart; raises `UnknownJob`."""
        while job_id not in self._launches:
            knowing = []
            if self._workers.cluster.members:
                told = await self._workers.gather(
                    None, lambda worker: _participants_of(worker, job_id), missing=UnknownJob
                )
                knowing = [each for each in told.list if each.members]
            if job_id in self._launches:
                break
            if knowing:
                self._follow(job_id, knowing[0].members, knowing[0].require, {})
            elif not await self._workers.may_return():
                raise UnknownJob(
                    f"there is no job {job_id!r}",
                    {"hint": "it ended long ago, or all its workers were restarted"},
                )
        return self._launches[job_id]

    def _is_gone(self, incarnations: Mapping[str, str], address: str) -> bool:
        member = self._workers.cluster.members.get(address)
        if member is None:
            return self._workers.is_complete
        if member.registration.incarnation != incarnations[address]:
            return True
        return member.state(now()) is WorkerState.GONE

    async def stop(self) -> None:
        """Follow no launch any more; the workers go on, and a new supervisor follows again."""
        await asyncio.gather(*(launch.stop() for launch in self._launches.values()))

    def _to_worker(self, address: str, incarnation: str, deadline: float) -> WorkerProtocol:
        return self._workers.incarnation(address, incarnation, deadline=deadline)


async def _participants_of(worker: WorkerProtocol, job_id: str) -> tuple[Participants]:
    return (await worker.members_of(job_id),)


async def _wait_for(event: asyncio.Event, timeout: float) -> None:
    """Wait for an event, for `timeout` seconds at most."""
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        pass
