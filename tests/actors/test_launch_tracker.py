"""A launch on several workers, followed: what each says joined, the policy applied, no wire."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import pytest

from tests.plain import plain
from xinference_venv._util.records import Plain
from xinference_venv.actors import rpc
from xinference_venv.actors.launch_tracker import ClusterLaunches, LaunchTracker
from xinference_venv.actors.protocols import WorkerProtocol
from xinference_venv.actors.worker_clients import WorkerClients
from xinference_venv.errors import (
    JobCancelled,
    ResolutionFailed,
    StoreError,
    UnknownJob,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.inventory.cluster_state import PROTOCOL, Member, Registration
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.launch_state import LaunchState
from xinference_venv.inventory.replicas import Replica
from xinference_venv.inventory.reports import Survey
from xinference_venv.planning.request import LaunchRequest

JOB = "j1"
AWAY = WorkerUnavailable("no answer")
Said = Mapping[str, Any] | Exception


def says(phase: Phase, *messages: str, since: int = 0, **more: Any) -> dict[str, Any]:
    """What a worker answers to `wait`."""
    events = [
        {"seq": since + place, "at": 1.0, "phase": phase.value, "message": message}
        for place, message in enumerate(messages, 1)
    ]
    answer = {"job_id": JOB, "phase": phase.value, "events": events}
    return {**answer, "result": None, "error": None, **more}


def ready(address: str) -> dict[str, Any]:
    made = {"enabled": True, "python": "p", "env_id": "e1", "lease_id": f"lease-{address}"}
    return says(Phase.READY, "ready", result=made)


def fails(error: VirtualEnvError) -> dict[str, Any]:
    return says(Phase.FAILED, error.message, error=error.to_dict())


class Workers:
    """Workers by address, each with what it says in turn; at the end it says nothing more.

    A worker that is cancelled says so. `calls` are the methods that were asked, but `wait`.
    """

    def __init__(self, **said: Sequence[Said]) -> None:
        self.said = {address: list(each) for address, each in said.items()}
        self.calls: list[tuple[str, str, tuple[Any, ...]]] = []
        self.asked_since: dict[str, list[int]] = {address: [] for address in said}
        self.cancelled = {address: asyncio.Event() for address in said}
        self.gone: set[str] = set()
        self.silent: set[str] = set()
        self.fails: dict[str, Exception] = {}

    def to_worker(self, address: str, incarnation: str, deadline: float) -> WorkerProtocol:
        assert incarnation == f"{address}-1"

        async def send(method: str, arguments: dict[str, Plain]) -> Plain:
            if address in self.silent:
                raise AWAY
            if method == "wait":
                assert arguments["job_id"] == JOB
                self.asked_since[address].append(cast(int, arguments["since"]))
                return dict(await self._wait(address))
            self.calls.append((address, method, tuple(arguments.values())))
            if method in self.fails:
                raise self.fails[method]
            if method == "cancel":
                self.cancelled[address].set()
            return None

        return rpc.worker_by(send)

    async def _wait(self, address: str) -> Mapping[str, Any]:
        # Two workers take turns, as over a wire.
        await asyncio.sleep(0)
        if not self.said[address]:
            await self.cancelled[address].wait()
            return says(
                Phase.CANCELLED, "cancelled", error=JobCancelled("it was cancelled").to_dict()
            )
        said = self.said[address].pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    def follow(
        self, *, require: int | None = None, failed: Mapping[str, VirtualEnvError] | None = None
    ) -> LaunchTracker:
        addresses = list(self.said)
        launch = LaunchTracker(
            job_id=JOB,
            state=LaunchState(
                require=len(addresses) if require is None else require,
                replicas={
                    each: Replica(worker_address=each, incarnation=f"{each}-1")
                    for each in addresses
                },
            ),
            to_worker=self.to_worker,
            is_gone=self.gone.__contains__,
        )
        launch.start(failed or {})
        return launch


async def end_of(launch: LaunchTracker) -> dict[str, Any]:
    """The last answer of a launch, with all its events."""
    async with asyncio.timeout(60):
        while not launch.has_ended:
            await launch.wait(1 << 30, 0.05)
    return plain(await launch.wait(0, 0.0))


def phases(answer: Mapping[str, Any]) -> dict[str, str]:
    return {each["worker_address"]: each["phase"] for each in answer["workers"]}


async def test_the_events_of_all_workers_are_one_stream_with_numbers_of_its_own() -> None:
    workers = Workers(
        a=[says(Phase.RESOLVING, "one", "two"), ready("a")], b=[says(Phase.QUEUED, "x"), ready("b")]
    )
    answer = await end_of(workers.follow())
    assert (answer["phase"], answer["error"]) == ("ready", None)
    assert answer["result"]["lease_id"] == "lease-a"
    assert phases(answer) == {"a": "ready", "b": "ready"}
    assert [each["seq"] for each in answer["events"]] == list(range(1, 6))
    by_worker = {
        address: [each["message"] for each in answer["events"] if each["worker_address"] == address]
        for address in ("a", "b")
    }
    assert by_worker == {"a": ["one", "two", "ready"], "b": ["x", "ready"]}
    assert workers.asked_since["a"] == [0, 2]
    assert workers.calls == []


async def test_a_reader_gets_what_is_new_and_one_with_numbers_of_before_gets_all() -> None:
    launch = Workers(a=[says(Phase.RESOLVING, "one", "two")]).follow()
    first = plain(await launch.wait(0, 20.0))
    assert [each["message"] for each in first["events"]] == ["one", "two"]
    assert (first["phase"], first["result"], first["error"]) == ("resolving", None, None)
    assert plain(await launch.wait(2, 0.01))["events"] == []
    assert [each["seq"] for each in plain(await launch.wait(1, 20.0))["events"]] == [2]
    assert [each["seq"] for each in plain(await launch.wait(700, 20.0))["events"]] == [1, 2]
    await launch.stop()


async def test_a_failure_cancels_the_others_and_gives_ready_leases_back() -> None:
    error = ResolutionFailed("no solution", {"phase": "resolving"})
    # The one that fails does so when the other is ready.
    workers = Workers(a=[ready("a")], b=[says(Phase.RESOLVING, "x")] * 5 + [fails(error)], c=[])
    answer = await end_of(workers.follow())
    assert (answer["phase"], answer["result"]) == ("failed", None)
    assert answer["error"]["code"] == "resolution_failed"
    assert answer["error"]["details"]["worker_address"] == "b"
    assert phases(answer) == {"a": "cancelled", "b": "failed", "c": "cancelled"}
    assert ("c", "cancel", (JOB,)) in workers.calls
    assert ("a", "take_back", (JOB,)) in workers.calls


async def test_with_enough_ready_a_failure_is_named_and_nothing_is_given_back() -> None:
    workers = Workers(a=[ready("a")], b=[fails(ResolutionFailed("no solution"))])
    answer = await end_of(workers.follow(require=1))
    assert (answer["phase"], answer["error"]) == ("ready", None)
    assert phases(answer) == {"a": "ready", "b": "failed"}
    assert workers.calls == []


async def test_a_worker_whose_job_never_began_counts_as_failed_at_once() -> None:
    workers = Workers(a=[], b=[])
    answer = await end_of(workers.follow(failed={"b": AWAY}))
    assert phases(answer) == {"a": "cancelled", "b": "failed"}
    assert answer["events"][0]["message"] == "no answer"
    assert workers.calls == [("a", "cancel", (JOB,))]


async def test_a_worker_that_forgot_the_job_was_restarted() -> None:
    answer = await end_of(Workers(a=[UnknownJob("there is no job")]).follow())
    assert answer["error"]["code"] == "worker_unavailable"
    assert "the worker at a was restarted during the launch" in answer["error"]["message"]


@pytest.mark.parametrize(
    "said", [StoreError("the disk is full"), says(Phase.READY, events=[{"seq": "x"}])]
)
async def test_what_no_one_expected_of_a_worker_fails_its_part_and_ends_the_launch(
    said: Said,
) -> None:
    workers = Workers(a=[said], b=[])
    answer = await end_of(workers.follow())
    assert phases(answer) == {"a": "failed", "b": "cancelled"}
    assert answer["error"]["code"] in ("store_error", "incompatible_version")


async def test_a_defect_at_one_worker_ends_its_part_and_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    workers = Workers(a=[KeyError("events")], b=[])
    answer = await end_of(workers.follow())
    assert phases(answer) == {"a": "failed", "b": "cancelled"}
    assert answer["error"]["message"].startswith("KeyError: ")
    assert answer["error"]["details"]["host"] == "a"
    [record] = caplog.records
    assert record.exc_info is not None


async def test_a_defect_while_a_lease_is_given_back_does_not_keep_the_launch_from_ending() -> None:
    workers = Workers(a=[ready("a")], b=[says(Phase.RESOLVING, "x")] * 5 + [fails(AWAY)])
    workers.fails["take_back"] = KeyError("lease")
    assert (await end_of(workers.follow()))["phase"] == "failed"


async def test_a_cancelled_launch_ends_when_all_workers_have() -> None:
    workers = Workers(a=[says(Phase.RESOLVING, "x")], b=[])
    launch = workers.follow()
    await launch.wait(0, 20.0)
    async with asyncio.timeout(60):
        await launch.cancel()
    answer = plain(await launch.wait(0, 0.0))
    assert (answer["phase"], answer["error"]["code"]) == ("cancelled", "job_cancelled")
    assert {call[:2] for call in workers.calls} == {("a", "cancel"), ("b", "cancel")}


async def test_cancelling_does_not_wait_for_a_worker_that_does_not_answer() -> None:
    workers = Workers(a=[], b=[])
    launch = workers.follow()
    await asyncio.sleep(0)
    workers.silent.add("b")
    async with asyncio.timeout(60):
        await launch.cancel()
    assert phases(plain(await launch.wait(0, 0.0))) == {"a": "cancelled", "b": "failed"}


async def test_a_lease_that_can_not_be_given_back_does_not_keep_the_launch_from_ending() -> None:
    workers = Workers(a=[ready("a")], b=[says(Phase.RESOLVING, "x")] * 5 + [fails(AWAY)])
    launch = workers.follow()
    while workers.said["a"]:  # noqa: ASYNC110 - what a fake was asked
        await asyncio.sleep(0)
    workers.silent.add("a")
    assert (await end_of(launch))["phase"] == "failed"


async def test_to_stop_following_leaves_the_jobs_of_the_workers() -> None:
    workers = Workers(a=[], b=[])
    launch = workers.follow()
    await launch.stop()
    assert workers.calls == []
    assert not launch.has_ended


class Beginning(WorkerClients):
    """Two workers, of which ``b`` has begun nothing yet when it is `asked` to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.cancelled: list[str] = []
        self.members = [
            Member(
                registration=Registration(
                    address=address,
                    incarnation=f"{address}-1",
                    started=1.0,
                    protocol=PROTOCOL,
                    release="1",
                    host_name=address,
                    heartbeat=None,
                ),
                heard=0.0,
            )
            for address in ("a", "b")
        ]

    def of(self, member: Member, *, deadline: float = 30.0) -> WorkerProtocol:
        return rpc.worker_by(partial(self._answer, member.registration.address))

    def incarnation(self, address: str, incarnation: str, *, deadline: float) -> WorkerProtocol:
        return rpc.worker_by(partial(self._answer, address))

    async def _answer(self, address: str, method: str, arguments: dict[str, Plain]) -> Plain:
        if method == "survey":
            return cast(Plain, Survey(group=None, ready=False).to_dict())
        if method == "prepare" and address == "a":
            return arguments["job_id"]
        if method == "cancel":
            self.cancelled.append(address)
            raise UnknownJob("it has ended")
        if method == "prepare":
            self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_launch_whose_caller_goes_away_while_it_begins_is_cancelled() -> None:
    workers = Beginning()
    launches = ClusterLaunches(workers)
    beginning = asyncio.ensure_future(
        launches.launch(LaunchRequest(model_name="lantern"), workers.members, 2)
    )
    await workers.asked.wait()
    beginning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beginning
    async with asyncio.timeout(60):
        while len(workers.cancelled) < 2:  # noqa: ASYNC110 - what a fake was asked
            await asyncio.sleep(0)
    await launches.stop()
