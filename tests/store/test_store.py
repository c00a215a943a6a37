"""The store: environments are published whole, meant by keys, kept by leases, and swept."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import host, key
from tests.faulty_disk import FaultyDisk, failing
from tests.store.conftest import (
    attached,
    end,
    env_record,
    envs,
    key_record,
    lease_by,
    lock_of,
    publish,
    rubbish,
    staged,
    tree,
)
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.inventory.lease import Holder
from xinference_venv.planning.key import EnvKey
from xinference_venv.store.paths import LOCK_NAME, RECORD_NAME
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store, interpreter_facts
from xinference_venv.store.sweep import sweep

KEY = key()


# Opening


def test_a_store_is_made_once_and_opened_again(tmp_path: Path) -> None:
    root = tmp_path / "a" / "virtualenv"
    env_id = attached(Store.open(root), "numpy")
    again = Store.open(root)
    assert again.env_of(KEY) == env_id
    assert sorted(each.name for each in again.layout.store.iterdir()) == [
        *("envs", "file-system.json", "first-seen.json", "hosts", "joined", "keys", "leases"),
        *("locks", "logs"),
        *(
            "packages",
            "processes",
            "proofs",
            "relay",
            "resolutions",
            "staging",
            "stubs",
            "trash",
            "wheels",
        ),
    ]


def test_a_root_behind_a_link_is_used_by_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = Store.open(tmp_path / "link" / "virtualenv")
    env_id = attached(store, "numpy")
    assert store.layout.root == tmp_path / "real" / "virtualenv"
    assert Store.open(tmp_path / "real" / "virtualenv").env_of(KEY) == env_id


def test_a_store_that_was_moved_still_finds_its_environments(tmp_path: Path) -> None:
    env_id = attached(Store.open(tmp_path / "one"), "numpy")
    (tmp_path / "one").rename(tmp_path / "two")
    moved = Store.open(tmp_path / "two")
    assert moved.env_of(KEY) == env_id
    assert moved.layout.key_link(KEY).resolve() == moved.layout.env(env_id)


def test_a_root_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "virtualenv").write_text("")
    with pytest.raises(StoreError, match=str(tmp_path / "virtualenv")):
        Store.open(tmp_path / "virtualenv")


# Staging


def test_builds_take_turns_at_a_place_and_each_has_one_of_its_own(store: Store) -> None:
    first, second = store.make_staging_folder("place"), store.make_staging_folder("place")
    assert [each.name for each in (first, second)] == ["place", "place-2"]
    store.delete_trashed(store.trash_staging_folder("place"))
    assert store.make_staging_folder("place") == first
    (store.layout.staging / "place-3.owner").write_text("{}")
    assert store.make_staging_folder("place").name == "place-4"


def test_a_place_that_can_not_be_made_has_no_owner(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = Store.open(tmp_path / "virtualenv", disk)
    disk.break_at(1, failing(errno.ENOSPC))
    with pytest.raises(StoreError):
        store.make_staging_folder("place")
    assert disk.done[1].startswith("make_directory")
    assert tree(store.layout.staging) == []


# Publishing


def test_a_published_environment_is_whole_and_leaves_no_staging(store: Store) -> None:
    made = lock_of("numpy")
    lease = publish(store, made)
    assert store.env_record(made.env_id).lock_digest == made.digest
    assert store.lock_of(made.env_id) == made
    assert tree(store.layout.env(made.env_id)) == ["bin", "bin/python", RECORD_NAME, LOCK_NAME]
    assert rubbish(store) == []
    assert store.leases.of(made.env_id) == [(lease, Holder.ALIVE)]
    assert store.env_of(KEY) is None


def test_an_environment_that_is_there_is_not_touched_by_another_of_the_same_lock(
    store: Store,
) -> None:
    made = lock_of("numpy")
    publish(store, made, content="first")
    python = store.layout.env(made.env_id) / "bin" / "python"
    before = python.stat()
    publish(store, made, job_id="second", content="second")
    assert python.read_text() == "first"
    assert python.stat().st_ino == before.st_ino
    assert len(store.leases.of(made.env_id)) == 2
    assert rubbish(store) == []


@pytest.mark.parametrize("damage", ["no record", "no JSON", "another", "interpreter", "empty"])
def test_a_broken_environment_makes_way(store: Store, damage: str) -> None:
    made = lock_of("numpy")
    lease = publish(store, made, content="broken")
    store.leases.release(made.env_id, lease.lease_id)
    place = store.layout.env(made.env_id)
    record = json.loads((place / RECORD_NAME).read_bytes())
    match damage:
        case "no record":
            (place / RECORD_NAME).unlink()
        case "no JSON":
            (place / RECORD_NAME).write_text("{")
        case "another":
            (place / RECORD_NAME).write_text(json.dumps({**record, "env_id": "0" * 32}))
        case "interpreter":
            gone = {**record, "interpreter": {"path": "/gone", "size": 1, "modified": 1}}
            (place / RECORD_NAME).write_text(json.dumps(gone))
        case "empty":
            shutil.rmtree(place)
            place.mkdir()
    with pytest.raises(InvalidRecord):
        store.env_record(made.env_id)
    publish(store, made, content="healed")
    assert (place / "bin" / "python").read_text() == "healed"
    assert store.env_record(made.env_id).lock_digest == made.digest
    assert rubbish(store) == []


def test_a_broken_record_never_gives_a_lease(store: Store) -> None:
    env_id = attached(store, "numpy")
    (store.layout.env(env_id) / RECORD_NAME).write_text("{}")
    with pytest.raises(InvalidRecord):
        store.take_lease(env_id, model_name="m", model_uid=None, process=this_process())
    with pytest.raises(InvalidRecord):
        store.take_lease("0" * 32, model_name="m", model_uid=None, process=this_process())
    assert tree(store.layout.leases) == []


def _damages(data: dict[str, Any]) -> list[object]:
    wrong: list[object] = [None, 3, "text", [], {}, [3], {"a": 1}]
    damaged: list[object] = [*wrong, [data]]
    for name in data:
        damaged += [{**data, name: value} for value in wrong if value != data[name]]
    return damaged


def test_no_damage_of_a_record_does_more_than_break_its_environment(store: Store) -> None:
    env_id = attached(store, "numpy")
    path = store.layout.env(env_id) / RECORD_NAME
    data = json.loads(path.read_bytes())
    for damaged in _damages(data):
        path.write_text(json.dumps(damaged))
        try:
            record = store.env_record(env_id)
        except InvalidRecord:
            continue
        assert record.env_id == env_id
        assert record.interpreter == data["interpreter"]


def test_no_damage_of_a_lock_does_more_than_hide_it(store: Store) -> None:
    env_id = attached(store, "numpy")
    path = store.layout.env(env_id) / LOCK_NAME
    data = json.loads(path.read_bytes())
    for damaged in _damages(data):
        path.write_text(json.dumps(damaged))
        store.lock_of(env_id)
        assert store.env_record(env_id).env_id == env_id


def test_an_interpreter_that_was_replaced_in_place_breaks_its_environments(
    store: Store, tmp_path: Path
) -> None:
    python = tmp_path / "python3"
    python.write_text("3.11.7")
    made = lock_of("numpy")
    record = replace(env_record(made), interpreter=interpreter_facts(str(python)))
    env = staged(store)
    store.describe(env, record, made)
    store.publish(env, record, model_name="m", process=this_process())
    assert store.env_record(made.env_id) == record
    python.write_text("3.11.70")
    with pytest.raises(InvalidRecord, match=f"the interpreter {python} was removed or replaced"):
        store.env_record(made.env_id)
    assert store.lock_of(made.env_id) == made


def test_an_interpreter_that_this_user_may_not_reach_is_no_removed_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python3"
    python.write_text("3.11.7")
    made = lock_of("numpy")
    record = replace(env_record(made), interpreter=interpreter_facts(str(python)))
    again = staged(store)
    store.describe(again, record, made)
    store.publish(again, record, model_name="m", process=this_process())
    look = os.stat

    def refuse(path: str | Path, **given: Any) -> os.stat_result:
        if str(path) == str(python):
            # Root, as whom this may run, is refused nothing.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, **given)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(InvalidRecord, match=f"this user may not reach the interpreter {python}"):
        store.env_record(made.env_id)


# Keys


def test_a_key_refers_to_what_it_was_pointed_at_last(store: Store) -> None:
    first = attached(store, "numpy")
    second = attached(store, "torch")
    assert first != second
    assert store.env_of(KEY) == second
    record = store.key_record(KEY)
    assert record is not None
    assert record == key_record(KEY, second, last_used=record.last_used)
    assert list(store.links()) == [(KEY, second)]
    link = store.layout.key_link(KEY)
    assert link.resolve() == store.layout.env(second)
    assert not link.readlink().is_absolute()


def test_keys_with_and_without_an_engine_are_apart(store: Store) -> None:
    with_engine = attached(store, "numpy", of=key("m", "vllm"))
    without = attached(store, "torch", of=key("m", None))
    assert store.env_of(key("m", "vllm")) == with_engine
    assert store.env_of(key("m", None)) == without
    assert store.env_of(key("m", "vllm", "3.12")) is None
    assert {each for each, _ in store.links()} == {key("m", "vllm"), key("m", None)}


@pytest.mark.parametrize(
    "of",
    [
        key(".hidden", ".engine"),
        key(".hidden", None),
        key("...", "..."),
        key("模型-é", "vllm"),
        key("x" * 255, "y" * 255, "3.11.7"),
        key("a:b*[c]$(d)", "~"),
        key("store", "envs"),
        key("v3", None),
    ],
    ids=lambda of: str(of)[:20],
)
def test_an_environment_is_kept_for_its_key_whatever_that_is_called(
    store: Store, of: EnvKey
) -> None:
    env_id = attached(store, "numpy", of=of)
    assert list(store.links()) == [(of, env_id)]
    sweep(store)
    assert not store.delete_if_unused(env_id)
    assert envs(store) == [env_id]
    store.unlink_key(of)
    assert store.delete_if_unused(env_id)


def test_unlinking_a_key_removes_what_is_empty_and_nothing_else(store: Store) -> None:
    keys = [key("m", "vllm"), key("m", "vllm", "3.12"), key("other", None)]
    for each in keys:
        attached(store, "numpy", of=each)
    store.unlink_key(keys[0])
    store.unlink_key(keys[0])
    assert {each for each, _ in store.links()} == set(keys[1:])
    store.unlink_key(keys[1])
    store.unlink_key(keys[2])
    assert sorted(each.name for each in store.layout.root.iterdir()) == ["store"]
    assert tree(store.layout.keys) == []


@pytest.mark.parametrize("target", ["/etc", "../../../../..", "../../../store", "/nowhere", "."])
def test_a_link_to_elsewhere_means_no_environment(store: Store, target: str) -> None:
    link = store.layout.key_link(KEY)
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    assert store.env_of(KEY) is None
    assert list(store.links()) == []
    sweep(store)
    store.unlink_key(KEY)
    assert not link.is_symlink()
    assert Path("/etc").is_dir()
    assert store.layout.envs.is_dir()


def test_a_link_written_as_an_absolute_path_means_its_environment(store: Store) -> None:
    env_id = attached(store, "numpy")
    link = store.layout.key_link(KEY)
    link.unlink()
    link.symlink_to(store.layout.env(env_id))
    assert store.env_of(KEY) == env_id


def test_a_damaged_or_foreign_key_record_only_loses_what_it_noted(store: Store) -> None:
    env_id = attached(store, "numpy")
    [path] = store.layout.keys.iterdir()
    for content in ("", "{", "[]", "{}", json.dumps(key_record(KEY, "another").to_dict())):
        path.write_text(content)
        assert store.key_record(KEY) is None
        assert store.env_of(KEY) == env_id


def test_touching_a_key_notes_when_and_over_which_host(store: Store) -> None:
    attached(store, "numpy")
    record = store.key_record(KEY)
    assert record is not None
    for fingerprint in ("a host", "another host"):
        os.utime(store.layout.keys / f"{KEY.digest}.json", (1000, 1000))
        assert last_used(store) == 1000
        before = time.time()
        store.touch(record, host_fingerprint=fingerprint)
        # A file's time has the granularity of the system's clock tick.
        assert before - 0.1 <= last_used(store) <= time.time() + 0.1
        touched = store.key_record(KEY)
        assert touched == replace(record, host_fingerprint=fingerprint, last_used=last_used(store))


def last_used(store: Store) -> float:
    record = store.key_record(KEY)
    assert record is not None
    return record.last_used


def test_touching_a_key_that_was_unlinked_meanwhile_does_not_link_it_again(
    store: Store,
) -> None:
    attached(store, "numpy")
    record = store.key_record(KEY)
    assert record is not None
    store.unlink_key(KEY)
    for fingerprint in ("a host", "another host"):
        store.touch(record, host_fingerprint=fingerprint)
        assert store.key_record(KEY) is None
        assert store.env_of(KEY) is None


def test_files_where_directories_should_be_are_no_keys(store: Store) -> None:
    (store.layout.root / "v3").mkdir()
    (store.layout.root / "v3" / "file").write_text("")
    (store.layout.root / "v4").write_text("")
    assert list(store.links()) == []
    sweep(store)


# Leases


def test_an_environment_goes_when_neither_key_nor_lease_needs_it(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    env_id = attached(store, "numpy")
    child = children()
    lease_by(store, env_id, child)
    assert not store.delete_if_unused(env_id)
    store.unlink_key(KEY)
    assert not store.delete_if_unused(env_id)
    assert store.env_record(env_id).env_id == env_id
    end(child)
    assert store.delete_if_unused(env_id)
    assert store.delete_if_unused(env_id)
    assert envs(store) == []
    assert rubbish(store) == []
    with pytest.raises(InvalidRecord, match="is gone or has no record"):
        store.env_record(env_id)


def test_an_environment_that_a_second_key_means_stays(store: Store) -> None:
    env_id = attached(store, "numpy")
    attached(store, "numpy", of=key("other"))
    store.unlink_key(KEY)
    assert not store.delete_if_unused(env_id)
    store.unlink_key(key("other"))
    assert store.delete_if_unused(env_id)


def test_a_broken_environment_that_is_in_use_is_not_deleted(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    env_id = attached(store, "numpy")
    lease_by(store, env_id, children())
    (store.layout.env(env_id) / RECORD_NAME).unlink()
    store.unlink_key(KEY)
    sweep(store)
    assert envs(store) == [env_id]


@pytest.mark.parametrize("env_id", ["", ".", "..", "../keys", "/etc"])
def test_an_id_that_leads_elsewhere_deletes_nothing(store: Store, env_id: str) -> None:
    kept = attached(store, "numpy")
    with pytest.raises(StoreError):
        store.delete_if_unused(env_id)
    assert envs(store) == [kept]
    assert store.env_of(KEY) == kept


# Facts of hosts


def test_the_facts_of_a_host_are_kept_by_their_fingerprint(store: Store) -> None:
    facts = host()
    assert store.saved_host(facts.fingerprint) is None
    store.save_host(facts)
    store.save_host(facts)
    assert store.saved_host(facts.fingerprint) == facts
    [path] = store.layout.hosts.iterdir()
    for content in ("", "{", "[]", "{}"):
        path.write_text(content)
        assert store.saved_host(facts.fingerprint) is None
        assert store.host_marks(facts.fingerprint) == ()
        store.save_host(facts)
        assert store.saved_host(facts.fingerprint) == facts


def test_an_interpreter_that_is_gone_has_no_facts(tmp_path: Path) -> None:
    assert interpreter_facts(str(tmp_path / "gone")) == {}
    assert interpreter_facts(sys.executable)["size"] == os.stat(sys.executable).st_size
