"""A worker's side of a cluster, with a supervisor that is only played."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.clock import LoopClock
from tests.inventory.test_cluster_state import registration
from xinference_venv._util.records import Plain
from xinference_venv.actors import rpc
from xinference_venv.actors.heartbeat import Heartbeats
from xinference_venv.errors import (
    DeadlineExceeded,
    IncompatibleVersion,
    InvalidInput,
    StoreError,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.inventory.cluster_state import WorkerSnapshot

WORKER = registration()
AWAY = WorkerUnavailable("the supervisor at s:1 can't be reached")
Outcome = bool | None | VirtualEnvError

SNAPSHOT = {"jobs": 3, "free_bytes": None}


class Supervisor:
    """Gives its outcomes in turn, then says yes; `heard` are the methods it was asked."""

    def __init__(self, clock: LoopClock, *outcomes: Outcome) -> None:
        self.clock = clock
        self.outcomes = list(outcomes)
        self.heard: list[str] = []
        self.told: list[tuple[Any, ...]] = []

    def sender(self, address: str, *, deadline: float, here: str, keep: bool) -> rpc.Send:
        assert (address, here) == ("s:1", WORKER.address)
        return self.ask

    async def ask(self, method: str, arguments: dict[str, Plain]) -> Plain:
        self.heard.append(method)
        self.told.append(tuple(arguments.values()))
        outcome = self.outcomes.pop(0) if self.outcomes else True
        if isinstance(outcome, VirtualEnvError):
            raise outcome
        return outcome if method == "heartbeat" else None

    async def asked(self, count: int) -> None:
        """Let time pass until it was asked so many times."""
        async with asyncio.timeout(60):
            while len(self.heard) < count:
                await self.clock.advance(0.5)


Play = Callable[..., Supervisor]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Play a supervisor; nobody waits for real seconds."""

    def play(*outcomes: Outcome) -> Supervisor:
        supervisor = Supervisor(LoopClock(monkeypatch), *outcomes)
        monkeypatch.setattr(rpc, "to_supervisor", supervisor.sender)
        return supervisor

    return play


def member(*models_there: tuple[str, ...] | None) -> Heartbeats:
    """A worker that has these models in turn, then the last ones; without any it does not know."""
    there = list(models_there) or [None]

    async def snapshot() -> WorkerSnapshot:
        return WorkerSnapshot(jobs=3)

    async def models() -> tuple[str, ...] | None:
        return there.pop(0) if len(there) > 1 else there[0]

    return Heartbeats(registration=WORKER, supervisor="s:1", snapshot=snapshot, models=models)


@asynccontextmanager
async def keeping(one: Heartbeats) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(one.keep())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_who_joins_says_what_it_is(play: Play) -> None:
    supervisor = play()
    await member().join()
    assert (supervisor.heard, supervisor.told) == (["register_worker"], [(WORKER.to_dict(),)])


@pytest.mark.parametrize("error", [AWAY, DeadlineExceeded("late")])
async def test_without_patience_no_answer_is_raised_at_once(
    play: Play, error: VirtualEnvError
) -> None:
    supervisor = play(error)
    with pytest.raises(type(error)):
        await member().join()
    assert len(supervisor.heard) == 1


async def test_with_patience_it_waits_and_says_so_once(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    hinted = WorkerUnavailable("it closed the connection", {"hint": "is the key the same?"})
    supervisor = play(hinted, AWAY, DeadlineExceeded("late"))
    joining = asyncio.create_task(member().join(60))
    await supervisor.asked(4)
    await joining
    assert supervisor.heard == ["register_worker"] * 4
    [line] = caplog.messages
    assert line == "it closed the connection (is the key the same?); waiting for it for 60 s"


async def test_patience_ends_with_the_last_answer(play: Play) -> None:
    supervisor = play(*[AWAY] * 9)
    joining = asyncio.create_task(member().join(2.0))
    while not joining.done():
        await supervisor.clock.advance(0.5)
    with pytest.raises(WorkerUnavailable):
        await joining
    assert 2 <= len(supervisor.heard) <= 5


async def test_what_waiting_does_not_help_is_raised_at_once(play: Play) -> None:
    for error in (IncompatibleVersion("protocol"), InvalidInput("was restarted since")):
        supervisor = play(error)
        with pytest.raises(type(error)):
            await member().join(60)
        assert len(supervisor.heard) == 1


async def test_heartbeats_carry_a_snapshot_and_go_on(play: Play) -> None:
    supervisor = play()
    async with keeping(member()):
        await supervisor.asked(3)
    assert set(supervisor.heard) == {"heartbeat"}
    assert supervisor.told[0] == (WORKER.address, WORKER.incarnation, SNAPSHOT)


async def test_the_models_of_a_worker_are_sent_when_they_change_and_to_whoever_forgot_them(
    play: Play,
) -> None:
    supervisor = play(True, True, None, True, True, None, False, None, None)
    async with keeping(member(None, ("glow",), ("glow",), ("glow", "lamp"))):
        await supervisor.asked(10)
    said = [name for name in supervisor.heard if name != "heartbeat"]
    assert said == ["note_models", "note_models", "register_worker", "note_models"]
    told = [arguments for arguments in supervisor.told if isinstance(arguments[-1], list)]
    assert [each[-1] for each in told] == [["glow"], *[["glow", "lamp"]] * 2]


async def test_a_supervisor_of_an_earlier_release_gets_no_models_again(play: Play) -> None:
    supervisor = play(True, IncompatibleVersion("'note_models' is not known at s:1"))
    async with keeping(member(("glow",))):
        await supervisor.asked(4)
    assert supervisor.heard[:4] == ["heartbeat", "note_models", "heartbeat", "heartbeat"]


async def test_who_is_not_known_any_more_registers_again(play: Play) -> None:
    supervisor = play(False)
    async with keeping(member()):
        await supervisor.asked(3)
    assert supervisor.heard[:3] == ["heartbeat", "register_worker", "heartbeat"]


async def test_a_supervisor_that_is_away_is_asked_on_and_reported_once_and_once_that_it_is_back(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    supervisor = play(AWAY, DeadlineExceeded("late"), AWAY, False)
    async with keeping(member()):
        await supervisor.asked(7)
    assert supervisor.heard[:6] == [*["heartbeat"] * 4, "register_worker", "heartbeat"]
    assert caplog.messages == [f"{AWAY}; retrying", "the supervisor at s:1 is back"]


async def test_a_supervisor_of_another_release_is_asked_on_for_it_may_be_replaced(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = play(False, IncompatibleVersion("another protocol"))
    async with keeping(member()):
        await supervisor.asked(4)
    assert supervisor.heard[:3] == ["heartbeat", "register_worker", "heartbeat"]
    assert "another protocol; retrying" in caplog.messages


async def test_another_error_of_the_supervisor_or_of_the_store_here_ends_no_membership(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    full = StoreError("can't write at s:1: no space left")
    supervisor = play(full, True)
    one = member()
    damaged = [StoreError("can't read /home")]

    async def models() -> tuple[str, ...] | None:
        if damaged:
            raise damaged.pop()
        return None

    one.models = models
    async with keeping(one):
        await supervisor.asked(4)
    assert supervisor.heard[:4] == ["heartbeat"] * 4
    assert f"{full}; retrying" in caplog.messages


async def test_a_defect_ends_no_membership_and_its_traceback_is_logged_once(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = play()
    one = member()
    broken = [KeyError("jobs"), KeyError("jobs")]

    async def snapshot() -> WorkerSnapshot:
        if broken:
            raise broken.pop()
        return WorkerSnapshot()

    one.snapshot = snapshot
    async with keeping(one):
        await supervisor.asked(1)
    assert not broken
    # Where another test has let more be logged, that it is back is there as well.
    [failed] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert failed.message == "a heartbeat failed; retrying"
    assert failed.exc_info is not None


async def test_one_whose_place_another_incarnation_took_gives_up(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    play(False, InvalidInput("it was restarted since"))
    async with asyncio.timeout(60):
        await member().keep()
    assert caplog.messages == ["not registering again: it was restarted since"]


async def test_who_leaves_says_so_and_a_supervisor_that_is_gone_is_fine(play: Play) -> None:
    supervisor = play(True, AWAY, IncompatibleVersion("another protocol"))
    for _ in range(3):
        await member().leave()
    assert supervisor.heard == ["leave_worker"] * 3
    assert supervisor.told[0] == (WORKER.address, WORKER.incarnation)
