"""Which process is which, asked of real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.conftest import ended_process
from xinference_venv.store import identity
from xinference_venv.store.identity import identify, process_start, this_process


def test_this_process_is_the_same_whenever_it_is_asked() -> None:
    assert this_process() == this_process()
    assert this_process().pid == os.getpid()
    assert this_process() == identify(os.getpid())


def test_a_child_is_told_apart_from_its_parent(
    children: Callable[[], subprocess.Popen[bytes]],
) -> None:
    found = identify(children().pid)
    assert found is not None
    assert found != this_process()
    assert (found.host, found.boot) == (this_process().host, this_process().boot)


def test_a_process_that_ended_is_none() -> None:
    assert identify(ended_process().pid) is None


def test_a_process_that_was_killed_and_not_reaped_is_none(
    children: Callable[[], subprocess.Popen[bytes]],
) -> None:
    child = children()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{child.pid}").exists()
    assert process_start(child.pid) is None


def test_a_process_that_was_stopped_still_lives(
    children: Callable[[], subprocess.Popen[bytes]],
) -> None:
    child = children()
    start = process_start(child.pid)
    os.kill(child.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    assert process_start(child.pid) == start is not None


def test_the_name_of_a_program_can_not_forge_its_start(tmp_path: Path) -> None:
    hostile = tmp_path / ") Z 0 0 (x"
    hostile.symlink_to("/bin/cat")
    child = subprocess.Popen([hostile], stdin=subprocess.PIPE)
    try:
        found, own = process_start(child.pid), process_start(os.getpid())
        assert found is not None
        assert own is not None
        assert int(found) >= int(own)
    finally:
        child.communicate()


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1, 2**40])
def test_a_pid_that_nobody_has_is_none(pid: int) -> None:
    assert identify(pid) is None


def test_without_proc_the_same_processes_live(
    monkeypatch: pytest.MonkeyPatch, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    living, gone = children().pid, ended_process().pid
    monkeypatch.setattr(identity, "Path", lambda *parts: Path("/nowhere", *parts[1:]))
    start = process_start(living)
    assert start is not None
    assert process_start(living) == start
    assert process_start(gone) is None


def test_threads_of_a_process_are_the_same_process() -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(this_process()))
    thread.start()
    thread.join()
    assert found == [this_process()]


def test_a_forked_child_is_another_process() -> None:
    script = (
        "import os; from xinference_venv.store.identity import this_process\n"
        "parent = this_process()\n"
        "if os.fork() == 0: os._exit(int(this_process() == parent))\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    assert output == "0\n"
