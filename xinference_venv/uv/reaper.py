"""The reaper: a program that starts processes, and ends with each of them all that it started.

It runs on its own, ``python -I -S reaper.py``, with a socket as standard input; the other end is
`ReapedProcess`. For each process come the descriptors of a socket and two pipes, and maybe a third;
over that socket the command comes in, and its pid and exit status go out. The socket's end says
that nothing of the process lives any more.

Each process gets a guard of its own, a fork of this program: on Linux the guard adopts what leaves
the process's group, session or parent (``PR_SET_CHILD_SUBREAPER`` of prctl(2)), like the server of
a compiler cache. So all its children, and they alone, are of this process: it can tell them from
those of others without looking at anything that a build could change. The worker could not adopt
them itself: it would adopt the orphans of model processes as well. Elsewhere than on Linux only the
process group is ended.

When its worker dies, a guard ends its process by itself.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

CONFIGURATION_DESCRIPTOR = 9
"""At this number a process finds the descriptor that came with it beyond its own two."""
KILL_SECONDS = 5.0
"""So long what a process left behind is killed again and again; another user's does not go."""
# linux/prctl.h
_SET_DUMPABLE, _SET_CHILD_SUBREAPER = 4, 36
_POLL_SECONDS = 0.02


def serve(requests: socket.socket) -> None:
    """Start what is asked for, until the other end of the socket is closed."""
    # A guard that is reaped, and not ignored, counts with its processes among the times of children
    # (wait(2)): `time` and the accounting of a cluster have all that a command took.
    signal.signal(signal.SIGCHLD, lambda *_: _has_children())
    # They have the variables of uv in their memory, which builds of the same user shall not read.
    _prctl(_SET_DUMPABLE, 0)
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, 1, 4)
        if not request:
            break
        if len(descriptors) >= 3:
            _start_guard(descriptors)
        for each in descriptors:
            os.close(each)
    # Those of the last moment; each ends by itself when its worker is gone.
    with suppress(ChildProcessError):
        while True:
            os.wait()


def _start_guard(descriptors: list[int]) -> None:
    try:
        forked = os.fork()
    except OSError as error:
        _answer(descriptors[0], errno=error.errno, reason=error.strerror)
        return
    if forked == 0:
        try:
            _guard(*descriptors)
        finally:
            os._exit(0)


def _guard(control: int, output: int, errors: int, configuration: int | None = None) -> None:
    """Start one process, say how it ended, and end what it left."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.setsid()
    adopts = _prctl(_SET_CHILD_SUBREAPER, 1)
    woken, waking = os.pipe()
    for end in (woken, waking):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waking)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    request = _request_from(control)
    if request is None:
        return
    if configuration is not None:
        os.dup2(configuration, CONFIGURATION_DESCRIPTOR)
        os.close(configuration)
    try:
        process = subprocess.Popen(
            [_bytes(each) for each in request["command"]],
            env={_bytes(name): _bytes(value) for name, value in request["environment"].items()},
            cwd=_bytes(request["working_directory"]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            pass_fds=() if configuration is None else (CONFIGURATION_DESCRIPTOR,),
        )
    except OSError as error:
        _answer(control, errno=error.errno, reason=error.strerror)
        return
    for each in (output, errors, *(() if configuration is None else (CONFIGURATION_DESCRIPTOR,))):
        # Who reads shall see the end when the process and its children have closed them.
        os.close(each)
    _answer(control, pid=process.pid)
    _answer(control, exit_status=_until_ended(process.pid, control, woken, request["kill_after"]))
    if adopts:
        _end_children(woken)
    else:
        _signal_group(process.pid, signal.SIGKILL)


def _request_from(control: int) -> dict | None:  # type: ignore[type-arg]
    """The command, a line of JSON; None from a worker that gave up or died."""
    read = bytearray()
    while not read.endswith(b"\n"):
        part = os.read(control, 1 << 16)
        if not part:
            return None
        read += part
    found = json.loads(read)
    return found if isinstance(found, dict) else None


def _bytes(text: str) -> bytes:
    # Each character is a byte: names of files need not be text.
    return text.encode("latin-1")


def _answer(control: int, **answer: object) -> None:
    # A worker that died hears nothing.
    with suppress(OSError):
        os.write(control, json.dumps(answer).encode() + b"\n")


def _until_ended(process: int, control: int, woken: int, kill_after: float) -> int:
    """Wait for the end of the process; it is brought about when the worker's socket ends."""
    kill_at: float | None = None
    with selectors.DefaultSelector() as waiting:
        waiting.register(woken, selectors.EVENT_READ)
        waiting.register(control, selectors.EVENT_READ)
        while (status := _reaped(process)) is None:
            timeout = None if kill_at is None else max(0.0, kill_at - time.monotonic())
            ready = [key.fd for key, _ in waiting.select(timeout)]
            if woken in ready:
                os.read(woken, 1 << 12)
            if control in ready:
                waiting.unregister(control)
                _signal_group(process, signal.SIGTERM)
                kill_at = time.monotonic() + kill_after
            elif kill_at is not None and time.monotonic() >= kill_at:
                _signal_group(process, signal.SIGKILL)
                kill_at = time.monotonic() + kill_after
    return status


def _reaped(process: int) -> int | None:
    """Reap what has ended; returns the exit status of the process if that has."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return None
        if pid == process:
            return os.waitstatus_to_exitcode(status)


def _end_children(woken: int) -> None:
    """Kill all children, and theirs, which become ours then, until there are none."""
    until = time.monotonic() + KILL_SECONDS
    with selectors.DefaultSelector() as waiting:
        waiting.register(woken, selectors.EVENT_READ)
        while _has_children() and time.monotonic() < until:
            for pid in _children():
                # Only this process reaps them, so none of the pids is another process's by now.
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if waiting.select(_POLL_SECONDS):
                os.read(woken, 1 << 12)


def _has_children() -> bool:
    """Reap what has ended, and tell whether anything is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _children() -> list[int]:
    """The pids of the children of this process, which has one thread."""
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", encoding="ascii") as file:
            return [int(each) for each in file.read().split()]
    except OSError:
        # A kernel may be built without; see proc_pid_task(5).
        return [pid for pid in _pids() if _parent(pid) == own]


def _pids() -> list[int]:
    return [int(each) for each in os.listdir("/proc") if each.isdecimal()]


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _prctl(option: int, value: int) -> bool:
    """Set something of this process; tells whether the system can."""
    if sys.platform != "linux":
        return False
    return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0)) == 0


if __name__ == "__main__":
    serve(socket.socket(fileno=0))
