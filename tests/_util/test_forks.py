"""Work is shared out to forks piece by piece, and what ends one of them ends it all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_SHARE_OUT = """
import os, signal, sys
from xinference_venv._util.forks import share_out
def work(piece):
{work}
status, lines = share_out({pieces}, work, forks={forks})
print(os.getpid(), *lines, sep="\\n")
sys.exit(status)
"""


def share_out(work: str, *, pieces: int, forks: int) -> tuple[int, list[str]]:
    """The exit status of a process that shares out, and the lines that it prints."""
    program = _SHARE_OUT.format(work=f"    {work}", pieces=pieces, forks=forks)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(("pieces", "forks"), [(0, 2), (1, 2), (5, 1), (7, 3), (40_000, 2)])
def test_each_piece_is_done_once(pieces: int, forks: int) -> None:
    status, (_, *lines) = share_out("return str(piece)", pieces=pieces, forks=forks)
    assert status == 0
    assert sorted(map(int, lines)) == list(range(pieces))


@pytest.mark.skipif(sys.platform != "linux", reason="sets the size of a pipe")
def test_a_user_with_very_many_pipes_gets_small_ones() -> None:
    work = "return str(piece)"
    small = """
import fcntl, os
pipe_of_usual_size = os.pipe
def pipe():
    reading, writing = pipe_of_usual_size()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    return reading, writing
os.pipe = pipe
"""
    program = small + _SHARE_OUT.format(work=f"    {work}", pieces=40_000, forks=2)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    _, *lines = done.stdout.splitlines()
    assert sorted(map(int, lines)) == list(range(40_000))


def test_who_has_done_a_piece_takes_the_next_one() -> None:
    # The first piece waits for the last one, which the other fork can only do after all others.
    ready, done = os.pipe()
    os.set_inheritable(ready, True)
    os.set_inheritable(done, True)
    work = (
        f"os.read({ready}, 1) if piece == 0 else os.write({done}, b'+') if piece == 5 else None;"
        " return f'{piece} {os.getpid()}'"
    )
    program = _SHARE_OUT.format(work=f"    {work}", pieces=6, forks=2)
    output = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        pass_fds=(ready, done),
    ).stdout
    os.close(ready)
    os.close(done)
    parent, *lines = output.splitlines()
    by = dict(line.split() for line in lines)
    assert len({by[str(piece)] for piece in range(1, 6)}) == 1
    assert len({parent, *by.values()}) == 3


def test_a_fork_that_exits_gives_its_status_and_what_it_printed() -> None:
    work = "print('why', flush=True) or sys.exit(3) if piece == 1 else None; return str(piece)"
    status, (_, *lines) = share_out(work, pieces=2, forks=2)
    assert (status, lines) == (3, ["why"])


def test_a_fork_that_is_killed_gives_the_status_of_shells() -> None:
    status, _ = share_out("os.kill(os.getpid(), signal.SIGKILL)", pieces=2, forks=2)
    assert status == 128 + 9
