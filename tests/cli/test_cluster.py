"""The commands of an operator on a cluster of real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import Run, specify
from tests.daemons import STARTED_NOW, Daemon, Daemons
from tests.index import Index
from tests.wheels import build_wheel
from xinference_venv.client import connect
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store.paths import StorePaths

HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
# Says what it is asked to do, and fails to do it.
BROKEN_UV = "#!/bin/sh\n[ $1 = --version ] && exec {uv} --version\necho 'error: no' >&2\nexit 2\n"


@pytest.fixture
def spec(index: Index, tmp_path: Path) -> Path:
    """A specification of the model ``toy``, of two small packages."""
    build_wheel(tmp_path / "wheels", "toy-model", "1.0", requires=["toy-dependency"])
    build_wheel(tmp_path / "wheels", "toy-dependency", "2.0")
    return specify(tmp_path / "toy.json", index, "toy", "toy-model")


@pytest.fixture
def supervisor(serving: Daemons, monkeypatch: pytest.MonkeyPatch, run: Run) -> Daemon:
    """A supervisor that the commands of this test work on."""
    running = serving.supervisor()
    monkeypatch.setenv("XINFERENCE_VENV_SUPERVISOR", running.address)
    return running


def layout_of(worker: Daemon) -> StorePaths:
    return StorePaths(worker.home / "virtualenv")


def states(run: Run) -> dict[str, str]:
    listed = run("workers", "--json").json["list"]
    return {each["worker_address"]: each["state"] for each in listed}


# Commands


@pytest.mark.uv
def test_of_locks_that_differ_one_is_asked_for_by_its_worker(
    run: Run, serving: Daemons, supervisor: Daemon, spec: Path, tmp_path: Path
) -> None:
    first, second = (serving.worker(supervisor, host) for host in HOSTS[:2])
    build_wheel(tmp_path / "wheels", "small", "1.0")
    for worker, more in ((first, []), (second, ["--virtual-env-package", "small"])):
        made = run("launch", "toy", "--spec", spec, "--worker", worker.address, *more)
        assert made.code == 0, made.err
    both = run("lock", "toy")
    assert both.code == 2
    assert "'toy' matches 2 environments" in both.err
    assert f"--worker {first.address}" in both.err and f"--worker {second.address}" in both.err
    assert "small" not in run("lock", "toy", "--worker", first.address).out
    assert 'name = "small"' in run("lock", "toy", "--worker", "127.0.0.3").out


@pytest.mark.uv
def test_what_all_are_to_do_waits_for_the_workers_of_a_restarted_supervisor(
    run: Run, serving: Daemons, supervisor: Daemon, spec: Path
) -> None:
    for host in HOSTS[:2]:
        serving.worker(supervisor, host)
    assert run("launch", "toy", "--spec", spec, "--all-workers").code == 0
    supervisor.end()
    serving.supervisor(int(supervisor.address.rpartition(":")[2]))
    removed = run("remove", "toy", "--force", "--json")
    assert (removed.code, len(removed.json["list"]), removed.json["complete"]) == (0, 2, True)
    listed = run("list", "--json")
    assert (listed.json["list"], listed.json["complete"]) == ([], True)


@pytest.mark.uv
def test_every_command_works_on_a_cluster_and_is_narrowed_to_a_worker(
    run: Run, serving: Daemons, supervisor: Daemon, spec: Path
) -> None:
    first, second = (serving.worker(supervisor, host) for host in HOSTS[:2])
    while STARTED_NOW in run("list").err:
        """Until then nobody can say that all have answered."""
    table = run("workers")
    assert (table.code, table.err) == (0, "")
    assert [line.split()[0] for line in table.out.splitlines()[1:]] == [
        first.address,
        second.address,
    ]

    launched = run("launch", "toy", "--spec", spec, "--all-workers")
    assert launched.code == 0
    assert launched.out.startswith("toy is ready on 2 of 2 workers after ")
    for worker in (first, second):
        assert f"{worker.address}: resolving" in launched.err
        assert f"{worker.address}: ready: " in launched.err
    again = run("launch", "toy", "--spec", spec, "--worker", "127.0.0.3", "--json").json
    [only] = again["workers"]
    assert (only["worker_address"], only["state"]) == (second.address, "ready")
    assert only["environment"]["uv_calls"] == 0
    plan = run("launch", "toy", "--spec", spec, "--worker", second.address, "--dry-run")
    assert plan.out.startswith(f"{second.address}: Plan for toy")

    assert run("leases").out == "No environment is in use.\n"
    assert [line.split()[0] for line in run("list").out.splitlines()] == [
        "Worker",
        first.address,
        second.address,
    ]
    only = run("list", "toy", "--worker", "127.0.0.3", "--json").json
    assert [each["worker_address"] for each in only["list"]] == [second.address]
    for words in (
        ("packages", "toy"),
        ("explain", "toy"),
        ("logs", "toy"),
        ("verify", "toy"),
        ("gc", "--dry-run"),
        ("remove", "toy", "--dry-run"),
    ):
        everywhere = run(*words)
        assert (everywhere.code, everywhere.err) == (0, "")
        there = run(*words, "--worker", second.address)
        for worker, shown in ((first, everywhere), (second, everywhere), (second, there)):
            assert f"{worker.address}: " in shown.out
        assert f"{first.address}: " not in there.out
    assert "magika-1" in run("models", "--worker", "127.0.0.2").out

    # Both were built from one lock.
    locked = run("lock", "toy")
    assert (locked.code, locked.err) == (0, "")
    names = [each["name"] for each in tomllib.loads(locked.out)["packages"]]
    assert names == ["toy-dependency", "toy-model"]
    assert run("lock", "toy", "--worker", second.address).out == locked.out
    lacking = run("lock", "lamp")
    assert (lacking.code, "no environment of 'lamp' that is ready" in lacking.err) == (3, True)

    drained = run("workers", "drain", "127.0.0.2")
    assert (drained.code, drained.out) == (0, f"drained: {first.address}\n")
    assert [each["draining"] for each in run("workers", "--json").json["list"]] == [True, False]
    assert run("workers", "drain", first.address, "--undo", "--json").json["draining"] is False
    alive = run("workers", "forget", "127.0.0.3")
    assert (alive.code, f"the worker at {second.address} is alive" in alive.err) == (2, True)

    nowhere = run("list", "--worker", "127.0.0.9")
    assert nowhere.code == 3
    assert f"hint: there are: {first.address}, {second.address}\n" in nowhere.err

    removed = run("remove", "toy", "--worker", "127.0.0.2")
    assert (removed.code, removed.err) == (0, "")
    assert removed.out.startswith(f"{first.address}: removed: toy ")
    left = run("list", "--json").json["list"]
    assert [each["worker_address"] for each in left] == [second.address]


@pytest.mark.uv
def test_to_follow_a_log_that_is_not_there_is_an_error_like_any_other(
    run: Run, serving: Daemons, supervisor: Daemon, spec: Path
) -> None:
    serving.worker(supervisor, HOSTS[0])
    assert run("launch", "toy", "--spec", spec).code == 0
    assert run("logs", "toy", "--follow").out.endswith(" s\n")
    ran = run("logs", "toi", "--follow")
    # Just after its start a supervisor can't say that there is none.
    assert ran.code in (3, 8) and ran.out == ""
    assert "log of 'toi'" in ran.err


@pytest.mark.uv
def test_who_does_not_answer_is_named_and_what_was_to_be_done_there_is_not_called_done(
    run: Run, serving: Daemons, supervisor: Daemon, spec: Path
) -> None:
    alive, dead = (serving.worker(supervisor, host) for host in HOSTS[:2])
    assert run("launch", "toy", "--spec", spec, "--all-workers").code == 0
    dead.process.kill()
    dead.process.wait()

    listed = run("list")
    assert listed.code == 0
    assert alive.address in listed.out
    assert dead.address not in listed.out
    assert listed.err.startswith(f"unreachable: {dead.address} (")
    assert " old): it " in listed.err
    document = run("list", "--json")
    assert (document.code, document.err) == (0, "")
    [silent] = document.json["unreachable"]
    assert {"worker_address", "state", "snapshot", "snapshot_age", "error"} <= set(silent)

    absent = run("packages", "other")
    assert (absent.code, absent.out) == (8, "")
    assert f"these did not answer: {dead.address}\n" in absent.err

    for words in (("verify",), ("gc",), ("remove", "toy")):
        ran = run(*words, "--json")
        assert (ran.code, ran.json["error"]["code"]) == (8, "worker_unavailable")
        assert dead.address in ran.json["error"]["message"]
        assert [each["worker_address"] for each in ran.json["list"]] == [alive.address]
    assert [each["model_name"] for each in ran.json["list"][0]["done"]] == ["toy"]
    for looking in ("doctor", "gc --dry-run", "remove --all --dry-run"):
        said = run(*looking.split())
        # Of `doctor` a check of the host may have failed.
        assert said.code in ((1, 8) if looking == "doctor" else (8,))
        assert f"error: no answer from {dead.address}\n" in said.err
    text = run("remove", "--all")
    assert (text.code, text.out) == (8, "There is nothing to remove.\n")
    assert f"error: it is not known whether this was done on {dead.address}: no answer" in text.err


@pytest.mark.uv
def test_a_removal_that_one_worker_refuses_says_what_the_others_removed(
    run: Run, serving: Daemons, supervisor: Daemon, spec: Path, index: Index
) -> None:
    free, used = (serving.worker(supervisor, host) for host in HOSTS[:2])
    assert run("launch", "toy", "--spec", spec, "--all-workers").code == 0
    block = {"packages": ["toy-model"], "index_url": index.url}
    request = LaunchRequest.from_dict({"model_name": "toy", "virtualenv": block})

    async def use() -> None:
        async with connect(supervisor.address) as client:
            await client.prepare_on(request, workers=[used.address])

    asyncio.run(use())
    ran = run("remove", "toy")
    assert ran.code == 4
    assert ran.out.startswith(f"{free.address}: removed: toy ")
    assert used.address not in ran.out
    assert f"error: {used.address}: toy " in ran.err
    document = run("remove", "toy", "--json")
    assert (document.code, document.json["error"]["code"]) == (4, "in_use")
    assert [each["worker_address"] for each in document.json["list"]] == [
        free.address,
        used.address,
    ]


@pytest.mark.uv
def test_a_launch_says_of_each_worker_whether_it_is_ready_and_fails_with_too_few(
    run: Run, serving: Daemons, supervisor: Daemon, spec: Path, tmp_path: Path
) -> None:
    from uv import find_uv_bin

    broken_uv = tmp_path / "broken-uv"
    broken_uv.write_text(BROKEN_UV.format(uv=find_uv_bin()))
    broken_uv.chmod(0o755)
    good = serving.worker(supervisor, HOSTS[0])
    bad = serving.worker(supervisor, HOSTS[1], XOSCAR_UV_PATH=str(broken_uv))

    enough = run("launch", "toy", "--spec", spec, "--workers", "2", "--require", "1")
    assert enough.code == 0
    assert enough.out.startswith("toy is ready on 1 of 2 workers after ")
    assert f"\n{bad.address}  failed " in enough.out
    assert f"warning: not ready on {bad.address}\n" in enough.err
    document = run("launch", "toy", "--spec", spec, "--all-workers", "--require", "1", "--json")
    by_address = {each["worker_address"]: each for each in document.json["workers"]}
    assert by_address[good.address]["environment"]["real_path"]
    assert by_address[bad.address]["error"]["details"]["phase"]

    failed = run("launch", "toy", "--spec", spec, "--all-workers", "--json")
    assert failed.code == 5
    assert failed.json["error"]["details"]["worker_address"] == bad.address
    assert run("leases", "--json").json["list"] == []
    too_many = run("launch", "toy", "--spec", spec, "--require", "3", "--all-workers")
    assert (too_many.code, too_many.out) == (2, "")


@pytest.mark.uv
def test_ctrl_c_cancels_a_launch_on_every_worker(
    run: Run, serving: Daemons, supervisor: Daemon, spec: Path, index: Index
) -> None:
    workers = [serving.worker(supervisor, host) for host in HOSTS[:2]]
    index.hang("/simple/toy-model/")
    launch = subprocess.Popen(
        [sys.executable, "-m", "xinference_venv", "launch", "toy", "--spec", spec, "--all-workers"],
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    index.wait_for_request("/simple/toy-model/", timeout=60)
    launch.send_signal(signal.SIGINT)
    out, err = launch.communicate(timeout=60)
    assert (launch.returncode, out) == (130, "")
    assert err.endswith("error: cancelled by SIGINT; nothing of it is left\n")
    for worker in workers:
        # What starts processes stays, and has none.
        [reaper] = psutil.Process(worker.process.pid).children()
        assert reaper.children() == []
        layout = layout_of(worker)
        for place in (layout.staging, layout.envs, layout.leases):
            assert list(place.iterdir()) == []
        assert worker.end() == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "--worker", "127.0.0.2"], "--worker is for a cluster: name its --supervisor."),
        (["launch", "toy", "--all-workers"], "name its --supervisor."),
        (["launch", "toy", "--require", "1"], "name its --supervisor."),
        (
            ["workers"],
            "or set XINFERENCE_VENV_SUPERVISOR.",
        ),
        (["worker"], "Missing option '--supervisor'"),
        (["worker", "--supervisor", "here"], "'here' is not the address of a supervisor"),
        (["list", "--supervisor", "10.0.0.1:port"], "'10.0.0.1:port' is not the address"),
        (["list", "--supervisor", "10.0.0.1:70000"], "is not the address of a supervisor"),
        (["supervisor", "--host", "0.0.0.0"], "is not an address at which others can reach"),
    ],
)
def test_which_cluster_is_meant_has_to_be_given_and_right(
    run: Run, words: list[str], message: str
) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "a:B"], "--run starts a process of this host"),
        (
            ["--all-workers", "--workers", "2"],
            "--all-workers can't be combined with --worker and --workers.",
        ),
        (["--dry-run", "--all-workers"], "--dry-run plans on one worker"),
    ],
)
def test_a_launch_on_a_cluster_refuses_what_can_not_be_meant(
    run: Run, words: list[str], message: str
) -> None:
    ran = run("launch", "toy", "--supervisor", "127.0.0.1:1", *words)
    assert (ran.code, message in ran.err) == (2, True)


def test_a_supervisor_that_is_not_there_is_reported(run: Run) -> None:
    ran = run("list", "--supervisor", "127.0.0.1:1")
    assert (ran.code, ran.out) == (8, "")
    assert "the supervisor at 127.0.0.1:1 can't be reached: " in ran.err
