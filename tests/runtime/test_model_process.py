"""A model's process is ended once, and what goes wrong meanwhile is told."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.clock import LoopClock
from xinference_venv.errors import StoreError
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.runtime.model_process import ModelProcess, end_sub_pool

_ADDRESS = "127.0.0.1:1"


@dataclass
class Process:
    """A process that ends when it is told to."""

    pid: int = 1
    end: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> int:
        await self.end.wait()
        return 0


@dataclass
class Pool:
    """A pool of one process; `told` is that the others have heard of its end."""

    process: Process = field(default_factory=Process)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    fault: Exception | None = None
    removals: int = 0
    sub_processes: dict[str, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sub_processes[_ADDRESS] = self.process

    async def remove_sub_pool(self, address: str, *, timeout: float, force: bool) -> None:
        self.removals += 1
        self.sub_processes.pop(address).end.set()
        await self.told.wait()
        if self.fault is not None:
            raise self.fault


@dataclass
class Worker:
    """A worker whose disk may fail."""

    fault: Exception | None = None
    released: int = 0

    async def bind_lease(self, env_id: str, lease_id: str, pid: int) -> None:
        raise AssertionError("no process is started here")

    async def release_lease(self, env_id: str, lease_id: str) -> None:
        self.released += 1
        if self.fault is not None:
            raise self.fault


def _running(pool: Pool, worker: Worker, env: Path) -> ModelProcess:
    environment = PreparedEnvironment(
        python=str(env / "bin" / "python"), env_id="env", lease_id="lease"
    )
    return ModelProcess(
        address=_ADDRESS,
        pid=pool.process.pid,
        environment=environment,
        _handle=pool.process,
        _pool=pool,
        _worker=worker,
    )


async def test_one_that_is_stopped_twice_at_once_is_removed_once(tmp_path: Path) -> None:
    pool = Pool()
    pool.told.set()
    process = _running(pool, Worker(), tmp_path)
    await asyncio.gather(process.stop(), process.stop())
    assert pool.removals == 1


async def test_the_pool_forgets_one_that_ended_although_its_lease_can_not_be_given_back(
    tmp_path: Path,
) -> None:
    pool, worker = Pool(), Worker(fault=StoreError("the disk is full"))
    pool.told.set()
    process = _running(pool, worker, tmp_path)
    pool.process.end.set()
    with pytest.raises(StoreError, match="the disk is full"):
        await process.watch()
    assert (worker.released, pool.sub_processes) == (1, {})


async def test_what_goes_wrong_after_it_was_waited_for_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    pool = Pool(fault=OSError("no route"))
    clock = LoopClock(monkeypatch)
    ending = asyncio.create_task(end_sub_pool(pool, _ADDRESS))
    async with asyncio.timeout(60):
        while not ending.done():
            await clock.advance(1.0)
    await ending
    pool.told.set()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
    assert caplog.messages == [f"the removal of the process at {_ADDRESS} ended badly: no route"]


async def test_what_goes_wrong_while_it_is_waited_for_is_raised_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = Pool(fault=OSError("no route"))
    pool.told.set()
    with pytest.raises(OSError, match="no route"):
        await end_sub_pool(pool, _ADDRESS)
    assert caplog.messages == []
