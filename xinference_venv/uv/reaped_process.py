"""A process that ends with all that it started: the worker's end of `reaper`.

What comes in is a command with its variables, what comes out are two streams and an exit status.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from io import FileIO
from typing import Any

from xinference_venv._util.tasks import finish
from xinference_venv.uv import reaper
from xinference_venv.uv.reaper import CONFIGURATION_DESCRIPTOR, KILL_SECONDS

CONFIGURATION_PATH = f"/dev/fd/{CONFIGURATION_DESCRIPTOR}"
"""Where a process finds its configuration, which can be read once."""
# So much longer than the guard may need it is waited for: what it ends could have stopped it.
_GUARD_SECONDS = 2.0
_ATEXIT_SECONDS = 1.0
_PROGRAM = str(reaper.__file__)
_OF_LIBRARIES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class _Reaper:
    """The one reaper of this process, started when it is first needed, and again when it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def start(self, descriptors: Sequence[int]) -> None:
        """Let a process be started with these descriptors."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._open()
            assert self._requests is not None
            socket.send_fds(self._requests, [b"+"], descriptors)

    def _open(self) -> None:
        ours, theirs = socket.socketpair()
        # It needs no variables, but those by which its interpreter finds its libraries.
        found = {name: os.environ[name] for name in _OF_LIBRARIES if name in os.environ}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", _PROGRAM],
                env=found,
                cwd="/",
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        if self._requests is not None:
            self._requests.close()
        self._requests = ours

    def stop(self) -> None:
        """Let it end, as it does by itself when this process dies."""
        if self._process is not None and self._requests is not None:
            self._requests.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ATEXIT_SECONDS)


_reaper = _Reaper()
atexit.register(_reaper.stop)


class ReapedProcess:
    """A process that was asked for; whoever did awaits `end`, however it went.

    `pid` is 0 until it has started, `exit_status` None until it has ended, and negative for a
    signal's number.
    """

    def __init__(self, control: socket.socket, pipes: Sequence[FileIO], kill_after: float) -> None:
        self.pid = 0
        self.exit_status: int | None = None
        self.output = asyncio.StreamReader()
        self.errors = asyncio.StreamReader()
        self._control = control
        self._pipes = pipes
        self._transports: list[asyncio.ReadTransport] = []
        self._end_seconds = 2 * kill_after + KILL_SECONDS + _GUARD_SECONDS
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[int] = loop.create_future()

    @classmethod
    def ask_for(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        working_directory: str,
        configuration: int | None,
        kill_after: float,
    ) -> ReapedProcess:
        """Let the reaper start a process, which finds a `configuration` at `CONFIGURATION_PATH`.

        When it is to end, SIGKILL follows SIGTERM after `kill_after` seconds. Raises `OSError`.
        """
        request = {
            "command": list(map(_text, command)),
            "environment": {_text(name): _text(value) for name, value in environment.items()},
            "working_directory": _text(working_directory),
            "kill_after": kill_after,
        }
        with ExitStack() as unless_started, ExitStack() as given:
            control, theirs = socket.socketpair()
            unless_started.enter_context(control)
            given.enter_context(theirs)
            pipes, descriptors = [], [theirs.fileno()]
            for _ in ("output", "errors"):
                reading, writing = os.pipe()
                given.callback(os.close, writing)
                pipes.append(unless_started.enter_context(os.fdopen(reading, "rb", buffering=0)))
                descriptors.append(writing)
            if configuration is not None:
                descriptors.append(configuration)
            _reaper.start(descriptors)
            unless_started.pop_all()
        process = cls(control, pipes, kill_after)
        control.setblocking(False)
        process._following = asyncio.create_task(process._follow(json.dumps(request).encode()))
        return process

    _following: asyncio.Task[None]

    async def started(self) -> None:
        """Wait until it runs; raises `OSError` when it can't be started."""
        loop = asyncio.get_running_loop()
        for pipe, stream in zip(self._pipes, (self.output, self.errors), strict=True):
            protocol = partial(asyncio.StreamReaderProtocol, stream)
            transport, _ = await loop.connect_read_pipe(protocol, pipe)
            self._transports.append(transport)
        await asyncio.shield(self._started)

    async def ended(self) -> int:
        """Wait for its end, and return the exit status."""
        return await asyncio.shield(self._ended)

    async def end(self) -> None:
        """End it, first politely, and all that it started; returns when all of that is dead.

        It runs when the caller is being cancelled, and goes on to its end however often that is.
        """
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        waiting = asyncio.wait([self._following], timeout=self._end_seconds)
        try:
            await finish(asyncio.ensure_future(waiting))
        finally:
            self._following.cancel()
            self._close()

    def _close(self) -> None:
        for transport in self._transports:
            transport.close()
        # Those without one.
        for pipe in self._pipes[len(self._transports) :]:
            pipe.close()

    async def _follow(self, request: bytes) -> None:
        """Send the request, and hear what becomes of it until all is dead."""
        loop = asyncio.get_running_loop()
        rest = b""
        try:
            with suppress(ConnectionError):
                await loop.sock_sendall(self._control, request + b"\n")
                while part := await loop.sock_recv(self._control, 1 << 12):
                    *lines, rest = (rest + part).split(b"\n")
                    for line in lines:
                        self._hear(json.loads(line))
        finally:
            self._control.close()
            self._hear({"errno": errno.ECHILD, "reason": "it was killed before it started"})
            self._hear({"exit_status": -signal.SIGKILL})

    def _hear(self, report: dict[str, Any]) -> None:
        """Take a report of the guard; the first of each kind counts."""
        if "pid" in report and not self._started.done():
            self.pid = report["pid"]
            self._started.set_result(None)
        elif "errno" in report and not self._started.done():
            self._started.set_exception(OSError(report["errno"], report["reason"]))
            # Whoever is cancelled meanwhile does not ask for it.
            self._started.exception()
        elif "exit_status" in report and self.exit_status is None:
            self.exit_status = report["exit_status"]
            self._ended.set_result(self.exit_status)


def _text(value: str) -> str:
    """The bytes of a value, a character each: names of files need not be text."""
    return os.fsencode(value).decode("latin-1")
