"""The operations that change the disk: each whole or not at all, each failure with its path.

Temporary names too: which process made them, and whether it still lives.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.conftest import end, tree
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.inventory.lease import Holder
from xinference_venv.store.atomic import Disk, maker_of, temporary_path
from xinference_venv.store.process_identity import process_start, this_process

PLACE = Path("/srv/keys/a.key.json")
PRINT = "import sys, pathlib; from xinference_venv.store.atomic import temporary_path; "


@pytest.fixture
def disk() -> Disk:
    return Disk()


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may hold a byte: the system refuses each write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_written_whole_with_its_parents_and_its_mode(
    disk: Disk, tmp_path: Path, durable: bool
) -> None:
    path = tmp_path / "a" / "b" / "file"
    disk.write(path, b"first", durable=durable)
    disk.write(path, b"second", durable=durable, mode=0o700)
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o700
    assert tree(tmp_path) == ["a", "a/b", "a/b/file"]


def test_a_reader_sees_the_old_or_the_new_file_and_never_half_of_it(
    disk: Disk, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    contents = [letter * 100_000 for letter in (b"a", b"b")]
    disk.write(path, contents[0], durable=False)
    done = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        disk.write(path, contents[number % 2], durable=False)
    done.set()
    reader.join()
    assert seen <= set(contents)


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "file"
    disk.write(path, b"old", durable=True)
    with full_disk(), pytest.raises(StoreError) as caught:
        disk.write(path, b"new", durable=True)
    assert caught.value.details["errno"] == errno.EFBIG
    assert f"could not write {path}: " in caught.value.message
    assert path.read_bytes() == b"old"
    assert tree(tmp_path) == ["file"]


def test_a_flush_that_fails_leaves_the_old_file(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    disk.write(tmp_path / "file", b"old", durable=True)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="No space left on device"):
        disk.write(tmp_path / "file", b"new", durable=True)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert tree(tmp_path) == ["file"]


@pytest.mark.parametrize("operation", ["make_directory", "write", "swap_link", "rename"])
def test_a_file_where_a_directory_should_be_is_an_error_with_the_path(
    disk: Disk, tmp_path: Path, operation: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "other").mkdir()
    path = tmp_path / "file" / "below"
    calls: dict[str, Any] = {
        "make_directory": lambda: disk.make_directory(path),
        "write": lambda: disk.write(path, b"", durable=False),
        "swap_link": lambda: disk.swap_link(path, tmp_path),
        "rename": lambda: disk.rename(tmp_path / "other", path),
    }
    with pytest.raises(StoreError) as caught:
        calls[operation]()
    assert str(tmp_path / "file") in caught.value.message
    assert caught.value.code == "store_error"
    assert tree(tmp_path) == ["file", "other"]


def test_a_name_that_is_too_long_is_an_error_with_the_path(disk: Disk, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="File name too long"):
        disk.write(tmp_path / ("x" * 256), b"", durable=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(value=st.dictionaries(st.text(), JSON, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_json_values_come_back_as_they_were(tmp_path: Path, value: dict[str, Any]) -> None:
    disk = Disk()
    disk.write_json(tmp_path / "value.json", value, durable=False)
    assert disk.read_json(tmp_path / "value.json") == value


def test_rewriting_keeps_the_keys_that_are_not_ours(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    disk.rewrite_json(path, {"a": 1, "b": {"c": 2}}, durable=True)
    path.write_text('{"a": 0, "b": {"old": 1}, "later": [1, {}]}')
    disk.rewrite_json(path, {"a": 1, "b": {"c": 2}}, durable=False)
    assert disk.read_json(path) == {"a": 1, "b": {"c": 2}, "later": [1, {}]}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff"])
def test_rewriting_a_damaged_file_keeps_nothing_of_it(
    disk: Disk, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    disk.rewrite_json(path, {"a": 1}, durable=False)
    assert disk.read_json(path) == {"a": 1}


@pytest.mark.parametrize("operation", ["write", "copy", "rename"])
def test_what_shall_survive_a_power_cut_is_flushed_with_the_directory_it_is_in(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_bytes(b"content")
    flushed: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        flushed.append((path, target.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    calls: dict[str, Any] = {
        "write": lambda: disk.write(target, b"content", durable=True),
        "copy": lambda: disk.copy(source, target),
        "rename": lambda: disk.rename(source, target),
    }
    calls[operation]()
    *contents, names = flushed
    # The content before it has its name, the name at the end.
    assert names == (str(target.parent), True)
    assert all(not there for _, there in contents)
    assert bool(contents) is (operation != "rename")
    assert target.read_bytes() == b"content"


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOSYS])
def test_where_no_times_can_be_set_files_and_directories_get_the_time_of_a_change(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("kept")
    folder.mkdir()
    for path in (file, folder):
        os.utime(path, (1, 1))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr("os.utime", refuse)
    for path in (file, folder):
        disk.touch(path)
    assert file.stat().st_mtime > 1 and file.read_text() == "kept"
    assert folder.stat().st_mtime > 1 and os.listdir(folder) == []
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_failure_other_than_a_refusal_to_set_times_is_an_error_with_the_path(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.utime", fail)
    with pytest.raises(StoreError, match=f"could not touch {tmp_path}"):
        disk.touch(tmp_path)


def test_what_is_not_there_is_none(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    assert disk.read_json(tmp_path / "absent") is None
    assert disk.read_json(tmp_path / "file" / "below") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"\0" * 100, b"[" * 100_000, b"1" * 5000, b'{"a": 1}}', b"\x80{}"],
)
def test_a_damaged_file_is_an_invalid_record_with_its_path(
    disk: Disk, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(InvalidRecord) as caught:
        disk.read_json(path)
    assert str(path) in caught.value.message


def test_a_directory_in_the_place_of_a_file_is_damage(disk: Disk, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecord, match=r"is damaged: .*not a regular file"):
        disk.read_json(tmp_path)


def test_a_file_that_says_null_is_not_taken_for_one_that_is_not_there(
    disk: Disk, tmp_path: Path
) -> None:
    path = tmp_path / "record.json"
    assert disk.read_json(path) is None
    path.write_text("null")
    with pytest.raises(InvalidRecord, match="is damaged: it holds nothing but null"):
        disk.read_json(path)


def test_a_link_is_swapped_in_one_step(disk: Disk, tmp_path: Path) -> None:
    link = tmp_path / "keys" / "link"
    targets = [tmp_path / "one", tmp_path / "two"]
    disk.swap_link(link, targets[0])
    done = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(os.readlink(link))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        disk.swap_link(link, targets[number % 2])
    done.set()
    reader.join()
    assert seen <= {str(target) for target in targets}
    assert tree(tmp_path) == ["keys", "keys/link"]


@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_link_never_replaces_what_is_none(disk: Disk, tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    place.mkdir() if what == "directory" else place.write_text("kept")
    with pytest.raises(StoreError, match="that this program did not make") as caught:
        disk.swap_link(place, tmp_path / "target")
    assert "xinference-venv remove" in str(caught.value.hint)
    assert not place.is_symlink()
    assert tree(tmp_path) == ["place"]


def test_a_link_that_leads_nowhere_is_replaced(disk: Disk, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/nowhere/at/all")
    disk.swap_link(link, tmp_path)
    assert link.readlink() == tmp_path


def test_a_parent_that_is_removed_as_empty_meanwhile_is_made_again(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal of the last key of a model and a launch of another one meet."""
    link = tmp_path / "model" / "engine" / "3.11"
    original = Path.mkdir
    removed: list[Path] = []

    def mkdir(path: Path, *arguments: Any, **options: Any) -> None:
        original(path, *arguments, **options)
        if path == link.parent and len(removed) < 2:
            removed.append(path)
            os.removedirs(path)
            original(tmp_path, exist_ok=True)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    disk.swap_link(link, tmp_path)
    assert len(removed) == 2
    assert link.is_symlink()


def test_discarding_deletes_the_tree_and_follows_no_link(disk: Disk, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    doomed = tmp_path / "doomed"
    (doomed / "deep").mkdir(parents=True)
    (doomed / "deep" / "file").write_text("")
    (doomed / "link").symlink_to(outside)
    (doomed / "deep" / "loop").symlink_to(doomed)
    disk.discard(doomed, tmp_path / "trash")
    assert tree(tmp_path) == ["outside", "outside/precious", "trash"]
    disk.discard(doomed, tmp_path / "trash")


def test_discarding_a_link_leaves_what_it_leads_to(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    disk.discard(tmp_path / "link", tmp_path / "trash")
    assert tree(tmp_path) == ["real", "trash"]


def test_what_is_being_deleted_is_not_found_any_more_even_if_that_fails(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path, **named: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "doomed" / "deep").mkdir(parents=True)
    monkeypatch.setattr(shutil, "rmtree", fail)
    disk.discard(tmp_path / "doomed", tmp_path / "trash")
    [skipped] = disk.skipped.all()
    assert skipped.path.startswith(str(tmp_path / "trash"))
    assert skipped.reason == "Input/output error"
    assert not (tmp_path / "doomed").exists()
    assert len(list((tmp_path / "trash").iterdir())) == 1


def test_two_that_delete_the_same_tree_do_not_disturb_each_other(
    disk: Disk, tmp_path: Path
) -> None:
    """A start sweeps the trash while a removal of another process fills it."""
    doomed = tmp_path / "doomed"
    failures: list[BaseException] = []

    def delete(together: threading.Barrier) -> None:
        together.wait()
        try:
            disk.delete(doomed)
        except StoreError as error:
            failures.append(error)

    for _ in range(10):
        for name in range(20):
            (doomed / str(name) / "deep").mkdir(parents=True)
            (doomed / str(name) / "deep" / "file").write_text("")
        together = threading.Barrier(3)
        threads = [threading.Thread(target=delete, args=(together,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert not doomed.exists()


def test_deleting_takes_files_links_and_what_is_gone(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("/nowhere")
    for name in ("file", "link", "absent"):
        disk.delete(tmp_path / name)
        disk.unlink(tmp_path / name)
    assert tree(tmp_path) == []


def test_a_read_only_tree_is_deleted(disk: Disk, tmp_path: Path) -> None:
    folder = tmp_path / "doomed" / "read-only"
    folder.mkdir(parents=True)
    (folder / "file").write_text("")
    folder.chmod(0o500)
    disk.delete(tmp_path / "doomed")
    assert tree(tmp_path) == []


def test_a_tree_with_more_levels_than_python_and_paths_have_is_deleted(
    disk: Disk, tmp_path: Path
) -> None:
    (tmp_path / "doomed").mkdir()
    inner = os.open(tmp_path / "doomed", os.O_RDONLY)
    for level in range(2500):
        if level % 500 == 0:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
        os.mkdir("ab", dir_fd=inner)
        outer, inner = inner, os.open("ab", os.O_RDONLY, dir_fd=inner)
        os.close(outer)
    os.close(inner)
    disk.delete(tmp_path / "doomed")
    assert tree(tmp_path) == []


def test_only_an_empty_directory_is_removed_as_empty(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "full" / "inside").mkdir(parents=True)
    assert not disk.remove_empty(tmp_path / "full")
    assert disk.remove_empty(tmp_path / "full" / "inside")
    assert disk.remove_empty(tmp_path / "full")
    assert disk.remove_empty(tmp_path / "full")


def test_what_could_not_be_appended_whole_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n")
    Disk().append(path, b"second\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 4, hard))
    try:
        with pytest.raises(StoreError, match="could not write to"):
            Disk().append(path, b"third\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"first\nsecond\n"


def test_nothing_is_appended_to_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        Disk().append(tmp_path / "log", b"line\n")
    assert list(tmp_path.iterdir()) == []


def test_each_place_is_another_hidden_one_in_the_same_folder() -> None:
    places = {temporary_path(PLACE) for _ in range(100)}
    assert len(places) == 100
    assert {each.parent for each in places} == {PLACE.parent}
    assert all(each.name.startswith(".a.key.json.") for each in places)


def test_what_this_process_makes_has_a_living_maker() -> None:
    assert maker_of(temporary_path(PLACE).name) is Holder.ALIVE


def test_the_maker_is_gone_when_its_process_has_ended() -> None:
    program = f"{PRINT} print(temporary_path(pathlib.Path({str(PLACE)!r})).name)"
    made = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    assert maker_of(made.stdout.decode().strip()) is Holder.GONE


def test_another_process_with_the_pid_of_the_maker_is_not_the_maker(
    children: Callable[[], subprocess.Popen[bytes]],
) -> None:
    me, child = this_process(), children()
    name = temporary_path(PLACE).name.replace(f"-{me.pid}-", f"-{child.pid}-")
    assert maker_of(name) is Holder.GONE
    theirs = name.replace(f"-{me.start}-", f"-{process_start(child.pid)}-")
    assert maker_of(theirs) is Holder.ALIVE
    end(child)
    assert maker_of(theirs) is Holder.GONE


def test_the_makers_of_other_hosts_can_not_be_judged() -> None:
    name = temporary_path(PLACE).name
    where = name.rpartition(".")[2].partition("-")[0]
    assert maker_of(name.replace(where, "0" * len(where))) is Holder.UNKNOWN


@pytest.mark.parametrize(
    "name", ["", ".", "..", "3.11", ".hidden", "a-key.json", ".a-key.json.0123abcd", ".a.-1-2-3"]
)
def test_any_other_name_is_no_ones(name: str) -> None:
    assert maker_of(name) is None


@pytest.mark.parametrize("in_one_step", [True, False])
def test_two_directories_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "is").write_text(name)
    if not in_one_step:
        monkeypatch.setattr("xinference_venv.store.atomic.exchange_by_system", lambda *_: False)
    Disk().exchange(tmp_path / "one", tmp_path / "two")
    assert {each.name: (each / "is").read_text() for each in tmp_path.iterdir()} == {
        "one": "two",
        "two": "one",
    }
    with pytest.raises(StoreError, match="could not exchange"):
        Disk().exchange(tmp_path / "one", tmp_path / "gone")


def test_an_exchange_in_steps_that_fails_in_the_middle_leaves_both_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.name == "one":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(path, target)

    monkeypatch.setattr("xinference_venv.store.atomic.exchange_by_system", lambda *_: False)
    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(StoreError, match="could not exchange"):
        Disk().exchange(tmp_path / "one", tmp_path / "two")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["one", "two"]
    assert (tmp_path / "two" / "two").exists()
