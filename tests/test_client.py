"""The client's own part: what becomes of a launch whose caller goes away."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from xinference_venv.actors.protocols import SupervisorProtocol
from xinference_venv.client import Client
from xinference_venv.errors import InvalidInput, WorkerUnavailable
from xinference_venv.inventory.reports import JobReport
from xinference_venv.planning.request import LaunchRequest

REQUEST = LaunchRequest(model_name="lantern")


class SlowSupervisor:
    """Answers `prepare` when it is told to; `cancelled` are the launches that were."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.cancelled: list[str] = []

    async def prepare(self, *_: Any, **__: Any) -> str:
        self.asked.set()
        return await self.answer

    async def cancel(self, job: str) -> None:
        self.cancelled.append(job)


@pytest.mark.parametrize("several", [False, True])
async def test_a_launch_that_begins_while_its_caller_goes_away_is_cancelled(several: bool) -> None:
    supervisor = SlowSupervisor()
    client = Client(supervisor=cast(SupervisorProtocol, supervisor))
    launch = client.prepare_on(REQUEST, everywhere=True) if several else client.prepare(REQUEST)
    calling = asyncio.ensure_future(launch)
    await supervisor.asked.wait()
    calling.cancel()
    # The call stays until it knows what it is to cancel.
    await asyncio.wait([calling], timeout=0)
    assert not calling.done()
    supervisor.answer.set_result("a launch")
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert supervisor.cancelled == ["a launch"]


async def test_a_launch_that_never_begins_leaves_nothing_to_cancel() -> None:
    supervisor = SlowSupervisor()
    calling = asyncio.ensure_future(
        Client(supervisor=cast(SupervisorProtocol, supervisor)).prepare(REQUEST)
    )
    await supervisor.asked.wait()
    calling.cancel()
    supervisor.answer.set_exception(InvalidInput("no such model"))
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert supervisor.cancelled == []


class LostSupervisor:
    """Begins a launch, and can't be reached when that is to be cancelled."""

    def __init__(self) -> None:
        self.followed = asyncio.Event()

    async def prepare(self, *_: Any, **__: Any) -> str:
        return "a launch"

    async def wait(self, *_: Any) -> JobReport:
        self.followed.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def cancel(self, job: str) -> None:
        raise WorkerUnavailable("nothing answers")


async def test_who_is_cancelled_is_cancelled_though_the_launch_can_not_be() -> None:
    supervisor = LostSupervisor()
    calling = asyncio.ensure_future(
        Client(supervisor=cast(SupervisorProtocol, supervisor)).prepare(REQUEST)
    )
    await supervisor.followed.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
