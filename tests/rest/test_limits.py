"""The guard: whose requests, and how large."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.rest.fakes import FakeSupervisor, app_of, browser
from xinference_venv.rest.limits import Limits
from xinference_venv.rest.server import hosts_of

JSON = {"Content-Type": "application/json"}


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size):
        yield b" " * 1000


async def test_a_body_that_is_too_large_is_refused_however_it_comes() -> None:
    supervisor = FakeSupervisor()
    async with browser(app_of(supervisor, limits=Limits(body_bytes=5000))) as ask:
        event_stream = await ask.post("/v1/virtualenvs/gc", content=b" " * 5001, headers=JSON)
        untold = await ask.post("/v1/virtualenvs/gc", content=_chunks(6), headers=JSON)
        lied = {**JSON, "Content-Length": "9" * 5000}
        huge = await ask.post("/v1/virtualenvs/gc", content=b"{}", headers=lied)
        fits = await ask.post("/v1/virtualenvs/gc", content=b"{}" + b" " * 4998, headers=JSON)
    assert [each.status_code for each in (event_stream, untold, huge, fits)] == [413, 413, 413, 200]
    assert event_stream.json()["code"] == "too_large"
    assert len(supervisor.asked) == 1


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9798", 200),
        ("LOCALHOST:80", 200),
        ("localhost", 200),
        ("[::1]:9798", 200),
        ("127.0.0.5", 200),
        ("evil.example:9798", 400),
        ("localhost.evil.example", 400),
        ("", 400),
        ("[::2]", 400),
    ],
)
async def test_on_the_loopback_address_only_its_own_names_are_answered(
    host: str, status: int
) -> None:
    app = app_of(FakeSupervisor(), hosts=hosts_of("127.0.0.5"))
    async with browser(app) as ask:
        answer = await ask.get("/v1/workers", headers={"Host": host})
    assert answer.status_code == status
    assert answer.is_success or answer.json()["code"] == "unknown_host"


def test_elsewhere_any_name_will_do() -> None:
    assert hosts_of("10.0.0.1") is None


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://api", 200),
        ("http://API", 200),
        ("http://evil.example", 403),
        ("http://api:81", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
async def test_a_page_of_another_site_can_change_nothing(origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"Origin": origin}
    async with browser(app_of(FakeSupervisor())) as ask:
        answer = await ask.post("/v1/virtualenvs/gc", json={}, headers=headers)
    assert answer.status_code == status
