"""What a worker does on its host, asked without any actor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from tests.index import Index
from tests.scenarios.steps import eventually
from tests.wheels import build_wheel
from xinference_venv.errors import InvalidName, NotFound, UnknownJob
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.service.open_uv import open_uv
from xinference_venv.service.places import find_places
from xinference_venv.service.worker_service import WorkerService
from xinference_venv.store.locks import hold_lock_briefly
from xinference_venv.store.store import Store

ADDRESS = "here:1"


@pytest_asyncio.fixture
async def service(environ: Mapping[str, str]) -> AsyncIterator[WorkerService]:
    places = find_places(environ)
    store = Store.open(places.root)
    uv = open_uv(places, store, environ)
    running = WorkerService(store=store, uv=uv, settings=places.settings, environ=environ)
    await running.start(ADDRESS)
    yield running
    await running.stop()


def asking(index: Index, *packages: str) -> LaunchRequest:
    block = {"packages": packages, "index_url": index.url, "inherit_pip_config": False}
    return LaunchRequest.from_dict({"model_name": "glow", "virtualenv": block})


async def ready(service: WorkerService, request: LaunchRequest) -> str:
    """The id of a job that has ended well."""
    job_id = service.prepare(request)
    assert await ended(service, job_id) == "ready"
    return job_id


async def ended(service: WorkerService, job_id: str) -> str:
    """The phase of a job at its end."""
    while True:
        answer = await service.wait(job_id, 1 << 30, 10.0)
        if answer.has_ended:
            return answer.phase


@pytest.mark.uv
async def test_an_environment_is_made_listed_and_removed_without_an_actor(
    service: WorkerService, index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "wick", "1.0")
    job_id = service.prepare(asking(index, "wick"))
    assert await ended(service, job_id) == "ready"
    assert [each.job_id for each in await service.list_jobs()] == [f"{job_id}@{ADDRESS}"]

    [lease] = await service.list_leases(Selection(model_name="glow"))
    await service.release_lease(lease.entry.lease.env_id, lease.entry.lease.lease_id)
    [listed] = await service.list_virtual_envs(Selection())
    assert (listed.entry.key.model_name, listed.worker_address) == ("glow", ADDRESS)
    assert await service.list_virtual_envs(Selection(model_name="another")) == ()

    report = await service.remove_virtual_env(Selection(model_name="glow"))
    assert report.done == (listed,)
    assert await service.list_virtual_envs(Selection()) == ()


async def test_what_is_not_there_is_an_error(service: WorkerService) -> None:
    with pytest.raises(UnknownJob):
        await service.wait("no-such-job")
    with pytest.raises(NotFound, match="no process"):
        await service.bind_lease("an-env", "a-lease", 1 << 22)
    with pytest.raises(NotFound):
        await service.read_log("20261122T143706.748091-abc")
    with pytest.raises(InvalidName):
        await service.read_log("../secret")


async def test_a_heartbeat_carries_the_jobs_that_run_and_the_bytes_that_are_free(
    service: WorkerService,
) -> None:
    told = await service.snapshot()
    assert told.jobs == 0
    assert told.free_bytes


@pytest.mark.uv
async def test_a_job_that_is_cancelled_while_it_waits_for_its_lease_leaves_none(
    environ: Mapping[str, str], service: WorkerService, index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "wick", "1.0")
    made = await service.wait(await ready(service, asking(index, "wick")), 0, 0.0)
    assert made.result is not None
    env_id, lease_id = str(made.result.env_id), str(made.result.lease_id)
    await service.release_lease(env_id, lease_id)

    store = Store.open(find_places(environ).root)
    with hold_lock_briefly(store.env_lock(env_id)):
        job_id = service.prepare(asking(index, "wick"))
        taking = service._launches.registry.find(job_id).taking
        await eventually(lambda: bool(taking))
        # Twice: whoever cancels may do so again.
        await asyncio.gather(service.cancel(job_id), service.cancel(job_id))
        assert (await service.wait(job_id, 0, 0.0)).phase is Phase.CANCELLED
        assert taking
    await eventually(lambda: not taking)
    await eventually(lambda: store.leases.of(env_id) == [])
