"""`jobs` and `cancel`: what is being made on this host and on a cluster, and ending it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from tests.cli.conftest import Run, Start, specify, store_of
from tests.daemons import Daemons, daemons, eventually
from tests.index import Index
from tests.wheels import build_wheel
from xinference_venv._util.own_process import user_and_host
from xinference_venv.cli.jobs import _cancel
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.job_log import Outcome
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.reports import JobSummary

pytestmark = pytest.mark.uv


@pytest.fixture
def spec(index: Index, tmp_path: Path) -> Path:
    build_wheel(tmp_path / "wheels", "small", "1.0")
    return specify(tmp_path / "toy.json", index, "toy", "small")


def test_without_any_job_there_is_none(run: Run) -> None:
    assert run("jobs").out == "No jobs.\n"


def test_a_job_that_has_ended_is_listed_with_its_end(run: Run, spec: Path, index: Index) -> None:
    assert run("launch", "toy", "--spec", spec).code == 0
    [job] = run("jobs", "--json").json["list"]
    assert (job["model_name"], job["state"], job["error"]) == ("toy", "ready", None)
    assert job["changed"] >= job["started"]
    assert job["asked_by"] == user_and_host()
    assert user_and_host() in run("jobs", "-o", "wide").out
    assert run("jobs", "--running").out == "No jobs.\n"
    cancelled = run("cancel", job["job_id"][:12])
    assert cancelled.code == 0
    assert cancelled.out.startswith("it had ended already: ")


def test_a_job_that_failed_says_why(run: Run, spec: Path, index: Index) -> None:
    failed = run("launch", "toy", "--spec", spec, "-vp", "no-such-package")
    assert failed.code == 5
    [job] = run("jobs", "--json").json["list"]
    assert job["state"] == "failed"
    assert job["error"]["code"] in failed.err or "no-such-package" in job["error"]["message"]


def test_a_launch_of_another_process_is_listed_and_cancelled(
    run: Run, start: Start, spec: Path, index: Index, environ: Mapping[str, str]
) -> None:
    index.hang("/files/small-*")
    launching = start("launch", "toy", "--spec", spec)
    eventually(lambda: run("jobs", "--running", "--json").json["list"] != [])
    [job] = run("jobs", "--running", "--json").json["list"]
    assert (job["model_name"], job["state"]) == ("toy", "running")
    cancelled = run("cancel", job["job_id"])
    assert cancelled.code == 0, cancelled.err
    assert cancelled.out == f"cancelled: {job['job_id'][:12]} of toy\n"
    assert launching.wait(60) == 128 + signal.SIGTERM
    assert list((store_of(environ) / "staging").iterdir()) == []


@pytest.mark.parametrize(
    ("named", "code"), [("abc", 2), ("abcdef012345", 3)], ids=["too short", "unknown"]
)
def test_what_names_no_job_is_refused(run: Run, named: str, code: int) -> None:
    assert run("cancel", named).code == code


class _Supervisor:
    """One whose only job ends by itself in the moment in which it is to be cancelled."""

    phase = Phase.INSTALLING

    async def list_jobs(self, worker: str | None) -> Gathered[JobSummary]:
        job = JobSummary(
            job_id="abcdef012345",
            worker_address="10.0.0.1:7000",
            model_name="toy",
            model_engine=None,
            phase=self.phase,
            message="",
            started=1.0,
            changed=2.0,
            error=None,
        )
        return Gathered(list=(job,))

    async def cancel(self, job: str) -> None:
        self.phase = Phase.READY


async def test_a_job_that_ends_before_it_is_cancelled_is_not_called_cancelled() -> None:
    client = cast(Any, SimpleNamespace(supervisor=_Supervisor()))
    [job] = (await _cancel(client, "abcdef")).list
    assert job.state is Outcome.READY


@pytest.fixture
def cluster(tmp_path: Path, environ: Mapping[str, str], index: Index) -> Iterator[Daemons]:
    with daemons(tmp_path / "daemons", {**environ, "PIP_INDEX_URL": index.url}) as running:
        yield running


def test_the_jobs_of_a_cluster_are_listed_and_cancelled(
    run: Run, start: Start, spec: Path, index: Index, cluster: Daemons
) -> None:
    supervisor = cluster.start("supervisor", "--port", "0").ready()
    there = ("--supervisor", supervisor.address)
    workers = [cluster.start("worker", *there).ready() for _ in range(2)]
    index.hang("/files/small-*")
    launching = start("launch", "toy", "--spec", spec, *there, "--all-workers")

    def running() -> list[object]:
        listed: list[object] = run("jobs", "--running", "--json", *there).json["list"]
        return listed

    eventually(lambda: len(running()) == len(workers))
    shown = run("jobs", *there).out.splitlines()
    assert shown[0].split()[:4] == ["Job", "Worker", "Model", "Engine"]
    [job] = {line.split()[0] for line in shown[1:]}
    cancelled = run("cancel", job, *there)
    assert cancelled.code == 0, cancelled.err
    assert cancelled.out == f"cancelled: {job} of toy\n"
    assert launching.wait(60) != 0
    eventually(lambda: running() == [])


def test_of_a_launch_that_failed_on_one_worker_all_say_the_same_of_each(
    run: Run, spec: Path, index: Index, cluster: Daemons
) -> None:
    supervisor = cluster.supervisor()
    there = ("--supervisor", supervisor.address)
    well = cluster.worker(supervisor, "127.0.0.2")
    # What it is to install is not there in the version that its operator wants.
    bound = {"XINFERENCE_VIRTUAL_ENV_OVERRIDES": "small==9"}
    badly = cluster.worker(supervisor, "127.0.0.3", **bound)
    web = cluster.start("web", "--port", "0", *there).ready()
    block = json.loads(spec.read_text())["virtualenv"]
    with httpx.Client(base_url=web.address, timeout=60.0) as ask:
        body = {"model_name": "toy", "virtualenv": block, "everywhere": True}
        job = ask.post("/v1/virtualenvs", json=body).json()["job_id"]

        def of_the_job() -> dict[str, tuple[str, Any]]:
            return _parts(ask.get(f"/v1/jobs/{job}").json()["workers"])

        # What downloads when the other fails goes on, and is given back.
        eventually(lambda: {each for each, _ in of_the_job().values()} == {"cancelled", "failed"})
        parts = of_the_job()
        assert parts[well.address][0] == "cancelled"
        assert parts[badly.address][0] == "failed"
        assert parts[badly.address][1]["code"] == "resolution_failed"
        listed = ask.get("/v1/jobs").json()["list"]
        assert _parts(each for each in listed if each["job_id"] == job) == parts
    shown = [each for each in run("jobs", "--json", *there).json["list"] if each["job_id"] == job]
    assert _parts(shown) == parts
    assert {each["worker_address"]: each["message"] for each in shown} == {
        address: error["message"] for address, (_, error) in parts.items()
    }


def _parts(of: Iterable[dict[str, Any]]) -> dict[str, tuple[str, Any]]:
    """The phase and the error of each worker's part."""
    return {each["worker_address"]: (each["phase"], each["error"]) for each in of}
