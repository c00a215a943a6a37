"""What nothing means any more is deleted at a start, and nothing that anybody holds or needs."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

from tests.fakes import key
from tests.store.conftest import (
    attached,
    ended_process,
    key_record,
    lease_by,
    rubbish,
    tree,
)
from xinference_venv.store.locks import held, held_if_free
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep, sweep_stale_records

KEY = key()


def locks(store: Store) -> list[str]:
    return tree(store.layout.locks)


def write_key_record(store: Store, name: str, text: str = "") -> None:
    text = text or json.dumps(key_record(KEY, "an-env").to_dict())
    (store.layout.keys / name).write_text(text)


def test_the_leases_of_the_dead_are_dropped_though_a_key_keeps_the_environment(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    env_id = attached(store, "numpy")
    lease_by(store, env_id, child := children())
    store.take_lease(env_id, model_name="m", model_uid=None, process=ended_process())
    sweep(store)
    assert len(os.listdir(store.layout.leases_of(env_id))) == 1
    child.kill()
    child.wait()
    sweep(store)
    assert tree(store.layout.leases) == []
    assert store.env_of(KEY) == env_id


async def test_leases_of_an_environment_that_somebody_works_on_are_left_to_him(
    store: Store,
) -> None:
    env_id = attached(store, "numpy")
    store.take_lease(env_id, model_name="m", model_uid=None, process=ended_process())
    async with held(store.env_lock(env_id), purpose="test", deadline=0):
        sweep_stale_records(store)
        assert len(os.listdir(store.layout.leases_of(env_id))) == 1
    sweep_stale_records(store)
    assert tree(store.layout.leases) == []


def test_the_record_of_a_key_goes_with_its_link_and_not_before(store: Store) -> None:
    attached(store, "numpy")
    stray = key("stray")
    write_key_record(store, f"{stray.digest}.json")
    write_key_record(store, f"{key('damaged').digest}.json", "{")
    write_key_record(store, "not-ours.json")
    (store.layout.key_link(key("unmanaged", None)) / "bin").mkdir(parents=True)
    write_key_record(store, f"{key('unmanaged', None).digest}.json")
    with held_if_free(store.key_lock(stray)):
        # Somebody attaches it right now.
        sweep(store)
        assert f"{stray.digest}.json" in tree(store.layout.keys)
    sweep(store)
    kept = [f"{each.digest}.json" for each in (KEY, key("unmanaged", None))]
    assert tree(store.layout.keys) == sorted([*kept, "not-ours.json"])
    assert store.key_record(KEY) is not None


def test_locks_of_what_is_gone_are_deleted_unless_somebody_holds_them(store: Store) -> None:
    env_id = attached(store, "numpy")
    with held_if_free(store.key_lock(KEY)), held_if_free(store.build_lock(env_id)):
        pass
    sweep(store)
    needed = sorted(each.name for each in (store.env_lock(env_id), store.key_lock(KEY)))
    assert set(locks(store)) >= {*needed, store.build_lock(env_id).name}
    store.detach(KEY)
    assert store.delete_if_unused(env_id)
    with held_if_free(store.env_lock(env_id)), held_if_free(store.key_lock(key("new"))):
        sweep(store)
        held_ones = [store.env_lock(env_id).name, store.key_lock(key("new")).name]
        assert set(locks(store)) >= {*held_ones}
        assert store.key_lock(KEY).name not in locks(store)
    sweep(store)
    assert not [name for name in locks(store) if name.startswith(("env-", "key-", "build-"))]


def test_a_build_of_a_process_that_can_not_be_judged_is_deleted_after_some_days(
    store: Store,
) -> None:
    folder = store.stage("job")
    owner = folder.with_name("job.owner")
    elsewhere = replace(this_process(), namespace="another")
    owner.write_text(json.dumps(elsewhere.to_dict()))
    now = time.time()
    for days, stays in ((6, True), (8, False)):
        os.utime(owner, (now - days * 86_400, now - days * 86_400))
        sweep(store)
        assert folder.exists() is stays
    assert rubbish(store) == []
