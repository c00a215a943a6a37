"""The journal of subprocesses: a crash's orphans are ended, and nobody else's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.conftest import identity_of
from xinference_venv.store import process_journal
from xinference_venv.store.process_identity import identify, process_start, this_process
from xinference_venv.store.process_journal import ProcessJournal
from xinference_venv.store.store import Store

# A worker: it starts a head of a group, which has a child of its own, and notes the head.
WORKER = """
import subprocess, sys
from pathlib import Path
from xinference_venv.store.process_journal import ProcessJournal
from xinference_venv.store.store import Store

store = Store.open(Path(sys.argv[1]))
journal = ProcessJournal(layout=store.layout, disk=store.disk)
script = '''
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(1000)
'''
head = subprocess.Popen(
    [sys.executable, "-I", "-c", script], start_new_session=True, stdout=subprocess.PIPE
)
journal.started(head.pid)
print(head.pid, int(head.stdout.readline()), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def journal(store: Store) -> ProcessJournal:
    return ProcessJournal(layout=store.layout, disk=store.disk)


@pytest.fixture
def worker(store: Store) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A worker with the pids of the group that it has started and noted."""
    running = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(store.layout.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    group = [int(pid) for pid in running.stdout.readline().split()]
    yield running, group
    for pid in (running.pid, *group):
        if psutil.pid_exists(pid):
            psutil.Process(pid).kill()
    running.communicate()


def notes(journal: ProcessJournal) -> list[Path]:
    return list(journal.layout.processes.iterdir())


def gone(pids: list[int]) -> bool:
    """Whether all of them end, after a signal that nobody can ignore."""
    processes = [psutil.Process(pid) for pid in pids if process_start(pid) is not None]
    return all(
        process_start(each.pid) is None for each in psutil.wait_procs(processes, timeout=60)[1]
    )


def test_the_orphans_of_a_killed_worker_are_ended_as_a_group(
    journal: ProcessJournal, worker: tuple[subprocess.Popen[str], list[int]]
) -> None:
    running, group = worker
    running.kill()
    running.wait()
    assert len(group) == 2
    assert all(process_start(pid) is not None for pid in group)
    journal.sweep()
    assert gone(group)
    assert notes(journal) == []


def test_the_processes_of_a_living_worker_are_left_alone(
    journal: ProcessJournal, worker: tuple[subprocess.Popen[str], list[int]]
) -> None:
    _, group = worker
    journal.sweep()
    assert all(process_start(pid) is not None for pid in group)
    assert len(notes(journal)) == 1


# A worker that is killed before it notes the process that it has started.
HASTY_WORKER = """
import os, signal, subprocess, sys
from pathlib import Path
from xinference_venv.store.process_journal import ProcessJournal
from xinference_venv.store.store import Store

store = Store.open(Path(sys.argv[1]))
store.make_staging_folder("a-job")
journal = ProcessJournal(layout=store.layout, disk=store.disk)
head = subprocess.Popen(
    [sys.executable, "-I", "-c", "import time; time.sleep(1000)"],
    env=journal.variables,
    start_new_session=True,
    stdout=subprocess.DEVNULL,
)
print(head.pid, flush=True)
if sys.argv[2] == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["dies", "lives"])
def test_a_process_that_was_not_noted_is_ended_unless_its_worker_lives(
    journal: ProcessJournal, end: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HASTY_WORKER, str(journal.layout.root), end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as hasty:
        assert hasty.stdout is not None
        head = psutil.Process(int(hasty.stdout.readline()))
        try:
            if end == "dies":
                hasty.wait()
            journal.sweep()
            assert (process_start(head.pid) is None) == (end == "dies")
        finally:
            if psutil.pid_exists(head.pid):
                head.kill()


def test_a_process_that_ended_well_is_forgotten(
    journal: ProcessJournal, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    child = children()
    journal.started(child.pid)
    [note] = notes(journal)
    assert json.loads(note.read_bytes())["owner"] == this_process().to_dict()
    journal.ended(child.pid)
    journal.ended(child.pid)
    assert notes(journal) == []


def test_a_process_that_ended_before_it_was_noted_is_none(journal: ProcessJournal) -> None:
    journal.started(2**22 + 1)
    assert notes(journal) == []


def forge(journal: ProcessJournal, pid: int, **changes: object) -> None:
    """A note of a process, by an owner who is dead unless told otherwise."""
    process = identify(pid)
    assert process is not None
    owner = replace(this_process(), start="0")
    note = {"process": process.to_dict(), "owner": owner.to_dict(), **changes}
    journal.disk.write_json(journal.layout.processes / f"{pid}.json", note, durable=False)


def test_a_pid_that_another_process_got_is_not_killed(
    journal: ProcessJournal, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    child = children()
    living = identity_of(child)
    other = replace(living, start=str(int(living.start) - 1))
    forge(journal, child.pid, process=other.to_dict())
    journal.sweep()
    assert child.poll() is None
    assert notes(journal) == []


def test_the_processes_of_another_host_are_left_to_it(
    journal: ProcessJournal, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    child = children()
    owner = replace(this_process(), host="another-host", start="0")
    forge(journal, child.pid, owner=owner.to_dict())
    journal.sweep()
    assert child.poll() is None
    assert len(notes(journal)) == 1


def test_the_processes_of_another_container_are_left_to_it(
    journal: ProcessJournal, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    child = children()
    owner = replace(this_process(), namespace="another", start="0")
    forge(journal, child.pid, owner=owner.to_dict())
    journal.sweep()
    assert child.poll() is None
    assert len(notes(journal)) == 1


@pytest.mark.parametrize("change", [{"host": "another-host"}, {"namespace": "another"}])
def test_notes_of_one_pid_on_several_hosts_do_not_collide(
    journal: ProcessJournal,
    children: Callable[[], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
) -> None:
    child = children()
    journal.started(child.pid)
    elsewhere = replace(this_process(), **change)
    with monkeypatch.context() as patch:
        patch.setattr(process_journal, "this_process", lambda: elsewhere)
        journal.started(child.pid)
        assert len(notes(journal)) == 2
        journal.ended(child.pid)
    assert len(notes(journal)) == 1
    journal.ended(child.pid)
    assert notes(journal) == []


NOTE = {"process": this_process().to_dict(), "owner": {**this_process().to_dict(), "start": "0"}}
values = st.none() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)
parts = st.dictionaries(st.sampled_from(["host", "boot", "pid", "start", "namespace"]), values)


@given(
    content=st.binary(max_size=60)
    | st.builds(
        lambda of, owner: json.dumps(
            {"process": {**NOTE["process"], **of}, "owner": {**NOTE["owner"], **owner}}
        ).encode(),
        # Of no process that lives: the sweep would be right to kill it.
        parts.map(lambda changes: {**changes, "start": "1"}),
        parts,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_are_a_note_or_forgotten(journal: ProcessJournal, content: bytes) -> None:
    (journal.layout.processes / "1.json").write_bytes(content)
    journal.sweep()
    for note in notes(journal):
        assert json.loads(note.read_bytes())["owner"]
        note.unlink()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"process": {"pid": 1}}'])
def test_a_damaged_note_kills_no_one_and_is_forgotten(
    journal: ProcessJournal, content: str
) -> None:
    (journal.layout.processes / "1.json").write_text(content)
    journal.sweep()
    assert notes(journal) == []
