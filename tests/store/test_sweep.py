"""The sweep at a start: temporary files and records of ended processes go, all else stays."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import key
from tests.store.conftest import (
    attached,
    ended_process,
    key_record,
    lease_by,
    rubbish,
    tree,
)
from xinference_venv.store.atomic import temporary_path
from xinference_venv.store.locks import hold_lock, hold_lock_if_free
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import (
    left_in_trash,
    sweep,
    sweep_stale_records,
    sweep_temporary_files,
)
from xinference_venv.store.visit import SkippedItems

DAY = 86400.0
KEY = key()


def of_the_dead(path: Path) -> Path:
    """A place beside, by a process with this pid that lived before this one."""
    temporary = temporary_path(path)
    start = this_process().start
    return temporary.with_name(temporary.name.replace(f"-{start}-", f"-{int(start) - 1}-"))


def of_another_host(path: Path) -> Path:
    temporary = temporary_path(path)
    where = temporary.name.rpartition(".")[2].partition("-")[0]
    return temporary.with_name(temporary.name.replace(where, "0" * len(where)))


def places(store: Store, env_id: str) -> list[Path]:
    """One in each kind of folder in which something is made beside."""
    layout = store.layout
    return [
        layout.keys / "a-key.json",
        layout.hosts / "a-host.json",
        layout.logs / "a.log",
        layout.processes / "1.json",
        layout.staging / "a-job.owner",
        layout.leases / env_id / "a-lease.json",
        layout.wheels / "a-hash" / "a.whl",
        layout.env(env_id) / "a-mark.json",
        layout.root / "v3" / "a-model" / "3.11",
        layout.root / "v4" / "a-model" / "vllm" / "3.11",
    ]


@pytest.fixture
def env_id(store: Store) -> str:
    return attached(store, "numpy")


def test_what_the_dead_made_next_to_it_is_deleted_everywhere(store: Store, env_id: str) -> None:
    before = [name for name in tree(store.layout.root) if not name.startswith("store/locks")]
    for path in places(store, env_id):
        path.parent.mkdir(parents=True, exist_ok=True)
        of_the_dead(path).write_text("{")
    store.layout.root.joinpath("v3/a-link").mkdir()
    of_the_dead(store.layout.root / "v3" / "a-link" / "3.11").symlink_to("nowhere")
    sweep_temporary_files(store.layout, store.disk)
    after = {name for name in tree(store.layout.root) if not name.startswith("store/locks")}
    # Folders of keys go with their last entry; those of the store are others' to delete.
    assert after - set(before) == {f"store/leases/{env_id}", "store/wheels/a-hash"}
    assert set(before) <= after


def test_what_the_living_and_other_hosts_make_stays(store: Store, env_id: str) -> None:
    made = []
    for path in places(store, env_id):
        path.parent.mkdir(parents=True, exist_ok=True)
        made += [temporary_path(path), of_another_host(path)]
    for path in made:
        path.write_text("{")
    sweep_temporary_files(store.layout, store.disk)
    assert all(path.exists() for path in made)


def test_what_another_host_made_long_ago_is_deleted(store: Store) -> None:
    path = of_another_host(store.layout.keys / "a-key.json")
    path.write_text("{")
    os.utime(path, (time.time() - 2 * DAY,) * 2)
    sweep_temporary_files(store.layout, store.disk)
    assert not path.exists()


def test_a_key_stays_and_so_does_a_hidden_file_of_someone_else(store: Store, env_id: str) -> None:
    foreign = store.layout.keys / ".a-key.json.0123abcd"
    foreign.write_text("{")
    sweep_temporary_files(store.layout, store.disk)
    assert store.env_of(key()) == env_id
    assert foreign.exists()


def test_the_folders_of_a_model_that_has_no_key_any_more_are_removed(store: Store) -> None:
    for folder in ("v3/a-model", "v4/a-model/vllm", "v4/another"):
        store.layout.root.joinpath(folder).mkdir(parents=True)
    sweep_temporary_files(store.layout, store.disk)
    assert os.listdir(store.layout.root) == ["store"]


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


async def test_leases_of_an_environment_that_someone_works_on_are_left_to_him(
    store: Store,
) -> None:
    env_id = attached(store, "numpy")
    store.take_lease(env_id, model_name="m", model_uid=None, process=ended_process())
    async with hold_lock(store.env_lock(env_id), purpose="test", deadline=0):
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
    with hold_lock_if_free(store.key_lock(stray)):
        # Somebody attaches it right now.
        sweep(store)
        assert f"{stray.digest}.json" in tree(store.layout.keys)
    sweep(store)
    kept = [f"{each.digest}.json" for each in (KEY, key("unmanaged", None))]
    assert tree(store.layout.keys) == sorted([*kept, "not-ours.json"])
    assert store.key_record(KEY) is not None


def test_locks_of_what_is_gone_are_deleted_unless_someone_holds_them(store: Store) -> None:
    env_id = attached(store, "numpy")
    with hold_lock_if_free(store.key_lock(KEY)), hold_lock_if_free(store.build_lock(env_id)):
        pass
    sweep(store)
    needed = sorted(each.name for each in (store.env_lock(env_id), store.key_lock(KEY)))
    assert set(locks(store)) >= {*needed, store.build_lock(env_id).name}
    store.unlink_key(KEY)
    assert store.delete_if_unused(env_id)
    with hold_lock_if_free(store.env_lock(env_id)), hold_lock_if_free(store.key_lock(key("new"))):
        sweep(store)
        held_ones = [store.env_lock(env_id).name, store.key_lock(key("new")).name]
        assert set(locks(store)) >= {*held_ones}
        assert store.key_lock(KEY).name not in locks(store)
    sweep(store)
    assert not [name for name in locks(store) if name.startswith(("env-", "key-", "build-"))]


def test_a_build_of_a_process_that_can_not_be_judged_is_deleted_after_some_days(
    store: Store,
) -> None:
    folder = store.make_staging_folder("job")
    owner = folder.with_name("job.owner")
    elsewhere = replace(this_process(), namespace="another")
    owner.write_text(json.dumps(elsewhere.to_dict()))
    now = time.time()
    for days, stays in ((6, True), (8, False)):
        os.utime(owner, (now - days * 86_400, now - days * 86_400))
        sweep(store)
        assert folder.exists() is stays
    assert rubbish(store) == []


class _Deleting(SkippedItems):
    """Deletes what it lists, as another process may just after the look."""

    def entries(self, folder: str | Path) -> list[os.DirEntry[str]]:
        found = super().entries(folder)
        for each in found:
            os.rmdir(each.path)
        return found


def test_what_is_deleted_while_the_trash_is_looked_at_is_not_left_there(store: Store) -> None:
    (store.layout.trash / "one").mkdir()
    store.disk.skipped = _Deleting()
    assert left_in_trash(store, time.time() + DAY) == []
