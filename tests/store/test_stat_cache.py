"""What is remembered of a file is what the file says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.clock import ClockAhead
from xinference_venv.store.stat_cache import StatCache


@pytest.fixture
def remembered() -> StatCache[str, str]:
    """For which what has just changed counts as settled."""
    return StatCache(clock=ClockAhead(60.0))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("one")
    return path


def test_a_file_is_read_once_until_it_changes(file: Path, remembered: StatCache[str, str]) -> None:
    reads = []

    def read(_: str, path: Path) -> str:
        reads.append(path)
        return path.read_text()

    def look() -> str:
        return remembered.get("key", lambda _: file, read)

    assert (look(), look(), len(reads)) == ("one", "one", 1)
    beside = file.with_name("beside")
    beside.write_text("two")
    beside.replace(file)
    assert (look(), look(), len(reads)) == ("two", "two", 2)
    os.utime(file, (1.0, 1.0))
    assert (look(), len(reads)) == ("two", 3)


def test_a_failure_is_not_kept_nor_what_was_before_it(
    file: Path, remembered: StatCache[str, str]
) -> None:

    def look() -> str:
        return remembered.get("key", lambda _: file, lambda _, path: path.read_text())

    assert look() == "one"
    file.unlink()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            look()
    file.write_text("two")
    assert look() == "two"


def test_what_changes_while_it_is_read_is_read_again(
    file: Path, remembered: StatCache[str, str]
) -> None:

    def read(_: str, path: Path) -> str:
        found = path.read_text()
        path.write_text("changed")
        return found

    assert remembered.get("key", lambda _: file, read) == "one"
    assert remembered.get("key", lambda _: file, lambda _, path: path.read_text()) == "changed"


def test_only_what_is_named_is_kept(file: Path, remembered: StatCache[str, str]) -> None:
    reads = []

    def read(key: str, path: Path) -> str:
        reads.append(key)
        return path.read_text()

    for key in ("a", "b", "c"):
        remembered.get(key, lambda _: file, read)
    remembered.keep_only({"b", "absent"})
    for key in ("a", "b", "c"):
        remembered.get(key, lambda _: file, read)
    assert reads == ["a", "b", "c", "a", "c"]


def test_what_has_just_changed_is_not_kept(file: Path) -> None:
    remembered: StatCache[str, str] = StatCache()
    reads = []

    def read(_: str, path: Path) -> str:
        reads.append(path)
        return path.read_text()

    for _ in range(2):
        remembered.get("key", lambda _: file, read)
    assert len(reads) == 2


def test_what_is_written_once_is_kept_at_once_and_missed_when_another_file_takes_its_place(
    file: Path,
) -> None:
    kept: StatCache[str, str] = StatCache(written_once=True)
    reads = []

    def look() -> str:
        def read(_: str, path: Path) -> str:
            reads.append(path)
            return path.read_text()

        return kept.get("key", lambda _: file, read)

    assert (look(), look(), len(reads)) == ("one", "one", 1)
    beside = file.with_name("beside")
    beside.write_text("two")
    beside.replace(file)
    assert (look(), look(), len(reads)) == ("two", "two", 2)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        look()
