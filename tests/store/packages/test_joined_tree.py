"""Joined trees: the files of several packages in one real folder of packages."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faulty_disk import Death, FaultyDisk, dying
from tests.store.packages.conftest import Unpack
from tests.store.packages.test_package_store import overwrite
from tests.wheels import build_wheel
from xinference_venv.errors import StoreError
from xinference_venv.planning.package import (
    EntryKind,
    HostPart,
    JoinMember,
    JoinPlan,
    SharedPath,
    TopLevelName,
)
from xinference_venv.store.packages import joined_tree
from xinference_venv.store.packages.package_store import TreeCheck
from xinference_venv.store.store import Store

pytestmark = pytest.mark.uv


@pytest.fixture
def plan(unpack: Unpack, wheels: Path) -> JoinPlan:
    """Two packages of one namespace, which both own ``space/both.py``."""
    one = build_wheel(
        wheels, "one", "1.0", modules={"space/one/__init__.py": "x = 1\n", "space/both.py": "1"}
    )
    two = build_wheel(wheels, "two", "1.0", modules={"space/two.py": "", "space/both.py": "22"})
    members = [unpack.add(one)["one"], unpack.add(two)["two"]]
    return JoinPlan(members=tuple(JoinMember(tree=each.key.folder) for each in members))


def site_of(store: Store, plan: JoinPlan) -> Path:
    return store.layout.joined_tree(plan.folder) / "site"


def test_members_are_hard_links_in_real_directories_and_the_later_owner_wins(
    unpack: Unpack, store: Store, plan: JoinPlan
) -> None:
    record = store.joined.make(plan, unpack.staging)
    site = site_of(store, plan)
    one, two = plan.trees
    assert record.shared_paths == (SharedPath(path="space/both.py", winner=two, losers=(one,)),)
    assert (
        TopLevelName(name="space", kind=EntryKind.NAMESPACE, entries=("both.py", "one", "two.py"))
        in record.top_level
    )
    assert record.size_bytes == 0
    for tree, path in (
        (one, "space/one/__init__.py"),
        (two, "space/two.py"),
        (two, "space/both.py"),
    ):
        assert (site / path).samefile(store.layout.package(tree) / "site" / path)
    assert {each.name for each in record.top_level} == {
        "space",
        "one-1.0.dist-info",
        "two-1.0.dist-info",
    }
    assert stat.S_IMODE((site / "space").stat().st_mode) == 0o555
    assert os.listdir(site / "space" / "__pycache__") == []
    assert store.joined.verify(plan.folder) == TreeCheck()


def test_it_is_made_once_for_all_and_kept_for_the_build(
    unpack: Unpack, store: Store, plan: JoinPlan
) -> None:
    first = store.joined.make(plan, unpack.staging)
    inode = site_of(store, plan).stat().st_ino
    other = Store.open(store.layout.root)
    assert other.joined.make(plan, unpack.staging) == first
    assert site_of(store, plan).stat().st_ino == inode
    assert {plan.folder, *plan.trees} <= store.packages.needed_by_builds()
    assert JoinPlan(members=plan.members[::-1]).folder != plan.folder


def test_a_member_that_is_not_there_is_an_error(unpack: Unpack, store: Store) -> None:
    plan = JoinPlan(members=(JoinMember(tree="gone-1.0-x"), JoinMember(tree="lost-1.0-x")))
    with pytest.raises(StoreError, match=r"could not join gone-1\.0-x, lost-1\.0-x"):
        store.joined.make(plan, unpack.staging)
    assert store.joined.folders() == []


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_where_there_are_no_hard_links_files_are_copied_or_large_ones_linked(
    unpack: Unpack,
    store: Store,
    plan: JoinPlan,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(joined_tree, "_MOST_COPIED_PER_FILE", 5)
    record = store.joined.make(plan, unpack.staging)
    site = site_of(store, plan)
    assert (site / "space" / "both.py").read_text() == "22"
    assert not (site / "space" / "both.py").is_symlink()
    if (site / "space" / "one" / "__init__.py").is_symlink():
        assert not os.readlink(site / "space" / "one" / "__init__.py").startswith("/")
    assert (site / "space" / "one" / "__init__.py").read_text() == "x = 1\n"
    assert record.size_bytes > 0
    assert store.joined.verify(plan.folder) == TreeCheck()


def host_part(tmp_path: Path) -> HostPart:
    location = tmp_path / "host"
    for path in ("space/host/__init__.py", "space/host/deep/a.py", "space/loose.py", "space/no.py"):
        (location / path).parent.mkdir(parents=True, exist_ok=True)
        (location / path).write_text(f"# {path}\n")
        os.utime(location / path, (1_600_000_000, 1_600_000_000))
    return HostPart(
        name="hosted",
        location=str(location),
        files=("space/host/__init__.py", "space/host/deep/a.py", "space/loose.py"),
        identity="inode 1",
    )


def test_a_part_of_the_host_is_copied_with_its_times(
    unpack: Unpack, store: Store, plan: JoinPlan, tmp_path: Path
) -> None:
    part = host_part(tmp_path)
    mixed = JoinPlan(members=(JoinMember(host=part), *plan.members))
    record = store.joined.make(mixed, unpack.staging)
    copy = site_of(store, mixed) / "space" / "loose.py"
    original = Path(part.location) / "space" / "loose.py"
    assert not copy.samefile(original)
    assert copy.stat().st_mtime == original.stat().st_mtime
    assert not (site_of(store, mixed) / "space" / "no.py").exists()
    assert record.size_bytes == sum(
        (Path(part.location) / each).stat().st_size for each in part.files
    )
    assert record.linked_files == ()
    # An installer that replaces the host's file changes nothing here.
    original.write_text("# other\n")
    assert store.joined.verify(mixed.folder) == TreeCheck()


def test_where_the_host_has_too_much_to_copy_its_largest_files_are_links_in_real_directories(
    unpack: Unpack,
    store: Store,
    plan: JoinPlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = host_part(tmp_path)
    large = Path(part.location) / "space" / "host" / "deep" / "large.so"
    large.write_bytes(b"0" * 1000)
    part = replace(part, files=(*part.files, "space/host/deep/large.so"))
    sizes = {path: (Path(part.location) / path).stat().st_size for path in part.files}
    mixed = JoinPlan(members=(JoinMember(host=part), *plan.members))
    monkeypatch.setattr(joined_tree, "MOST_COPIED_BYTES", sum(sizes.values()) - 1)
    record = store.joined.make(mixed, unpack.staging)
    site = site_of(store, mixed)
    assert record.linked_files == ("space/host/deep/large.so",)
    assert record.size_bytes == sum(sizes.values()) - 1000
    walked = {
        os.path.relpath(os.path.join(folder, name), site)
        for folder, _, names in os.walk(site / "space")
        for name in names
    }
    assert walked == {*part.files, "space/both.py", "space/one/__init__.py", "space/two.py"}
    assert [path for path in sorted(walked) if (site / path).is_symlink()] == [
        "space/host/deep/large.so"
    ]
    assert os.readlink(site / "space/host/deep/large.so") == str(large)
    assert store.joined.verify(mixed.folder) == TreeCheck()
    large.unlink()
    [fault] = store.joined.verify(mixed.folder).faults
    assert fault.endswith("space/host/deep/large.so is not its member's file")


def test_a_member_that_was_made_again_still_fits_and_a_damaged_file_does_not(
    unpack: Unpack, store: Store, plan: JoinPlan
) -> None:
    store.joined.make(plan, unpack.staging)
    member = store.layout.package(plan.trees[0]) / "site" / "space" / "one" / "__init__.py"
    overwrite(member, b"x = 1\n")
    assert store.joined.verify(plan.folder) == TreeCheck()
    overwrite(site_of(store, plan) / "space" / "two.py", b"other")
    [fault] = store.joined.verify(plan.folder).faults
    assert fault.endswith("space/two.py is not its member's file")
    assert store.joined.record(plan.folder) is None
    store.joined.make(plan, unpack.staging)
    assert store.joined.verify(plan.folder) == TreeCheck()


def test_it_is_damaged_with_a_member_since_files_are_shared(
    unpack: Unpack, store: Store, plan: JoinPlan
) -> None:
    store.joined.make(plan, unpack.staging)
    member = store.layout.package(plan.trees[1]) / "site" / "space" / "both.py"
    overwrite(member, b"33")
    assert store.packages.verify(plan.trees[1], hashes=True).faults
    assert any(
        fault.endswith(f"its member {plan.trees[1]} is damaged")
        for fault in store.joined.verify(plan.folder).faults
    )
    assert store.packages.broken() == {plan.trees[1], plan.folder}


def test_of_equal_files_it_is_no_matter_whose_is_there(unpack: Unpack, wheels: Path) -> None:
    for name in ("one", "two"):
        modules = {"space/__init__.py": "", f"space/{name}.py": ""}
        build_wheel(wheels, name, "1.0", modules=modules)
    members = [unpack.add(each) for each in sorted(wheels.iterdir())]
    trees = [record.key.folder for each in members for record in each.values()]
    plan = JoinPlan(members=tuple(JoinMember(tree=tree) for tree in trees))
    assert unpack.store.joined.make(plan, unpack.staging).shared_paths == ()


def test_a_death_at_any_operation_leaves_no_joined_tree_or_a_whole_one(
    unpack: Unpack, store: Store, plan: JoinPlan
) -> None:
    for at in range(100):
        disk = FaultyDisk()
        mine = Store.open(store.layout.root, disk)
        disk.break_at(at, dying)
        with suppress(Death):
            mine.joined.make(plan, unpack.staging)
        if not disk.broke:
            break
        after = Store.open(store.layout.root)
        if after.joined.folders():
            assert after.joined.verify(plan.folder) == TreeCheck()
            after.disk.discard(after.layout.joined_tree(plan.folder), after.layout.trash)
    assert 3 < at < 99
