"""A worker fetches wheels for others: once, with its own login, and gives out what is right."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.clock import FakeClock
from tests.index import Index, dead_port
from tests.wheels import build_wheel
from xinference_venv.errors import InvalidSource, NotFound, StoreError, VerificationFailed
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.planning.relay import WheelFile
from xinference_venv.service import wheel_relay
from xinference_venv.service.wheel_relay import Reachable, WheelRelay
from xinference_venv.settings import RelayMode, Settings
from xinference_venv.store.store import Store

Make = Callable[..., WheelRelay]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "home" / "virtualenv")


@pytest.fixture
def make(store: Store, index: Index) -> Make:
    """Makes a relay whose pip names the index, or another one."""

    def relay(*, index_url: str | None = None, **variables: str) -> WheelRelay:
        settings = Settings.from_environ(variables, home_directory="/home/someone")
        pip = PipConfig(index_url=index_url or index.url)
        reachable = Reachable(settings=settings, environment=variables, pip=lambda: pip)
        return WheelRelay(
            store=store, settings=settings, reachable=reachable, measures=MetricRegistry()
        )

    return relay


@pytest.fixture
def wheel(tmp_path: Path, index: Index) -> WheelFile:
    path = build_wheel(
        tmp_path / "wheels", "lamp", "1.0", data={"lamp.bin": bytes(range(256)) * 200}
    )
    content = path.read_bytes()
    return WheelFile(
        file_name=path.name,
        url=index.url.replace("/simple/", f"/files/{path.name}"),
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )


async def whole(relay: WheelRelay, wheel: WheelFile) -> bytes:
    content = b""
    while True:
        part = await relay.part(wheel, len(content), 20.0)
        content += part.data
        if part.data and len(content) == part.size:
            return content


def gets(index: Index) -> list[str]:
    return [each for each in index.requests if each.startswith("GET /files/")]


async def test_many_ask_at_the_same_time_and_the_index_is_asked_once(
    make: Make, wheel: WheelFile, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel_relay, "PART_BYTES", 1000)
    relay = make()
    go_on = threading.Event()
    index.slow("/files/*", go_on)
    asking = [asyncio.create_task(whole(relay, wheel)) for _ in range(5)]
    await asyncio.to_thread(index.wait_for_request, "/files/*")
    go_on.set()
    contents = await asyncio.gather(*asking)
    assert {hashlib.sha256(each).hexdigest() for each in contents} == {wheel.sha256}
    assert len(gets(index)) == 1
    # It is kept.
    await whole(make(), wheel)
    assert len(gets(index)) == 1


async def test_who_asks_hears_how_much_is_here(make: Make, wheel: WheelFile, index: Index) -> None:
    relay = make()
    go_on = threading.Event()
    index.slow("/files/*", go_on)
    async with asyncio.timeout(20):
        while not (part := await relay.part(wheel, 0, 0.01)).fetched:
            assert part.data == b""
    assert 0 < part.fetched < (wheel.size or 0)
    go_on.set()
    assert len(await whole(relay, wheel)) == wheel.size


async def test_a_download_takes_no_thread_that_heartbeats_and_leases_wait_for(
    make: Make, wheel: WheelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    download = wheel_relay._download

    def note(*given: Any) -> Iterator[int]:
        threads.append(threading.current_thread().name)
        yield from download(*given)

    monkeypatch.setattr(wheel_relay, "_download", note)
    relay = make()
    await whole(relay, wheel)
    await relay.fetch_to(wheel, tmp_path / wheel.file_name, lambda _: None)
    assert len(threads) == 2
    assert all(each.startswith("xinference-venv-building") for each in threads)


async def test_its_own_login_is_used_and_not_shown(
    make: Make, wheel: WheelFile, index: Index
) -> None:
    with_login = index.require_auth("me", "opensesame")
    stranger = make()
    assert not await stranger.can_relay(wheel)
    with pytest.raises(NotFound) as caught:
        await stranger.part(wheel, 0, 20.0)
    relay = make(index_url=with_login)
    assert await relay.can_relay(wheel)
    assert len(await whole(relay, wheel)) == wheel.size
    index.fail("/files/*", 404)
    relay.wheels.layout.relayed_wheel(wheel.sha256).unlink()
    with pytest.raises(NotFound) as again:
        await relay.part(wheel, 0, 20.0)
    assert "opensesame" not in f"{caught.value} {again.value}"


async def test_what_has_another_hash_is_given_to_no_one(
    make: Make, wheel: WheelFile, store: Store
) -> None:
    other = replace(wheel, sha256=64 * "0")
    with pytest.raises(VerificationFailed, match="has sha256"):
        await make().part(other, 0, 20.0)
    assert list(store.layout.relay.iterdir()) == []


def test_a_disk_that_takes_no_more_is_named_and_not_tried_again(
    make: Make, wheel: WheelFile, index: Index
) -> None:
    with (
        open("/dev/full", "r+b", buffering=0) as full,
        pytest.raises(StoreError, match="No space left on device") as caught,
    ):
        make()._download(wheel, wheel_relay._Fetch(), full, wheel.size or 0)
    assert "free some space" in str(caught.value.hint)
    assert len(gets(index)) == 1


async def test_a_connection_that_ends_early_is_gone_on_with(
    make: Make, wheel: WheelFile, index: Index
) -> None:
    index.cut("/files/*", 10)
    with pytest.raises(NotFound, match="closed before the whole file"):
        await make().part(wheel, 0, 20.0)
    assert len(gets(index)) == 3
    index.heal()
    assert len(await whole(make(), wheel)) == wheel.size


async def test_a_download_that_trickles_is_given_up(
    make: Make, wheel: WheelFile, index: Index
) -> None:
    """Each byte in time keeps a connection, and could keep all who wait for weeks."""
    relay = make(XINFERENCE_VIRTUAL_ENV_PATIENCE="120")
    relay.reachable.clock = FakeClock(tick=121.0)
    index.slow("/files/*", threading.Event())
    with pytest.raises(NotFound, match="next to nothing came for 120 s"):
        async with asyncio.timeout(60):
            await whole(relay, wheel)
    index.heal()


async def test_a_worker_relays_nothing_from_elsewhere_nor_when_it_is_off(
    make: Make, wheel: WheelFile, index: Index
) -> None:
    elsewhere = make(index_url="https://index.example/simple")
    assert not await elsewhere.can_relay(wheel)
    with pytest.raises(InvalidSource):
        await elsewhere.part(wheel, 0, 20.0)
    off = make(XINFERENCE_VIRTUAL_ENV_RELAY=RelayMode.OFF.value)
    assert not await off.can_relay(wheel)
    with pytest.raises(NotFound, match="fetches nothing"):
        await off.part(wheel, 0, 20.0)
    assert index.requests == []


async def test_without_a_route_it_says_that_it_can_t(
    make: Make, wheel: WheelFile, index: Index
) -> None:
    proxy = f"http://127.0.0.1:{dead_port()}"
    relay = make(http_proxy=proxy)
    assert not await relay.can_relay(wheel)
    assert not await relay.reachable.indexes()
    assert await make().reachable.indexes()


async def test_the_wheels_stay_within_the_limit(
    make: Make, wheel: WheelFile, index: Index, tmp_path: Path, store: Store
) -> None:
    assert wheel.size is not None
    small = make(XINFERENCE_VIRTUAL_ENV_RELAY_MAX_BYTES=str(wheel.size - 1))
    with pytest.raises(StoreError, match="no room"):
        await small.part(wheel, 0, 20.0)
    relay = make(XINFERENCE_VIRTUAL_ENV_RELAY_MAX_BYTES=str(wheel.size + 100))
    await whole(relay, wheel)
    path = build_wheel(tmp_path / "wheels", "wick", "1.0")
    second = replace(
        wheel,
        file_name=path.name,
        url=index.url.replace("/simple/", f"/files/{path.name}"),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size=path.stat().st_size,
    )
    await whole(relay, second)
    assert [each.name for each in store.layout.relay.iterdir()] == [second.sha256]


async def test_a_question_that_failed_on_its_way_is_asked_again(index: Index) -> None:
    answers: list[PipConfig | OSError] = [OSError("too many files"), PipConfig(index_url=index.url)]

    def pip() -> PipConfig:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    settings = Settings.from_environ({}, home_directory="/home/someone")
    clock = FakeClock()
    reachable = Reachable(settings=settings, environment={}, pip=pip, clock=clock)
    with pytest.raises(OSError, match="too many files"):
        await reachable.indexes()
    clock.sleep(60.0)
    assert await reachable.indexes()


async def test_answers_that_hold_no_longer_are_not_kept(index: Index) -> None:
    settings = Settings.from_environ({}, home_directory="/home/someone")
    clock = FakeClock()
    reachable = Reachable(
        settings=settings,
        environment={},
        pip=lambda: PipConfig(index_url=index.url),
        clock=clock,
    )
    for number in range(3):
        assert await reachable.places([], f"places of launch {number}")
    assert len(reachable._kept) == 3
    clock.sleep(61.0)
    assert await reachable.indexes()
    assert [*reachable._kept] == ["indexes"]
