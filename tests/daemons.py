"""The processes of a cluster as an operator starts them: the command line, until a signal."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_SECONDS = 180.0
# What is said of every answer while workers may still register.
STARTED_NOW = "the supervisor was started just now: workers may be missing here\n"
_PROGRAM = "{patch}\nimport sys\nfrom xinference_venv.cli import main\nsys.exit(main())\n"


@dataclass(kw_only=True, eq=False)
class Daemon:
    """A supervisor or a worker; `log` is where its standard error goes."""

    process: subprocess.Popen[str]
    log: Path
    home: Path
    address: str = ""

    def ready(self) -> Daemon:
        """Wait until it says its address."""
        assert self.process.stdout is not None
        heard, _, _ = select.select([self.process.stdout], [], [], PATIENCE_SECONDS)
        line = self.process.stdout.readline() if heard else ""
        assert " at " in line, f"it did not come up: {self.said}"
        self.address = line.split(" at ")[1].strip()
        return self

    @property
    def said(self) -> str:
        """Its standard error up to now."""
        return self.log.read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


@dataclass(kw_only=True, eq=False)
class Daemons:
    """Starts them in `folder`; each worker has a home of its own.

    A `patch` is a program that runs in the process first, so that it is of another release.
    """

    folder: Path
    sockets: Path
    environ: Mapping[str, str]
    all: list[Daemon] = field(default_factory=list)

    def start(self, *words: str, patch: str = "", **variables: str) -> Daemon:
        """Start a command line that does not end by itself."""
        if patch:
            # It may load xoscar before the command line can say where its sockets are to be.
            variables["XOSCAR_DIR"] = str(self.sockets)
        place = self.folder / f"daemon-{len(self.all)}"
        place.mkdir(parents=True)
        home = place / "home"
        log = place / "stderr"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(patch=patch), *words],
                env={**self.environ, "XINFERENCE_HOME": str(home), **variables},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        daemon = Daemon(process=process, log=log, home=home)
        self.all.append(daemon)
        return daemon

    def supervisor(self, port: int = 0, *, patch: str = "", **variables: str) -> Daemon:
        """Start a supervisor, by default at a port that is free."""
        words = ("supervisor", "--port", str(port))
        return self.start(*words, patch=patch, **variables).ready()

    def worker(
        self, supervisor: Daemon, host: str = "127.0.0.2", *, patch: str = "", **variables: str
    ) -> Daemon:
        """Start a worker on a loopback address of its own."""
        words = ("worker", "--supervisor", supervisor.address, "--host", host)
        return self.start(*words, patch=patch, **variables).ready()


@contextmanager
def daemons(folder: Path, environ: Mapping[str, str]) -> Iterator[Daemons]:
    """Start daemons, and end at last what still runs, with all that it started."""
    # The path of a socket has to be short.
    with tempfile.TemporaryDirectory() as sockets:
        running = Daemons(folder=folder, sockets=Path(sockets), environ=environ)
        try:
            yield running
        finally:
            for daemon in running.all:
                if daemon.process.poll() is None:
                    os.killpg(daemon.process.pid, signal.SIGKILL)
                daemon.process.communicate()


def eventually(what: Callable[[], bool], why: Callable[[], str] = str) -> None:
    """Wait for what another process does in its own time."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < until, f"it did not happen: {why()}"
        time.sleep(0.05)
