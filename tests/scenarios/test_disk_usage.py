"""What is on the disk of a worker: measured by one walk for all who ask, within a deadline."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.plain import plain
from tests.scenarios.steps import asking, files_of
from tests.wheels import build_wheel
from xinference_venv.client import Client
from xinference_venv.errors import DeadlineExceeded
from xinference_venv.service import garbage_collector
from xinference_venv.store.disk_usage import measure
from xinference_venv.store.host_files import disk_id, folder_id
from xinference_venv.store.paths import StorePaths

pytestmark = pytest.mark.uv

SIZE = 4_000_000


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, index: Index) -> None:
    """A package of its own for each of two models, and one that both need."""
    for name in ("red", "green", "shared"):
        # Of the second an environment has a hard link.
        paths = (f"{name}.bin", f"{name}-1.0.data/data/share/{name}.bin")
        data = {path: os.urandom(SIZE) for path in paths}
        build_wheel(tmp_path / "wheels", name, "1.0", data=data)


async def test_the_sizes_of_the_list_are_what_the_disk_has(
    client: Client, index: Index, layout: StorePaths
) -> None:
    await client.prepare(asking(index, "red", "shared", model="red"))

    [entry] = await client.entries()

    [env] = layout.envs.iterdir()
    found = [each.lstat() for root in (env, layout.packages) for each in root.rglob("*")]
    files = {each.st_ino: each.st_size for each in found if stat.S_ISREG(each.st_mode)}
    assert entry.total_bytes is not None
    assert abs(entry.total_bytes - sum(files.values())) < SIZE / 10


async def test_environments_what_they_share_and_the_cache_are_measured(
    client: Client, index: Index, layout: StorePaths
) -> None:
    red = await client.prepare(asking(index, "red", "shared", model="red"))
    await client.release(red)
    await client.prepare(asking(index, "green", "shared", model="green"))
    (layout.relay / "a-wheel").write_bytes(bytes(SIZE))
    before = files_of(layout.root)

    answer = plain(await client.supervisor.disk_usage())

    assert answer["unreachable"] == []
    [report] = answer["list"]
    assert report["worker_address"] == red.worker_address
    found = {each["keys"][0]["model_name"]: each for each in report["environments"]}
    assert {4 * SIZE < each["size_bytes"] < 5 * SIZE for each in found.values()} == {True}
    # Each has a package of its own, and the third is on the disk once.
    assert sum(each["shared_bytes"] for each in found.values()) // SIZE == 2
    assert [len(found[name]["leases"]) for name in ("red", "green")] == [0, 1]
    assert report["uv_cache"]["shared_bytes"] >= 6 * SIZE
    assert report["unmanaged"] == {"count": 0, "size_bytes": 0}
    assert report["relayed_bytes"] == SIZE
    assert 0 < report["free_bytes"] <= report["total_bytes"]
    assert report["disk_id"] == disk_id(layout.root.parent)
    assert report["store_id"] == folder_id(layout.root)
    assert files_of(layout.root) == before


class Walk:
    """A walk that waits until it may go on, and counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_go = threading.Event()

    def __call__(self, store: Any, usages: Iterable[Any], stop: Any) -> Any:
        self.begun += 1
        assert self.may_go.wait(30.0)
        return measure(store, usages, stop)


async def test_who_asks_while_it_is_measured_gets_the_same_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = Walk()
    monkeypatch.setattr(garbage_collector, "measure", walk)
    with pytest.raises(DeadlineExceeded, match=r"not measured within 0\.01 s"):
        await client.worker.disk_usage(0.01)
    asked = [asyncio.ensure_future(client.worker.disk_usage(30.0)) for _ in range(3)]
    walk.may_go.set()
    first, *others = await asyncio.gather(*asked)
    assert walk.begun == 1
    assert others == [first, first]

    await client.worker.disk_usage(30.0)
    assert walk.begun == 2
