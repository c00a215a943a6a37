"""Which trees of packages stay, and which go."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clock import ClockAhead
from tests.fakes import key
from tests.faulty_disk import Death, FaultyDisk, dying
from tests.store.conftest import env_record, identity_of, key_record, lock_of, staged
from tests.store.packages.conftest import Unpack
from tests.wheels import build_wheel
from xinference_venv.errors import StoreError
from xinference_venv.planning.package import JoinMember, JoinPlan, PackageRecord
from xinference_venv.store.atomic import Disk
from xinference_venv.store.disk_usage import measure, recorded_bytes, usages_of
from xinference_venv.store.packages.package_store import TreeCheck
from xinference_venv.store.packages.retention import (
    KEPT_SECONDS,
    UnneededTree,
    needed_trees,
    record_tree_use,
    remove_additions,
    remove_trees,
    unneeded_trees,
)
from xinference_venv.store.paths import RECORD_NAME
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store
from xinference_venv.store.tree_size import never

pytestmark = pytest.mark.uv


@pytest.fixture
def records(unpack: Unpack, wheels: Path, store: Store) -> dict[str, PackageRecord]:
    """Three packages in the store that nothing needs."""
    for name in ("lamp", "oil", "wick"):
        build_wheel(wheels, name, "1.0", modules={f"{name}/__init__.py": f"# {name}\n" * 50})
    found = unpack.add(*wheels.iterdir())
    store.delete_trashed(store.trash_staging_folder(unpack.staging.name))
    return found


def publish(store: Store, *records: PackageRecord, joined: tuple[str, ...] = ()) -> str:
    """An environment that shows packages, found by a key of its own; its id is returned."""
    names = [each.key.name for each in records]
    made = lock_of(*names)
    # Bytecode is compiled by the interpreter of the record, which is the running one.
    shown = replace(
        env_record(made),
        trees=tuple(each.key.folder for each in records),
        joined=joined,
        python_version=platform.python_version(),
    )
    env = staged(store, f"job-{'-'.join(names)}")
    store.describe(env, shown, made)
    lease = store.publish(env, shown, model_name="a-model", process=this_process())
    store.point_key(key_record(key("-".join(names)), made.env_id))
    store.leases.release(made.env_id, lease.lease_id)
    store.delete_trashed(store.trash_staging_folder(f"job-{'-'.join(names)}"))
    return made.env_id


def unneeded(store: Store, *, days: float = 2, room_bytes: float = math.inf) -> list[UnneededTree]:
    now = time.time() + days * KEPT_SECONDS
    return unneeded_trees(store, never, now=now, room_bytes=room_bytes)


def names(trees: list[UnneededTree]) -> list[str]:
    return [each.path.name.partition("-")[0] for each in trees]


def test_a_tree_stays_while_an_environment_names_it(
    store: Store, records: dict[str, PackageRecord]
) -> None:
    env_id = publish(store, records["lamp"], records["wick"])
    assert needed_trees(store) == {records["lamp"].key.folder, records["wick"].key.folder}
    assert names(unneeded(store)) == ["oil"]
    assert needed_trees(store, without={env_id}) == set()
    store.unlink_key(key("lamp-wick"))
    assert store.delete_if_unused(env_id)
    assert sorted(names(unneeded(store))) == ["lamp", "oil", "wick"]


def test_a_tree_stays_while_a_build_names_it(
    store: Store, records: dict[str, PackageRecord]
) -> None:
    folder = store.make_staging_folder("build")
    store.packages.keep(folder, [records["oil"].key.folder])
    assert sorted(names(unneeded(store))) == ["lamp", "wick"]
    planned = [each for each in unneeded(store) if each.path.name.startswith("lamp")]
    # It is named after the plan was made.
    store.packages.keep(folder, [records["lamp"].key.folder])
    assert remove_trees(store, planned) == []
    store.delete_trashed(store.trash_staging_folder("build"))
    assert remove_trees(store, planned) == planned
    assert store.packages.get(records["lamp"].key) is None


def test_a_joined_tree_keeps_its_members(store: Store, records: dict[str, PackageRecord]) -> None:
    folder = store.make_staging_folder("build")
    members = (records["lamp"], records["wick"])
    plan = JoinPlan(members=tuple(JoinMember(tree=each.key.folder) for each in members))
    store.joined.make(plan, folder)
    assert names(unneeded(store)) == ["oil"]
    store.delete_trashed(store.trash_staging_folder("build"))
    assert sorted(each.kind for each in unneeded(store)) == ["joined tree", *["package"] * 3]
    publish(store, records["oil"], joined=(plan.folder,))
    assert unneeded(store) == []


def test_what_nothing_names_stays_for_a_day_unless_space_is_wanted(
    store: Store, records: dict[str, PackageRecord]
) -> None:
    for age, name in enumerate(("wick", "lamp", "oil")):
        used = time.time() - age
        os.utime(store.layout.package(records[name].key.folder), (used, used))
    assert unneeded(store, days=0) == []
    sizes = {each.path.name: each.own_bytes for each in unneeded(store)}
    assert all(size > 0 for size in sizes.values())
    assert names(unneeded(store, days=0, room_bytes=sum(sizes.values()) - 1)) == ["oil"]
    assert names(unneeded(store, days=0, room_bytes=0)) == ["oil", "lamp", "wick"]


def test_trees_that_the_system_does_not_let_us_delete_keep_no_other(
    store: Store, records: dict[str, PackageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    stays, undeleted, goes = unneeded(store)
    move_to_trash, delete = Disk.move_to_trash, Disk.delete
    refused = [StoreError("could not delete it: Operation not permitted")]

    def move(self: Disk, path: Path, trash: Path) -> Path | None:
        if path == stays.path:
            raise StoreError("could not remove it: Operation not permitted")
        return move_to_trash(self, path, trash)

    def delete_but_one(self: Disk, path: Path) -> None:
        if refused:
            raise refused.pop()
        delete(self, path)

    monkeypatch.setattr(Disk, "move_to_trash", move)
    monkeypatch.setattr(Disk, "delete", delete_but_one)
    assert remove_trees(store, [stays, undeleted, goes]) == [undeleted, goes]
    assert stays.path.exists()
    [left] = store.layout.trash.iterdir()
    assert {each.path for each in store.skipped.all()} == {str(stays.path), str(left)}


def test_what_was_read_of_a_tree_is_forgotten_when_that_is_gone(
    store: Store, records: dict[str, PackageRecord]
) -> None:
    publish(store, records["lamp"])
    store.packages._records.clock = ClockAhead(60.0)
    for each in records.values():
        assert store.packages.get(each.key) is not None
        assert not store.packages.verify(each.key.folder).faults
    remove_trees(store, unneeded(store))
    kept = records["lamp"].key.folder
    assert [*store.packages._records._kept] == [kept]
    assert [*store.packages.looks._last] == [store.layout.package(kept)]


def test_use_is_recorded_for_what_is_named(store: Store, records: dict[str, PackageRecord]) -> None:
    for each in records.values():
        os.utime(store.layout.package(each.key.folder), (1.0, 1.0))
    publish(store, records["lamp"])
    record_tree_use(store)
    used = {
        name: store.layout.package(each.key.folder).stat().st_mtime
        for name, each in records.items()
    }
    assert used["oil"] == used["wick"] == 1.0
    assert used["lamp"] > time.time() - 60


def test_nothing_goes_while_an_environment_in_use_can_not_say_what_it_shows(
    store: Store,
    records: dict[str, PackageRecord],
    children: Callable[[], subprocess.Popen[bytes]],
) -> None:
    env_id = publish(store, records["lamp"])
    lease = store.take_lease(
        env_id, model_name="a-model", model_uid=None, process=identity_of(children())
    )
    planned = unneeded(store)
    (store.layout.env(env_id) / RECORD_NAME).write_text("{")
    assert needed_trees(store) is None
    assert unneeded(store) == []
    assert remove_trees(store, planned) == []
    store.leases.release(env_id, lease.lease_id)
    assert sorted(names(unneeded(store))) == ["lamp", "oil", "wick"]


def test_what_a_process_wrote_next_to_modules_goes_when_none_uses_the_package(
    store: Store,
    records: dict[str, PackageRecord],
    children: Callable[[], subprocess.Popen[bytes]],
) -> None:
    lamp = records["lamp"]
    package = store.layout.package(lamp.key.folder) / "site" / "lamp"
    package.chmod(0o755)
    (package / "hash_seed.txt").write_text("seed")
    package.chmod(0o555)
    [addition] = store.packages.verify(lamp.key.folder).additions
    env_id = publish(store, lamp)
    lease = store.take_lease(
        env_id, model_name="a-model", model_uid=None, process=identity_of(children())
    )
    tree = store.layout.package(lamp.key.folder)
    assert remove_additions(store, tree, [addition]) == []
    store.leases.release(env_id, lease.lease_id)
    assert remove_additions(store, tree, [addition]) == [addition]
    assert not (package / "hash_seed.txt").exists()
    assert package.stat().st_mode & 0o777 == 0o555
    assert store.packages.verify(lamp.key.folder) == TreeCheck()


def test_environments_weigh_what_they_show_and_share(
    store: Store, records: dict[str, PackageRecord]
) -> None:
    publish(store, records["lamp"], records["wick"])
    publish(store, records["lamp"], records["oil"])
    first, second = measure(store, usages_of(store, ()), never)
    files = {
        name: sum(
            path.stat().st_size
            for path in store.layout.package(each.key.folder).rglob("*")
            if path.is_file()
        )
        for name, each in records.items()
    }
    assert first.shared_bytes == 0
    assert second.shared_bytes == files["lamp"]
    assert first.size_bytes > files["lamp"]
    assert first.size_bytes + second.size_bytes > 2 * files["lamp"] + files["oil"] + files["wick"]
    recorded = recorded_bytes(store, [first, second])
    assert sum(recorded.values()) >= first.size_bytes + second.added_bytes - 3 * 4096


def test_a_death_while_trees_go_leaves_none_that_is_half_there(
    unpack: Unpack, wheels: Path, store: Store
) -> None:
    for name in ("lamp", "wick"):
        build_wheel(wheels, name, "1.0")
    for at in range(100):
        # What was removed is made again.
        staging = store.make_staging_folder("again")
        unpack.staging = staging
        records = unpack.add(*wheels.iterdir())
        store.delete_trashed(store.trash_staging_folder(staging.name))
        disk = FaultyDisk()
        mine = Store.open(store.layout.root, disk)
        planned = unneeded(mine)
        disk.break_at(at, dying)
        with suppress(Death):
            remove_trees(mine, planned)
        if not disk.broke:
            break
        after = Store.open(store.layout.root)
        for record in records.values():
            if record.key.folder in after.packages.folders():
                assert after.packages.verify(record.key.folder).faults == ()
    assert 1 < at < 99
