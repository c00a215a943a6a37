"""Which workers can help others: the supervisor asks them, and remembers it for minutes.

They fetch wheels, or resolve. All who ask get the same workers, so a wheel is fetched by one. A few
are enough, so not all of a large cluster are asked at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from xinference_venv._util.tasks import gave_nothing
from xinference_venv.actors.protocols import WorkerProtocol
from xinference_venv.actors.worker_clients import WorkerClients, now
from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.cluster_state import Member, WorkerState
from xinference_venv.planning.relay import Neighbour

# A worker asks an index, which may not answer, for five seconds.
_ASK_SECONDS = 10.0
_KEPT_SECONDS = 300.0
_ENOUGH = 4
_AT_FIRST = 8


@dataclass(kw_only=True)
class HelperFinder:
    """The workers that can help, found once in five minutes for each question."""

    workers: WorkerClients
    _found: dict[str, tuple[float, asyncio.Task[tuple[Neighbour, ...]]]] = field(
        default_factory=dict, init=False
    )

    async def find(
        self, question: str, can: Callable[[WorkerProtocol], Awaitable[bool]]
    ) -> tuple[Neighbour, ...]:
        """Some workers that say that they can, the same for all who ask meanwhile.

        Those that left since are not among them.
        """
        at, task = self._found.get(question, (0.0, None))
        # Where there was none, one may have joined since.
        if task is None or now() - at > _KEPT_SECONDS or gave_nothing(task):
            task = asyncio.create_task(self._ask(can))
            self._found = {
                each: found
                for each, found in self._found.items()
                if now() - found[0] < _KEPT_SECONDS
            }
            self._found[question] = (now(), task)
        # Who asks may be cancelled while others wait.
        found = await asyncio.shield(task)
        members = self.workers.cluster.members
        there = {
            address: member.registration.incarnation
            for address, member in members.items()
            if member.state(now()) is not WorkerState.GONE
        }
        return tuple(each for each in found if there.get(each.address) == each.incarnation)

    async def _ask(self, can: Callable[[WorkerProtocol], Awaitable[bool]]) -> tuple[Neighbour, ...]:
        members = [
            member
            for _, member in sorted(self.workers.cluster.members.items())
            if member.state(now()) is WorkerState.ALIVE
        ]
        found: list[Neighbour] = []
        count = _AT_FIRST
        while members and len(found) < _ENOUGH:
            some, members = members[:count], members[count:]
            # Where none of the first can help, the one that can is to be found soon.
            count *= 4
            answers = await asyncio.gather(*(self._answer(each, can) for each in some))
            found += [
                Neighbour(
                    address=each.registration.address, incarnation=each.registration.incarnation
                )
                for each, answer in zip(some, answers, strict=True)
                if answer
            ]
        return tuple(found[:_ENOUGH])

    async def _answer(
        self, member: Member, can: Callable[[WorkerProtocol], Awaitable[bool]]
    ) -> bool:
        try:
            return await can(self.workers.of(member, deadline=_ASK_SECONDS))
        except VirtualEnvError:
            # Among them: one of an earlier release does not know the question.
            return False
