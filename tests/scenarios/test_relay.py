"""One download for the cluster: workers get wheels through the one that can reach the index."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.plain import lock_of
from tests.scenarios.cluster import Cluster, Served, cluster
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.request import LaunchRequest

pytestmark = [pytest.mark.uv, pytest.mark.asyncio(loop_scope="module")]


def asking(*packages: str, model: str, **more: Any) -> LaunchRequest:
    """A launch whose packages come from where pip's configuration says."""
    block = {"packages": packages}
    return LaunchRequest.from_dict({"model_name": model, "virtualenv": block, **more})


class Relays:
    """A cluster whose workers have caches of their own."""

    def __init__(self, running: Cluster) -> None:
        self.cluster = running
        self.index = running.index

    async def worker(self, mode: str, **variables: str) -> Served:
        """One more worker, whose pip's configuration names the index."""
        number = len(self.cluster.workers)
        more = {
            "PIP_INDEX_URL": self.index.url,
            "UV_CACHE_DIR": str(self.cluster.folder / f"cache-{number}"),
            "XINFERENCE_VIRTUAL_ENV_RELAY": mode,
            **variables,
        }
        return await self.cluster.add(f"127.0.0.{number + 2}", **more)

    def downloads(self, name: str) -> int:
        """How often the index gave a wheel."""
        got = [each for each in self.index.requests if each.startswith(f"GET /files/{name}")]
        return len([each for each in got if ".whl.metadata" not in each])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def relays(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Relays]:
    async with cluster(tmp_path_factory.mktemp("relays"), []) as running:
        yield Relays(running)


async def test_workers_that_relay_all_of_their_wheels_download_each_once_together(
    relays: Relays,
) -> None:
    workers = [await relays.worker("on") for _ in range(3)]
    relays.index.clear()

    replicas = await relays.cluster.launch(asking("lantern", model="glow"), everywhere=True)

    assert {each.phase for each in replicas.values()} == {Phase.READY}
    assert {lock_of(each) for each in replicas.values()} == {lock_of(replicas[workers[0].address])}
    assert (relays.downloads("lantern"), relays.downloads("wick")) == (1, 1)
