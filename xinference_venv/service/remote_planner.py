"""The lock of a host that can't reach its indexes: another worker resolves over the host's facts.

Comes in: the question of a launch. Comes out: the lock that a worker with a network found for it,
or none, and then the launch resolves by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from xinference_venv._util.records import digest_of
from xinference_venv.errors import ResolutionFailed, VirtualEnvError
from xinference_venv.inventory.reports import LockAnswer
from xinference_venv.planning.host import Interpreter
from xinference_venv.planning.index_answers import places_of
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.relay import Neighbour
from xinference_venv.planning.remote_question import HostQuestion
from xinference_venv.planning.sources import PackageSources
from xinference_venv.sentences import sentence
from xinference_venv.service.wheel_relay import Reachable
from xinference_venv.uv.messages import could_not_fetch

_POLL_SECONDS = 20.0


class Planners(Protocol):
    """The workers that plan for others, as one of them, at the address `here`, reaches them."""

    @property
    def here(self) -> str: ...

    async def planners_for(self, interpreter: Interpreter) -> Sequence[Neighbour]: ...

    async def plan_for_host(
        self, neighbour: Neighbour, question: HostQuestion, timeout: float
    ) -> LockAnswer: ...


@dataclass(frozen=True, kw_only=True)
class RemotePlanner:
    """Asks the workers that can reach their indexes; `reachable` is what this one reaches."""

    neighbours: Planners
    reachable: Reachable

    async def reaches(self, sources: PackageSources, project: str) -> bool:
        """Whether all indexes of some sources answer; also where there is none to ask.

        They are asked for the page of a project: that of all projects may take them long.
        """
        indexes = [each for each in places_of(sources) if each.what == "index"]
        pages = [each.of_project(project) for each in indexes]
        key = digest_of(["indexes", *(each.url for each in indexes)])
        return not pages or await self.reachable.places(pages, key)

    async def plan(
        self,
        question: HostQuestion,
        *,
        say: Callable[[str], None],
        note: Callable[[str], None],
    ) -> EnvLock | None:
        """The lock of the first worker that has one.

        Raises the `ResolutionFailed` of a worker: the others would fail alike.
        """
        try:
            found = await self.neighbours.planners_for(question.interpreter)
        except VirtualEnvError as error:
            note(f"no worker resolves for this one: {error}")
            return None
        for each in found:
            if each.address == self.neighbours.here:
                continue
            say(
                sentence(
                    "an index can't be reached from here: the worker at {address} resolves",
                    address=each.address,
                )
            )
            try:
                return await self._of(each, question)
            except VirtualEnvError as error:
                if isinstance(error, ResolutionFailed) and not could_not_fetch(error):
                    raise
                note(f"the worker at {each.address} has no lock to give: {error}")
        return None

    async def _of(self, neighbour: Neighbour, question: HostQuestion) -> EnvLock:
        while True:
            answer = await self.neighbours.plan_for_host(neighbour, question, _POLL_SECONDS)
            if answer.error is not None:
                raise answer.error.error()
            if answer.lock is not None:
                return answer.lock
