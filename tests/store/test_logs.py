"""The logs of jobs: found by key, the newest first, read on from anywhere, bounded."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import key
from tests.store.conftest import end, ended_process, identity_of
from xinference_venv.errors import InvalidName, NotFound
from xinference_venv.inventory.job_log import LogEnding, LogHeader, LogPart, Outcome
from xinference_venv.inventory.lease import ProcessIdentity
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.store import logs
from xinference_venv.store.log_writer import LogWriter
from xinference_venv.store.logs import delete_old_logs, log_path, logs_of, read_on, text_of
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store

READY = LogEnding(outcome=Outcome.READY, ended=10.0)


def write(
    store: Store,
    number: int = 0,
    text: str = "",
    *,
    of: EnvKey | None = None,
    owner: ProcessIdentity | None = None,
    ending: str = "",
) -> str:
    """A log as some process may have left it; the numbers give the order."""
    header = LogHeader(
        key=of or key(), job_id=f"job-{number}", started=1.0, owner=owner or this_process()
    )
    log_id = f"20260101T000000.{number:06d}-job-{number}"
    content = f"{header.line}\n{text}{ending}"
    log_path(store.layout, log_id).write_text(content, "utf-8")
    return log_id


def jobs(store: Store, **wanted: str) -> list[str]:
    return [log.header.job_id for log in logs_of(store.layout, Selection(**wanted))]


def followed(store: Store, log_id: str) -> str:
    """All that a follower gets until the log has ended."""
    text, offset = "", 0
    while True:
        part = read_on(store.layout, log_id, offset)
        assert len(part.text.encode()) <= logs.PART_BYTES
        text, offset = text + part.text, part.offset
        if part.ended:
            return text


# Listing


def test_a_log_says_what_it_is_of_and_how_it_ended(store: Store) -> None:
    log_id = write(store, 1, "Resolved 3 packages\n", ending=f"{READY.line}\n")
    [log] = logs_of(store.layout, Selection())
    assert (log.log_id, log.path) == (log_id, str(log_path(store.layout, log_id)))
    assert (log.header.key, log.header.job_id) == (key(), "job-1")
    assert (log.outcome, log.ended) == (Outcome.READY, 10.0)
    assert text_of(log) == "Resolved 3 packages\n"


def test_the_text_of_a_log_may_be_no_utf_8(store: Store) -> None:
    log_id = write(store)
    with log_path(store.layout, log_id).open("ab") as file:
        file.write(b"caf\xe9\n")
    [log] = logs_of(store.layout, Selection())
    assert text_of(log) == "caf\ufffd\n"
    log_path(store.layout, log_id).unlink()
    assert text_of(log) == ""


def test_the_newest_is_the_first_also_of_those_of_one_second(store: Store) -> None:
    for number in (3, 1, 2, 0):
        write(store, number)
    assert jobs(store) == ["job-3", "job-2", "job-1", "job-0"]
    writer = LogWriter(layout=store.layout, disk=store.disk, key=key(), job_id="newest")
    writer.open()
    assert jobs(store)[0] == "newest"


def test_logs_are_found_by_their_key(store: Store) -> None:
    for number, of in enumerate(
        (key("a"), key("a", "vllm", "3.12.1"), key("a", None, "3.12"), key("b"))
    ):
        write(store, number, of=of)
    assert jobs(store, model_name="a") == ["job-2", "job-1", "job-0"]
    assert jobs(store, model_name="a", model_engine="vllm") == ["job-1", "job-0"]
    assert jobs(store, python_version="3.12") == ["job-2", "job-1"]
    assert jobs(store, model_name="c") == []


@pytest.mark.parametrize("header", ["", "{", "[]", "3", "{}", '{"key": {}}', '{"key": 3}', "\0"])
def test_a_damaged_log_is_left_out(store: Store, header: str) -> None:
    write(store, 1)
    log_path(store.layout, "20990101T000000.000000-damaged").write_text(f"{header}\ntext\n")
    (store.layout.logs / "20990101T000001.000000-folder.log").mkdir()
    (store.layout.logs / "of somebody else.log").write_text("")
    assert jobs(store) == ["job-1"]


def test_a_job_whose_process_died_is_distinguished_from_one_that_runs(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    child = children()
    write(store, owner=identity_of(child), text="half a li")
    [running] = logs_of(store.layout, Selection())
    end(child)
    [died] = logs_of(store.layout, Selection())
    assert (running.outcome, died.outcome) == (Outcome.RUNNING, Outcome.DIED)
    assert died.ended is None


# Reading on


def test_a_log_is_read_on_from_where_the_last_part_ended(store: Store) -> None:
    log_id = write(store, text="one\n")
    first = read_on(store.layout, log_id, 0)
    assert (first.text, first.ended, first.log.outcome) == ("one\n", False, Outcome.RUNNING)
    assert read_on(store.layout, log_id, first.offset).text == ""
    with log_path(store.layout, log_id).open("a") as file:
        file.write("two\nthr")
        file.flush()
        second = read_on(store.layout, log_id, first.offset)
        file.write(f"ee\n{READY.line}\n")
    third = read_on(store.layout, log_id, second.offset)
    assert (second.text, second.ended) == ("two\n", False)
    assert (third.text, third.ended, third.log.ended) == ("three\n", True, 10.0)
    again = read_on(store.layout, log_id, third.offset)
    assert again == LogPart(log=third.log, text="", offset=third.offset, ended=True)
    assert read_on(store.layout, log_id, 10**9).ended


def test_a_follower_learns_when_the_writing_process_died(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    child = children()
    log_id = write(store, text="half a li", owner=identity_of(child))
    before = read_on(store.layout, log_id, 0)
    end(child)
    after = read_on(store.layout, log_id, before.offset)
    assert (before.text, before.ended) == ("", False)
    assert (after.text, after.ended, after.log.outcome) == ("half a li", True, Outcome.DIED)


def test_of_a_writer_that_cannot_be_judged_more_is_awaited(store: Store) -> None:
    elsewhere = replace(this_process(), host="another host")
    part = read_on(store.layout, write(store, text="one\n", owner=elsewhere), 0)
    assert (part.text, part.ended, part.log.outcome) == ("one\n", False, Outcome.UNKNOWN)


@given(
    lines=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=20)),
    size=st.integers(4, 40),
)
def test_parts_make_up_the_whole_however_small_they_are(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], size: int
) -> None:
    store = Store.open(tmp_path_factory.mktemp("home") / "virtualenv")
    text = "".join(f"{line[: size // 4 - 1]}\n" for line in lines)
    log_id = write(store, text=text)
    with pytest.MonkeyPatch.context() as patch:
        path = log_path(store.layout, log_id)
        header = len(path.read_bytes().partition(b"\n")[0]) + 1
        with path.open("a") as file:
            file.write(f"{READY.line}\n")
        # The ending is a line of ours, and no longer than a part.
        patch.setattr(logs, "PART_BYTES", max(size, header, len(READY.line) + 1))
        assert followed(store, log_id) == text


def test_a_log_of_megabytes_comes_in_parts(store: Store) -> None:
    text = "".join(f"line {number}\n" for number in range(50_000))
    log_id = write(store, text=text, ending=f"{READY.line}\n")
    assert followed(store, log_id) == text
    assert read_on(store.layout, log_id, 0).text.endswith("\n")
    endless = "x" * 200_000
    assert followed(store, write(store, 1, text=endless, owner=ended_process())) == endless


@pytest.mark.parametrize(
    "log_id",
    [
        *("", ".", "..", "../../../etc/passwd", "/etc/passwd", "20260101T000000.000000-"),
        *("20260101T000000.000000-a/../b", "20260101T000000.000000-a\n", "a\0b", "x" * 10_000),
    ],
)
def test_what_is_no_name_of_a_log_is_refused(store: Store, log_id: str) -> None:
    with pytest.raises(InvalidName, match="Invalid name of a log"):
        read_on(store.layout, log_id, 0)


def test_a_log_that_is_gone_or_damaged_is_not_found(store: Store) -> None:
    damaged = write(store)
    log_path(store.layout, damaged).write_text("{}\n")
    for log_id in (damaged, "20260101T000000.000000-absent"):
        with pytest.raises(NotFound, match="there is no log"):
            read_on(store.layout, log_id, 0)


# Bounds


def test_beyond_the_number_the_oldest_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOGS_KEPT", 3)
    for number in range(5):
        write(store, number, ending=f"{READY.line}\n")
    delete_old_logs(store.layout, store.disk)
    assert jobs(store) == ["job-4", "job-3", "job-2"]
    assert len(list(store.layout.logs.iterdir())) == 3


def test_beyond_the_bytes_the_oldest_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOGS_BYTES", 30_000)
    for number in range(5):
        write(store, number, "x" * 9_000 + "\n", ending=f"{READY.line}\n")
    delete_old_logs(store.layout, store.disk)
    assert jobs(store) == ["job-4", "job-3", "job-2"]


def test_what_is_being_written_does_not_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOGS_KEPT", 0)
    elsewhere = replace(this_process(), host="another host")
    write(store, 0)
    write(store, 1, owner=elsewhere)
    abandoned = log_path(store.layout, write(store, 2, owner=elsewhere))
    long_ago = time.time() - logs.ABANDONED_SECONDS - 60
    os.utime(abandoned, (long_ago, long_ago))
    write(store, 3, owner=ended_process())
    write(store, 4, ending=f"{READY.line}\n")
    log_path(store.layout, write(store, 5)).write_text(json.dumps({"of": "a later version"}))
    delete_old_logs(store.layout, store.disk)
    assert jobs(store) == ["job-1", "job-0"]
    assert len(list(store.layout.logs.iterdir())) == 2


def test_opening_a_log_makes_room_for_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOGS_KEPT", 1)
    old = Path(log_path(store.layout, write(store, ending=f"{READY.line}\n")))
    LogWriter(layout=store.layout, disk=store.disk, key=key(), job_id="new").open()
    assert jobs(store) == ["new"]
    assert not old.exists()
