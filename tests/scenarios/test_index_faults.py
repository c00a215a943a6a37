"""Launches from an index that fails: what a user reads, what stays, and that the next one heals."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.fakes import through_json
from tests.index import Index, black_hole
from tests.plain import plain
from tests.scenarios.steps import asking, environments, left_behind, says, version_of
from tests.wheels import corrupt
from xinference_venv.client import Client, local_client
from xinference_venv.errors import (
    BuildFailed,
    DeadlineExceeded,
    InstallFailed,
    ResolutionFailed,
    VirtualEnvError,
)
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store.paths import StorePaths

pytestmark = [pytest.mark.uv, pytest.mark.usefixtures("wheels")]

PAGE = "/simple/lantern/"
WHEEL = "/files/lantern-1.0-py3-none-any.whl"
LOGIN = b"<!DOCTYPE html><html><body><h1>Log in to the network</h1></body></html>"
DEADLINE_SECONDS = 2


@pytest.fixture
def uv_cache(tmp_path: Path) -> Path:
    """A cache that no other test has filled."""
    return tmp_path / "uv-cache"


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    """Without tries that follow on a failure, which take seconds each."""
    return {**environ, "UV_HTTP_RETRIES": "0"}


async def refusal(client: Client, request: LaunchRequest) -> VirtualEnvError:
    """The error of a launch that fails, as a user gets it."""
    with pytest.raises(VirtualEnvError) as caught:
        await client.prepare(request)
    return caught.value


async def check_healed(client: Client, index: Index, layout: StorePaths) -> None:
    """Nothing is left of the launches before, and the next one succeeds."""
    assert left_behind(layout) == []
    assert await client.entries() == []
    prepared = await client.prepare(asking(index, "lantern==1.0"))
    assert await says(prepared.python, version_of("lantern")) == "1.0"
    assert environments(layout) == [prepared.env_id]


def running_uv() -> list[psutil.Process]:
    """The uv processes that this one has started and that can still act."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if child.name() == "uv" and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


Fault = Callable[[Index], None]

FAULTS: dict[str, tuple[Fault, type[VirtualEnvError], str]] = {
    "a page that fails": (
        lambda index: index.fail(PAGE, 503),
        ResolutionFailed,
        "503 Service Unavailable",
    ),
    "a page that redirects to itself": (
        lambda index: index.redirect(PAGE, PAGE),
        ResolutionFailed,
        "lantern",
    ),
    "a page of a login": (
        lambda index: index.replace(PAGE, LOGIN),
        ResolutionFailed,
        "lantern",
    ),
    "a page that breaks off": (
        lambda index: index.cut(PAGE, after_bytes=20),
        ResolutionFailed,
        "lantern",
    ),
    "metadata that fails": (
        lambda index: index.fail(f"{WHEEL}.metadata", 500),
        ResolutionFailed,
        "500 Internal Server Error",
    ),
    "metadata of a login": (
        lambda index: index.replace(f"{WHEEL}.metadata", LOGIN),
        ResolutionFailed,
        "lantern",
    ),
    "a wheel that fails": (
        lambda index: index.fail(WHEEL, 500),
        InstallFailed,
        "500 Internal Server Error",
    ),
    "a wheel that is forbidden": (
        lambda index: index.fail(WHEEL, 403),
        InstallFailed,
        "403 Forbidden",
    ),
    "a wheel that redirects to itself": (
        lambda index: index.redirect(WHEEL, WHEEL),
        InstallFailed,
        "lantern",
    ),
    "a wheel of a login": (
        lambda index: index.replace(WHEEL, LOGIN),
        InstallFailed,
        "lantern",
    ),
    "a wheel that breaks off": (
        lambda index: index.cut(WHEEL, after_bytes=300),
        InstallFailed,
        "lantern",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_is_wrong_with_an_index_is_reported_and_heals(
    client: Client, index: Index, layout: StorePaths, fault: str
) -> None:
    break_index, kind, words = FAULTS[fault]
    break_index(index)
    error = await refusal(client, asking(index, "lantern==1.0"))
    assert isinstance(error, kind), error
    assert words in error.message
    if "fails" in fault:
        assert f"{index.url.removesuffix('/simple/')}/" in error.message
    assert error.phase == ("resolving" if kind is ResolutionFailed else "installing")
    index.heal()
    await check_healed(client, index, layout)


async def test_a_wheel_that_was_changed_and_mended_is_installed(
    client: Client, index: Index, layout: StorePaths, wheels: Path
) -> None:
    # The index announces the hash of its first sight.
    plain(await client.supervisor.plan(asking(index, "lantern==1.0")))
    wheel = wheels / "lantern-1.0-py3-none-any.whl"
    corrupt(wheel)
    error = await refusal(client, asking(index, "lantern==1.0"))
    assert isinstance(error, InstallFailed)
    assert "Hash mismatch for `lantern==1.0`" in error.message
    # The change is its own reverse.
    corrupt(wheel)
    await check_healed(client, index, layout)


async def test_an_index_that_never_answers_ends_the_launch_at_its_deadline(
    environ: dict[str, str], index: Index, layout: StorePaths
) -> None:
    impatient = {**environ, "XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT": str(DEADLINE_SECONDS)}
    async with local_client(impatient) as client:
        with black_hole() as port:
            request = through_json(asking(index, "lantern==1.0").to_dict())
            request["virtualenv"]["index_url"] = f"http://127.0.0.1:{port}/simple/"
            launch = asyncio.create_task(refusal(client, LaunchRequest.from_dict(request)))
            groups: set[int] = set()
            while not launch.done():
                groups |= {each.pid for each in running_uv()}
                await asyncio.sleep(0.02)
            error = await launch
        assert isinstance(error, DeadlineExceeded), error
        assert "uv took longer than 2 s and was ended" in error.message
        assert "XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT" in str(error.hint)
        assert error.phase == "resolving"
        assert groups
        assert not [pid for pid in groups if _group_lives(pid)]
    # What works takes what time it needs.
    async with local_client(environ) as client:
        await check_healed(client, index, layout)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


async def test_uv_killed_at_any_moment_leaves_nothing_and_the_next_launch_succeeds(
    client: Client, index: Index, layout: StorePaths
) -> None:
    moments = random.Random(20240817)
    request = asking(index, "lantern==1.0")
    failed = 0
    for _ in range(8):
        launch = asyncio.create_task(client.prepare(request))
        killed = await _kill_some_uv(launch, after=moments.uniform(0.0, 0.05))
        try:
            prepared = await launch
        except BuildFailed as error:
            assert killed
            failed += 1
            assert "uv was ended by signal 9 (Killed)" in error.message
            assert "memory" in str(error.hint)
            assert left_behind(layout) == []
            assert await client.entries() == []
            prepared = await client.prepare(request)
        assert await says(prepared.python, version_of("lantern")) == "1.0"
        await client.release(prepared)
        plain(await client.supervisor.remove_virtual_env(Selection(model_name="glow")))
        assert left_behind(layout) == []
    assert failed > 2


async def _kill_some_uv(launch: asyncio.Task[object], *, after: float) -> bool:
    """Kill each uv once it has run for so many seconds; tells whether any was killed."""
    killed = False
    while not launch.done():
        for process in running_uv():
            with suppress(psutil.Error):
                if time.time() - process.create_time() >= after:
                    process.send_signal(signal.SIGKILL)
                    killed = True
        await asyncio.sleep(0.002)
    return killed
