"""A cluster whose processes are killed, stopped, started anew and cut off from each other.

What is said of how long something may take is a deadline of the product, never the machine's.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.index import black_hole
from tests.plain import lock_of, plain, result_of
from tests.scenarios.cluster import (
    HEARTBEAT_SECONDS,
    PATIENCE_SECONDS,
    Cluster,
    Served,
    cluster,
    loopback,
)
from tests.scenarios.steps import eventually, left_behind, uv_processes
from tests.wheels import build_wheel
from xinference_venv._util.records import Record
from xinference_venv.actors import rpc
from xinference_venv.actors.worker_clients import ASK_SECONDS
from xinference_venv.errors import DeadlineExceeded, JobCancelled, WorkerUnavailable
from xinference_venv.inventory.cluster_state import PROTOCOL, Registration
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.jobs import JobEvent, Phase
from xinference_venv.inventory.replicas import Replica, error_of
from xinference_venv.inventory.reports import JobSummary
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.settings import ALLOWED_ROOTS_VARIABLE

pytestmark = [pytest.mark.uv, pytest.mark.asyncio(loop_scope="module")]

# A silent worker that is waited for takes all of a deadline; else the heartbeats until it is
# suspected, and a probe.
_NOT_DELAYED_SECONDS = 0.8 * ASK_SECONDS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def eight(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Every test leaves eight workers that live."""
    async with cluster(tmp_path_factory.mktemp("eight"), loopback(8)) as running:
        yield running


@pytest.fixture
def package(eight: Cluster) -> str:
    """A distribution of the test's own: nobody has its lock, or its wheel in a cache."""
    eight.forget_calls()
    name = f"lamp{uuid.uuid4().hex[:8]}"
    build_wheel(eight.wheels, name, "1.0")
    return name


@dataclass(kw_only=True)
class Heard:
    """The events of a launch; `until` waits for one."""

    events: asyncio.Queue[JobEvent]

    @classmethod
    def nothing(cls) -> Heard:
        return cls(events=asyncio.Queue())

    async def until(self, wanted: Callable[[JobEvent], bool]) -> JobEvent:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not wanted(event := await self.events.get()):
                pass
        return event

    async def from_each(self, workers: list[Served], phase: Phase) -> None:
        """Wait until each of the workers is in a phase, or said so before."""
        missing = {each.address for each in workers}
        while missing:
            event = await self.until(lambda each: each.phase is phase)
            missing.discard(str(event.worker_address))


def _wheel(package: str) -> str:
    return f"/files/{package}-*.whl"


async def _install(workers: list[Served]) -> None:
    """Wait until each of the workers installs."""
    await eventually(lambda: all(each.installs for each in workers), PATIENCE_SECONDS)


def _check_seven(replicas: dict[str, Replica], killed: Served) -> None:
    """Seven are ready, with one lock, and the one that was killed is named."""
    ready = {address: each for address, each in replicas.items() if address != killed.address}
    failed = replicas[killed.address]
    assert (failed.phase, failed.result) == (Phase.FAILED, None)
    assert failed.error is not None
    assert failed.error.code == WorkerUnavailable.code
    assert killed.address in failed.error.message
    assert [each.phase for each in ready.values()] == [Phase.READY] * 7
    assert len({lock_of(each) for each in ready.values()}) == 1


async def test_the_worker_that_resolves_is_killed_and_the_next_one_resolves_for_all(
    eight: Cluster, package: str
) -> None:
    page = f"/simple/{package}/"
    eight.index.hang(page)
    request = eight.asking(package, model="leader")
    launch = asyncio.create_task(eight.launch(request, everywhere=True, require=7))
    # The index is asked before that, too: can it be reached?
    await eventually(lambda: any(each.resolved for each in eight.workers))
    [leader] = [each for each in eight.workers if each.resolved]

    await leader.kill()
    # One worker may ask twice: it tries with and without the host's versions at once.
    await eventually(lambda: [each.resolved for each in eight.workers].count(True) == 2)
    eight.index.release()
    _check_seven(await launch, leader)

    assert [each.resolved for each in eight.workers].count(True) == 2
    await eight.restart(leader)
    leases = await eight.leases("leader")
    assert leases == sorted(each.address for each in eight.workers if each is not leader)


async def test_a_worker_is_killed_while_it_installs_and_the_other_seven_are_ready(
    eight: Cluster, package: str
) -> None:
    eight.index.hang(_wheel(package))
    heard = Heard.nothing()
    request = eight.asking(package, model="follower")
    launch = asyncio.create_task(
        eight.launch(request, everywhere=True, require=7, on_event=heard.events.put_nowait)
    )
    await _install(eight.workers)
    follower = next(each for each in eight.workers if not each.resolved)

    await follower.kill()
    await eight.restart(follower)
    eight.index.release()
    _check_seven(await launch, follower)

    assert [each.resolved for each in eight.workers].count(True) == 1
    assert follower.address not in await eight.leases("follower")
    # What the kill left was swept at the start.
    assert not any(follower.layout.staging.iterdir())
    ready = await eight.launch(request, everywhere=True)
    assert len({lock_of(each) for each in ready.values()}) == 1


async def test_a_worker_is_killed_and_those_that_download_for_the_failed_launch_keep_it(
    eight: Cluster, package: str
) -> None:
    eight.index.hang(_wheel(package))
    request = eight.asking(package, model="saved")
    killed, *others = eight.workers[:3]
    launch = asyncio.create_task(
        eight.launch(request, workers=[each.address for each in (killed, *others)])
    )
    await _install([killed, *others])

    await killed.kill()
    # Nobody waits for what still hangs.
    with pytest.raises(WorkerUnavailable):
        await launch
    await eight.restart(killed)
    eight.index.release()

    listed = {each.address: Phase.CANCELLED for each in others}
    listed[killed.address] = Phase.FAILED
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await _phases(eight, "saved") != listed:  # noqa: ASYNC110 - what only the workers know
            await asyncio.sleep(0.05)
    await eight.no_leases("saved")
    eight.forget_calls()
    again = await eight.launch(request, workers=[each.address for each in others])
    assert {each.phase for each in again.values()} == {Phase.READY}
    assert not any(each.resolved or each.installs for each in others)


async def _phases(cluster: Cluster, model: str) -> dict[str, Phase]:
    """The phases of the jobs of a model, as they are listed."""
    jobs = (await cluster.client.supervisor.list_jobs()).list
    return {each.worker_address: each.phase for each in jobs if each.model_name == model}


async def test_a_stopped_worker_is_named_with_its_snapshots_age_and_delays_no_one(
    eight: Cluster, package: str
) -> None:
    await eight.launch(eight.asking(package, model="still"), everywhere=True)
    for replica in plain(await eight.client.supervisor.list_leases(Selection(model_name="still")))[
        "list"
    ]:
        plain(
            await eight.client.supervisor.release_leases(
                (replica["lease_id"],), worker=replica["worker_address"], force=True
            )
        )
    stopped, *others = eight.workers
    answering = sorted(each.address for each in others)
    stopped.stop()
    try:
        # The first is asked before the supervisor suspects anything, the last long after.
        supervisor = eight.client.supervisor
        asks: list[Callable[[Selection], Awaitable[Record]]] = [
            supervisor.list_virtual_envs,
            supervisor.list_virtual_env_packages,
            supervisor.remove_virtual_env,
        ]
        for ask in asks:
            async with asyncio.timeout(_NOT_DELAYED_SECONDS):
                answer = plain(await ask(Selection(model_name="still")))
            assert sorted(each["worker_address"] for each in answer["list"]) == answering
            [silent] = answer["unreachable"]
            assert silent["worker_address"] == stopped.address
            assert silent["state"] in ("suspect", "gone")
            assert silent["snapshot_age"] >= 3 * HEARTBEAT_SECONDS
            assert silent["snapshot"]["free_bytes"] > 0
            assert silent["error"]["code"] == "deadline_exceeded"
        assert all(len(each["done"]) == 1 for each in answer["list"])
        incarnation = (await eight.members())[stopped.address]["incarnation"]
        await eight.until(stopped, "gone")
    finally:
        stopped.go_on()

    member = await eight.until(stopped, "alive")
    assert member["incarnation"] == incarnation
    listed = plain(await eight.client.supervisor.list_virtual_envs(Selection(model_name="still")))
    assert [each["worker_address"] for each in listed["list"]] == [stopped.address]
    assert listed["unreachable"] == []


async def test_an_address_that_swallows_what_is_sent_delays_no_one_beyond_a_probe(
    eight: Cluster, package: str
) -> None:
    await eight.launch(eight.asking(package, model="hole"), count=8)
    with black_hole() as port:
        swallowing = Registration(
            address=f"127.0.0.1:{port}",
            incarnation="swallowed",
            started=0.0,
            protocol=PROTOCOL,
            release="1",
            host_name="hole",
            heartbeat=ASK_SECONDS,
        )
        await eight.client.supervisor.register_worker(swallowing)
        try:
            async with asyncio.timeout(_NOT_DELAYED_SECONDS):
                answer = plain(
                    await eight.client.supervisor.list_virtual_envs(Selection(model_name="hole"))
                )
                # It is chosen, since it was heard of a moment ago, and fails alone.
                replicas = await eight.launch(
                    eight.asking(package, model="hole"), everywhere=True, require=8
                )
        finally:
            await eight.client.supervisor.leave_worker(swallowing.address, "swallowed")

    assert len(answer["list"]) == 8
    [silent] = answer["unreachable"]
    assert silent["worker_address"] == swallowing.address
    assert silent["snapshot"] is None
    assert silent["error"]["code"] == "worker_unavailable"
    assert silent["error"]["message"].endswith("can't be reached: no answer")
    failed = replicas.pop(swallowing.address)
    assert failed.error == Failure.from_dict(silent["error"])
    assert {each.phase for each in replicas.values()} == {Phase.READY}


async def test_the_supervisor_is_killed_in_a_launch_and_restarted_and_the_launch_goes_on(
    eight: Cluster, package: str
) -> None:
    eight.index.hang(_wheel(package))
    heard = Heard.nothing()
    three = eight.workers[:3]
    before = await eight.members()
    launch = asyncio.create_task(
        eight.launch(
            eight.asking(package, model="orphan"),
            workers=[each.address for each in three],
            on_event=heard.events.put_nowait,
        )
    )
    await _install(three)

    await eight.supervisor.kill()
    await eight.supervisor.start()
    eight.index.release()
    replicas = await launch

    assert sorted(replicas) == sorted(each.address for each in three)
    assert {each.phase for each in replicas.values()} == {Phase.READY}
    for each in eight.workers:
        member = await eight.until(each, "alive")
        assert member["incarnation"] == before[each.address]["incarnation"]
    assert await eight.leases("orphan") == sorted(replicas)


async def test_what_was_ready_in_a_cancelled_launch_is_no_longer_so_for_the_next_supervisor_either(
    eight: Cluster, package: str
) -> None:
    quick, slow = eight.workers[:2]
    supervisor = eight.client.supervisor
    request = eight.asking(package, model="half")
    await eight.launch(request, workers=[quick.address])
    eight.index.hang(_wheel(package))
    # With the one that is ready the launch would do, were it not cancelled.
    job = await supervisor.prepare(request, workers=(quick.address, slow.address), require=1)

    async def listed() -> dict[str, JobSummary]:
        jobs = (await supervisor.list_jobs()).list
        return {each.worker_address: each for each in jobs if each.job_id == job}

    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await listed())[quick.address].phase is not Phase.READY:  # noqa: ASYNC110 - what only the workers know
            await asyncio.sleep(0.05)
    await _install([slow])
    await supervisor.cancel(job)
    eight.index.release()
    ended = await listed()
    assert {each.phase for each in ended.values()} == {Phase.CANCELLED}

    await eight.supervisor.kill()
    await eight.supervisor.start()
    for each in eight.workers:
        await eight.until(each, "alive")
    again = await listed()
    assert {address: (each.phase, each.error) for address, each in again.items()} == {
        address: (each.phase, each.error) for address, each in ended.items()
    }
    report = await supervisor.wait(job, timeout=PATIENCE_SECONDS)
    assert (report.phase, report.result) == (Phase.CANCELLED, None)


async def test_a_worker_is_restarted_on_its_port_in_a_launch_and_answers_no_old_call(
    eight: Cluster, package: str
) -> None:
    restarted, other = eight.workers[:2]
    # A launch that was ready before, whose lease a process of the host has bound.
    ready = await eight.launch(eight.asking("wick", model="kept"), workers=[restarted.address])
    result = result_of(ready[restarted.address])
    await eight.client.supervisor.bind_lease(
        restarted.address, result["env_id"], result["lease_id"], os.getpid()
    )
    old = (await eight.members())[restarted.address]["incarnation"]
    eight.index.hang(_wheel(package))
    heard = Heard.nothing()
    launch = asyncio.create_task(
        eight.launch(
            eight.asking(package, model="anew"),
            workers=[restarted.address, other.address],
            require=1,
            on_event=heard.events.put_nowait,
        )
    )
    await _install([restarted, other])

    await restarted.kill()
    await eight.restart(restarted)
    told = await heard.until(lambda each: each.phase is Phase.FAILED)
    eight.index.release()
    replicas = await launch

    assert told.worker_address == restarted.address
    # Refused while it started, or by the one that is there now.
    refused = f"the worker at {restarted.address} can't be reached: "
    assert told.message is not None
    assert told.message.startswith((f"the worker at {restarted.address} was restarted", refused))
    failed = replicas[restarted.address]
    assert (failed.phase, failed.incarnation) == (Phase.FAILED, old)
    assert replicas[other.address].phase is Phase.READY
    assert (await eight.members())[restarted.address]["incarnation"] != old
    with pytest.raises(WorkerUnavailable, match="was restarted"):
        send = rpc.to_worker(restarted.address, old, deadline=ASK_SECONDS, here="")
        await rpc.worker_by(send).list_jobs()
    assert await eight.leases("kept") == [restarted.address]
    assert await eight.leases("anew") == [other.address]
    await eight.client.supervisor.release_lease(
        restarted.address, result["env_id"], result["lease_id"]
    )


async def test_a_worker_that_stands_still_delays_no_event_and_no_end_of_the_others(
    eight: Cluster, package: str
) -> None:
    eight.index.hang(_wheel(package))
    heard = Heard.nothing()
    slow, *others = eight.workers[:4]
    launch = asyncio.create_task(
        eight.launch(
            eight.asking(package, model="slow"),
            workers=[each.address for each in (slow, *others)],
            require=3,
            on_event=heard.events.put_nowait,
        )
    )
    await _install([slow, *others])
    slow.stop()
    try:
        eight.index.release()
        await heard.from_each(others, Phase.READY)
    finally:
        slow.go_on()

    replicas = await launch
    # It is given up after fifteen heartbeats, if the others take as long.
    last = replicas.pop(slow.address)
    assert last.phase is Phase.READY or isinstance(error_of([last]), DeadlineExceeded)
    assert {each.phase for each in replicas.values()} == {Phase.READY}
    assert len(replicas) == 3


async def test_a_cancelled_launch_leaves_nothing_on_any_worker(
    eight: Cluster, package: str
) -> None:
    eight.index.hang(_wheel(package))
    heard = Heard.nothing()
    three = eight.workers[-3:]
    before = [set(left_behind(each.layout)) for each in three]
    launch = asyncio.create_task(
        eight.launch(
            eight.asking(package, model="cancelled"),
            workers=[each.address for each in three],
            on_event=heard.events.put_nowait,
        )
    )
    await _install(three)
    await eventually(lambda: all(uv_processes(each.layout) for each in three))

    launch.cancel()
    async with asyncio.timeout(_NOT_DELAYED_SECONDS):
        with pytest.raises(asyncio.CancelledError):
            await launch
    assert [set(left_behind(each.layout)) for each in three] == before
    assert await eight.leases("cancelled") == []
    jobs = plain(await eight.client.supervisor.list_jobs())
    told = [each["error"]["code"] for each in jobs["list"] if each["model_name"] == "cancelled"]
    assert told == [JobCancelled.code] * 3
    eight.index.release()


async def test_a_worker_that_comes_back_elsewhere_leaves_no_ghost_and_one_that_does_not_is_no_fault(
    eight: Cluster,
) -> None:
    moved, lost, *others = eight.workers
    before = (await eight.members())[moved.address]
    await asyncio.gather(moved.kill(), lost.kill())
    old, moved.address = moved.address, f"{moved.ip}:0"
    await moved.start()
    members = await eight.members()
    assert old not in members
    assert members[moved.address]["worker_id"] == before["worker_id"]

    supervisor = eight.client.supervisor
    answering = sorted(each.address for each in (moved, *others))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (listed := await supervisor.disk_usage()).gone:  # noqa: ASYNC110 - its clock's
            await asyncio.sleep(0.1)
    assert sorted(each.worker_address for each in listed.list) == answering
    assert listed.is_whole
    assert [each.worker_address for each in listed.gone] == [lost.address]

    forgotten = await supervisor.forget_worker(str(listed.gone[0].worker_id))
    assert forgotten.worker_address == lost.address
    assert sorted(await eight.members()) == answering
    await eight.restart(lost)


@contextmanager
def _network(name: str) -> Iterator[tuple[str, str, Callable[[str], None]]]:
    """A network namespace: the address on this side, the one inside, and its link's switch.

    Skips where the machine allows none.
    """

    def ip(*arguments: str) -> None:
        try:
            subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or error
            pytest.skip(f"no network namespaces here: {reason}")

    outside, inside = "198.18.77.1", "198.18.77.2"
    ip("netns", "add", name)
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", "cut", "netns", name)
        ip("address", "add", f"{outside}/30", "dev", name)
        ip("link", "set", name, "up")
        ip("-n", name, "address", "add", f"{inside}/30", "dev", "cut")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "set", "cut", "up")
        yield outside, inside, lambda state: ip("-n", name, "link", "set", "cut", state)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest_asyncio.fixture(loop_scope="module")
async def split(tmp_path: Path) -> AsyncIterator[tuple[Cluster, Callable[[str], None]]]:
    """A worker beside the supervisor, another behind a link with a switch, and no index."""
    name = f"v{uuid.uuid4().hex[:8]}"
    with _network(name) as (outside, inside, switch):
        async with cluster(tmp_path, [], supervisor_ip=outside) as running:
            running.environ["XINFERENCE_VIRTUAL_ENV_OFFLINE_INSTALL"] = "1"
            running.environ[ALLOWED_ROOTS_VARIABLE] = str(running.wheels)
            await running.add(outside)
            await running.add(inside, ("ip", "netns", "exec", name))
            yield running, switch
            switch("up")


async def test_a_cluster_that_is_split_in_two_says_who_is_missing_and_heals_by_itself(
    split: tuple[Cluster, Callable[[str], None]],
) -> None:
    running, switch = split
    near, far = running.workers
    supervisor = running.client.supervisor
    heard = Heard.nothing()
    block = {"packages": ["lantern"], "find_links": str(running.wheels)}
    request = LaunchRequest.from_dict({"model_name": "both", "virtualenv": block})
    near.hold_installing()
    far.hold_installing()
    launch = asyncio.create_task(
        running.launch(request, everywhere=True, on_event=heard.events.put_nowait)
    )
    await _install([near, far])
    before = (await running.members())[far.address]["incarnation"]

    switch("down")
    await running.until(far, "suspect")
    # Both halves go on; of the other one nothing is heard, and nothing is said for it.
    near.hold_installing(False)
    far.hold_installing(False)
    await heard.from_each([near], Phase.READY)
    async with asyncio.timeout(_NOT_DELAYED_SECONDS):
        listed = plain(await supervisor.list_virtual_envs(Selection(model_name="both")))
        planned = plain(
            await supervisor.remove_virtual_env(Selection(model_name="both"), dry_run=True)
        )
    for answer in (listed, planned):
        assert [each["worker_address"] for each in answer["list"]] == [near.address]
        [silent] = answer["unreachable"]
        assert silent["worker_address"] == far.address
        assert silent["error"]["code"] == WorkerUnavailable.code
    assert not launch.done()

    switch("up")
    member = await running.until(far, "alive")
    assert member["incarnation"] == before
    replicas = await launch
    assert {address: each.phase for address, each in replicas.items()} == {
        near.address: Phase.READY,
        far.address: Phase.READY,
    }
    listed = plain(await supervisor.list_virtual_envs(Selection(model_name="both")))
    assert {each["worker_address"] for each in listed["list"]} == set(replicas)
    assert listed["unreachable"] == listed["differing"] == []
