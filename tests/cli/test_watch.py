"""`watch` over real processes that launch, die and return."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, specify
from tests.daemons import PATIENCE_SECONDS, Daemons
from tests.index import Index
from tests.wheels import build_wheel


@dataclass(kw_only=True, eq=False)
class Watched:
    """A `watch` that runs; what it prints is read as it comes."""

    process: subprocess.Popen[bytes]
    output: int
    said: bytes = b""

    def until(self, seen: Callable[[str], bool]) -> str:
        """Read on until what was said so far has been seen to hold something."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not seen(self.said.decode()):
            left = until - time.monotonic()
            assert left > 0 and select.select([self.output], [], [], left)[0], self.said.decode()
            self.said += os.read(self.output, 65536)
        return self.said.decode()

    def documents(self) -> list[dict[str, Any]]:
        """Of the lines that are whole."""
        whole, _, _ = self.said.decode().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def until_told(self, **wanted: Any) -> dict[str, Any]:
        """Read on until there is a document with these values; what came before it is forgotten."""
        found: list[dict[str, Any]] = []

        def seen(_: str) -> bool:
            found[:] = [each for each in self.documents() if wanted.items() <= each.items()]
            return bool(found)

        self.until(seen)
        self.said = self.said.rpartition(b"\n")[2]
        return found[-1]


Watch = Callable[..., Watched]


@pytest.fixture
def watch(environ: Mapping[str, str]) -> Iterator[Watch]:
    """Start a `watch` as a process."""
    started: list[Watched] = []

    def watch(*words: str, output: int = subprocess.PIPE, **variables: str) -> Watched:
        process = subprocess.Popen(
            [sys.executable, "-m", "xinference_venv", "watch", "--interval", "0.1", *words],
            env={**environ, **variables},
            stdout=output,
            start_new_session=True,
        )
        reading = output if process.stdout is None else process.stdout.fileno()
        started.append(Watched(process=process, output=reading))
        return started[-1]

    yield watch
    for each in started:
        each.process.kill()
        each.process.communicate()


@pytest.fixture
def spec(index: Index, tmp_path: Path) -> Path:
    build_wheel(tmp_path / "wheels", "toy-model", "1.0")
    return specify(tmp_path / "toy.json", index, "toy", "toy-model")


@pytest.mark.uv
def test_a_launch_is_shown_phase_by_phase_through_deaths_and_returns(
    run: Run, serving: Daemons, watch: Watch, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = serving.supervisor()
    stays, dies = (serving.worker(supervisor, f"127.0.0.{each}") for each in (2, 3))
    monkeypatch.setenv("XINFERENCE_VENV_SUPERVISOR", supervisor.address)
    watched = watch("--json", XINFERENCE_VENV_SUPERVISOR=supervisor.address)
    watched.until_told(kind="worker", event="appeared", worker_address=dies.address)

    assert run("launch", "toy", "--spec", spec, "--worker", stays.address).code == 0
    ready = watched.until_told(kind="environment", state="ready")
    assert ready["worker_address"] == stays.address
    assert ready["value"]["model_name"] == "toy"

    dies.process.kill()
    dies.process.wait()
    lost = watched.until_told(kind="worker", event="changed", worker_address=dies.address)
    assert lost["state"] in ("alive", "suspect", "gone") and "can't be reached" in lost["text"]

    supervisor.process.kill()
    supervisor.process.wait()
    watched.until_told(kind="supervisor", event="changed", state="does not answer")
    serving.supervisor(int(supervisor.address.rpartition(":")[2]))
    watched.until_told(kind="supervisor", event="changed", state="answers")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    launch = ("launch", "toy", "--spec", spec, "--worker", "127.0.0.2", "--python-version", version)
    until = time.monotonic() + PATIENCE_SECONDS
    while (ran := run(*launch, "--engine", "x", "--any-engine")).code:
        # The worker has not registered again yet.
        assert time.monotonic() < until, ran.err
    again = watched.until_told(kind="environment", state="ready")
    while again["value"]["model_engine"] is None:
        # What was there before is reported when its worker has registered again.
        again = watched.until_told(kind="environment", state="ready")
    assert again["value"]["model_engine"] == "x"
    watched.process.send_signal(signal.SIGINT)
    assert watched.process.wait(PATIENCE_SECONDS) == 130


@pytest.mark.uv
def test_jobs_are_reported_while_they_run(
    serving: Daemons, watch: Watch, spec: Path, index: Index, environ: Mapping[str, str]
) -> None:
    supervisor = serving.supervisor()
    worker = serving.worker(supervisor)
    index.hang("/simple/toy-model/")
    watched = watch("toy", "--supervisor", supervisor.address)
    words = ("launch", "toy", "--spec", str(spec), "--supervisor", supervisor.address)
    launch = subprocess.Popen(
        [sys.executable, "-m", "xinference_venv", *words],
        env=dict(environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        running = f"{worker.address}: job toy: "
        watched.until(lambda said: f"{running}resolving " in said)
        index.release()
        said = watched.until(lambda said: f"{running}ready: " in said)
    finally:
        launch.communicate(timeout=PATIENCE_SECONDS)
    lines = said.splitlines()
    assert all(line[:2] == "20" and line[10] == "T" for line in lines)
    assert lines[0].endswith(" supervisor: answers")


@pytest.mark.uv
@pytest.mark.parametrize(
    ("kind", "shown"), [("xterm", "No environment found."), ("dumb", " supervisor: answers")]
)
def test_a_terminal_has_one_view_or_lines_where_nothing_can_be_drawn_again(
    watch: Watch, kind: str, shown: str
) -> None:
    ours, theirs = pty.openpty()
    try:
        watched = watch(output=theirs, TERM=kind, COLUMNS="100")
        os.close(theirs)
        watched.output = ours
        said = watched.until(lambda said: shown in said)
        assert ("No job runs." in said) is (kind == "xterm")
        watched.process.send_signal(signal.SIGTERM)
        assert watched.process.wait(PATIENCE_SECONDS) == 143
    finally:
        os.close(ours)


def test_a_supervisor_that_is_not_there_is_reported_and_waited_for(
    serving: Daemons, watch: Watch
) -> None:
    early = serving.supervisor()
    port = int(early.address.rpartition(":")[2])
    early.end()
    watched = watch("--json", "--supervisor", early.address)
    watched.until_told(kind="supervisor", event="appeared", state="does not answer")
    serving.supervisor(port)
    watched.until_told(kind="supervisor", event="changed", state="answers")
