"""What a worker measures while it works, and that two in one process measure each their own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.plain import plain
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.observability.metrics import OF_WORKER, PREFIX
from xinference_venv.observability.registry import MeasuresReport, MetricRegistry
from xinference_venv.planning.request import LaunchRequest

pytestmark = pytest.mark.uv


def asking(index: Index) -> LaunchRequest:
    block = {"packages": ["beacon"], "index_url": index.url}
    return LaunchRequest.from_dict({"model_name": "a-model", "virtualenv": block})


async def measured(client: Client) -> dict[tuple[str, ...], Any]:
    """What the one worker of a client measures, by name and labels; nothing that is 0."""
    [told] = plain(await client.supervisor.measure())["list"]
    return {
        (each.metric.name.removeprefix(PREFIX), *each.labels): each.value
        for each in MetricRegistry.of(MeasuresReport.from_dict(told), OF_WORKER).samples()
        if each.value
    }


async def test_a_launch_under_way_is_seen_in_its_phase_with_its_uv(
    client: Client, index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "beacon", "1.0")
    index.hang("/simple/beacon/")
    launches = [asyncio.create_task(client.prepare(asking(index))) for _ in range(2)]
    await asyncio.to_thread(index.wait_for_request, "/simple/beacon/", timeout=60)
    found = await measured(client)
    assert found["jobs", "resolving"] == 2
    assert found["environments", "building"] == 1
    assert found["subprocesses",] >= 1
    index.release()
    for each in await asyncio.gather(*launches):
        await client.release(each)
    after = await measured(client)
    assert not [name for name, *_ in after if name in ("jobs", "subprocesses", "waiting")]
    assert sum(after["job_duration_seconds", "ready", "cold"].counts) == 1
    assert sum(after["job_duration_seconds", "ready", "joined"].counts) == 1
    assert after["environments", "ready"] == 1


async def test_two_workers_in_one_process_measure_each_their_own(
    client: Client, environ: Mapping[str, str], index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "beacon", "1.0")
    async with local_client({**environ, "XINFERENCE_HOME": str(tmp_path / "other")}) as other:
        await client.release(await client.prepare(asking(index)))
        assert ("environments", "ready") in await measured(client)
        idle = {name for name, *_ in await measured(other)}
        assert idle == {"worker_start_time_seconds", "subprocess_slots", "store_free_bytes"}
