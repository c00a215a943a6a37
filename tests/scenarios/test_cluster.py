"""Launches on many workers that all live: one resolution, one lock, and what the policy says."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.plain import lock_of, plain, result_of
from tests.scenarios.cluster import Cluster, cluster, loopback
from tests.wheels import build_wheel
from xinference_venv.errors import InstallFailed, InvalidInput, NotFound, ResolutionFailed
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.selection import Selection

pytestmark = [pytest.mark.uv, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def eight(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path_factory.mktemp("eight"), loopback(8)) as running:
        yield running


async def test_eight_workers_launch_with_one_resolution_one_lock_and_eight_leases(
    eight: Cluster,
) -> None:
    request = eight.asking("lantern", model="glow")
    replicas = await eight.launch(request, everywhere=True)

    addresses = sorted(each.address for each in eight.workers)
    assert sorted(replicas) == addresses
    results = [result_of(each) for each in replicas.values()]
    assert {each.phase for each in replicas.values()} == {Phase.READY}
    assert len({each["lock_digest"] for each in results}) == 1
    assert len({each["env_id"] for each in results}) == 1
    assert [each.resolved for each in eight.workers].count(True) == 1
    # One resolution asks twice at most: over the host and without it.
    assert eight.index.requests.count("GET /simple/lantern/") in (1, 2)
    assert len({each["lease_id"] for each in results}) == 8
    assert await eight.leases("glow") == addresses
    listed = plain(await eight.client.supervisor.list_virtual_envs(Selection(model_name="glow")))
    assert sorted(each["worker_address"] for each in listed["list"]) == addresses
    assert listed["differing"] == listed["unreachable"] == []

    eight.forget_calls()
    again = await eight.launch(request, everywhere=True)
    assert [each.result and each.result.uv_calls for each in again.values()] == [0] * 8
    assert [each.uv_calls for each in eight.workers] == [[]] * 8
    assert eight.index.requests == []
    assert await eight.leases("glow") == sorted(addresses * 2)


async def test_a_resolution_that_fails_is_not_repeated_on_the_other_workers(
    eight: Cluster,
) -> None:
    eight.forget_calls()
    with pytest.raises(ResolutionFailed) as caught:
        await eight.launch(eight.asking("lantern==9", model="dark"), everywhere=True)

    assert "lantern" in caught.value.message + str(caught.value.details)
    assert [each.resolved for each in eight.workers].count(True) == 1
    assert await eight.leases("dark") == []


async def test_named_workers_a_count_of_them_and_all_of_one_ip(eight: Cluster) -> None:
    request = eight.asking("lantern", model="glow")
    one, two, three, *_ = eight.workers

    named = await eight.launch(request, workers=[one.address, two.ip])
    assert sorted(named) == [one.address, two.address]
    of_three = await eight.launch(request, workers=[one.ip, two.ip, three.ip], count=2)
    assert len(of_three) == 2
    assert set(of_three) < {one.address, two.address, three.address}
    assert len(await eight.launch(request, count=5)) == 5
    with pytest.raises(InvalidInput, match="9 workers are asked for"):
        await eight.launch(request, count=9)
    with pytest.raises(NotFound, match=r"127\.0\.0\.99"):
        await eight.launch(request, workers=["127.0.0.99"])


async def test_a_launch_that_requires_all_fails_with_one_worker_and_gives_the_leases_back(
    eight: Cluster,
) -> None:
    broken = eight.workers[3]
    broken.break_installing()
    try:
        with pytest.raises(InstallFailed) as caught:
            await eight.launch(eight.asking("shade", model="strict"), everywhere=True)
    finally:
        broken.break_installing(False)

    assert caught.value.details["worker_address"] == broken.address
    assert "the disk is read-only" in str(caught.value.details["output"])
    await eight.no_leases("strict")


async def test_a_launch_that_requires_seven_of_eight_is_ready_and_names_the_one_that_failed(
    eight: Cluster,
) -> None:
    broken = eight.workers[3]
    broken.break_installing()
    try:
        replicas = await eight.launch(
            eight.asking("shade", model="lenient"), everywhere=True, require=7
        )
    finally:
        broken.break_installing(False)

    failed = replicas.pop(broken.address)
    assert failed.phase is Phase.FAILED
    assert failed.error is not None
    assert failed.error.code == "install_failed"
    assert failed.error.details["phase"] == "installing"
    assert {each.phase for each in replicas.values()} == {Phase.READY}
    assert await eight.leases("lenient") == sorted(replicas)


async def test_a_later_replica_gets_the_lock_of_those_that_run_until_a_refresh(
    eight: Cluster,
) -> None:
    """The last of this cluster: it gets a ninth worker, and the index a newer version."""
    request = eight.asking("lantern", model="glow")
    first = eight.workers[0]
    before = await eight.launch(request, everywhere=True)
    digest = lock_of(before[first.address])
    build_wheel(eight.wheels, "lantern", "2.0", requires=["wick"])
    beside = await eight.add(first.ip)

    eight.forget_calls()
    later = await eight.launch(request, workers=[first.ip])
    assert sorted(later) == sorted([first.address, beside.address])
    assert {lock_of(each) for each in later.values()} == {digest}
    assert not any(each.resolved for each in eight.workers)

    newer = eight.asking("lantern", model="glow", refresh=True)
    refreshed = await eight.launch(newer, workers=[beside.address])
    assert beside.resolved
    other_digest = lock_of(refreshed[beside.address])
    assert other_digest != digest
    listed = plain(await eight.client.supervisor.list_virtual_envs(Selection(model_name="glow")))
    [differing] = listed["differing"]
    assert differing["model_name"] == "glow"
    assert {key: sorted(value) for key, value in differing["locks"].items()} == {
        digest: sorted(before),
        other_digest: [beside.address],
    }

    everywhere = await eight.launch(newer, everywhere=True)
    assert {lock_of(each) for each in everywhere.values()} == {other_digest}
    listed = plain(await eight.client.supervisor.list_virtual_envs(Selection(model_name="glow")))
    assert listed["differing"] == []
