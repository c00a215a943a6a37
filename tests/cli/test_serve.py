"""The daemons of a cluster as an operator runs them: signals, restarts, refusals, the key."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.cli import test_cluster
from tests.cli.conftest import ACTORS, Run, Start, document_of, specify
from tests.cli.test_cluster import layout_of, states
from tests.daemons import Daemon, Daemons, eventually
from tests.index import Index
from tests.wheels import build_wheel

spec = test_cluster.spec
supervisor = test_cluster.supervisor


@pytest.mark.uv
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_end_cancels_its_build_and_leaves_the_cluster(
    number: signal.Signals,
    run: Run,
    serving: Daemons,
    supervisor: Daemon,
    spec: Path,
    index: Index,
) -> None:
    worker = serving.worker(supervisor)
    index.hang("/simple/toy-model/")
    launch = subprocess.Popen(
        [sys.executable, "-m", "xinference_venv", "launch", "toy", "--spec", spec],
        env=os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    children: list[psutil.Process] = []

    def resolves() -> bool:
        # The worker asks the index itself first: can it be reached?
        children[:] = psutil.Process(worker.process.pid).children(recursive=True)
        return any("uv" in child.name() for child in children)

    eventually(resolves, lambda: worker.said)
    worker.process.send_signal(number)
    # One who is impatient does no harm.
    worker.process.send_signal(number)
    assert worker.process.wait(60) == 0
    assert "Traceback" not in worker.said
    assert not any(child.is_running() for child in children)
    layout = layout_of(worker)
    for place in (layout.staging, layout.envs, layout.leases, layout.processes):
        assert list(place.iterdir()) == []
    assert states(run) == {}
    _, err = launch.communicate(timeout=60)
    assert launch.returncode != 0
    assert "error: " in err


def test_workers_outlive_their_supervisor_and_register_with_the_next(
    run: Run, serving: Daemons, supervisor: Daemon
) -> None:
    worker = serving.worker(supervisor)
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.process.wait(60) == 0
    assert "Traceback" not in supervisor.said
    assert run("workers").code == 8
    eventually(lambda: "retrying" in worker.said, lambda: worker.said)
    port = int(supervisor.address.rpartition(":")[2])
    serving.supervisor(port)
    eventually(lambda: states(run) == {worker.address: "alive"}, lambda: worker.said)
    eventually(lambda: "is back" in worker.said, lambda: worker.said)
    assert worker.end() == 0


def test_a_worker_waits_for_a_supervisor_that_comes_later(
    run: Run, serving: Daemons, supervisor: Daemon
) -> None:
    assert supervisor.end() == 0
    worker = serving.start("worker", "--supervisor", supervisor.address, "--host", "127.0.0.2")
    eventually(lambda: "waiting for it for 60 s" in worker.said, lambda: worker.said)
    serving.supervisor(int(supervisor.address.rpartition(":")[2]))
    assert worker.ready().address in states(run)


def test_a_worker_that_still_waits_ends_when_it_is_asked_to(serving: Daemons) -> None:
    worker = serving.start("worker", "--supervisor", "127.0.0.1:1", "--host", "127.0.0.2")
    eventually(lambda: "waiting for it" in worker.said, lambda: worker.said)
    assert worker.end() == 0
    assert "Traceback" not in worker.said


def test_where_no_one_can_listen_is_reported(serving: Daemons, supervisor: Daemon) -> None:
    port = supervisor.address.rpartition(":")[2]
    taken = serving.start("supervisor", "--port", port)
    elsewhere = serving.start("supervisor", "--host", "192.0.2.1")
    assert (taken.process.wait(60), elsewhere.process.wait(60)) == (2, 2)
    assert f"error: can't listen at {supervisor.address}: " in taken.said
    assert "address already in use" in taken.said
    assert "error: can't listen at 192.0.2.1:9797: " in elsewhere.said
    assert "Traceback" not in taken.said + elsewhere.said


def test_a_worker_of_another_protocol_is_refused(serving: Daemons, supervisor: Daemon) -> None:
    patch = "import xinference_venv.actors.worker as worker\nworker.PROTOCOL = 99"
    worker = serving.start("worker", "--supervisor", supervisor.address, patch=patch)
    assert worker.process.wait(60) == 9, worker.said
    assert "speaks protocol 99 (release " in worker.said
    assert "hint: install releases of the same protocol on both\n" in worker.said


# The key


@pytest.mark.uv
def test_a_cluster_with_a_key_works_for_those_who_have_it(
    run: Run, serving: Daemons, spec: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "a-secret-of-this-cluster"
    supervisor = serving.supervisor(XOSCAR_AUTH_KEY=key)
    worker = serving.worker(supervisor, XOSCAR_AUTH_KEY=key)
    other = serving.start(
        *("worker", "--supervisor", supervisor.address, "--host", "127.0.0.3"),
        XOSCAR_AUTH_KEY="another",
    )
    monkeypatch.setenv("XINFERENCE_VENV_SUPERVISOR", supervisor.address)
    without = run("workers")
    assert without.code == 8
    assert "is XOSCAR_AUTH_KEY the same on both sides?" in without.err

    go_on = threading.Event()
    index.slow("/simple/toy-model/", go_on)
    ran = subprocess.Popen(
        [sys.executable, "-m", "xinference_venv", "launch", "toy", "--spec", spec],
        env={**os.environ, "XOSCAR_AUTH_KEY": key},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    index.wait_for_request("/simple/toy-model/", timeout=60)
    children = psutil.Process(worker.process.pid).children(recursive=True)
    assert children
    assert not any("XOSCAR_AUTH_KEY" in child.environ() for child in children)
    go_on.set()
    out, _ = ran.communicate(timeout=60)
    assert (ran.returncode, "toy is ready on 1 of 1 worker " in out) == (0, True)

    eventually(lambda: "is XOSCAR_AUTH_KEY the same" in other.said, lambda: other.said)
    assert other.end() == 0
    logs = "".join(path.read_text() for path in layout_of(worker).logs.rglob("*.log"))
    for said in (out, logs, supervisor.said, worker.said, other.said):
        assert key not in said


@pytest.mark.uv
def test_a_model_of_a_cluster_with_a_key_has_it_too_or_no_one_could_call_it(
    start: Start, environ: dict[str, str], index: Index, tmp_path: Path
) -> None:
    modules = {"toy_model/__init__.py": "", "toy_model/actors.py": ACTORS}
    build_wheel(tmp_path / "wheels", "toy-model", "1.0", modules=modules)
    spec = specify(tmp_path / "toy.json", index, "toy", "toy-model", "xoscar")
    environ["XOSCAR_AUTH_KEY"] = "a-secret-of-this-cluster"
    words = ("launch", "toy", "--spec", spec, "--run", "toy_model.actors:Toy", "--json")
    process = start(*words, f"mark={tmp_path / 'mark'}")
    document = document_of(process)
    model = psutil.Process(document["process"]["pid"])
    assert model.environ()["XOSCAR_AUTH_KEY"] == "a-secret-of-this-cluster"
    assert "a-secret" not in str(document)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "a-secret" in err) == (0, False)
