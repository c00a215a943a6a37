"""`leases` and `release` as people use them, over a real store."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import fakes
from tests.cli.conftest import Ran, Run
from tests.store.conftest import attached, ended_process, envs
from xinference_venv.cli import leases as leases_module
from xinference_venv.errors import WorkerUnavailable
from xinference_venv.inventory.cluster_state import WorkerState, WorkerStatus
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.gathered import Gathered, UnreachableWorker
from xinference_venv.inventory.lease import (
    Holder,
    LeaseEntry,
    ProcessIdentity,
    ReleaseReport,
    WorkerLease,
)
from xinference_venv.inventory.selection import Selection
from xinference_venv.store.process_identity import identify
from xinference_venv.store.store import Store

KEY = fakes.key("a-model")
FIRST, SECOND, THIRD = "abcdef" + "0" * 26, "abcdef" + "1" * 26, "123456" + "2" * 26


@pytest.fixture
def store(environ: Mapping[str, str]) -> Store:
    return Store.open(Path(environ["XINFERENCE_HOME"], "virtualenv"))


@pytest.fixture
def living() -> Iterator[ProcessIdentity]:
    """A process that lives; not this one, which ends what it leased when a command ends."""
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"])
    found = identify(child.pid)
    assert found is not None
    yield found
    child.kill()
    child.wait()


def elsewhere() -> ProcessIdentity:
    return replace(ended_process(), host="another-host", pid=77)


def put(store: Store, env_id: str, lease_id: str, process: ProcessIdentity) -> None:
    lease = fakes.lease(lease_id, env_id=env_id, process=process, created=time.time() - 7200)
    path = store.layout.lease(env_id, lease_id)
    store.disk.write_json(path, lease.to_dict(), durable=False)


def lines(said: Ran) -> list[list[str]]:
    """The words of each line; columns are parted by two spaces at least."""
    return [[cell for cell in line.split("  ") if cell.strip()] for line in said.out.splitlines()]


def test_who_uses_what_is_shown(run: Run, store: Store, living: ProcessIdentity) -> None:
    env_id = attached(store, "numpy", of=KEY)
    put(store, env_id, FIRST, living)
    put(store, env_id, THIRD, elsewhere())
    said = run("leases")
    assert (said.code, said.err) == (0, "")
    titles, other, own = ([cell.strip() for cell in line] for line in lines(said))
    assert titles == ["Lease", "Model", "Process", "Host", "Holder", "Since", "Environment"]
    where = "a-model (Python 3.11, engine vllm)"
    assert own == [
        *("abcdef000000", "a-model", str(living.pid), living.host),
        *("alive", "2 hours ago", where),
    ]
    assert other[:1] + other[2:5] == ["123456222222", "77", "another-host", "unknown"]
    listed = run("leases", "a-model", "--engine", "vllm", "--python-version", "3.11", "--json")
    assert {each["lease_id"]: each["holder"] for each in listed.json["list"]} == {
        FIRST: "alive",
        THIRD: "unknown",
    }
    assert listed.json["list"][0]["keys"] == [KEY.to_dict()]
    assert listed.json["list"][0]["env_id"] == env_id
    assert listed.json["list"][0]["worker_address"]


def test_a_listing_says_of_each_lease_whether_its_holder_lives(
    run: Run, store: Store, living: ProcessIdentity
) -> None:
    env_id = attached(store, "numpy", of=KEY)
    put(store, env_id, FIRST, living)
    put(store, env_id, THIRD, elsewhere())
    [entry] = run("list", "--json").json["list"]
    holders = {each["lease_id"]: each["holder"] for each in entry["leases"]}
    assert holders == {FIRST: "alive", THIRD: "unknown"}
    assert f"a-model, pid 77 (unknown); a-model, pid {living.pid}" in run("list").out


def test_what_is_in_no_ones_use_is_reported(run: Run, store: Store) -> None:
    attached(store, "numpy", of=KEY)
    assert run("leases").out == "No environment is in use.\n"
    missing = run("leases", "a-model")
    assert missing.code == 3
    assert "there is no lease on an environment of 'a-model'" in missing.err


def test_a_lease_is_released_by_the_beginning_of_its_id_and_the_environment_goes_with_it(
    run: Run, store: Store
) -> None:
    env_id = attached(store, "numpy", of=KEY)
    put(store, env_id, FIRST, elsewhere())
    store.unlink_key(KEY)
    assert f"{env_id}, which no model refers to any more" in run("leases").out
    said = run("release", "abcdef")
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "released: abcdef000000 of a-model (process 77 on another-host)\n"
        f"deleted: the environment {env_id}\n"
    )
    assert envs(store) == []
    assert run("release", "abcdef").code == 3


def test_a_lease_of_a_living_process_is_refused_with_its_name_unless_forced(
    run: Run, store: Store, living: ProcessIdentity
) -> None:
    env_id = attached(store, "numpy", of=KEY)
    put(store, env_id, FIRST, living)
    put(store, env_id, THIRD, elsewhere())
    said = run("release", FIRST, THIRD)
    assert (said.code, said.out) == (4, "")
    holder = f"a-model (process {living.pid} on {living.host})"
    assert f"lease abcdef000000 is held by {holder}\n" in said.err
    assert "--force" in said.err
    refused = run("release", FIRST, THIRD, "--json").json["error"]
    assert (refused["code"], len(refused["details"]["holders"])) == ("in_use", 1)
    # Nothing was released.
    assert len(store.leases.of(env_id)) == 2
    forced = run("release", FIRST, THIRD, "--force", "--json")
    [report] = forced.json["list"]
    assert [each["lease_id"] for each in report["released"]] == [FIRST, THIRD]
    assert (report["refused"], report["absent"], report["deleted"]) == ([], [], [])
    assert store.leases.of(env_id) == []


def test_leases_of_unknown_holders_are_released_by_their_age(
    run: Run, store: Store, living: ProcessIdentity
) -> None:
    env_id = attached(store, "numpy", of=KEY)
    put(store, env_id, FIRST, living)
    put(store, env_id, THIRD, elsewhere())
    assert run("release", "--stale", "3h").out.startswith("There is nothing to release")
    assert len(store.leases.of(env_id)) == 2
    [report] = run("release", "--stale", "1h", "--json").json["list"]
    assert [each["lease_id"] for each in report["released"]] == [THIRD]
    assert [lease.lease_id for lease, _ in store.leases.of(env_id)] == [FIRST]
    assert run("release").code == 2


def test_a_beginning_that_means_several_leases_lists_them(run: Run, store: Store) -> None:
    env_id = attached(store, "numpy", of=KEY)
    for lease_id in (FIRST, SECOND, THIRD):
        put(store, env_id, lease_id, elsewhere())
    said = run("release", "abcdef")
    assert said.code == 2
    assert f"'abcdef' is the beginning of 2 leases: {FIRST}, {SECOND}" in said.err
    assert run("release", "abcdef1", "123456").code == 0
    assert [lease.lease_id for lease, _ in store.leases.of(env_id)] == [FIRST]


@pytest.mark.parametrize(
    ("name", "code"), [("abcde", 2), ("", 2), ("../../../x", 3), ("fedcba", 3), ("f" * 5000, 3)]
)
def test_what_means_no_lease_is_refused(run: Run, store: Store, name: str, code: int) -> None:
    env_id = attached(store, "numpy", of=KEY)
    put(store, env_id, FIRST, elsewhere())
    assert run("release", FIRST, name).code == code
    assert len(store.leases.of(env_id)) == 1


def test_a_damaged_lease_is_released_by_its_id(run: Run, store: Store) -> None:
    env_id = attached(store, "numpy", of=KEY)
    put(store, env_id, FIRST, elsewhere())
    store.layout.lease(env_id, FIRST).write_bytes(b"\xff{")
    assert "unreadable lease" in run("leases").out
    assert run("release", FIRST).code == 0
    assert store.leases.of(env_id) == []


class Supervisor:
    """Of workers that don't agree, or don't answer."""

    def __init__(self, *entries: LeaseEntry, silent: bool = False) -> None:
        error = Failure.of(WorkerUnavailable("no answer"))
        status = WorkerStatus(
            worker_address="host-b:1",
            state=WorkerState.GONE,
            host_name="host-b",
            release="0.1.0",
            incarnation="first",
            snapshot=None,
            snapshot_age=None,
        )
        gone = UnreachableWorker(status=status, error=error)
        self.unreachable = (gone,) if silent else ()
        self.entries = entries
        self.asked: list[list[str]] = []

    async def list_leases(self, selection: Selection) -> Gathered[WorkerLease]:
        listed = tuple(WorkerLease(entry=each, worker_address="a:1") for each in self.entries)
        return Gathered(list=listed, unreachable=self.unreachable)

    async def release_leases(
        self, lease_ids: tuple[str, ...], *, worker: str | None, force: bool
    ) -> Gathered[ReleaseReport]:
        self.asked.append(list(lease_ids))
        alive = tuple(replace(each, holder=Holder.ALIVE) for each in self.entries)
        report = ReleaseReport(refused=() if force else alive, worker_address="a:1")
        return Gathered(list=(report,), unreachable=self.unreachable)


def with_supervisor(monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor) -> None:
    def with_client(work: Callable[[Any], Awaitable[Any]]) -> Any:
        async def act() -> Any:
            return await work(SimpleNamespace(supervisor=supervisor))

        return asyncio.run(act())

    monkeypatch.setattr(leases_module, "with_client", with_client)


def entry(holder: Holder) -> LeaseEntry:
    return LeaseEntry(lease=fakes.lease(FIRST), holder=holder, keys=())


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_process_that_one_worker_sees_alive_is_alive(
    run: Run, monkeypatch: pytest.MonkeyPatch, order: tuple[int, int]
) -> None:
    judged = (entry(Holder.ALIVE), entry(Holder.UNKNOWN))
    supervisor = Supervisor(*(judged[each] for each in order))
    with_supervisor(monkeypatch, supervisor)
    assert run("release", FIRST).code == 4
    assert supervisor.asked == []


def test_a_process_that_got_the_lease_in_between_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor(entry(Holder.UNKNOWN))
    with_supervisor(monkeypatch, supervisor)
    said = run("release", FIRST)
    assert (said.code, supervisor.asked) == (4, [[FIRST]])
    assert "is held by a-model (process 100 on a-host)" in said.err
    assert run("release", FIRST, "--force").out == (
        "There is nothing to release, or it has been released already.\n"
    )


def test_while_a_worker_does_not_answer_no_one_says_that_there_is_no_such_lease(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_supervisor(monkeypatch, Supervisor(entry(Holder.UNKNOWN), silent=True))
    said = run("release", "fedcba")
    assert said.code == 8
    assert "these did not answer: host-b:1" in said.err
    said = run("release", FIRST, "--force")
    assert (said.code, said.out) == (
        8,
        ("There is nothing to release, or it has been released already.\n"),
    )
    assert "unreachable: host-b:1 (gone, no snapshot yet): no answer\n" in said.err
    assert "error: it is not known whether this was done on host-b:1" in said.err
