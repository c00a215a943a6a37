"""The real supervisor over a thousand simulated workers, with a clock that jumps."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from benchmarks.simulated import REQUEST, SimulatedCluster, simulate
from tests.plain import plain
from xinference_venv.actors.worker_clients import ASK_SECONDS
from xinference_venv.errors import (
    InstallFailed,
    InvalidInput,
    NotFound,
    UnknownJob,
    error_from_dict,
)
from xinference_venv.inventory.cluster_state import (
    FORGOTTEN_SECONDS,
    HEARTBEAT_SECONDS,
    WorkerState,
)
from xinference_venv.inventory.selection import EVERY, Selection
from xinference_venv.service.jobs import ENDED_JOBS_KEPT

WORKERS = 1000


@asynccontextmanager
async def beating(cluster: SimulatedCluster) -> AsyncIterator[None]:
    task = asyncio.create_task(cluster.keep_beating())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def elapsed(since: float) -> float:
    return asyncio.get_running_loop().time() - since


def addresses(entries: list[dict[str, Any]]) -> list[str]:
    return sorted(each["worker_address"] for each in entries)


def test_a_listing_takes_one_deadline_and_names_exactly_the_unreachable_ones() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS, silent=30)
        async with beating(cluster):
            start = elapsed(0)
            answer = plain(await cluster.supervisor.list_virtual_envs(EVERY))
            assert elapsed(start) <= ASK_SECONDS
        assert addresses(answer["unreachable"]) == cluster.silent
        assert {each["error"]["code"] for each in answer["unreachable"]} == {"deadline_exceeded"}
        assert addresses(answer["list"]) == sorted(set(cluster.workers) - set(cluster.silent))
        assert answer["differing"] == []

    simulate(run())


def test_a_removal_never_says_yes_for_an_unreachable_worker() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS, silent=30)
        answer = plain(await cluster.supervisor.remove_virtual_env(Selection(model_name="glow")))
        assert addresses(answer["unreachable"]) == cluster.silent
        assert addresses(answer["list"]) == sorted(
            each.address for each in cluster.workers.values() if each.removals == 1
        )
        assert len(answer["list"]) == WORKERS - 30

    simulate(run())


@pytest.mark.parametrize("groups", [1, 10])
def test_a_launch_on_all_resolves_once_for_each_group_and_lists_every_result(groups: int) -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS, groups=groups)
        job = await cluster.supervisor.prepare(REQUEST, everywhere=True)
        answer, polls = await cluster.follow(job)
        assert answer["phase"] == "ready"
        assert cluster.resolutions == {f"group-{number}": 1 for number in range(groups)}
        assert addresses(answer["workers"]) == sorted(cluster.workers)
        locks = Counter(each["result"]["lock_digest"] for each in answer["workers"])
        assert locks == {f"lock-of-group-{number}": WORKERS // groups for number in range(groups)}
        assert len(cluster.leases) == WORKERS
        # Whoever follows is not told anew of all workers for every event of one.
        assert polls < WORKERS / 5

    simulate(run())


def test_when_enough_are_ready_those_that_failed_are_named_and_no_one_gives_a_lease_back() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS, silent=20, fails=10)
        async with beating(cluster):
            job = await cluster.supervisor.prepare(REQUEST, everywhere=True, require=WORKERS - 30)
            answer, _ = await cluster.follow(job)
        failed = [each for each in answer["workers"] if each["phase"] == "failed"]
        failing = [each.address for each in cluster.workers.values() if each.fails]
        assert answer["phase"] == "ready"
        assert addresses(failed) == sorted(cluster.silent + failing)
        assert Counter(each["error"]["code"] for each in failed) == {
            "deadline_exceeded": 20,
            "install_failed": 10,
        }
        assert len(cluster.leases) == WORKERS - 30

    simulate(run())


def test_when_too_few_are_ready_the_others_are_cancelled_once_and_no_lease_stays() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS, fails=10)
        job = await cluster.supervisor.prepare(REQUEST, everywhere=True)
        answer, _ = await cluster.follow(job)
        error = error_from_dict(answer["error"])
        assert isinstance(error, InstallFailed)
        assert answer["phase"] == "failed"
        assert cluster.leases == set()
        assert cluster.asked["cancel"] <= WORKERS

    simulate(run())


def test_a_launch_on_one_worker_that_has_the_environment_asks_no_other() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS)
        first, second, *_ = cluster.workers
        # Who has not said what it has is asked.
        await cluster.follow(await cluster.supervisor.prepare(REQUEST, workers=(first,), count=1))
        assert cluster.asked["survey"] == WORKERS
        async with beating(cluster):
            await cluster.follow(
                await cluster.supervisor.prepare(REQUEST, workers=(first,), count=1)
            )
            assert cluster.asked["survey"] == WORKERS + 1
            await asyncio.sleep(2 * HEARTBEAT_SECONDS)
            await cluster.follow(
                await cluster.supervisor.prepare(REQUEST, workers=(second,), count=1)
            )
            assert cluster.asked["survey"] == WORKERS + 3
        assert cluster.resolutions.total() == 1

    simulate(run())


def test_a_launch_that_is_new_to_one_of_many_that_have_it_asks_a_few_of_them() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS, groups=2)
        async with beating(cluster):
            await asyncio.sleep(2 * HEARTBEAT_SECONDS)
            last, *others = reversed(cluster.workers)
            await cluster.follow(await cluster.supervisor.prepare(REQUEST, workers=tuple(others)))
            cluster.asked.clear()
            await cluster.follow(await cluster.supervisor.prepare(REQUEST, workers=(last,)))
            assert cluster.asked["survey"] <= 1 + 16
        assert cluster.resolutions == {"group-0": 1, "group-1": 1}

    simulate(run())


def test_a_launch_of_a_model_that_no_other_worker_has_asks_none_of_them() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS)
        async with beating(cluster):
            await asyncio.sleep(2 * HEARTBEAT_SECONDS)
            first = next(iter(cluster.workers))
            await cluster.follow(await cluster.supervisor.prepare(REQUEST, workers=(first,)))
        assert cluster.asked["survey"] == 1

    simulate(run())


def test_a_worker_that_was_launched_on_a_moment_ago_gives_its_lock_before_it_says_what_it_has() -> (
    None
):
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS)
        first, second, *_ = cluster.workers
        async with beating(cluster):
            await asyncio.sleep(2 * HEARTBEAT_SECONDS)
            await cluster.follow(await cluster.supervisor.prepare(REQUEST, workers=(first,)))
            await cluster.follow(await cluster.supervisor.prepare(REQUEST, workers=(second,)))
        assert cluster.asked["survey"] == 3
        assert cluster.resolutions.total() == 1

    simulate(run())


def test_a_worker_that_forgets_old_jobs_knows_every_new_one() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(2)
        first = next(iter(cluster.workers))
        async with beating(cluster):
            for _ in range(ENDED_JOBS_KEPT + 5):
                job = await cluster.supervisor.prepare(REQUEST, workers=(first,), count=1)
                answer, _ = await cluster.follow(job)
                assert answer["error"] is None
        assert len(cluster.workers[first].board.jobs) == ENDED_JOBS_KEPT + 1

    simulate(run())


def test_workers_that_are_restarted_in_the_middle_fail_and_are_named() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS)
        job = await cluster.supervisor.prepare(REQUEST, everywhere=True, require=900)
        restarted = list(cluster.workers.values())[500:520]
        for each in restarted:
            each.restart()
        async with beating(cluster):
            answer, _ = await cluster.follow(job)
        failed = [each for each in answer["workers"] if each["phase"] == "failed"]
        assert addresses(failed) == sorted(each.address for each in restarted)
        listed = await cluster.supervisor.list_workers()
        assert Counter(each.incarnation for each in listed) == {"first": 980, "second": 20}

    simulate(run())


def test_a_launch_is_found_again_by_a_supervisor_that_was_restarted_in_the_middle() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS)
        async with beating(cluster):
            job = await cluster.supervisor.prepare(REQUEST, everywhere=True)
            plain(await cluster.supervisor.wait(job))
            await cluster.supervisor.stop()
            cluster.restart_supervisor()
            # Asked at once, while no worker has registered yet.
            answer, _ = await cluster.follow(job)
        assert answer["phase"] == "ready"
        assert addresses(answer["workers"]) == sorted(cluster.workers)
        assert cluster.resolutions == {"group-0": 1}
        assert len(cluster.leases) == WORKERS

    simulate(run())


def test_a_restarted_supervisor_knows_all_workers_after_one_round_of_heartbeats() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS)
        cluster.restart_supervisor()
        async with beating(cluster):
            await asyncio.sleep(HEARTBEAT_SECONDS)
            listed = await cluster.supervisor.list_workers()
        assert [each.worker_address for each in listed] == sorted(cluster.workers)
        assert {each.state for each in listed} == {WorkerState.ALIVE}

    simulate(run())


def test_a_job_that_no_one_knows_is_unknown_also_to_a_supervisor_that_has_just_started() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(10)
        async with beating(cluster):
            with pytest.raises(UnknownJob):
                plain(await cluster.supervisor.wait("nonsense"))

    simulate(run())


def test_heartbeats_that_come_late_make_suspects_and_none_at_all_makes_them_gone() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS)
        late, quiet, *_ = cluster.workers.values()
        late.heartbeat_delay = 4 * HEARTBEAT_SECONDS
        quiet.silent = True
        async with beating(cluster):
            await asyncio.sleep(40 * HEARTBEAT_SECONDS)
            seen: dict[str, set[str]] = {late.address: set(), quiet.address: set()}
            for _ in range(10):
                await asyncio.sleep(HEARTBEAT_SECONDS)
                for each in await cluster.supervisor.list_workers():
                    seen.setdefault(each.worker_address, set()).add(each.state.value)
        assert seen.pop(late.address) == {"alive", "suspect"}
        assert seen.pop(quiet.address) == {"gone"}
        assert set.union(*seen.values()) == {"alive"}

    simulate(run())


def test_workers_that_no_one_heard_of_for_a_day_are_forgotten_by_the_next_heartbeat() -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(WORKERS)
        first, *others = cluster.workers.values()
        await asyncio.sleep(FORGOTTEN_SECONDS + 1)
        with pytest.raises(NotFound, match="gone"):
            await cluster.supervisor.prepare(REQUEST, everywhere=True)
        for each in others:
            each.silent = True
        await cluster.beat()
        [left] = await cluster.supervisor.list_workers()
        assert left.worker_address == first.address

    simulate(run())


@pytest.mark.parametrize("count", [0, -1])
def test_no_launch_is_for_fewer_than_one_worker(count: int) -> None:
    async def run() -> None:
        cluster = await SimulatedCluster.start(2)
        with pytest.raises(InvalidInput, match=f"{count} workers are asked for"):
            await cluster.supervisor.prepare(REQUEST, count=count)

    simulate(run())
