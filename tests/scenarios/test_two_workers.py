"""Two worker processes on one home: who builds what, who waits for whom, and who is told."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from tests.index import Index
from tests.plain import plain
from tests.scenarios.processes import WorkerProcess, worker_process
from tests.scenarios.steps import (
    alive,
    asking,
    environments,
    eventually,
    files_of,
    left_behind,
    outcome,
    requested,
    says,
    uv_processes,
    version_of,
)
from xinference_venv.client import Client
from xinference_venv.errors import JobCancelled, error_from_dict
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store.atomic import Disk
from xinference_venv.store.paths import LOCK_NAME, StorePaths

pytestmark = [pytest.mark.uv, pytest.mark.usefixtures("wheels")]

WHEEL = "/files/lantern-1.0-*.whl"


@pytest.fixture
def uv_cache(tmp_path: Path) -> Path:
    """A cache that no other test has filled: each wheel is downloaded, and can be held back."""
    return tmp_path / "uv-cache"


@pytest.fixture
def uv_calls(environ: dict[str, str], tmp_path: Path) -> Path:
    """A file that gets a line for each uv that anybody of this home starts."""
    calls, program = tmp_path / "uv-calls", tmp_path / "uv"
    program.write_text(f'#!/bin/sh\necho "$*" >> {calls}\nexec {find_uv_bin()} "$@"\n')
    program.chmod(0o755)
    environ["XOSCAR_UV_PATH"] = str(program)
    return calls


@asynccontextmanager
async def two_workers(
    environ: dict[str, str],
) -> AsyncIterator[tuple[WorkerProcess, WorkerProcess]]:
    """Two workers on one home; whoever is killed needs no ending."""
    async with worker_process(environ) as one, worker_process(environ) as other:
        yield one, other


def _installs(uv_calls: Path) -> int:
    return sum(line.startswith("pip install") for line in uv_calls.read_text().splitlines())


async def _start(client: Client, request: LaunchRequest) -> str:
    return str(await client.supervisor.prepare(request))


async def _heard(client: Client, job: str, words: str) -> str:
    """Wait for the event of a job that has these words; its message."""
    seen = 0
    async with asyncio.timeout(60):
        while True:
            answer = plain(await client.supervisor.wait(job, seen, 10.0))
            for event in answer["events"]:
                seen = event["seq"]
                if words in event["message"]:
                    return str(event["message"])
            assert answer["error"] is None and answer["result"] is None, answer


async def _result(client: Client, job: str) -> dict[str, Any]:
    answer = await outcome(client, job)
    assert answer["error"] is None
    return dict(answer["result"])


async def test_an_equal_launch_at_another_worker_waits_for_the_build_and_learns_whose_it_is(
    environ: dict[str, str], index: Index, layout: StorePaths, uv_calls: Path
) -> None:
    index.hang(WHEEL)
    request = asking(index, "lantern==1.0")
    async with two_workers(environ) as (one, other):
        first = await _start(one.client, request)
        await requested(index, WHEEL)
        second = await _start(other.client, request)
        told = await _heard(other.client, second, "waiting")
        index.release()
        built = await _result(one.client, first)
        shared = await _result(other.client, second)
        [entry] = await other.client.entries()

    version = Path(built["path"]).name
    where = f"by process {one.pid} on {os.uname().nodename}"
    assert told == f"waiting for launch of glow (Python {version}) {where}"
    assert _installs(uv_calls) == 1
    assert shared["uv_calls"] == 0
    assert shared["env_id"] == built["env_id"] == entry.env_id
    assert {lease.process.pid for lease in entry.leases} == {one.pid, other.pid}
    assert environments(layout) == [entry.env_id]


async def test_different_launches_of_one_key_follow_each_other_and_the_later_one_counts(
    environ: dict[str, str], index: Index, layout: StorePaths, uv_calls: Path
) -> None:
    later, gate = "/files/lantern-2.0-*.whl", threading.Event()
    index.hang(WHEEL)
    index.slow(later, gate)
    async with two_workers(environ) as (one, other):
        first = await _start(one.client, asking(index, "lantern==1.0"))
        await requested(index, WHEEL)
        second = await _start(other.client, asking(index, "lantern==2.0"))
        assert f"by process {one.pid} " in await _heard(other.client, second, "waiting")
        assert not any("lantern-2.0" in each for each in index.requests)
        index.release()
        old = await _result(one.client, first)
        await requested(index, later)
        before = files_of(layout.env(old["env_id"]))
        gate.set()
        new = await _result(other.client, second)
        [entry] = await other.client.entries()

        assert entry.env_id == new["env_id"] != old["env_id"]
        assert environments(layout) == sorted([old["env_id"], new["env_id"]])
        assert files_of(layout.env(old["env_id"])) == before
        assert await says(old["python"], version_of("lantern")) == "1.0"
        assert await says(new["python"], version_of("lantern")) == "2.0"
    assert _installs(uv_calls) == 2


async def test_equal_packages_of_two_models_are_built_once_by_two_workers(
    environ: dict[str, str], index: Index, layout: StorePaths, uv_calls: Path
) -> None:
    index.hang(WHEEL)
    async with two_workers(environ) as (one, other):
        first = await _start(one.client, asking(index, "lantern==1.0"))
        await requested(index, WHEEL)
        second = await _start(other.client, asking(index, "lantern==1.0", model="shine"))
        told = await _heard(other.client, second, "waiting")
        index.release()
        built = await _result(one.client, first)
        shared = await _result(other.client, second)
        entries = await other.client.entries()

    version = Path(built["path"]).name
    where = f"by process {one.pid} on {os.uname().nodename}"
    what = f"the build of the same packages for glow (Python {version})"
    assert told == f"waiting for {what} {where}"
    assert _installs(uv_calls) == 1
    assert shared["env_id"] == built["env_id"]
    assert [entry.key.model_name for entry in entries] == ["glow", "shine"]
    assert environments(layout) == [built["env_id"]]


async def test_who_waits_for_a_killed_worker_builds_it(
    environ: dict[str, str], index: Index, layout: StorePaths, uv_calls: Path
) -> None:
    index.hang(WHEEL)
    async with two_workers(environ) as (one, other):
        await _start(one.client, asking(index, "lantern==1.0"))
        await requested(index, WHEEL)
        orphans = uv_processes(layout)
        second = await _start(other.client, asking(index, "lantern==1.0", model="shine"))
        assert f"by process {one.pid} " in await _heard(other.client, second, "waiting")
        await one.kill()
        await _heard(other.client, second, "to install")
        index.release()
        built = await _result(other.client, second)
        assert await says(built["python"], version_of("lantern")) == "1.0"
        [entry] = await other.client.entries()
        await eventually(lambda: not any(map(alive, orphans)))

    assert entry.key.model_name == "shine"
    assert environments(layout) == [built["env_id"]]
    assert _installs(uv_calls) == 2


async def test_equal_packages_of_two_models_are_built_once_in_one_worker(
    client: Client, index: Index, layout: StorePaths
) -> None:
    index.hang(WHEEL)
    first = await _start(client, asking(index, "lantern==1.0"))
    await requested(index, WHEEL)
    second = await _start(client, asking(index, "lantern==1.0", model="shine"))
    told = await _heard(client, second, "waiting")
    index.release()
    built = await _result(client, first)
    shared = await _result(client, second)

    assert "the build of the same packages for glow" in told
    assert f"by process {os.getpid()} " in told
    assert index.requests.count("GET /files/lantern-1.0-py3-none-any.whl") == 1
    assert shared["env_id"] == built["env_id"]
    assert environments(layout) == [built["env_id"]]


async def test_who_waits_for_a_cancelled_build_builds_it(
    client: Client, index: Index, layout: StorePaths
) -> None:
    index.hang(WHEEL)
    first = await _start(client, asking(index, "lantern==1.0"))
    await requested(index, WHEEL)
    second = await _start(client, asking(index, "lantern==1.0", model="shine"))
    await _heard(client, second, "waiting")
    await client.supervisor.cancel(first)
    await _heard(client, second, "to install")
    index.release()
    built = await _result(client, second)

    [entry] = await client.entries()
    assert entry.key.model_name == "shine"
    assert entry.env_id == built["env_id"]
    assert [lease.lease_id for lease in entry.leases] == [built["lease_id"]]


async def test_who_is_cancelled_while_it_waits_leaves_the_build_alone(
    client: Client, index: Index, layout: StorePaths
) -> None:
    index.hang(WHEEL)
    first = await _start(client, asking(index, "lantern==1.0"))
    await requested(index, WHEEL)
    second = await _start(client, asking(index, "lantern==1.0", model="shine"))
    await _heard(client, second, "waiting")
    await client.supervisor.cancel(second)
    # A build has a folder to work in, and one that becomes the environment.
    assert len(list(layout.staging.glob("*.owner"))) == 2
    index.release()
    built = await _result(client, first)

    [entry] = await client.entries()
    assert entry.key.model_name == "glow"
    assert [lease.lease_id for lease in entry.leases] == [built["lease_id"]]


async def test_a_launch_cancelled_while_it_publishes_publishes_all_or_nothing(
    client: Client, index: Index, layout: StorePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, gate = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    real = Disk.write_json

    def write_json(disk: Disk, path: Path, value: Any, *, durable: bool) -> None:
        if path.name == LOCK_NAME:
            loop.call_soon_threadsafe(reached.set)
            assert gate.wait(30)
        real(disk, path, value, durable=durable)

    monkeypatch.setattr(Disk, "write_json", write_json)
    job = await _start(client, asking(index, "lantern==1.0"))
    await reached.wait()
    cancelling = asyncio.create_task(client.supervisor.cancel(job))
    # As long as it takes to clean up, if cleaning up does not wait for the thread.
    await asyncio.wait([cancelling], timeout=0.5)
    gate.set()
    await cancelling

    error = (await outcome(client, job))["error"]
    assert isinstance(error_from_dict(error), JobCancelled)
    assert left_behind(layout) == []
    assert await client.entries() == []
