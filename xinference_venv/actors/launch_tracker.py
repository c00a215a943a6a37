"""Launches on several workers: their states' instructions are run, and fed what came of them.

What is known here can be asked again of the workers, who know who else takes part; so a
supervisor that was restarted follows on.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from xinference_venv._util.tasks import cancel
from xinference_venv.actors.protocols import WorkerProtocol
from xinference_venv.actors.worker_clients import WorkerClients, now
from xinference_venv.errors import (
    DeadlineExceeded,
    UnknownJob,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.inventory.cluster_state import Member, WorkerState
from xinference_venv.inventory.launch_state import (
    AskForNews,
    CancelJob,
    Instruction,
    Instructions,
    LaunchState,
    TakeBack,
    jobs_of_launches,
)
from xinference_venv.inventory.replicas import (
    LockSource,
    Replica,
    SurveyAnswer,
    assign_sources,
    groups_without_lock,
)
from xinference_venv.inventory.reports import JobReport, JobSummary, Participants
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.sentences import sentence
from xinference_venv.service.phases import unforeseen_error

_POLL_SECONDS = 20.0
_ANSWER_SECONDS = 5.0
_CANCEL_SECONDS = 20.0
# An answer says how every worker fares: what many say at about the same time goes into one.
_TOGETHER_SECONDS = 0.1
_SURVEY_SECONDS = 30.0
_SPARE_SECONDS = 5.0
# Of the workers that may have a lock, so many are asked first.
_ASKED_FIRST = 16
# So many of a launch's workers know all the others: enough to find it again after a restart.
_WITNESSES = 8
_LAUNCHES_KEPT = 200

_log = logging.getLogger(__name__)


ToWorker = Callable[[str, str, float], WorkerProtocol]
"""The worker at an address, in one incarnation, asked with a deadline in seconds."""


@dataclass(kw_only=True, eq=False)
class LaunchTracker:
    """Runs the instructions of one launch's state; `is_gone` says whether a worker was given up.

    `model` is what is launched, where that is known.
    """

    job_id: str
    state: LaunchState
    to_worker: ToWorker
    is_gone: Callable[[str], bool]
    model: str | None = None
    _task: asyncio.Task[None] | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, failed: Mapping[str, VirtualEnvError]) -> None:
        """Follow the jobs of all workers; where they `failed` to start there is none."""
        self._task = asyncio.create_task(self._follow(failed))

    @property
    def has_ended(self) -> bool:
        """Whether the launch has its result or its error."""
        return self.state.outcome is not None

    @property
    def is_over(self) -> bool:
        """Whether no worker has anything left to do for it either."""
        return self._task is not None and self._task.done()

    async def wait(self, since: int, timeout: float) -> JobReport:
        """The events after number `since` and how it is going; waits for the first new one."""
        if not self.state.report(self.job_id, since).events and not self.has_ended:
            await _wait_for(self._changed, timeout)
        await _wait_for(self._ended, min(timeout, _TOGETHER_SECONDS))
        return self.state.report(self.job_id, since)

    async def cancel(self) -> None:
        """Cancel the jobs of all workers; returns when nothing of them is left, or unreachable."""
        self.begin_to_cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    def begin_to_cancel(self) -> None:
        """Cancel the jobs of all workers; it is over when nothing of them is left."""
        self._run(self.state.cancel(at=time.time()))

    async def stop(self) -> None:
        """Follow no more; the workers' jobs go on."""
        if self._task is not None:
            await cancel(self._task)

    async def _follow(self, failed: Mapping[str, VirtualEnvError]) -> None:
        try:
            self._run(self.state.begin(failed, at=time.time()))
            await self._over.wait()
        finally:
            # The answer of a worker that was given up is not needed.
            await cancel(*self._tasks)

    def _run(self, instructions: Instructions) -> None:
        """Begin to carry out instructions, and let those who wait see what has changed."""
        for each in instructions:
            task = asyncio.create_task(self._carry_out(each))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self.has_ended:
            self._ended.set()
        if self.state.is_over:
            self._over.set()
        self._changed.set()
        self._changed = asyncio.Event()

    async def _carry_out(self, instruction: Instruction) -> None:
        try:
            await self._act(instruction)
        except Exception as error:  # noqa: BLE001
            # No one waits for this task: without an end of its part the launch would have none.
            address = instruction.address
            _log.exception("the launch %s can't be followed at %s", self.job_id, address)
            if isinstance(instruction, TakeBack):
                self._run(self.state.taken_back(address, at=time.time()))
            else:
                failure = unforeseen_error(error).with_details(host=address)
                self._run(self.state.failed(address, failure, at=time.time()))

    async def _act(self, instruction: Instruction) -> None:
        match instruction:
            case AskForNews():
                self._run(await self._news(instruction))
            case CancelJob(address=address):
                try:
                    await self._worker(address, _CANCEL_SECONDS).cancel(self.job_id)
                except VirtualEnvError as error:
                    self._run(self.state.failed(address, error, at=time.time()))
            case TakeBack(address=address):
                # One that is away gives its lease back by itself: it is not bound.
                with suppress(VirtualEnvError):
                    await self._worker(address, _CANCEL_SECONDS).take_back(self.job_id)
                self._run(self.state.taken_back(address, at=time.time()))

    async def _news(self, question: AskForNews) -> Instructions:
        """Ask a worker for its news, and what follows from the answer or from its absence."""
        await asyncio.sleep(question.pause)
        address = question.address
        worker = self._worker(address, _POLL_SECONDS + _ANSWER_SECONDS)
        try:
            report = await worker.wait(self.job_id, question.since, _POLL_SECONDS)
        except (WorkerUnavailable, DeadlineExceeded) as error:
            gone = self.is_gone(address)
            return self.state.unanswered(address, error, is_gone=gone, now=now(), at=time.time())
        except UnknownJob:
            return self.state.restarted(address, at=time.time())
        except VirtualEnvError as error:
            return self.state.failed(address, error, at=time.time())
        return self.state.heard(address, report, at=time.time())

    def _worker(self, address: str, deadline: float) -> WorkerProtocol:
        return self.to_worker(address, self.state.replicas[address].incarnation, deadline)


class ClusterLaunches:
    """The launches on several workers that were started here, or found again through these."""

    def __init__(self, workers: WorkerClients) -> None:
        self._workers = workers
        self._launches: dict[str, LaunchTracker] = {}

    async def launch(
        self,
        request: LaunchRequest,
        chosen: list[Member],
        require: int,
        *,
        background: bool = False,
        asked_by: str | None = None,
    ) -> str:
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
        if not refresh:
            others = await self._survey_others(chosen, surveyed, request)
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
                    background=background,
                    asked_by=asked_by,
                )
            except VirtualEnvError as error:
                failed[address] = error

        follow = partial(self._follow, job_id, members, require, failed)
        try:
            await asyncio.gather(*map(start, chosen))
        except asyncio.CancelledError:
            # No one learns its id any more, so no one else would cancel what has begun.
            follow(model=request.model_name, asked_by=asked_by).begin_to_cancel()
            raise
        follow(model=request.model_name, asked_by=asked_by)
        return job_id

    async def import_bundle(self, import_id: str, chosen: list[Member]) -> str:
        """Start the jobs of a bundle that has come to workers; returns the launch's id.

        Each makes what it can of it: the launch is ready when one of them is.
        """
        job_id = uuid.uuid4().hex
        members = [
            LockSource(
                address=each.registration.address,
                incarnation=each.registration.incarnation,
                job_id=job_id,
            )
            for each in chosen
        ]
        participants = Participants(members=tuple(members), require=1)
        failed: dict[str, VirtualEnvError] = {}

        async def start(member: Member) -> None:
            try:
                await self._workers.of(member).import_bundle(
                    import_id, job_id=job_id, participants=participants
                )
            except VirtualEnvError as error:
                failed[member.registration.address] = error

        await asyncio.gather(*map(start, chosen))
        self._follow(job_id, members, 1, failed)
        return job_id

    async def _survey_others(
        self, chosen: list[Member], surveyed: Sequence[SurveyAnswer], request: LaunchRequest
    ) -> list[SurveyAnswer]:
        """The workers that are not part of a launch and may have a lock to give, as far as needed.

        Only those are asked that have an environment of the model, a few at first, and more while
        a group of equal hosts has no lock.
        """
        named = {member.registration.address for member in chosen}
        others = [
            member
            for member in self._may_have(request.model_name)
            if member.registration.address not in named
        ]
        found: list[SurveyAnswer] = []
        at_once = _ASKED_FIRST
        while others and groups_without_lock([*surveyed, *found]):
            asked, others = others[:at_once], others[at_once:]
            at_once *= 2
            answers = await asyncio.gather(
                *(self._survey(each, request, _SPARE_SECONDS) for each in asked)
            )
            found += [each for each in answers if isinstance(each, SurveyAnswer)]
        return found

    def _may_have(self, model: str) -> list[Member]:
        """The living workers that say they have the model, or took part in a launch of it here:
        what they say is some seconds old.
        """
        cluster = self._workers.cluster
        may_have = {each.registration.address: each for each in cluster.may_have(model, now())}
        for launch in self._launches.values():
            if launch.model == model:
                for address in launch.state.replicas:
                    member = cluster.members.get(address)
                    if member is not None and member.state(now()) is WorkerState.ALIVE:
                        may_have[address] = member
        return list(may_have.values())

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
            ready=answer.ready,
        )

    def _follow(
        self,
        job_id: str,
        members: Sequence[LockSource],
        require: int,
        failed: dict[str, VirtualEnvError],
        *,
        model: str | None = None,
        asked_by: str | None = None,
        found: bool = False,
    ) -> LaunchTracker:
        """Follow a launch; `model` and `asked_by` are None for one that is `found` again."""
        ended = [each for each, launch in self._launches.items() if launch.is_over]
        for each in ended[: max(0, len(ended) - _LAUNCHES_KEPT)]:
            del self._launches[each]
        replicas = {
            each.address: Replica(worker_address=each.address, incarnation=each.incarnation)
            for each in members
        }
        following = LaunchTracker(
            job_id=job_id,
            model=model,
            state=LaunchState(
                require=require,
                replicas=replicas,
                unheard=set(replicas) if found else set(),
                asked_by=asked_by,
            ),
            to_worker=self._to_worker,
            is_gone=partial(self._is_gone, {each.address: each.incarnation for each in members}),
        )
        following.start(failed)
        self._launches[job_id] = following
        return following

    def known(self, rows: Sequence[JobSummary]) -> tuple[JobSummary, ...]:
        """The jobs that workers list, as their launches ended for them."""
        states = {job_id: launch.state for job_id, launch in self._launches.items()}
        return jobs_of_launches(rows, states)

    def knows(self, job_id: str) -> bool:
        """Whether it follows, or followed, this launch."""
        return job_id in self._launches

    async def find(self, job_id: str) -> LaunchTracker:
        """The launch, found again through its workers after a restart; raises `UnknownJob`."""
        while job_id not in self._launches:
            knowing = []
            if self._workers.cluster.members:
                answer = await self._workers.gather(
                    None, lambda worker: _participants_of(worker, job_id), missing=UnknownJob
                )
                knowing = [each for each in answer.list if each.members]
            if job_id in self._launches:
                break
            if knowing:
                self._follow(job_id, knowing[0].members, knowing[0].require, {}, found=True)
            elif not await self._workers.may_return():
                raise UnknownJob(
                    sentence("there is no job {job_id}", job_id=repr(job_id)),
                    {"hint": sentence("it ended long ago, or all its workers were restarted")},
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
