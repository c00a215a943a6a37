"""The client's own part: launches whose caller goes away, the environment that is meant."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest

import xinference_venv
from tests import fakes
from xinference_venv.actors.protocols import SupervisorProtocol
from xinference_venv.client import Client, Patience, local_client
from xinference_venv.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    UvNotFound,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.environments import Environment, Environments
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.reports import JobReport
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest

REQUEST = LaunchRequest(model_name="lantern")


@pytest.mark.uv
@pytest.mark.parametrize("uv", ["", "/no/uv"])
async def test_actors_of_this_process_leave_nothing_running(
    environ: dict[str, str], uv: str
) -> None:
    refused = pytest.raises(UvNotFound) if uv else nullcontext()
    with refused:
        async with local_client({**environ, "XOSCAR_UV_PATH": uv}):
            pass
    ours = str(Path(xinference_venv.__file__).parent)
    running = (cast(Any, task.get_coro()).cr_code for task in asyncio.all_tasks())
    assert [each.co_qualname for each in running if each.co_filename.startswith(ours)] == []


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


async def test_who_is_cancelled_is_cancelled_though_the_launch_can_not_be(
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervisor = LostSupervisor()
    calling = asyncio.ensure_future(
        Client(supervisor=cast(SupervisorProtocol, supervisor)).prepare(REQUEST)
    )
    await supervisor.followed.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    unknown = "it is not known whether the launch was cancelled: nothing answers"
    assert caplog.messages == [unknown]


class SilentSupervisor:
    """Begins a launch, and of the questions how it goes answers only the one of this number."""

    def __init__(self, answered: int | None) -> None:
        self.questions = 0
        self.answered = answered

    async def prepare(self, *_: Any, **__: Any) -> str:
        return "a launch"

    async def wait(self, *_: Any) -> JobReport:
        self.questions += 1
        if self.questions != self.answered:
            await asyncio.Event().wait()
        failure = Failure.of(InvalidInput("no such model"))
        return JobReport(
            job_id="a launch", phase=Phase.FAILED, events=(), result=None, error=failure
        )


@pytest.mark.parametrize(
    ("answered", "restart", "error"), [(3, 60.0, InvalidInput), (None, 0.1, DeadlineExceeded)]
)
async def test_a_launch_is_followed_over_a_network_that_is_cut_for_a_while(
    answered: int | None, restart: float, error: type[VirtualEnvError]
) -> None:
    client = Client(
        supervisor=cast(SupervisorProtocol, SilentSupervisor(answered)),
        patience=Patience(poll=0.0, late=0.02, again=0.0, restart=restart),
    )
    with pytest.raises(error):
        await client.prepare(REQUEST)


async def test_a_cancelled_call_waits_for_no_supervisor_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supervisor = LostSupervisor()
    monkeypatch.setattr(supervisor, "cancel", lambda _: asyncio.Event().wait())
    client = Client(supervisor=cast(SupervisorProtocol, supervisor), patience=Patience(cancel=0.02))
    calling = asyncio.ensure_future(client.prepare(REQUEST))
    await supervisor.followed.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


async def test_a_cancelled_call_waits_for_no_supervisor_that_does_not_begin() -> None:
    supervisor = SlowSupervisor()
    client = Client(supervisor=cast(SupervisorProtocol, supervisor), patience=Patience(cancel=0.02))
    calling = asyncio.ensure_future(client.prepare(REQUEST))
    await supervisor.asked.wait()
    calling.cancel()
    assert (await asyncio.wait([calling], timeout=60))[0]
    assert calling.cancelled() and supervisor.cancelled == []


class Listing:
    """Lists these environments, one worker's after the other's."""

    def __init__(self, *entries: EnvEntry) -> None:
        listed = [
            Environment.at(f"10.0.0.{number}:7000", each) for number, each in enumerate(entries)
        ]
        self.answer = Environments(list=tuple(listed))

    async def list_virtual_envs(self, _: Selection) -> Environments:
        return self.answer


async def one_ready(*entries: EnvEntry) -> Environment:
    client = Client(supervisor=cast(SupervisorProtocol, Listing(*entries)))
    return await client.one_ready(Selection(model_name="lantern"))


IN_PLACE = fakes.entry(state=EnvState.IN_PLACE, env_id=None)


async def test_the_ready_one_is_meant_and_none_that_is_changed_in_its_place() -> None:
    ready = fakes.entry(lock_digest="a")
    assert (await one_ready(IN_PLACE, ready, ready)).entry == ready
    with pytest.raises(InvalidInput, match="has no lock"):
        await one_ready(IN_PLACE)


async def test_replicas_of_one_lock_are_one_and_others_have_to_be_distinguished() -> None:
    first, second = (fakes.entry(lock_digest=digest) for digest in "ab")
    assert (await one_ready(first, first)).worker_address == "10.0.0.0:7000"
    with pytest.raises(InvalidInput, match="matches 2 environments") as several:
        await one_ready(first, second)
    assert "10.0.0.0:7000" in str(several.value.hint)


async def test_without_a_ready_one_there_is_none() -> None:
    with pytest.raises(NotFound, match="ready environment of 'lantern'") as none:
        await one_ready(fakes.entry(state=EnvState.BROKEN))
    assert none.value.hint == "`xinference-venv launch` makes it"
