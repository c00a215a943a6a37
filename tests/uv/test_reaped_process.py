"""What escapes from a process ends with it, and nothing else does: real processes that try."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.clock import LoopClock
from xinference_venv.errors import DeadlineExceeded
from xinference_venv.store.process_identity import process_start
from xinference_venv.uv import reaped_process
from xinference_venv.uv.subprocess import ProcessRunner

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems do not tell whose child an orphan was"
)

# Each says its pid on stderr and stays until the fifo that it is given is closed.
_STAY = """
import ctypes, os, signal, sys
def stay():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.write(2, b"%d\\n" % os.getpid())
    open(sys.argv[1]).read()
    os._exit(0)
def orphan():
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        return True
"""
ESCAPES = {
    "session": "if orphan(): stay()",
    "variables": """
if orphan():
    again = "import os, sys; os.write(2, b'%d\\\\n' % os.getpid()); open(sys.argv[1]).read()"
    os.execve(sys.executable, [sys.executable, "-I", "-c", again, sys.argv[1]], {})
""",
    "a family of orphans": """
if orphan():
    for _ in range(3):
        if orphan(): stay()
    stay()
""",
    "a subreaper of its own": """
if orphan():
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    if orphan(): stay()
    stay()
""",
}


@pytest.fixture
def door() -> ProcessRunner:
    return ProcessRunner(environment={"PATH": os.environ["PATH"]}, slots=2)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[str]:
    """A fifo on which a process may wait until the end of the test."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    held = os.open(path, os.O_RDWR)
    yield str(path)
    os.close(held)


def _python(script: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-c", _STAY + script, *arguments)


def _living(lines: list[str]) -> list[int]:
    return [int(line) for line in lines if process_start(int(line)) is not None]


def _started(command: Sequence[str]) -> tuple[subprocess.Popen[str], list[str]]:
    """A process that is none of the reaper's, and the two lines that it says."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    return process, [process.stdout.readline().strip() for _ in range(2)]


@pytest.mark.parametrize("escape", ESCAPES)
async def test_what_escapes_from_a_process_ends_with_it(
    door: ProcessRunner, gate: str, escape: str
) -> None:
    lines: list[str] = []
    said = {"session": 1, "variables": 1, "a family of orphans": 4, "a subreaper of its own": 2}
    # It ends once all have said who they are.
    script = f"""
reading, writing = os.pipe()
copy = os.dup(2)
os.dup2(writing, 2)
{ESCAPES[escape]}
os.close(writing); os.dup2(copy, 2)
heard = b""
while heard.count(b"\\n") < {said[escape]}:
    heard += os.read(reading, 1000)
os.write(2, heard)
"""
    async with asyncio.timeout(60):
        ran = await door.run(_python(script, gate), deadline=60, on_line=lines.append)
    assert ran.exit_status == 0
    assert len(lines) == said[escape]
    assert _living(lines) == []


async def test_what_escaped_ends_with_a_call_that_is_cancelled(
    door: ProcessRunner, gate: str
) -> None:
    lines: list[str] = []
    both = asyncio.Event()

    def hear(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            both.set()

    script = "if orphan(): stay()\nsignal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
    script += 'os.write(2, b"%d\\n" % os.getpid()); open(sys.argv[1]).read()'
    running = asyncio.create_task(door.run(_python(script, gate), deadline=60, on_line=hear))
    await both.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert _living(lines) == []


async def test_neither_children_of_this_process_nor_other_runs_are_touched(
    door: ProcessRunner, gate: str
) -> None:
    lines: list[str] = []
    here = asyncio.Event()

    def hear(line: str) -> None:
        lines.append(line)
        here.set()

    model, family = _started(_python("if orphan(): stay()\nstay()", gate))
    try:
        other = asyncio.create_task(door.run(_python("stay()", gate), deadline=60, on_line=hear))
        await here.wait()
        ended: list[str] = []
        await door.run(
            _python("if orphan(): os.closerange(1, 3); stay()", gate),
            deadline=60,
            on_line=ended.append,
        )
        assert len(_living(family)) == 2
        assert len(_living(lines)) == 1
        # Its orphan is the system's, not ours.
        assert model.poll() is None
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other
        assert len(_living(family)) == 2
    finally:
        for each in _living(family):
            os.kill(each, signal.SIGKILL)
        model.communicate()


_WORKER = """
import asyncio, sys
from xinference_venv.uv.subprocess import ProcessRunner
door = ProcessRunner(environment={}, slots=1)
command = [sys.executable, "-I", "-c", sys.argv[1], sys.argv[2]]
asyncio.run(door.run(command, deadline=600, on_line=lambda line: print(line, flush=True)))
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_a_process_and_what_escaped_end_when_their_worker_is_killed(
    gate: str, end: signal.Signals
) -> None:
    script = _STAY + "orphan() and stay()\nstay()"
    worker, lines = _started((sys.executable, "-c", _WORKER, script, gate))
    assert len(_living(lines)) == 2
    watched = [psutil.Process(int(each)) for each in lines]
    worker.send_signal(end)
    worker.wait(30)
    worker.communicate()
    # They mind SIGTERM as little as can be, so it takes a moment.
    _, alive = await asyncio.to_thread(psutil.wait_procs, watched, 30)
    assert alive == []


async def test_another_reaper_takes_over_when_one_was_killed(door: ProcessRunner) -> None:
    assert (await door.run(_python("pass"), deadline=60)).exit_status == 0
    process = reaped_process._reaper._process
    assert process is not None
    process.kill()
    process.wait()
    assert (await door.run(_python("pass"), deadline=60)).exit_status == 0


async def test_a_deadline_holds_for_a_process_that_does_not_start(
    door: ProcessRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await door.run(_python("pass"), deadline=60)).exit_status == 0
    process = reaped_process._reaper._process
    assert process is not None
    clock = LoopClock(monkeypatch)
    process.send_signal(signal.SIGSTOP)
    try:
        running = asyncio.ensure_future(door.run(_python("pass"), deadline=600))
        await clock.advance(600.0)
        # Nothing tells that it has ended either.
        await clock.advance(60.0)
        await asyncio.wait([running], timeout=60)
        with pytest.raises(DeadlineExceeded):
            running.result()
    finally:
        process.send_signal(signal.SIGCONT)


async def test_nothing_of_ended_runs_is_left(door: ProcessRunner) -> None:
    await door.run(_python("pass"), deadline=60)
    process = reaped_process._reaper._process
    assert process is not None
    of_ours, of_reaper = psutil.Process(), psutil.Process(process.pid)
    files = of_ours.num_fds(), of_reaper.num_fds()
    for _ in range(20):
        await door.run(_python("pass"), deadline=60)
    # A transport closes its pipe in the next round of the loop.
    await asyncio.sleep(0)
    assert (of_ours.num_fds(), of_reaper.num_fds()) == files
    # One that has ended may not be gone yet.
    assert psutil.wait_procs(of_reaper.children(recursive=True), timeout=60)[1] == []


async def test_names_that_are_no_text_and_large_environments_arrive(door: ProcessRunner) -> None:
    odd = os.fsdecode(b"caf\xe9 \xff")
    environment = {"ODD": odd, **{f"MANY_{number}": "x" * 10_000 for number in range(50)}}
    script = "import sys; out = sys.stdout.buffer; out.write(os.fsencode(sys.argv[1]));"
    script += "out.write(os.environb[b'ODD']); out.write(b'%d' % len(os.environb))"
    ran = await door.run(_python(script, odd), deadline=60, more_environment=environment)
    assert ran.output.startswith("caf\ufffd \ufffdcaf\ufffd \ufffd")


async def test_what_can_not_be_started_says_why(door: ProcessRunner, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.write_text("#!/bin/sh\n")
    with pytest.raises(PermissionError):
        await door.run([str(closed)], deadline=60)
    with pytest.raises(FileNotFoundError):
        await door.run([str(tmp_path / "missing")], deadline=60)
    with pytest.raises(FileNotFoundError):
        await door.run(["true"], deadline=60, working_directory=str(tmp_path / "missing"))


_COUNT = """
import asyncio, resource, sys
from xinference_venv.uv import reaped_process
from xinference_venv.uv.subprocess import ProcessRunner

runner = ProcessRunner(environment={}, slots=1)
busy = "import time\\nwhile time.process_time() < 0.4: pass"
asyncio.run(runner.run((sys.executable, "-I", "-S", "-c", busy), deadline=60.0))
reaped_process._reaper.stop()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""


def test_the_processor_time_of_a_process_counts_for_who_had_it_started() -> None:
    ran = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True)
    assert float(ran.stdout) >= 0.4, ran.stderr
