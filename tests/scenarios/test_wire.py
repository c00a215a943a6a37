"""What crosses real process boundaries: every error whole, and the words of other releases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.cli import conftest
from tests.cli.conftest import Run
from tests.cli.test_main import kinds
from tests.daemons import STARTED_NOW, Daemons
from tests.index import Index
from tests.plain import plain
from tests.scenarios.steps import asking
from tests.wheels import build_wheel
from xinference_venv import errors
from xinference_venv.client import Client, connect
from xinference_venv.errors import IncompatibleVersion, VirtualEnvError
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.request import LaunchRequest

run = conftest.run
serving = conftest.serving
_T = TypeVar("_T")

# A worker that fails as it is told to.
FAILING = """
from xinference_venv.actors.worker import VirtualEnvWorkerActor
from xinference_venv.errors import error_from_dict

import json

async def plan(self, request):
    raise error_from_dict(json.loads(request.virtualenv.packages[0]))

VirtualEnvWorkerActor.plan = plan
"""
# Both sides of a release that has one more class of errors.
LATER_ERROR = """
from xinference_venv.actors.supervisor import VirtualEnvSupervisorActor
from xinference_venv.actors.worker import VirtualEnvWorkerActor
from xinference_venv.errors import VirtualEnvError

class Later(VirtualEnvError):
    code = "of_a_later_release"
    exit_code = 77

async def fails(self, *_, **__):
    raise Later("what nobody knows yet", {"hint": "wait", "phase": "resolving"})

VirtualEnvWorkerActor.list_models = fails
VirtualEnvSupervisorActor.list_workers = fails
"""
# A release whose nouns say more.
LATER_NOUNS = """
from xinference_venv.inventory.cluster_state import Registration
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.jobs import JobEvent, PreparedEnvironment
from xinference_venv.inventory.lease import LeaseEntry
from xinference_venv.planning.lock import EnvLock
from xinference_venv.inventory.replicas import LockSource, Replica

def saying_more(kind):
    before = kind.to_dict
    kind.to_dict = lambda self: {**before(self), "of_a_later_release": {"deep": [1]}}

for kind in (
    EnvEntry, EnvLock, JobEvent, LeaseEntry, LockSource, PreparedEnvironment, Registration, Replica
):
    saying_more(kind)
"""
# A release that could not do as much.
EARLIER_SUPERVISOR = """
from xinference_venv.actors.protocols import SupervisorProtocol

del SupervisorProtocol.verify_virtual_env
"""
EARLIER_WORKER = """
from xinference_venv.actors.protocols import WorkerProtocol

del WorkerProtocol.list_leases

async def collect_garbage(self, *, dry_run: bool = False) -> None: ...

WorkerProtocol.collect_garbage = collect_garbage
"""


def with_client(address: str, work: Callable[[Client], Awaitable[_T]]) -> _T:
    async def act() -> _T:
        async with connect(address) as client:
            return await work(client)

    return asyncio.run(act())


DETAILS = {
    "phase": "resolving",
    "hint": "do that",
    "command": ["uv", "pip", "compile"],
    "exit_status": 2,
    "output": "what uv said\nin two lines",
    "holders": [{"pid": 1}],
}


def test_every_error_crosses_the_wire_whole(serving: Daemons) -> None:
    supervisor = serving.supervisor()
    worker = serving.worker(supervisor, patch=FAILING)
    every = sorted(set(kinds(errors.VirtualEnvError)), key=lambda kind: kind.code)
    assert len(every) > 20

    async def raised(client: Client, sent: Mapping[str, Any]) -> VirtualEnvError:
        try:
            block = {"packages": [json.dumps(sent)]}
            request = {"model_name": "m", "virtualenv": block}
            await client.supervisor.plan(LaunchRequest.from_dict(request))
        except VirtualEnvError as error:
            return error
        raise AssertionError("nothing was raised")

    async def all_of_them(client: Client) -> None:
        for kind in every:
            error = await raised(client, kind(f"it is {kind.code}", DETAILS).to_dict())
            assert type(error) is kind
            assert error.message == f"it is {kind.code}"
            assert error.details == {**DETAILS, "host": worker.address}
            assert (error.phase, error.hint, str(error)) == ("resolving", "do that", error.message)
        of_another = errors.InUse("it is in use", {"host": "another"})
        assert (await raised(client, of_another.to_dict())).details == {"host": "another"}
        unknown = {"code": "of_a_later_release", "message": "oh", "details": DETAILS}
        error = await raised(client, unknown)
        assert type(error) is VirtualEnvError
        assert error.to_dict() == {
            **unknown,
            "details": {**DETAILS, "code": "of_a_later_release", "host": worker.address},
        }

    with_client(supervisor.address, all_of_them)


def test_an_error_that_only_a_later_release_has_keeps_its_code_and_its_words(
    serving: Daemons, run: Run
) -> None:
    supervisor = serving.supervisor(patch=LATER_ERROR)
    worker = serving.worker(supervisor, patch=LATER_ERROR)
    for words, host in ((("models",), worker.address), (("workers",), None)):
        ran = run(*words, "--supervisor", supervisor.address, "--json")
        error = ran.json["error"]
        assert (ran.code, error["code"]) == (1, "of_a_later_release")
        assert (error["message"], error["details"]["hint"]) == ("what nobody knows yet", "wait")
        assert error["details"].get("host") == host


@pytest.mark.uv
def test_what_a_later_release_says_more_is_no_harm(
    serving: Daemons, run: Run, index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "lantern", "1.0")
    supervisor = serving.supervisor()
    later = serving.worker(supervisor, "127.0.0.2", patch=LATER_NOUNS)
    other = serving.worker(supervisor, "127.0.0.3")
    request = asking(index, "lantern")
    told: list[dict[str, Any]] = []

    async def launch(client: Client) -> dict[str, Any]:
        job = await client.supervisor.prepare(request, everywhere=True)
        while True:
            answer = plain(await client.supervisor.wait(job, 0, 10.0))
            if Phase(answer["phase"]).is_last:
                told.extend(answer["events"])
                return answer

    answer = with_client(supervisor.address, launch)
    assert (answer["phase"], answer["error"]) == ("ready", None)
    said = [each["message"] for each in told if each["worker_address"] == other.address]
    assert f"asking the worker at {later.address} for its lock" in said
    assert not any("resolving 1 requirement" in each for each in said)
    assert len({each["result"]["lock_digest"] for each in answer["workers"]}) == 1
    for words in (("workers",), ("list",), ("leases",), ("packages", "glow"), ("verify",)):
        ran = run(*words, "--supervisor", supervisor.address)
        assert (ran.code, ran.err.replace(STARTED_NOW, "")) == (0, "")
        assert later.address in ran.out
        assert other.address in ran.out


def test_what_an_earlier_release_can_not_do_is_reported(serving: Daemons, run: Run) -> None:
    supervisor = serving.supervisor(patch=EARLIER_SUPERVISOR)
    worker = serving.worker(supervisor, patch=EARLIER_WORKER)
    expected = {
        ("leases",): f"'list_leases' is not known at {worker.address}",
        ("gc", "--max-bytes", "1GB"): (
            f"'collect_garbage' does not accept these arguments at {worker.address}"
        ),
        ("verify",): f"'verify_virtual_env' is not known at {supervisor.address}",
    }
    for words, message in expected.items():
        ran = run(*words, "--supervisor", supervisor.address)
        assert (ran.code, ran.out) == (IncompatibleVersion.exit_code, "")
        assert ran.err.startswith(f"error: {message}")
        assert "install the same on both" in ran.err
