"""A broken environment that is in use is healed beside itself: nobody's files are touched."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from tests.fakes import key
from tests.store.conftest import (
    attached,
    end,
    envs,
    key_record,
    lease_by,
    lock_of,
    publish,
    rubbish,
    tree,
)
from xinference_venv.store.paths import RECORD_NAME
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep

KEY = key()
Children = Callable[[], subprocess.Popen[bytes]]


def broken_in_use(store: Store, child: subprocess.Popen[bytes]) -> str:
    """The id of an environment that lost its record while a process runs in it."""
    env_id = attached(store, "numpy")
    lease_by(store, env_id, child)
    (store.layout.env(env_id) / RECORD_NAME).unlink()
    return env_id


def test_a_new_environment_is_published_next_to_a_broken_one_in_use(
    store: Store, children: Children
) -> None:
    child = children()
    old = broken_in_use(store, child)
    before = tree(store.layout.env(old))
    lease = publish(store, lock_of("numpy"), job_id="healing", content="healed")

    assert lease.env_id == f"{old}x1"
    assert envs(store) == [old, lease.env_id]
    assert tree(store.layout.env(old)) == before
    assert (store.layout.env(old) / "bin" / "python").read_text() == "built"
    assert (store.layout.env(lease.env_id) / "bin" / "python").read_text() == "healed"
    assert store.env_record(lease.env_id).env_id == lease.env_id
    assert store.lock_of(lease.env_id) == lock_of("numpy")
    assert rubbish(store) == []


def test_the_files_of_the_broken_one_go_with_its_last_user(
    store: Store, children: Children
) -> None:
    child = children()
    old = broken_in_use(store, child)
    lease = publish(store, lock_of("numpy"), job_id="healing")
    store.point_key(key_record(KEY, lease.env_id))
    assert store.env_of(KEY) == lease.env_id
    assert not store.delete_if_unused(old)
    sweep(store)
    assert envs(store) == [old, lease.env_id]

    end(child)
    sweep(store)
    assert envs(store) == [lease.env_id]


def test_the_one_next_to_it_serves_until_it_is_broken_and_in_use_itself(
    store: Store, children: Children
) -> None:
    old = broken_in_use(store, children())
    first = publish(store, lock_of("numpy"), job_id="first", content="first")
    second = publish(store, lock_of("numpy"), job_id="second", content="second")
    assert second.env_id == first.env_id
    assert (store.layout.env(first.env_id) / "bin" / "python").read_text() == "first"

    (store.layout.env(first.env_id) / RECORD_NAME).write_text("{")
    third = publish(store, lock_of("numpy"), job_id="third")
    assert third.env_id == f"{old}x2"
    assert envs(store) == [old, first.env_id, third.env_id]


def test_the_own_place_is_taken_again_once_no_one_runs_in_it(
    store: Store, children: Children
) -> None:
    child = children()
    old = broken_in_use(store, child)
    end(child)
    lease = publish(store, lock_of("numpy"), job_id="healing", content="healed")
    assert lease.env_id == old
    assert (store.layout.env(old) / "bin" / "python").read_text() == "healed"
    assert envs(store) == [old]
