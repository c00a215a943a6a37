"""A worker gets wheels through others: it believes a hash, and goes on to the next who has it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.clock import FakeClock
from xinference_venv._util.clock import Clock
from xinference_venv.errors import NotFound, VirtualEnvError, WorkerUnavailable
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.planning.relay import Neighbour, WheelFile, WheelPart, in_order
from xinference_venv.service.wheel_fetcher import WheelFetcher
from xinference_venv.service.wheel_relay import Reachable, WheelRelay
from xinference_venv.settings import Settings
from xinference_venv.store.store import Store

CONTENT = bytes(range(256)) * 40
WHEEL = WheelFile(
    file_name="lamp-1.0-py3-none-any.whl",
    url="https://files.example/lamp-1.0-py3-none-any.whl",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
)
NAMES = ("one", "two", "three")
FIRST, SECOND, THIRD = (
    each.address
    for each in in_order(WHEEL.sha256, [Neighbour(address=n, incarnation="x") for n in NAMES])
)


@dataclass(kw_only=True)
class FakeNeighbours:
    """Workers that give these bytes, or raise; half of the content is a part by default."""

    gives: dict[str, bytes | VirtualEnvError]
    here: str = "here"
    part_bytes: int | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)

    async def relays_of(self, wheel: WheelFile) -> Sequence[Neighbour]:
        if not self.gives:
            raise WorkerUnavailable("the supervisor can't be reached")
        there = self.gives.keys() - self.gone
        return [Neighbour(address=each, incarnation="x") for each in sorted(there)]

    async def part(
        self, neighbour: Neighbour, wheel: WheelFile, offset: int, timeout: float
    ) -> WheelPart:
        self.asked.append((neighbour.address, offset))
        given = self.gives[neighbour.address]
        if isinstance(given, VirtualEnvError):
            if offset:
                raise given
            return WheelPart(data=CONTENT[:100], size=len(CONTENT), fetched=len(CONTENT))
        end = offset + (self.part_bytes or len(given) // 2 + 1)
        return WheelPart(data=given[offset:end], size=len(given), fetched=len(given))


@dataclass(kw_only=True)
class Fetches:
    folder: Path
    patience: float = 0.0
    clock: Clock = time
    notes: list[str] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    async def fetch(self, neighbours: FakeNeighbours) -> bytes | None:
        settings = Settings.from_environ({}, home_directory=str(self.folder))
        store = Store.open(self.folder / "virtualenv")
        reachable = Reachable(settings=settings, environment={}, pip=PipConfig)
        relay = WheelRelay(
            store=store, settings=settings, reachable=reachable, measures=MetricRegistry()
        )
        fetcher = WheelFetcher(
            neighbours=neighbours,
            relay=relay,
            disk=store.disk,
            patience=self.patience,
            clock=self.clock,
        )
        found = await fetcher.fetch(
            {"lamp": WHEEL},
            self.folder / "wheels",
            report=lambda _, done: self.done.append(done),
            note=self.notes.append,
        )
        return found["lamp"].read_bytes() if found else None


@pytest.fixture
def fetches(tmp_path: Path) -> Fetches:
    return Fetches(folder=tmp_path)


async def test_the_first_in_the_order_is_asked_part_by_part(fetches: Fetches) -> None:
    neighbours = FakeNeighbours(gives=dict.fromkeys(NAMES, CONTENT))
    assert await fetches.fetch(neighbours) == CONTENT
    assert neighbours.asked == [(FIRST, 0), (FIRST, len(CONTENT) // 2 + 1)]
    assert fetches.done == sorted(fetches.done)
    assert fetches.done[-1] == len(CONTENT)


async def test_a_relay_that_lies_is_found_out_by_the_hash(fetches: Fetches) -> None:
    lie = CONTENT[:-1] + b"!"
    neighbours = FakeNeighbours(gives={**dict.fromkeys(NAMES, CONTENT), FIRST: lie})
    assert await fetches.fetch(neighbours) == CONTENT
    assert [each for each, offset in neighbours.asked if not offset] == [FIRST, SECOND]
    assert WHEEL.sha256 in fetches.notes[0]


async def test_a_relay_that_sends_without_end_is_left(fetches: Fetches) -> None:
    neighbours = FakeNeighbours(gives={FIRST: CONTENT * 4, SECOND: CONTENT})
    assert await fetches.fetch(neighbours) == CONTENT
    assert "more than" in fetches.notes[0]


async def test_a_relay_that_trickles_is_left(fetches: Fetches) -> None:
    """Each part in time, of a byte, would keep a launch for weeks."""
    fetches.clock = FakeClock(tick=61.0)
    neighbours = FakeNeighbours(gives=dict.fromkeys(NAMES, CONTENT), part_bytes=1)
    assert await fetches.fetch(neighbours) is None
    assert [each for each in neighbours.asked if each[1] > 1] == []
    assert "next to nothing came for 60 s" in fetches.notes[0]


@pytest.mark.parametrize(
    "error", [WorkerUnavailable("it was killed"), NotFound("it was deleted meanwhile")]
)
async def test_after_a_relay_that_dies_in_the_middle_the_next_one_is_asked(
    fetches: Fetches, error: VirtualEnvError
) -> None:
    neighbours = FakeNeighbours(gives={FIRST: error, SECOND: error, THIRD: CONTENT})
    assert await fetches.fetch(neighbours) == CONTENT
    assert [each for each, offset in neighbours.asked if not offset] == [FIRST, SECOND, THIRD]


@dataclass(kw_only=True)
class Busy(FakeNeighbours):
    """The first of them does not answer the first `late` times, and `dies` then."""

    late: int = 2
    dies: bool = False

    async def part(
        self, neighbour: Neighbour, wheel: WheelFile, offset: int, timeout: float
    ) -> WheelPart:
        if neighbour.address == FIRST and (self.late or self.dies):
            self.late = max(0, self.late - 1)
            if not self.late and self.dies:
                self.gone.add(FIRST)
            raise WorkerUnavailable("no answer")
        return await FakeNeighbours.part(self, neighbour, wheel, offset, timeout)


async def test_a_relay_that_is_too_busy_to_answer_is_asked_again_so_that_no_other_fetches_it_too(
    tmp_path: Path,
) -> None:
    neighbours = Busy(gives=dict.fromkeys(NAMES, CONTENT))
    fetches = Fetches(folder=tmp_path, patience=60.0)
    assert await fetches.fetch(neighbours) == CONTENT
    assert {each for each, _ in neighbours.asked} == {FIRST}
    assert fetches.notes == []


async def test_a_relay_that_the_supervisor_gave_up_is_not_waited_for(tmp_path: Path) -> None:
    neighbours = Busy(gives=dict.fromkeys(NAMES, CONTENT), dies=True)
    fetches = Fetches(folder=tmp_path, patience=3600.0)
    assert await fetches.fetch(neighbours) == CONTENT
    assert {each for each, _ in neighbours.asked} == {SECOND}
    assert FIRST in fetches.notes[0]


async def test_when_all_fail_nothing_comes_and_the_log_has_the_reason(fetches: Fetches) -> None:
    assert await fetches.fetch(FakeNeighbours(gives={})) is None
    assert await fetches.fetch(FakeNeighbours(gives={FIRST: CONTENT[1:]})) is None
    assert "the supervisor can't be reached" in fetches.notes[0]
    assert FIRST in fetches.notes[1]


async def test_a_cancelled_fetch_ends(fetches: Fetches) -> None:
    asked = asyncio.Event()

    class Waiting(FakeNeighbours):
        async def part(
            self, neighbour: Neighbour, wheel: WheelFile, offset: int, timeout: float
        ) -> WheelPart:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    task = asyncio.create_task(fetches.fetch(Waiting(gives={FIRST: CONTENT})))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
