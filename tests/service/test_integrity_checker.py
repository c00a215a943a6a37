"""Checks as far as they need no uv: what is said, what goes on, what ends."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

from tests.clock import LoopClock
from tests.fakes import entry, key
from tests.scenarios.steps import eventually
from tests.store.conftest import attached
from xinference_venv.errors import DeadlineExceeded, JobCancelled, StoreError
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.reports import NOT_LOOKED_AT, Finding
from xinference_venv.service import integrity_checker as checker_module
from xinference_venv.service.integrity_checker import IntegrityChecker
from xinference_venv.store.atomic import Disk
from xinference_venv.store.envs.verify import check_env
from xinference_venv.store.paths import BROKEN_NAME
from xinference_venv.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "virtualenv")


@pytest_asyncio.fixture
async def checks(store: Store) -> AsyncIterator[IntegrityChecker]:
    """The checks of a worker that launches nothing."""
    running = IntegrityChecker(store=store, launches=cast(Any, None))
    yield running
    await running.stop()


class Endless:
    """A check that ends when it is told to, and not before."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()

    def __call__(
        self, store: Store, env_id: str, *, hashes: bool, pause: Callable[[], None], since: float
    ) -> None:
        self.began.set()
        try:
            while True:
                pause()
        finally:
            self.ended.set()


async def test_a_check_ends_with_the_one_who_asked_for_it(
    checks: IntegrityChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = Endless()
    monkeypatch.setattr(checker_module, "check_env", endless)
    verifying = asyncio.create_task(checks.verify([entry(env_id="a")], hashes=True, repair=False))
    assert await asyncio.to_thread(endless.began.wait, 10.0)
    verifying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await verifying
    assert await asyncio.to_thread(endless.ended.wait, 10.0)


async def test_a_check_of_what_is_changed_in_its_place_takes_no_thread_that_others_wait_for(
    checks: IntegrityChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def look(disk: Disk, env: Path, pause: Callable[[], None]) -> tuple[str, ...]:
        taken.append(threading.current_thread().name)
        return ()

    monkeypatch.setattr(checker_module, "in_place_faults", look)
    await checks.verify([entry(state=EnvState.IN_PLACE)], hashes=True, repair=False)
    [thread] = taken
    assert thread.startswith("xinference-venv-upkeep")


async def test_checks_end_with_the_worker(
    checks: IntegrityChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = Endless()
    monkeypatch.setattr(checker_module, "check_env", endless)
    verifying = asyncio.create_task(checks.verify([entry(env_id="a")], hashes=True, repair=False))
    assert await asyncio.to_thread(endless.began.wait, 10.0)
    await checks.stop()
    with pytest.raises(JobCancelled):
        await verifying


async def test_a_check_in_the_background_has_ended_when_the_worker_has(
    store: Store, checks: IntegrityChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_id = attached(store, "numpy")
    os.utime(store.layout.env(env_id), (0, 0))
    endless = Endless()
    monkeypatch.setattr(checker_module, "check_env", endless)
    clock = LoopClock(monkeypatch)
    checks.start()
    # A process that lives for one command ends before.
    await clock.advance(9.0)
    assert not endless.began.is_set()
    await clock.advance(1.0)
    assert await asyncio.to_thread(endless.began.wait, 10.0)
    await checks.stop()
    assert endless.ended.is_set()


async def test_one_environment_that_can_not_be_checked_does_not_keep_the_others_from_it(
    store: Store,
    checks: IntegrityChecker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    held, other = attached(store, "numpy"), attached(store, "torch", of=key("another"))
    os.utime(store.layout.env(held), (0, 0))
    os.utime(store.layout.env(other), (1, 1))

    def check(store: Store, env_id: str, **how: Any) -> tuple[str, ...] | None:
        if env_id == held:
            raise DeadlineExceeded("waited 30 s for another process")
        return check_env(store, env_id, **how)

    monkeypatch.setattr(checker_module, "check_env", check)
    with caplog.at_level(logging.WARNING):
        await checks._round()
    assert caplog.messages[0] == (
        "an environment can't be checked: waited 30 s for another process"
    )
    # Those of these tests are hollow.
    assert caplog.messages[1].startswith(f"the environment {store.layout.env(other)} is broken: ")
    assert (store.layout.env(other) / BROKEN_NAME).exists()


async def test_a_disk_that_can_not_be_read_today_is_looked_at_again_tomorrow(
    checks: IntegrityChecker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked = threading.Event()
    refused = [StoreError("can't read envs: Stale file handle")]

    def look(store: Store) -> dict[str, str]:
        if refused:
            raise refused.pop()
        looked.set()
        return {}

    monkeypatch.setattr(checker_module, "broken_at_a_glance", look)
    clock = LoopClock(monkeypatch)
    checks.start()
    await clock.advance(10.0)
    await eventually(lambda: bool(caplog.messages))
    assert caplog.messages == [
        "environments could not be checked today: can't read envs: Stale file handle"
    ]
    await clock.advance(24 * 3600.0)
    assert await asyncio.to_thread(looked.wait, 10.0)


async def test_what_is_no_environment_of_ours_or_gone_by_now_has_no_finding(
    store: Store, checks: IntegrityChecker
) -> None:
    left = entry(key("left"), state=EnvState.UNMANAGED, env_id=None)
    gone = entry(key("gone"), env_id="0123abcd")
    building = entry(key("building"), state=EnvState.BUILDING, env_id=None)
    assert await checks.verify([left, gone, building], hashes=False, repair=True) == {}


async def test_an_environment_that_keys_share_is_looked_at_once(
    store: Store, checks: IntegrityChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def check(store: Store, env_id: str, **how: Any) -> tuple[str, ...]:
        seen.append(env_id)
        return ("a.py is missing",)

    monkeypatch.setattr(checker_module, "check_env", check)
    entries = [entry(key(name), env_id="shared") for name in ("one", "two")]
    found = await checks.verify(entries, hashes=False, repair=False)
    assert found == dict.fromkeys([key("one"), key("two")], Finding(faults=("a.py is missing",)))
    assert seen == ["shared"]


def test_a_finding_is_plain_json_values() -> None:
    unknown: dict[str, Any] = {"repaired": None, "not_repaired": None, "additions": []}
    assert NOT_LOOKED_AT.to_dict() == {"faults": None, **unknown}
    finding = Finding(faults=("a", "b"), repaired=False, not_repaired="c", additions=("d",))
    assert finding.to_dict() == {
        "faults": ["a", "b"],
        "repaired": False,
        "not_repaired": "c",
        "additions": ["d"],
    }
