"""Removing what was planned, and only that."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import key
from tests.store.conftest import attached, identity_of, lock_of, publish, remove_entry, tree
from tests.store.test_listing import foreign, only
from xinference_venv.errors import InUse
from xinference_venv.inventory.env import EnvState
from xinference_venv.store.legacy.layouts import remove_old
from xinference_venv.store.listing import entries_of
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep


def files_of(store: Store, env_id: str) -> Path:
    return store.layout.env(env_id) / "bin" / "python"


def test_an_environment_goes_with_its_key_and_its_files(store: Store) -> None:
    attached(store, "numpy")
    planned = only(store)
    assert remove_entry(store, planned)
    assert entries_of(store) == []
    assert tree(store.layout.envs) == tree(store.layout.trash) == []
    # What was removed already is no error, and nothing is done.
    assert not remove_entry(store, planned)


def test_a_broken_environment_goes_as_well(store: Store) -> None:
    env_id = attached(store, "numpy")
    (store.layout.env(env_id) / "xinference-venv.json").unlink()
    planned = only(store)
    assert planned.state is EnvState.BROKEN
    assert remove_entry(store, planned)
    assert tree(store.layout.envs) == []


def test_files_that_a_process_uses_stay_until_it_ends(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    env_id = attached(store, "numpy")
    child = children()
    store.take_lease(env_id, model_name="m", model_uid=None, process=identity_of(child))
    assert not remove_entry(store, only(store))
    assert entries_of(store) == []
    assert files_of(store, env_id).exists()
    child.kill()
    child.wait()
    sweep(store)
    assert tree(store.layout.envs) == []


def test_a_launch_that_took_it_since_it_was_planned_wins(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    env_id = attached(store, "numpy")
    planned = only(store)
    store.take_lease(env_id, model_name="m", model_uid=None, process=identity_of(children()))
    with pytest.raises(InUse, match="is in use by m"):
        remove_entry(store, planned)
    assert only(store).env_id == env_id
    assert files_of(store, env_id).exists()


def test_files_that_another_key_needs_stay(store: Store) -> None:
    env_id = attached(store, "numpy", of=key("a"))
    attached(store, "numpy", of=key("b"))
    first, second = entries_of(store)
    assert not remove_entry(store, first)
    assert files_of(store, env_id).exists()
    assert only(store).key == key("b")
    assert remove_entry(store, second)


def test_a_key_that_means_another_environment_by_now_is_left(store: Store) -> None:
    attached(store, "numpy")
    planned = only(store)
    new = attached(store, "torch")
    assert not remove_entry(store, planned)
    assert only(store).env_id == new


def test_a_directory_that_is_not_ours_goes_and_its_neighbours_stay(store: Store) -> None:
    place = foreign(store, key("old", None))
    attached(store, "numpy", of=key("old"))
    planned = next(each for each in entries_of(store) if each.state is EnvState.UNMANAGED)
    assert remove_entry(store, planned)
    assert not place.exists()
    assert only(store).key == key("old")
    assert remove_entry(store, planned)


def test_a_key_that_took_the_place_of_a_directory_is_not_what_was_planned(store: Store) -> None:
    """Somebody else removed the directory, and a launch came before this removal."""
    place = foreign(store, key())
    planned = only(store)
    remove_old(store.layout, store.disk, place)
    new = attached(store, "numpy")
    assert not remove_entry(store, planned)
    assert store.env_of(key()) == new


def test_an_environment_that_is_published_and_without_a_key_yet_stays(store: Store) -> None:
    """The key is removed while a launch of the same lock is between its last two steps."""
    attached(store, "numpy")
    planned = only(store)
    lease = publish(store, lock_of("numpy"), job_id="launch")
    with pytest.raises(InUse):
        remove_entry(store, planned)
    assert files_of(store, lease.env_id).exists()
