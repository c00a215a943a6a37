"""What is brought to workers ahead of need, while launches come that need their places."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.plain import lock_of
from tests.scenarios.cluster import Cluster, cluster
from xinference_venv.errors import JobCancelled
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.selection import Selection

pytestmark = [pytest.mark.uv, pytest.mark.asyncio]

_PATIENCE_SECONDS = 60.0


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path / "cluster", []) as empty:
        yield empty


async def test_what_is_prefetched_is_on_every_worker_for_the_launch_that_comes(
    running: Cluster,
) -> None:
    workers = [await running.add(f"127.0.0.{each}") for each in (2, 3)]
    requests = [running.asking(name, model=name) for name in ("lantern", "shade")]
    reports = await asyncio.gather(*map(running.client.prefetch, requests))
    for report in reports:
        assert {each.worker_address for each in report.workers} == {w.address for w in workers}
        assert {each.phase for each in report.workers} == {Phase.READY}
    assert await running.leases("lantern") == []
    running.forget_calls()
    launched = await running.launch(requests[0], everywhere=True)
    assert {lock_of(each) for each in launched.values()} == {
        lock_of(each) for each in reports[0].workers
    }
    assert running.index.requests == []
    assert [each.uv_calls for each in workers] == [[], []]


async def test_a_launch_takes_the_place_that_what_is_prefetched_leaves(running: Cluster) -> None:
    await running.add("127.0.0.2", XINFERENCE_VIRTUAL_ENV_UV_PROCESSES="2")
    running.index.hang("/files/shade-*.whl")
    ahead = asyncio.gather(
        *(running.client.prefetch(running.asking("shade", model=each)) for each in ("a", "b", "c"))
    )
    await asyncio.to_thread(running.index.wait_for_request, "/files/shade-*.whl")
    async with asyncio.timeout(_PATIENCE_SECONDS):
        await running.launch(running.asking("lantern", model="needed"))
    assert not ahead.done()
    running.index.release()
    assert {each.phase for each in await ahead} == {Phase.READY}


async def test_a_prefetch_that_is_cancelled_leaves_nothing_and_one_worker_is_enough_if_required(
    running: Cluster,
) -> None:
    able, broken = [await running.add(f"127.0.0.{each}") for each in (2, 3)]
    broken.break_installing()
    report = await running.client.prefetch(running.asking("lantern", model="glow"), require=1)
    phases = {each.worker_address: each.phase for each in report.workers}
    assert report.error is None
    assert phases == {able.address: Phase.READY, broken.address: Phase.FAILED}

    running.index.hang("/files/shade-*.whl")
    job = await running.client.supervisor.prepare(
        running.asking("shade", model="dark"), workers=(able.address,), background=True
    )
    await asyncio.to_thread(running.index.wait_for_request, "/files/shade-*.whl")
    await running.client.supervisor.cancel(job)
    running.index.release()
    ended = await running.client.supervisor.wait(job)
    assert ended.error is not None
    assert isinstance(ended.error.error(), JobCancelled)
    listed = await running.client.supervisor.list_virtual_envs(Selection(model_name="dark"))
    assert listed.list == ()
