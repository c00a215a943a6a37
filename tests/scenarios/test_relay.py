"""One download for the cluster, and one host with a network is enough for all of them."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.index import black_hole, dead_port
from tests.plain import lock_of, plain
from tests.scenarios.cluster import Cluster, Served, cluster
from tests.scenarios.steps import asking as asking_of
from xinference_venv.errors import ResolutionFailed
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.replicas import Replica
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.relay import Neighbour, in_order
from xinference_venv.planning.request import LaunchRequest

pytestmark = [pytest.mark.uv, pytest.mark.asyncio]

SECRET = "opensesame"
_PATIENCE_SECONDS = 60.0
_LYING = """\
from dataclasses import replace
from xinference_venv.service.wheel_relay import WheelRelay

honest = WheelRelay.part

async def part(self, wheel, offset, timeout):
    given = await honest(self, wheel, offset, timeout)
    return replace(given, data=bytes(len(given.data)))

WheelRelay.part = part
"""


def asking(*packages: str, model: str, **more: Any) -> LaunchRequest:
    """A launch whose packages come from where pip's configuration of each worker says."""
    block = {"packages": packages}
    return LaunchRequest.from_dict({"model_name": model, "virtualenv": block, **more})


@dataclass(kw_only=True)
class World:
    """A cluster whose workers have caches of their own."""

    cluster: Cluster

    async def worker(self, **variables: str) -> Served:
        """One more worker, whose pip's configuration names the index."""
        number = len(self.cluster.workers)
        more = {
            "PIP_INDEX_URL": self.cluster.index.url,
            "UV_CACHE_DIR": str(self.cluster.folder / f"cache-{number}"),
            **variables,
        }
        return await self.cluster.add(f"127.0.0.{number + 2}", **more)

    async def launch(self, request: LaunchRequest, *workers: Served) -> dict[str, Replica]:
        """Launch on these workers, all of which must become ready."""
        replicas = await self.cluster.launch(request, workers=[each.address for each in workers])
        assert {each.phase for each in replicas.values()} == {Phase.READY}
        return replicas

    @property
    def downloads(self) -> list[str]:
        """The wheels that the index gave, each time it did."""
        files = [each.removeprefix("GET /files/") for each in self.cluster.index.requests]
        wheels = [each.split(" ")[0] for each in files]
        return sorted(each.split("-")[0] for each in wheels if each.endswith(".whl"))

    async def log(self, model: str) -> str:
        """The newest log of a model's launch."""
        answer = await self.cluster.client.supervisor.logs(Selection(model_name=model))
        return "\n".join(str(plain(each)["text"]) for each in answer.list)


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with cluster(tmp_path / "cluster", []) as running:
        yield World(cluster=running)


async def test_workers_that_relay_all_of_their_wheels_download_each_once_together(
    world: World,
) -> None:
    workers = [await world.worker(XINFERENCE_VIRTUAL_ENV_RELAY="on") for _ in range(3)]
    replicas = await world.launch(asking("lantern", model="glow"), *workers)
    assert len({lock_of(each) for each in replicas.values()}) == 1
    assert world.downloads == ["lantern", "wick"]


async def test_one_worker_with_a_route_and_the_login_is_enough_for_the_cluster(
    world: World,
) -> None:
    """The index wants a login that one worker has; of the others one is refused its connections
    and one gets no answer to them, as behind a firewall.
    """
    with_login = world.cluster.index.require_auth("me", SECRET)
    able = await world.worker(PIP_INDEX_URL=with_login)
    with black_hole() as port:
        cut_off = [
            await world.worker(http_proxy=f"http://127.0.0.1:{each}")
            for each in (dead_port(), port)
        ]
        began = time.monotonic()
        replicas = await world.launch(asking("lantern", model="glow"), *cut_off)
        took = time.monotonic() - began
    assert world.downloads == ["lantern", "wick"]
    assert able.resolved
    assert not any(each.resolved for each in cut_off)
    # uv by itself would wait for a black hole for minutes.
    assert took < _PATIENCE_SECONDS
    assert SECRET not in await world.log("glow")

    # The neighbour itself plans to the same lock.
    [own] = (await world.launch(asking("lantern", model="glow"), able)).values()
    assert {lock_of(each) for each in replicas.values()} == {lock_of(own)}


@pytest.mark.parametrize("variables", [{}, {"UV_OFFLINE": "1"}])
async def test_a_login_that_one_worker_has_serves_those_without(
    world: World, variables: dict[str, str]
) -> None:
    with_login = world.cluster.index.require_auth("me", SECRET)
    await world.worker(PIP_INDEX_URL=with_login)
    stranger = await world.worker(**variables)
    await world.launch(asking("shade", model="dark"), stranger)
    assert world.downloads == ["shade"]
    assert f"GET /files/{_file('shade')} authorized" in world.cluster.index.requests


async def test_what_has_no_solution_fails_with_the_words_of_who_resolved(world: World) -> None:
    await world.worker()
    cut_off = await world.worker(http_proxy=f"http://127.0.0.1:{dead_port()}")
    with pytest.raises(ResolutionFailed, match=r"lantern==9"):
        await world.launch(asking("lantern==9", model="glow"), cut_off)


async def test_when_the_relay_is_killed_in_the_middle_another_one_takes_its_place(
    world: World,
) -> None:
    index = world.cluster.index
    able = {each.address: each for each in [await world.worker(), await world.worker()]}
    cut_off = await world.worker(http_proxy=f"http://127.0.0.1:{dead_port()}")
    go_on = threading.Event()
    index.slow(f"/files/{_file('shade')}", go_on)
    launching = asyncio.create_task(world.launch(asking("shade", model="dark"), cut_off))
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while world.downloads != ["shade"]:  # noqa: ASYNC110 - what only the index knows
                await asyncio.sleep(0.05)
        relays = [Neighbour(address=each, incarnation="") for each in able]
        wheel = world.cluster.wheels / _file("shade")
        first, _ = in_order(await asyncio.to_thread(_sha256, wheel), relays)
        await able[first.address].kill()
    finally:
        go_on.set()
    await launching
    assert world.downloads == ["shade", "shade"]
    assert f"did not come from {first.address}" in await world.log("dark")


async def test_what_a_lying_relay_gives_is_found_out_by_the_hash_and_fetched_from_the_index(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_LYING)
    liar = await world.worker(PYTHONPATH=str(tmp_path))
    # It relays nothing itself: the index is none of its own configuration.
    worker = await world.worker(PIP_INDEX_URL="", XINFERENCE_VIRTUAL_ENV_RELAY="on")
    request = asking_of(world.cluster.index, "shade", model="dark")
    await world.launch(request, worker)
    assert world.downloads == ["shade", "shade"]
    log = await world.log("dark")
    assert f"did not come from {liar.address}" in log
    assert "the lock says" in log


def _file(name: str) -> str:
    return f"{name}-1.0-py3-none-any.whl"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
