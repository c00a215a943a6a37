"""Garbage collection with real environments: by request, by standing policy, and not at all."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clock import LoopClock
from tests.index import Index
from tests.plain import plain
from tests.scenarios.steps import asking, environments, eventually, files_of
from tests.store.conftest import known_for_long
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.inventory.eviction import plan_eviction
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.service import garbage_collector as collector_module
from xinference_venv.store.disk_usage import measure, usages_of
from xinference_venv.store.locks import hold_lock as lock_held
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.store import Store

pytestmark = pytest.mark.uv

SIZE = 4_000_000
DAY = 86_400.0


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, index: Index) -> Path:
    """Three packages of `SIZE` bytes and a little more; ``shared`` is needed by two of them."""
    folder = tmp_path / "wheels"
    for name in ("red", "green", "blue"):
        build_wheel(folder, name, "1.0", data={f"{name}.bin": os.urandom(SIZE)})
    build_wheel(folder, "shared", "1.0", data={"shared.bin": os.urandom(SIZE)})
    return folder


@pytest.fixture(autouse=True)
def known(layout: StorePaths) -> None:
    """Ages count from before these tests."""
    known_for_long(layout.root)


@pytest.fixture
def cache(environ: dict[str, str], tmp_path: Path) -> Path:
    """A cache of uv's that nobody else puts anything into."""
    environ["UV_CACHE_DIR"] = str(tmp_path / "uv-cache")
    return tmp_path / "uv-cache"


async def collect(client: Client, **how: Any) -> dict[str, Any]:
    """Ask the supervisor to collect; the report of the one worker."""
    answer = plain(await client.supervisor.collect_garbage(**how))
    assert answer["unreachable"] == []
    [report] = answer["list"]
    return dict(report)


async def launched(
    client: Client, index: Index, *packages: str, model: str, days: float | None = None
) -> PreparedEnvironment:
    """An environment that was last used so many days ago, or is leased when None."""
    prepared = await client.prepare(asking(index, *packages, model=model))
    if days is not None:
        await client.release(prepared)
        age(prepared, days)
    return prepared


def age(prepared: PreparedEnvironment, days: float) -> None:
    link = Path(str(prepared.path))
    store = Store.open(link.parents[2])
    then = time.time() - days * DAY
    for key, env_id in store.links():
        if env_id == prepared.env_id and store.layout.key_link(key) == link:
            os.utime(store.layout.keys / f"{key.digest}.json", (then, then))


def went(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["env_id"], each["reason"]) for each in report["evict"]]


def unlink(prepared: PreparedEnvironment) -> None:
    """As somebody does who deletes links by hand."""
    Path(str(prepared.path)).unlink()


async def test_the_least_recently_used_goes_and_never_what_is_leased(
    client: Client, index: Index, layout: StorePaths
) -> None:
    oldest = await launched(client, index, "red", model="oldest", days=9)
    leased = await launched(client, index, "green", model="leased")
    age(leased, 20)
    newest = await launched(client, index, "blue", model="newest", days=1)
    before = files_of(layout.root)

    room_for_two = {"max_bytes": 2 * SIZE + SIZE // 2}
    dry = await collect(client, **room_for_two, dry_run=True)
    assert dry["dry_run"] and went(dry) == [(oldest.env_id, "over limit")]
    assert dry["evict"][0]["keys"][0]["model_name"] == "oldest"
    assert files_of(layout.root) == before

    report = await collect(client, **room_for_two)
    assert went(report) == went(dry)
    assert (report["bytes_before"], report["bytes_after"]) == (
        dry["bytes_before"],
        dry["bytes_after"],
    )
    assert report["bytes_after"] <= 2 * SIZE + SIZE // 2 < report["bytes_before"]
    assert environments(layout) == sorted([str(leased.env_id), str(newest.env_id)])

    again = await collect(client, **room_for_two)
    assert (again["evict"], again["unneeded"], again["freed_bytes"]) == ([], [], 0)
    assert again["bytes_before"] == report["bytes_after"]

    everything = await collect(client, max_bytes=0)
    assert went(everything) == [(newest.env_id, "over limit")]
    [kept] = everything["in_use"]
    assert (kept["env_id"], kept["leases"][0]["model_name"]) == (leased.env_id, "leased")
    assert environments(layout) == [leased.env_id]


async def test_what_was_not_used_for_long_goes_and_what_ran_until_now_does_not(
    client: Client, index: Index, layout: StorePaths
) -> None:
    await launched(client, index, "red", model="old", days=9)
    running = await launched(client, index, "green", model="running")
    age(running, 9)
    report = await collect(client, older_than=5 * DAY)
    assert [reason for _, reason in went(report)] == ["unused"]
    assert [each["env_id"] for each in report["in_use"]] == [running.env_id]

    await client.release(running)
    assert (await collect(client, older_than=5 * DAY))["evict"] == []
    assert environments(layout) == [running.env_id]


async def test_without_limits_only_what_no_one_needs_goes(
    client: Client, index: Index, layout: StorePaths
) -> None:
    kept = await launched(client, index, "red", model="old", days=999)
    lost = await launched(client, index, "green", model="lost", days=1)
    unlink(lost)
    report = await collect(client)
    assert went(report) == [(lost.env_id, "unneeded")]
    assert environments(layout) == [kept.env_id]


async def test_a_shared_environment_is_used_when_any_of_its_keys_is_and_goes_with_all(
    client: Client, index: Index, layout: StorePaths
) -> None:
    one = await launched(client, index, "red", model="one", days=30)
    other = await launched(client, index, "red", model="other", days=1)
    assert one.env_id == other.env_id
    assert (await collect(client, older_than=5 * DAY))["evict"] == []
    age(other, 30)
    [gone] = (await collect(client, older_than=5 * DAY))["evict"]
    assert {key["model_name"] for key in gone["keys"]} == {"one", "other"}
    assert await client.entries() == []
    assert environments(layout) == []


@pytest.mark.usefixtures("cache")
async def test_files_that_several_have_count_once_and_the_report_says_what_is_freed(
    client: Client, index: Index
) -> None:
    await launched(client, index, "red", "shared", model="one", days=2)
    await launched(client, index, "green", "shared", model="other", days=1)
    report = await collect(client, max_bytes=10 * SIZE)
    assert 3 * SIZE < report["bytes_before"] < 4 * SIZE
    cache = report["uv_cache"]
    assert cache["size_bytes"] > cache["shared_bytes"] > 3 * SIZE

    dry = await collect(client, max_bytes=0, dry_run=True)
    report = await collect(client, max_bytes=0)
    for made in (dry, report):
        # Packages that nothing shows any more go, too; the files themselves stay in uv's cache.
        assert [each["kind"] for each in made["unneeded"]] == ["package"] * 3
        assert made["freed_bytes"] < SIZE
        assert made["bytes_after"] == 0
    assert [each["freed_bytes"] for each in dry["evict"]] == [
        each["freed_bytes"] for each in report["evict"]
    ]


async def test_uvs_cache_is_pruned_on_request_only(
    cache: Path, environ: dict[str, str], index: Index
) -> None:
    async with local_client(environ) as client:
        await launched(client, index, "red", model="one", days=1)
        dangling = cache / "archive-v0" / "nobody-links-here" / "file.bin"
        dangling.parent.mkdir(parents=True)
        dangling.write_bytes(b"x" * SIZE)
        assert (await collect(client))["uv_cache"]["pruned_bytes"] == 0
        dry = await collect(client, prune_uv_cache=True, dry_run=True)
        assert dry["uv_cache"]["pruned_bytes"] == 0 and dangling.exists()
        report = await collect(client, prune_uv_cache=True)
    assert not dangling.exists()
    assert report["uv_cache"]["pruned_bytes"] >= SIZE
    assert report["freed_bytes"] >= SIZE
    assert report["uv_cache"]["error"] is None


async def test_what_older_versions_left_is_measured_and_never_collected(
    client: Client, layout: StorePaths
) -> None:
    left = layout.root / "v4" / "older" / "vllm" / "3.11"
    left.mkdir(parents=True)
    (left / "pyvenv.cfg").write_text("version = 3.11.7\n")
    report = await collect(client, max_bytes=0, older_than=0.0)
    assert report["unmanaged"] == {"count": 1, "size_bytes": 17}
    assert left.exists()


async def test_what_is_launched_between_plan_and_collection_is_skipped(
    client: Client, index: Index, layout: StorePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await launched(client, index, "red", model="first", days=9)
    second = await launched(client, index, "green", model="second", days=8)
    third = await launched(client, index, "blue", model="third", days=7)
    held, done = asyncio.Event(), asyncio.Event()

    def planning(*arguments: Any, **named: Any) -> Any:
        made = plan_eviction(*arguments, **named)
        age(second, 0)
        return made

    async def hold_the_key() -> None:
        # As a launch of the third model in another process does.
        store = Store.open(layout.root)
        [key] = [key for key, env_id in store.links() if env_id == third.env_id]
        async with lock_held(store.key_lock(key), purpose="launch", deadline=1.0):
            held.set()
            await done.wait()

    holding = asyncio.create_task(hold_the_key())
    await held.wait()
    monkeypatch.setattr(collector_module, "plan_eviction", planning)
    report = await collect(client, max_bytes=0)
    done.set()
    await holding

    assert went(report) == [(first.env_id, "over limit")]
    why = {each["env_id"]: each["why"] for each in report["skipped"]}
    assert "launched after" in why[str(second.env_id)]
    assert "under way" in why[str(third.env_id)]
    assert environments(layout) == sorted([str(second.env_id), str(third.env_id)])


async def test_a_permanent_policy_evicts_after_each_build_and_ends_with_the_worker(
    environ: dict[str, str], index: Index, layout: StorePaths
) -> None:
    environ["XINFERENCE_VIRTUAL_ENV_MAX_BYTES"] = str(SIZE + SIZE // 2)
    async with local_client(environ) as client:
        first = await launched(client, index, "red", model="first", days=1)
        await asyncio.sleep(0.2)
        assert environments(layout) == [first.env_id]
        second = await launched(client, index, "green", model="second")
        await eventually(lambda: environments(layout) == [second.env_id])
        [entry] = await client.entries()
        assert entry.key.model_name == "second"
        # In use, it stays even while there is too much.
        third = await launched(client, index, "blue", model="third")
        await asyncio.sleep(0.2)
        assert environments(layout) == sorted([str(second.env_id), str(third.env_id)])
    assert not [task for task in asyncio.all_tasks() if "_keep_to_policy" in repr(task)]


async def ten_minutes_later(what: Callable[[], bool], clock: LoopClock) -> None:
    """Let ten minutes pass until it has happened: the first of them may find a look not ended."""
    while not what():
        await clock.advance(600.0)


async def test_a_permanent_policy_is_applied_at_the_start_and_ever_again(
    environ: dict[str, str], index: Index, layout: StorePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local_client(environ) as client:
        old = await launched(client, index, "red", model="old", days=9)
        new = await launched(client, index, "green", model="new", days=1)
    environ["XINFERENCE_VIRTUAL_ENV_MAX_UNUSED"] = "5d"
    async with local_client(environ) as client:
        await eventually(lambda: environments(layout) == [new.env_id])
        age(new, 6)
        await ten_minutes_later(lambda: environments(layout) == [], LoopClock(monkeypatch))
    assert old.env_id != new.env_id


async def test_a_permanent_policy_that_fails_is_logged_and_goes_on(
    environ: dict[str, str],
    index: Index,
    layout: StorePaths,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing = True

    def usages(*arguments: Any) -> Any:
        if failing:
            raise OSError("the disk is not there")
        return usages_of(*arguments)

    monkeypatch.setattr(collector_module, "usages_of", usages)
    environ["XINFERENCE_VIRTUAL_ENV_MAX_BYTES"] = "0"
    with caplog.at_level(logging.WARNING):
        async with local_client(environ) as client:
            await launched(client, index, "red", model="one", days=1)
            await eventually(lambda: "the disk is not there" in caplog.text)
            assert len(environments(layout)) == 1
            failing = False
            await ten_minutes_later(lambda: environments(layout) == [], LoopClock(monkeypatch))


async def test_a_store_that_surely_fits_is_not_walked_again(
    environ: dict[str, str], index: Index, layout: StorePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[int] = []
    looks: list[int] = []

    def measuring(*arguments: Any) -> Any:
        walks.append(1)
        return measure(*arguments)

    def looking(*arguments: Any) -> Any:
        looks.append(1)
        return usages_of(*arguments)

    async def thrice() -> None:
        """Let it look three times more."""
        before = len(looks)
        await ten_minutes_later(lambda: len(looks) >= before + 3, clock)

    clock = LoopClock(monkeypatch)
    monkeypatch.setattr(collector_module, "measure", measuring)
    monkeypatch.setattr(collector_module, "usages_of", looking)
    environ["XINFERENCE_VIRTUAL_ENV_MAX_BYTES"] = str(5 * SIZE)
    async with local_client(environ) as client:
        await launched(client, index, "red", "shared", model="one", days=1)
        await thrice()
        assert walks == []
        # With bytecode three packages might take six times as much, and take three times.
        await launched(client, index, "green", "shared", model="other", days=1)
        await eventually(lambda: walks == [1])
        await thrice()
        assert walks == [1]
        assert len(environments(layout)) == 2
