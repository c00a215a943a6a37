"""The numbers of a store: of environments, keys, leases and bytes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import key
from tests.store.conftest import attached, ended_process, identity_of, key_record
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.lease import Holder
from xinference_venv.store.counts import count_store
from xinference_venv.store.legacy import layouts
from xinference_venv.store.paths import RECORD_NAME
from xinference_venv.store.store import Store


def test_an_empty_store_has_nothing_but_free_bytes(store: Store) -> None:
    census = count_store(store)
    assert (census.keys, census.recorded_bytes) == (0, 0)
    assert not any(census.environments.values()) and not census.leases
    assert census.free_bytes > 0


def test_environments_are_counted_once_keys_each_and_a_dead_process_holds_nothing(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    env_id = attached(store, "numpy")
    store.point_key(key_record(key(model_name="another"), env_id))
    for process in (identity_of(children()), ended_process()):
        store.take_lease(env_id, model_name="a-model", model_uid=None, process=process)
    census = count_store(store)
    assert (census.environments[EnvState.READY], census.keys) == (1, 2)
    assert census.recorded_bytes == 1234
    assert census.leases == {Holder.ALIVE: 1}


def test_what_is_broken_and_what_older_versions_left_is_distinguished(store: Store) -> None:
    env_id = attached(store, "numpy")
    (store.layout.env(env_id) / RECORD_NAME).write_text("{")
    old = store.layout.key_link(key(model_name="old"))
    old.mkdir(parents=True)
    census = count_store(store)
    assert census.environments == {EnvState.BROKEN: 1, EnvState.UNMANAGED: 1}
    assert (census.keys, census.recorded_bytes) == (1, 0)


def test_no_one_walks_over_files_or_processes_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old: Path = store.layout.key_link(key(model_name="old"))
    old.mkdir(parents=True)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("this takes too long for a scrape")

    monkeypatch.setattr(layouts, "sizes_of", refuse)
    monkeypatch.setattr(layouts, "users_of", refuse)
    assert count_store(store).environments[EnvState.UNMANAGED] == 1
