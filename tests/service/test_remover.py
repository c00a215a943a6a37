"""Removals of many environments at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.store import fill
from tests.scenarios.steps import eventually
from xinference_venv.errors import DeadlineExceeded, StoreError
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.service.open_uv import open_uv
from xinference_venv.service.places import find_places
from xinference_venv.service.worker_service import WorkerService
from xinference_venv.store.locks import hold_lock
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store

# More than one removal takes at once.
COUNT = 120


def key_of(number: int) -> EnvKey:
    return EnvKey(model_name=f"model-{number}", model_engine="vllm", python_version="3.11")


@pytest.fixture
def store(environ: Mapping[str, str]) -> Store:
    made = Store.open(find_places(environ).root)
    fill(made, COUNT, files=1)
    return made


@pytest.fixture
def service(store: Store, environ: Mapping[str, str]) -> WorkerService:
    places = find_places(environ)
    uv = open_uv(places, store, environ)
    return WorkerService(store=store, uv=uv, settings=places.settings, environ=environ)


async def test_all_go_with_their_files_and_their_keys(store: Store, service: WorkerService) -> None:
    report = await service.remove_virtual_env(Selection())
    assert len(report.done) == COUNT
    assert not report.plan.refuse
    assert list(store.key_places()) == []
    assert os.listdir(store.layout.envs) == os.listdir(store.layout.trash) == []


async def test_a_key_that_a_launch_holds_is_waited_for_and_holds_up_no_other(
    store: Store, service: WorkerService
) -> None:
    async with hold_lock(store.key_lock(key_of(7)), purpose="a launch", deadline=1.0):
        removing = asyncio.create_task(service.remove_virtual_env(Selection()))
        await eventually(lambda: len(list(store.key_places())) == 1, seconds=60.0)
        assert store.env_of(key_of(7)) is not None
    assert len((await removing).done) == COUNT
    assert list(store.key_places()) == []


async def test_one_that_is_leased_while_the_others_go_stays_and_is_reported(
    store: Store, service: WorkerService
) -> None:
    last = next(store.key_places())
    assert last.env_id is not None
    async with hold_lock(store.key_lock(last.key), purpose="a launch", deadline=1.0):
        removing = asyncio.create_task(service.remove_virtual_env(Selection()))
        await eventually(lambda: len(list(store.key_places())) == 1, seconds=60.0)
        store.take_lease(last.env_id, model_name="m", model_uid=None, process=this_process())
    report = await removing
    assert len(report.done) == COUNT - 1
    [refused] = report.plan.refuse
    assert refused.key == last.key
    assert "in use by" in refused.use
    assert store.env_of(last.key) == last.env_id


async def test_one_that_the_system_does_not_let_us_remove_keeps_no_other(
    store: Store, service: WorkerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink_key = Store.unlink_key

    def refuse_one(self: Store, key: EnvKey) -> None:
        if key == key_of(3):
            raise StoreError("not yours")
        unlink_key(self, key)

    monkeypatch.setattr(Store, "unlink_key", refuse_one)
    report = await service.remove_virtual_env(Selection())
    assert len(report.done) == COUNT - 1
    [kept] = report.plan.refuse
    assert (kept.key, kept.reason) == (key_of(3), "not yours")


async def test_what_is_used_no_more_goes_although_a_launch_had_it_when_it_was_looked_at(
    store: Store,
    service: WorkerService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys = [key_of(number) for number in (3, 5)]
    stays, goes = env_ids = [str(store.env_of(key)) for key in keys]
    trash_if_unused = Store.trash_if_unused
    held = [DeadlineExceeded("another process has it")]

    def refuse(self: Store, env_id: str) -> tuple[bool, Path | None]:
        if env_id == stays:
            raise StoreError("not yours")
        if held:
            raise held.pop()
        return trash_if_unused(self, env_id)

    monkeypatch.setattr(Store, "trash_if_unused", refuse)
    for key in keys:
        store.unlink_key(key)
    for env_id in env_ids:
        service._remover.watch_unlinked(env_id)
    await eventually(lambda: goes not in os.listdir(store.layout.envs), seconds=60.0)
    assert stays in os.listdir(store.layout.envs)
    assert caplog.messages == ["an environment without a key stays: not yours"]
