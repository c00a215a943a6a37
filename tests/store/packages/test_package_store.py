"""The store of packages: whole or not at all, safe beside others, verified, healed."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faulty_disk import Death, FaultyDisk, dying
from tests.store.packages.conftest import Unpack
from tests.wheels import build_wheel
from xinference_venv.planning.package import PackageRecord
from xinference_venv.store.packages.package_store import TreeCheck
from xinference_venv.store.packages.tree_files import StagedTree
from xinference_venv.store.paths import PACKAGE_RECORD_NAME
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep

pytestmark = pytest.mark.uv


@pytest.fixture
def lamp(unpack: Unpack, wheels: Path) -> PackageRecord:
    wheel = build_wheel(wheels, "lamp", "1.0", modules={"lamp/__init__.py": "x = 1\n"})
    return unpack.add(wheel)["lamp"]


def overwrite(file: Path, content: bytes) -> None:
    """Change a file of a tree by another inode, as a tool that writes a new file does."""
    mode = file.parent.stat().st_mode
    file.parent.chmod(0o755)
    file.unlink()
    file.write_bytes(content)
    file.parent.chmod(mode)


def test_what_was_added_is_found_by_its_key_and_its_folder(
    store: Store, lamp: PackageRecord
) -> None:
    assert store.packages.get(lamp.key) == lamp
    assert store.packages.record(lamp.key.folder) == lamp
    assert store.packages.folders() == [lamp.key.folder]
    assert store.packages.get(replace(lamp.key, digest="0" * 64)) is None
    assert Store.open(store.layout.root).packages.get(lamp.key) == lamp


def test_a_tree_that_is_there_already_stays(
    unpack: Unpack, wheels: Path, store: Store, lamp: PackageRecord
) -> None:
    inode = store.layout.package(lamp.key.folder).stat().st_ino
    assert unpack.add(*wheels.iterdir()) == {"lamp": lamp}
    assert store.layout.package(lamp.key.folder).stat().st_ino == inode


def test_of_two_that_add_one_tree_at_once_both_find_it(
    unpack: Unpack, wheels: Path, store: Store
) -> None:
    wheel = build_wheel(wheels, "lamp", "1.0")
    staged = [unpack.split(wheel).trees["lamp"] for _ in range(4)]
    found: list[PackageRecord] = []

    def add(tree: StagedTree) -> None:
        found.extend(store.packages.add([tree]))

    threads = [threading.Thread(target=add, args=(each,)) for each in staged]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {each.key for each in found} == {staged[0].record.key}
    assert store.packages.folders() == [staged[0].record.key.folder]
    assert store.packages.verify(staged[0].record.key.folder, hashes=True) == TreeCheck()


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b'{"version": 99}', b"[]"])
def test_a_tree_whose_record_is_damaged_is_not_there_and_is_replaced(
    unpack: Unpack, wheels: Path, store: Store, lamp: PackageRecord, damage: bytes
) -> None:
    (store.layout.package(lamp.key.folder) / PACKAGE_RECORD_NAME).write_bytes(damage)
    assert store.packages.get(lamp.key) is None
    assert store.packages.verify(lamp.key.folder).faults
    unpack.add(*wheels.iterdir())
    assert store.packages.get(lamp.key) == lamp
    assert store.packages.verify(lamp.key.folder) == TreeCheck()
    assert os.listdir(store.layout.trash) == []


def test_a_file_that_was_changed_breaks_the_tree_until_it_is_made_again(
    unpack: Unpack, wheels: Path, store: Store, lamp: PackageRecord
) -> None:
    module = unpack.site(lamp) / "lamp" / "__init__.py"
    overwrite(module, b"x = 2\n")
    assert store.packages.verify(lamp.key.folder) == TreeCheck()
    check = store.packages.verify(lamp.key.folder, hashes=True)
    folder = lamp.key.folder
    assert check.faults == (
        f"{folder}/site/lamp/__init__.py has other content than its RECORD says",
    )
    assert store.packages.get(lamp.key) is None
    assert store.packages.broken() == {folder}
    # Only a look as close takes that back.
    assert store.packages.verify(lamp.key.folder).faults == check.faults
    overwrite(module, b"x = 1\n")
    assert store.packages.verify(lamp.key.folder) == TreeCheck()
    assert store.packages.get(lamp.key) == lamp
    assert store.packages.broken() == frozenset()
    assert os.listdir(store.layout.broken) == []


def test_a_file_that_is_gone_and_one_more_are_distinguished(
    unpack: Unpack, store: Store, lamp: PackageRecord
) -> None:
    package = unpack.site(lamp) / "lamp"
    package.chmod(0o755)
    (package / "cache.nbi").write_text("")
    (package / "__pycache__" / "x.cpython-311.pyc").write_text("")
    check = store.packages.verify(lamp.key.folder)
    assert check == TreeCheck(additions=(f"{lamp.key.folder}/site/lamp/cache.nbi",))
    assert store.packages.get(lamp.key) == lamp
    (package / "__init__.py").unlink()
    assert store.packages.verify(lamp.key.folder).faults == (
        f"{lamp.key.folder}/site/lamp/__init__.py is missing",
    )


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("site/lamp/__init__.py", b"x = 1 + 1\n"),
        ("site/lamp/__init__.py", None),
        ("data/share/lamp.txt", b"more light"),
        ("data/share/lamp.txt", None),
        ("site/lamp-1.0.dist-info/RECORD", b""),
        (PACKAGE_RECORD_NAME, None),
    ],
)
def test_a_glance_sees_what_is_missing_or_has_another_size(
    unpack: Unpack, wheels: Path, store: Store, file: str, content: bytes | None
) -> None:
    wheel = build_wheel(
        wheels,
        "lamp",
        "1.0",
        modules={"lamp/__init__.py": "x = 1\n"},
        data={"lamp-1.0.data/data/share/lamp.txt": b"light"},
    )
    folder = unpack.add(wheel)["lamp"].key.folder
    assert store.packages.has_all_sizes(folder)
    place = store.layout.package(folder) / file
    if content is None:
        place.parent.chmod(0o755)
        place.unlink()
    else:
        overwrite(place, content)
    assert not store.packages.has_all_sizes(folder)
    assert store.packages.verify(folder).faults


def test_one_look_serves_all_that_ask_for_one_as_close_since(
    unpack: Unpack, wheels: Path, store: Store, lamp: PackageRecord
) -> None:
    began = time.time()
    folder = lamp.key.folder
    assert store.packages.verify(folder) == TreeCheck()
    overwrite(unpack.site(lamp) / "lamp" / "__init__.py", b"x = 1  # more\n")
    assert store.packages.verify(folder, since=began) == TreeCheck()
    assert store.packages.verify(folder, since=began, hashes=True).faults
    assert store.packages.verify(folder, since=began).faults
    unpack.add(*wheels.iterdir())
    assert store.packages.verify(folder, since=began) == TreeCheck()


def test_a_record_of_files_that_was_cut_short_is_a_fault(
    unpack: Unpack, store: Store, lamp: PackageRecord
) -> None:
    record = unpack.site(lamp) / lamp.metadata / "RECORD"
    overwrite(record, record.read_bytes()[:50])
    [fault] = store.packages.verify(lamp.key.folder).faults
    assert "RECORD is not what was written" in fault


def test_what_a_build_needs_is_known_until_its_folder_is_gone(store: Store) -> None:
    first, second = store.make_staging_folder("one"), store.make_staging_folder("two")
    store.packages.keep(first, ["a-1-x"])
    store.packages.keep(first, ["b-1-x"])
    store.packages.keep(second, ["c-1-x"])
    assert store.packages.needed_by_builds() == {"a-1-x", "b-1-x", "c-1-x"}
    store.delete_trashed(store.trash_staging_folder(first.name))
    assert store.packages.needed_by_builds() == {"c-1-x"}


def test_a_death_at_any_operation_leaves_no_tree_or_a_whole_one(
    unpack: Unpack, wheels: Path, store: Store
) -> None:
    wheel = build_wheel(wheels, "lamp", "1.0")
    for at in range(100):
        disk = FaultyDisk()
        mine = Store.open(store.layout.root, disk)
        tree = unpack.split(wheel).trees["lamp"]
        folder = store.make_staging_folder(f"death-{at}")
        disk.break_at(at, dying)
        try:
            mine.packages.keep(folder, [tree.record.key.folder])
            mine.packages.add([tree])
        except Death:
            pass
        store.delete_trashed(store.trash_staging_folder(folder.name))
        if not disk.broke:
            break
        after = Store.open(store.layout.root)
        if after.packages.folders():
            assert after.packages.get(tree.record.key) == tree.record
            assert after.packages.verify(tree.record.key.folder, hashes=True) == TreeCheck()
            after.disk.discard(after.layout.package(tree.record.key.folder), after.layout.trash)
    assert 2 < at < 99
    store.delete_trashed(store.trash_staging_folder(unpack.staging.name))
    sweep(store)
    assert os.listdir(store.layout.staging) == []
    assert os.listdir(store.layout.trash) == []
