"""The part of the supervisor that launches on the workers.

It keeps nothing that it can't ask again: workers of a launch know who else takes part.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from xinference_venv.actors.heartbeat import SUPERVISOR_UID as SUPERVISOR_UID
from xinference_venv.actors.launch_tracker import LaunchTracker
from xinference_venv.actors.supervisor_workers import ASK_SECONDS, SupervisorWorkers
from xinference_venv.errors import (
    InvalidInput,
    UnknownJob,
    VirtualEnvError,
)
from xinference_venv.inventory.cluster_state import Member, WorkerState
from xinference_venv.inventory.replicas import LockSource, SurveyAnswer, assign_sources

_SURVEY_SECONDS = 30.0
_SPARE_SECONDS = 5.0
# So many of a launch's workers know all the others: enough to find it again after a restart.
_WITNESSES = 8
_PLAN_SECONDS = 3600.0
_LAUNCHES_KEPT = 200


class SupervisorJobs(SupervisorWorkers):
    """The launches, on the workers that `SupervisorWorkers` knows."""

    def __init__(self) -> None:
        super().__init__()
        self._launches: dict[str, LaunchTracker] = {}

    # Jobs

    async def prepare(
        self,
        request: dict[str, Any],
        worker_ip: str | None = None,
        *,
        workers: Sequence[str] = (),
        count: int | None = None,
        everywhere: bool = False,
        require: int | None = None,
    ) -> str:
        """Start a launch: on one worker (of `worker_ip`, or address), on `count` of them, on the
        named `workers` (each an IP, which means all on it, or an address), or `everywhere`.

        Equal hosts get one lock: one of them resolves, unless a worker of the cluster has the
        model running with these requirements; then its lock serves (a request to refresh
        resolves again). With fewer than `require` ready (all, by default), the launch fails and
        the leases of the others are given back. Returns the launch's id at once. Raises
        `NotFound` and `InvalidInput`.
        """
        if worker_ip is not None:
            if workers or everywhere:
                raise InvalidInput(
                    "name one worker, or several, or ask for all: these exclude each other"
                )
            workers, count = (worker_ip,), count or 1
        elif not workers and not everywhere:
            count = count or 1
        chosen = self._cluster.choose(list(workers), count, self._now())
        if require is not None and not 1 <= require <= len(chosen):
            raise InvalidInput(
                f"{require} ready workers are required, of {len(chosen)} that are chosen"
            )
        if len(self._cluster.members) == 1:
            member = chosen[0]
            job_id = await self._ask(member, "prepare", request)
            return f"{job_id}@{member.registration.address}"
        return await self._launch(request, chosen, require or len(chosen))

    async def wait(self, job: str, since: int = 0, timeout: float = 30.0) -> dict[str, Any]:
        """A launch's new events, result or error; see `VirtualEnvWorkerActor.wait`.

        `workers` says of each worker how it fares: phase, result, error.
        """
        job_id, address = _job(job)
        if address is None:
            return await (await self._following(job_id)).wait(since, timeout)
        member = await self._member_of(job, address)
        answer: dict[str, Any] = await self._ask(
            member, "wait", job_id, since, timeout, deadline=timeout + ASK_SECONDS
        )
        replica = {
            "worker_address": address,
            "incarnation": member.registration.incarnation,
            **{name: answer[name] for name in ("phase", "result", "error")},
        }
        return {**answer, "job_id": job, "workers": [replica]}

    async def cancel(self, job: str) -> None:
        """Cancel a launch; returns when nothing of it is left."""
        job_id, address = _job(job)
        if address is None:
            await (await self._following(job_id)).cancel()
        else:
            await self._ask(await self._member_of(job, address), "cancel", job_id)

    async def list_jobs(self, worker_ip: str | None = None) -> dict[str, Any]:
        """``{"list": jobs, "unreachable": [...]}``: what runs, or ended not long ago."""
        return await self._gather(worker_ip, "list_jobs")

    async def plan(self, request: dict[str, Any], worker_ip: str | None = None) -> dict[str, Any]:
        """What a launch would do on a worker, resolved and not built."""
        [member] = self._cluster.choose([worker_ip] if worker_ip else [], 1, self._now())
        answer: dict[str, Any] = await self._ask(member, "plan", request, deadline=_PLAN_SECONDS)
        return {**answer, "worker_address": member.registration.address}

    async def _launch(self, request: dict[str, Any], chosen: list[Member], require: int) -> str:
        """Start the jobs of a launch on several workers, or on one of several."""
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
        refresh = request.get("refresh") is True
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
                await self._ask(
                    member,
                    "prepare",
                    request,
                    job_id=job_id,
                    lock_sources=[each.to_dict() for each in sources[address]],
                    members=[each.to_dict() for each in knows_all],
                    require=require,
                )
            except VirtualEnvError as error:
                failed[address] = error

        await asyncio.gather(*map(start, chosen))
        self._follow(job_id, members, require, failed)
        return job_id

    async def _survey_others(
        self, chosen: list[Member], request: dict[str, Any]
    ) -> list[SurveyAnswer]:
        """The workers that are not part of a launch: some may have a lock to give."""
        now = self._now()
        named = {member.registration.address for member in chosen}
        others = [
            member
            for address, member in self._cluster.members.items()
            if address not in named and member.state(now) is WorkerState.ALIVE
        ]
        replies = await asyncio.gather(
            *(self._survey(each, request, _SPARE_SECONDS) for each in others)
        )
        return [each for each in replies if isinstance(each, SurveyAnswer)]

    async def _survey(
        self, member: Member, request: dict[str, Any], deadline: float
    ) -> SurveyAnswer | VirtualEnvError:
        try:
            answer = await self._ask(member, "survey", request, deadline=deadline)
        except VirtualEnvError as error:
            return error
        return SurveyAnswer(
            address=member.registration.address,
            incarnation=member.registration.incarnation,
            group=answer["group"],
            standing=answer["standing"],
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
            ask=self._ask_incarnation,
            is_gone=partial(self._is_gone, {each.address: each.incarnation for each in members}),
            failed=failed,
        )
        self._launches[job_id] = following
        return following

    async def _following(self, job_id: str) -> LaunchTracker:
        """The launch, found again through its workers after a restart; raises `UnknownJob`."""
        while job_id not in self._launches:
            knowing = []
            if self._cluster.members:
                replies = await self._gather(None, "members_of", job_id, missing=UnknownJob)
                knowing = [each for each in replies["list"] if each["members"]]
            if job_id in self._launches:
                break
            if knowing:
                members = [LockSource.from_dict(each) for each in knowing[0]["members"]]
                self._follow(job_id, members, knowing[0]["require"], {})
            elif not await self._may_return():
                raise UnknownJob(
                    f"there is no job {job_id!r}",
                    {"hint": "it ended long ago, or all its workers were restarted"},
                )
        return self._launches[job_id]

    def _is_gone(self, incarnations: Mapping[str, str], address: str) -> bool:
        member = self._cluster.members.get(address)
        if member is None:
            return self._is_complete
        if member.registration.incarnation != incarnations[address]:
            return True
        return member.state(self._now()) is WorkerState.GONE

    async def _member_of(self, job: str, address: str) -> Member:
        while address not in self._cluster.members:
            if not await self._may_return():
                raise UnknownJob(
                    f"there is no job {job!r}",
                    {"hint": f"its worker is not registered; workers are: {self._cluster.listed}"},
                )
        return self._cluster.members[address]

    async def stop(self) -> None:
        """Follow no launch any more; the workers go on, and a new supervisor follows again."""
        await asyncio.gather(*(launch.stop() for launch in self._launches.values()))


def _job(job: str) -> tuple[str, str | None]:
    """The id of a launch, and the worker's address when it is on one alone."""
    job_id, _, address = job.partition("@")
    return job_id, address or None
