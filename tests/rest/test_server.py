"""The server itself: where it listens, and that it ends while somebody follows a launch."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest

from tests.rest.fakes import FakeSupervisor, app_of
from tests.scenarios.steps import eventually
from xinference_venv.errors import InvalidInput
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.reports import JobReport
from xinference_venv.rest.server import served


class Endless(FakeSupervisor):
    """A supervisor whose launch never ends; `waiting` are those who wait for its end."""

    waiting = 0

    def __getattr__(self, method: str) -> Any:
        async def wait(job: str, since: int, timeout: float) -> JobReport:
            # A question that waits for nothing is no wait.
            self.waiting += timeout > 0
            await asyncio.sleep(timeout)
            return JobReport(job_id=job, phase=Phase.QUEUED, events=(), result=None, error=None)

        return wait


async def test_it_ends_while_someone_follows_a_launch(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        httpx.AsyncClient() as ask,
        served(app_of(Endless()), "127.0.0.1", 0) as server,
        ask.stream("GET", f"{server.address}/v1/jobs/abc/events") as answer,
    ):
        lines = answer.aiter_lines()
        assert await anext(lines) == "retry: 2000"
    assert [each for each in caplog.records if each.exc_info] == []


async def test_who_waits_when_it_ends_is_notified(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    async with httpx.AsyncClient(timeout=30.0) as ask:
        endless = Endless()
        async with served(app_of(endless), "127.0.0.1", 0) as server:
            url = f"{server.address}/v1/jobs/abc"
            following = asyncio.create_task(ask.get(f"{url}/events"))
            polling = asyncio.create_task(ask.get(url, params={"wait": 30}))
            await eventually(lambda: endless.waiting >= 2)
        assert (await following).text.splitlines()[2] == "event: lost"
        assert (await polling).status_code == 503
    assert [each for each in caplog.records if each.exc_info] == []


async def test_an_address_that_is_taken_is_named() -> None:
    async with served(app_of(FakeSupervisor()), "127.0.0.1", 0) as server:
        port = int(server.address.rpartition(":")[2])
        with pytest.raises(InvalidInput, match="can't listen at"):
            async with served(app_of(FakeSupervisor()), "127.0.0.1", port):
                pass
