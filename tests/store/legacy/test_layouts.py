"""What older versions left: found as what it is, removed alone, taken over only when unused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes import key
from tests.store.conftest import attached, key_record, lock_of, publish, remove_entry, rubbish, tree
from xinference_venv.errors import InUse, StoreError
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.selection import Selection
from xinference_venv.store.atomic import Disk
from xinference_venv.store.keys import key_places
from xinference_venv.store.legacy.layouts import (
    OldDirectory,
    check_free,
    old_directories,
    python_of,
    remove_old,
)
from xinference_venv.store.listing import entries_of
from xinference_venv.store.shown import packages_of
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep


def old_env(place: Path, version: str = "3.10.13") -> Path:
    """A directory with what tells that it is a virtual environment."""
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").symlink_to(sys.executable)
    (place / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
    return place


def found(store: Store) -> dict[str, OldDirectory]:
    """What is found, by path below the root."""
    there = old_directories(store.layout, key_places(store.layout))
    return {str(each.path.relative_to(store.layout.root)): each for each in there}


def shown(store: Store, wanted: Selection | None = None) -> list[str]:
    root = store.layout.root
    return [
        str(Path(each.path).relative_to(root)) for each in entries_of(store, wanted or Selection())
    ]


@contextmanager
def user_of(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that works in a directory."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "print(flush=True); input()"],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_every_layout_is_found_with_its_key(store: Store) -> None:
    root = store.layout.root
    for place in ("old", "v2/old", "v3/old/3.9", "v4/old/vLLM/3.10"):
        old_env(root / place)
    (root / "v2" / "half made").mkdir()
    attached(store, "numpy", of=key("old"))
    assert found(store) == {
        place: OldDirectory(key=of, layout=layout, path=root / place, is_link=False)
        for place, layout, of in (
            ("old", "v1", key("old", None, "3.10")),
            ("v2/half made", "v2", key("half made", None, "unknown")),
            ("v2/old", "v2", key("old", None, "3.10")),
            ("v3/old/3.9", "v3", key("old", None, "3.9")),
            ("v4/old/vLLM/3.10", "v4", key("old", "vllm", "3.10")),
        )
    }


def test_what_is_no_environment_is_not_found_below_the_root(store: Store) -> None:
    root = store.layout.root
    for place in ("models", "plain", "v5"):
        (root / place).mkdir()
    (root / "models" / "pyvenv.cfg").write_text("")
    (root / "file").write_text("")
    (root / "v2").mkdir()
    (root / "v2" / "file").write_text("")
    assert found(store) == {}


def test_the_parts_of_an_environment_are_no_environments(store: Store) -> None:
    root = store.layout.root
    for place in ("v3/model", "v4/model", "v4/other/engine"):
        old_env(root / place)
    assert {place: each.key for place, each in found(store).items()} == {
        "v3/model": key("model", None, "unknown"),
        "v4/model": key("model", None, "unknown"),
        "v4/other/engine": key("other", None, "unknown"),
    }


@pytest.mark.parametrize("name", ["two words", "line\nbreak", "a\x1b[31m", "\udcff", "-rf", "%2e"])
def test_a_name_that_no_launch_may_have_is_found_and_removed(store: Store, name: str) -> None:
    root = store.layout.root
    for place in (root / name, root / "v2" / name, root / "v3" / name / "3.10"):
        old_env(place)
    for each in entries_of(store):
        assert each.key == key(name, None, "3.10")
        assert EnvEntry.from_dict(each.to_dict()) == each
        assert remove_entry(store, each)
    assert entries_of(store) == []
    assert tree(store.layout.trash) == []


@pytest.mark.parametrize(
    ("configuration", "python"),
    [
        ("home = /usr/bin\nversion = 3.11.7\n", "3.11.7"),
        ("implementation = CPython\nuv = 0.9\nversion_info = 3.12.1\n", "3.12.1"),
        ("version_info = 3.10.13.final.0\nversion=3.10.13\n", "3.10.13"),
        ("version_info = 3.10.13.final.0\n", "3.10.13"),
        ("version = unknown\n", None),
        ("\0\n", None),
        ("", None),
    ],
)
def test_an_environment_tells_its_python_version(
    tmp_path: Path, configuration: str, python: str | None
) -> None:
    assert python_of(tmp_path) is None
    (tmp_path / "pyvenv.cfg").write_text(configuration)
    assert python_of(tmp_path) == python
    (tmp_path / "lib" / "python3.9" / "site-packages").mkdir(parents=True)
    assert python_of(tmp_path) == (python or "3.9")


def test_an_entry_tells_layout_size_version_and_who_uses_it(store: Store) -> None:
    place = old_env(store.layout.root / "v2" / "old")
    with user_of(place / "bin") as process:
        [entry] = entries_of(store)
    size = (place / "pyvenv.cfg").stat().st_size
    assert (entry.state, entry.layout, entry.python) == (EnvState.UNMANAGED, "v2", "3.10.13")
    assert entry.path == entry.real_path == str(place)
    assert (entry.size_bytes, entry.env_id, entry.reason) == (size, None, None)
    [user] = entry.users
    assert (user.pid, user.seen_in) == (process.pid, ("working directory",))
    assert EnvEntry.from_dict(entry.to_dict()) == entry


def test_its_packages_are_those_that_are_found_there(store: Store) -> None:
    place = old_env(store.layout.root / "v4" / "a-model" / "vllm" / "3.10")
    metadata = place / "lib" / "python3.10" / "site-packages" / "Toy_Model-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "RECORD").write_text("toy.py,sha256=abc,12\n")
    [entry] = entries_of(store)
    [package] = packages_of(store, entry, {})
    told = {name: package.to_dict()[name] for name in ("name", "role", "version", "size_bytes")}
    assert told == {"name": "toy-model", "role": "installed", "version": "1.0", "size_bytes": 12}


def test_filters_apply_to_all_layouts(store: Store) -> None:
    root = store.layout.root
    for place in ("a", "v2/a", "v3/a/3.10", "v4/a/vLLM/3.10", "v4/a/sglang/3.11", "v3/b/3.10"):
        old_env(root / place)
    assert shown(store, Selection(model_name="b")) == ["v3/b/3.10"]
    assert shown(store, Selection(model_name="a", python_version="3.10")) == [
        *("a", "v2/a", "v3/a/3.10", "v4/a/vLLM/3.10"),
    ]
    assert shown(store, Selection(model_engine="vllm")) == ["v4/a/vLLM/3.10"]
    assert shown(store, Selection(python_version="3.11")) == ["v4/a/sglang/3.11"]


def test_the_system_is_not_asked_when_no_old_directory_is_meant(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_env(store.layout.root / "v2" / "old")
    attached(store, "numpy")
    monkeypatch.setattr(
        "xinference_venv.store.process_scan._processes",
        lambda *_: pytest.fail("nobody is in question"),
    )
    assert len(entries_of(store, Selection(model_name="a-model"))) == 1


# Removal


def test_a_removal_takes_one_directory_and_what_is_empty_then(store: Store) -> None:
    root = store.layout.root
    for place in ("old", "v2/old", "v3/old/3.9", "v4/old/vllm/3.10", "v4/old/vllm/3.11"):
        old_env(root / place)
    for place in ("old", "v2/old", "v3/old/3.9", "v4/old/vllm/3.10"):
        store.delete_trashed(remove_old(store.layout, store.disk, root / place))
        assert remove_old(store.layout, store.disk, root / place) is None
        assert not (root / place).exists()
    assert sorted(each.name for each in root.iterdir()) == ["store", "v4"]
    assert list(found(store)) == ["v4/old/vllm/3.11"]
    assert rubbish(store) == []


# Taking over


@pytest.fixture
def key_place(store: Store) -> Path:
    return old_env(store.layout.key_link(key()))


def attach(store: Store) -> str:
    lease = publish(store, lock_of("numpy"))
    store.point_key(key_record(key(), lease.env_id))
    return lease.env_id


def test_an_unused_directory_gives_its_place_to_the_new_environment(
    store: Store, key_place: Path
) -> None:
    check_free(store.layout, key())
    assert store.env_of(key()) is None
    env_id = attach(store)
    assert store.env_of(key()) == env_id
    assert key_place.is_symlink()
    assert rubbish(store) == []


def test_a_directory_in_use_is_neither_replaced_nor_renamed(store: Store, key_place: Path) -> None:
    before = (tree(key_place), key_place.stat().st_ino)
    with user_of(key_place) as process:
        for attempt in (lambda: check_free(store.layout, key()), lambda: attach(store)):
            with pytest.raises(InUse, match=f"in use by process {process.pid} .*working") as caught:
                attempt()
            assert [each["pid"] for each in caught.value.details["users"]] == [process.pid]
            assert "another engine" in str(caught.value.hint)
    assert (tree(key_place), key_place.stat().st_ino) == before
    assert tree(store.layout.keys) == []
    assert store.env_of(key()) is None
    attach(store)


def test_many_users_are_not_all_named(store: Store, key_place: Path) -> None:
    with pytest.raises(InUse, match=r"; and 2 more\Z") as caught:
        _use_and_check(store, key_place, 7)
    assert len(caught.value.details["users"]) == 7


def _use_and_check(store: Store, place: Path, number: int) -> None:
    if number == 0:
        check_free(store.layout, key())
        return
    with user_of(place):
        _use_and_check(store, place, number - 1)


def test_a_directory_comes_back_when_the_link_can_not_be_made(
    store: Store, key_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(key_place)

    def fail(disk: Disk, link: Path, target: Path) -> None:
        assert not key_place.exists()
        raise StoreError("full")

    monkeypatch.setattr(Disk, "swap_link", fail)
    with pytest.raises(StoreError, match="full"):
        attach(store)
    assert tree(key_place) == before
    assert tree(store.layout.trash) == []


def test_what_can_not_be_deleted_does_not_prevent_a_launch(
    store: Store, key_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(disk: Disk, path: Path) -> None:
        raise StoreError("not yours")

    with monkeypatch.context() as patched:
        patched.setattr(Disk, "delete", fail)
        assert store.env_of(key()) is None
        env_id = attach(store)
    assert store.env_of(key()) == env_id
    sweep(store)
    assert tree(store.layout.trash) == []


def test_a_link_to_an_environment_elsewhere_is_replaced_alone_and_only_when_that_is_unused(
    store: Store, tmp_path: Path
) -> None:
    elsewhere = old_env(tmp_path / "elsewhere")
    link = store.layout.key_link(key())
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with user_of(elsewhere):
        [entry] = entries_of(store)
        assert len(entry.users) == 1
        with pytest.raises(InUse):
            attach(store)
    before = tree(elsewhere)
    assert attach(store) == store.env_of(key())
    assert tree(elsewhere) == before


def test_a_link_in_the_place_of_a_model_is_no_way_to_a_key(store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (store.layout.root / "v4").mkdir()
    (store.layout.root / "v4" / "a-model").symlink_to(tmp_path / "elsewhere")
    for attempt in (lambda: check_free(store.layout, key()), lambda: attach(store)):
        with pytest.raises(StoreError, match="a link leads to its folder"):
            attempt()
    assert tree(tmp_path / "elsewhere") == []
