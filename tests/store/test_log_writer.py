"""The writing of logs: bounded, redacted, and with an ending whatever happens."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from tests.fakes import key
from xinference_venv.errors import InvalidName, StoreError
from xinference_venv.inventory.job_log import JobLog, LogEnding, Outcome
from xinference_venv.inventory.selection import Selection
from xinference_venv.store import log_writer
from xinference_venv.store.atomic import Disk
from xinference_venv.store.log_writer import LogWriter
from xinference_venv.store.logs import logs_of, text_of
from xinference_venv.store.store import Store


class FullDisk(Disk):
    """Counts what is appended, and takes nothing while it is `full`."""

    def __init__(self) -> None:
        self.appended = 0
        self.full = False

    def append(self, path: Path, content: bytes) -> None:
        if self.full:
            self.full = False
            raise StoreError(f"could not write to {path}: {os.strerror(errno.ENOSPC)}")
        self.appended += 1
        super().append(path, content)


READY = LogEnding(outcome=Outcome.READY, ended=10.0)


def opened(store: Store, disk: Disk | None = None) -> LogWriter:
    writer = LogWriter(layout=store.layout, disk=disk or store.disk, key=key(), job_id="a-job")
    writer.open()
    return writer


def only(store: Store) -> JobLog:
    [log] = logs_of(store.layout, Selection())
    return log


def test_what_was_added_is_there_after_a_flush_and_the_ending_after_the_end(store: Store) -> None:
    writer = opened(store)
    writer.add("Resolved 3 packages\nPrepared 3 packages")
    assert text_of(only(store)) == ""
    writer.flush()
    assert text_of(only(store)) == "Resolved 3 packages\nPrepared 3 packages\n"
    assert only(store).outcome is Outcome.RUNNING
    writer.add("Installed 3 packages")
    writer.end(READY)
    assert text_of(only(store)).endswith("\nInstalled 3 packages\n")
    assert (only(store).outcome, only(store).ended) == (Outcome.READY, 10.0)


def test_a_flush_of_nothing_touches_no_file(store: Store) -> None:
    disk = FullDisk()
    writer = opened(store, disk)
    writer.flush()
    assert disk.appended == 0


def test_thousands_of_lines_are_one_write(store: Store) -> None:
    disk = FullDisk()
    writer = opened(store, disk)
    for number in range(5000):
        writer.add(f"line {number}")
    writer.flush()
    assert disk.appended == 1
    assert text_of(only(store)).count("\n") == 5000


@pytest.mark.parametrize(
    "line",
    [
        "error: https://user:hunter22@index.example/simple/ said 403",
        "GET https://index.example/simple/?token=hunter22hunter22",
        "Authorization: Basic hunter22",
        "first\nfound git+https://hunter22@git.example/repository",
    ],
)
def test_no_credential_reaches_a_log(store: Store, line: str) -> None:
    writer = opened(store)
    writer.add(line)
    writer.end(LogEnding.failed("uv_failed", line, ended=1.0))
    assert "hunter22" not in Path(only(store).path).read_text()


def test_a_talkative_build_leaves_its_beginning_and_its_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "HEAD_BYTES", 1000)
    monkeypatch.setattr(log_writer, "TAIL_BYTES", 500)
    writer = opened(store)
    for number in range(2000):
        writer.add(f"line {number:04d}")
    writer.flush()
    begun = text_of(only(store)).splitlines()
    assert begun == [
        *(f"line {number:04d}" for number in range(100)),
        "(what follows is written when the job ends, the last 500 B of it)",
    ]
    writer.add("error: it failed")
    writer.end(READY)
    *_, notice, first, last = (
        line
        for line in text_of(only(store)).splitlines()[len(begun) :]
        if line[0] == "(" or line in ("line 1953", "error: it failed")
    )
    assert (notice, first, last) == ("(1852 lines left out)", "line 1953", "error: it failed")
    assert Path(only(store).path).stat().st_size < 1000 + 500 + 700


def test_an_endless_line_is_cut(store: Store) -> None:
    writer = opened(store)
    writer.add("x" * 1_000_000)
    writer.add("short")
    writer.end(READY)
    assert text_of(only(store)) == "x" * log_writer.LINE_BYTES + " (cut)\nshort\n"


def test_what_is_no_text_of_utf_8_is_written_all_the_same(store: Store) -> None:
    writer = opened(store)
    writer.add("a\udcffb")
    writer.end(READY)
    assert text_of(only(store)) == "a\\udcffb\n"


def test_a_build_cannot_pretend_its_ending(store: Store) -> None:
    writer = opened(store)
    writer.add(READY.line)
    writer.flush()
    assert only(store).outcome is Outcome.RUNNING
    assert text_of(only(store)) == f" {READY.line}\n"


def test_a_disk_that_takes_no_more_fails_no_build_and_what_is_missing_is_counted(
    store: Store,
) -> None:
    disk = FullDisk()
    writer = opened(store, disk)
    writer.add("first")
    writer.flush()
    disk.full = True
    writer.add("second\nthird")
    writer.flush()
    writer.add("fourth")
    writer.end(READY)
    assert text_of(only(store)) == "first\nfourth\n(2 lines left out)\n"


def test_the_ending_is_written_where_there_is_no_room_for_the_rest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "HEAD_BYTES", 0)
    disk = FullDisk()
    writer = opened(store, disk)
    writer.add("all of this")
    writer.flush()
    disk.full = True
    writer.end(READY)
    assert only(store).outcome is Outcome.READY
    assert "all of this" not in text_of(only(store))


def test_a_log_that_was_deleted_stays_deleted(store: Store) -> None:
    writer = opened(store)
    Path(only(store).path).unlink()
    writer.add("line")
    writer.end(READY)
    assert list(store.layout.logs.iterdir()) == []


@pytest.mark.parametrize("job_id", ["", "../../evil", "a/b", "a.b", "x" * 65, "a\n"])
def test_a_job_whose_name_can_be_no_part_of_a_files_is_refused(store: Store, job_id: str) -> None:
    writer = LogWriter(layout=store.layout, disk=store.disk, key=key(), job_id=job_id)
    with pytest.raises(InvalidName, match="Invalid name of a log"):
        writer.open()
    assert list(store.layout.logs.iterdir()) == []


def test_a_log_that_cannot_be_made_is_reported(store: Store) -> None:
    store.layout.logs.rmdir()
    store.layout.logs.write_text("")
    with pytest.raises(StoreError, match="could not write"):
        opened(store)


def test_lines_that_are_added_during_a_flush_are_not_lost(store: Store) -> None:
    writer = opened(store)
    done = threading.Event()

    def flush() -> None:
        while not done.is_set():
            writer.flush()

    flushing = threading.Thread(target=flush)
    flushing.start()
    for number in range(5000):
        writer.add(f"line {number}")
    done.set()
    flushing.join()
    writer.end(READY)
    assert text_of(only(store)).splitlines() == [f"line {number}" for number in range(5000)]
