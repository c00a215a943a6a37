"""Another worker resolves for a host that can't reach its indexes, if one can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests import fakes
from tests.index import Index, dead_port
from xinference_venv.errors import NotFound, ResolutionFailed, VirtualEnvError, WorkerUnavailable
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.reports import LockAnswer
from xinference_venv.planning.host import Interpreter
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.planning.relay import Neighbour
from xinference_venv.planning.remote_question import HostQuestion
from xinference_venv.planning.sources import PackageSources
from xinference_venv.service.remote_planner import RemotePlanner
from xinference_venv.service.wheel_relay import Reachable

LOCK = fakes.lock()
QUESTION = HostQuestion(
    request=fakes.request(), host=fakes.host(), interpreter=fakes.interpreter(), demand="x"
)
UNSOLVABLE = ResolutionFailed("lamp==9 is unsatisfiable")
UNREACHABLE = ResolutionFailed("no lamp", {"output": "Failed to fetch: `https://index.example`"})


@dataclass(kw_only=True)
class FakePlanners:
    """Workers that answer so, each after a first answer that it is not ready yet."""

    answers: dict[str, EnvLock | VirtualEnvError]
    here: str = "here"
    asked: list[str] = field(default_factory=list)

    async def planners_for(self, interpreter: Interpreter) -> Sequence[Neighbour]:
        if not self.answers:
            raise WorkerUnavailable("the supervisor can't be reached")
        return [Neighbour(address=each, incarnation="x") for each in self.answers]

    async def plan_for_host(
        self, neighbour: Neighbour, question: HostQuestion, timeout: float
    ) -> LockAnswer:
        self.asked.append(neighbour.address)
        if self.asked.count(neighbour.address) == 1:
            return LockAnswer(lock=None, error=None)
        answer = self.answers[neighbour.address]
        if isinstance(answer, WorkerUnavailable):
            raise answer
        if isinstance(answer, VirtualEnvError):
            return LockAnswer(lock=None, error=Failure.of(answer))
        return LockAnswer(lock=answer, error=None)


def planner(answers: dict[str, EnvLock | VirtualEnvError], **environment: str) -> RemotePlanner:
    reachable = Reachable(settings=fakes.settings(), environment=environment, pip=PipConfig)
    return RemotePlanner(neighbours=FakePlanners(answers=answers), reachable=reachable)


async def plan(planner: RemotePlanner, notes: list[str]) -> EnvLock | None:
    return await planner.plan(QUESTION, say=notes.append, note=notes.append)


async def test_it_waits_for_the_first_lock() -> None:
    notes: list[str] = []
    assert await plan(planner({"one": LOCK, "two": LOCK}), notes) == LOCK
    assert notes == ["an index can't be reached from here: the worker at one resolves"]


@pytest.mark.parametrize(
    "error", [WorkerUnavailable("it was killed"), NotFound("no such Python"), UNREACHABLE]
)
async def test_who_has_no_lock_to_give_is_followed_by_the_next(error: VirtualEnvError) -> None:
    notes: list[str] = []
    assert await plan(planner({"one": error, "two": LOCK}), notes) == LOCK
    assert any("the worker at one has no lock to give" in each for each in notes)


async def test_what_has_no_solution_there_has_none_here() -> None:
    with pytest.raises(ResolutionFailed, match="unsatisfiable"):
        await plan(planner({"one": UNSOLVABLE, "two": LOCK}), [])


async def test_without_another_worker_there_is_no_lock() -> None:
    notes: list[str] = []
    assert await plan(planner({}), notes) is None
    assert await plan(planner({"here": LOCK}), notes) is None
    assert notes == ["no worker resolves for this one: the supervisor can't be reached"]


async def test_indexes_are_reached_when_all_of_them_answer(index: Index) -> None:
    good = PackageSources(index_url=index.url)
    both = PackageSources(
        index_url=index.url, extra_index_urls=(f"http://127.0.0.1:{dead_port()}/simple/",)
    )
    there = planner({})
    assert await there.reaches(good, "lamp")
    assert await there.reaches(good, "lamp")
    assert index.requests == ["HEAD /simple/lamp/"]
    assert not await there.reaches(both, "lamp")
    assert not await planner({}, UV_OFFLINE="1").reaches(good, "lamp")
    assert await planner({}, UV_OFFLINE="1").reaches(PackageSources(no_index=True), "lamp")
