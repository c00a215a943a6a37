"""What a worker does on its host, asked without any actor."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.index import Index
from tests.scenarios.steps import eventually
from tests.wheels import build_wheel
from xinference_venv._util.disk_threads import BUILDING, UPKEEP, DiskThreads
from xinference_venv.errors import InvalidName, NotFound, StoreError, UnknownJob
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.service.bundle_export import BundleExports
from xinference_venv.service.open_uv import open_uv
from xinference_venv.service.places import find_places
from xinference_venv.service.worker_service import WorkerService
from xinference_venv.store.atomic import Disk
from xinference_venv.store.locks import hold_lock_briefly
from xinference_venv.store.store import Store

ADDRESS = "here:1"


async def started(environ: Mapping[str, str]) -> WorkerService:
    places = find_places(environ)
    store = Store.open(places.root)
    uv = open_uv(places, store, environ)
    running = WorkerService(store=store, uv=uv, settings=places.settings, environ=environ)
    await running.start(ADDRESS)
    return running


@pytest_asyncio.fixture
async def service(environ: Mapping[str, str]) -> AsyncIterator[WorkerService]:
    running = await started(environ)
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


async def test_what_can_not_be_ended_as_it_should_keeps_nothing_else_going(
    environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(exports: BundleExports) -> None:
        raise StoreError("the disk takes no more")

    monkeypatch.setattr(BundleExports, "stop", refuse)
    before = asyncio.all_tasks()
    running = await started(environ)
    assert asyncio.all_tasks() > before
    with pytest.raises(StoreError, match="the disk takes no more"):
        await running.stop()
    assert asyncio.all_tasks() == before


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
        state = service._launches.registry.find(job_id).state
        await eventually(lambda: state._threads > 0)
        # Twice: whoever cancels may do so again.
        await asyncio.gather(service.cancel(job_id), service.cancel(job_id))
        assert (await service.wait(job_id, 0, 0.0)).phase is Phase.CANCELLED
        assert not state.is_clear
    await eventually(lambda: state.is_clear)
    assert store.leases.of(env_id) == []


@pytest.mark.uv
async def test_a_build_that_goes_on_for_others_takes_no_lease_for_a_job_that_was_cancelled(
    environ: Mapping[str, str], service: WorkerService, index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "wick", "1.0")
    index.hang("*/wick-1.0-py3-none-any.whl")
    other = await started(environ)
    try:
        theirs = other.prepare(asking(index, "wick"))
        await asyncio.to_thread(index.wait_for_request, "*/wick-1.0-py3-none-any.whl")
        first, second = (service.prepare(asking(index, "wick")) for _ in range(2))

        def waits_for_the_other() -> bool:
            jobs = [service._launches.registry.find(each) for each in (first, second)]
            # Who joins a build later hears as well what it waits for.
            return all("waiting for launch of" in str(each.journal.events) for each in jobs)

        await eventually(waits_for_the_other)
        await service.cancel(first)
        index.release()
        assert await ended(other, theirs) == "ready"
        assert await ended(service, second) == "ready"
        answers = [await other.wait(theirs, 0, 0.0), await service.wait(second, 0, 0.0)]
        leases = {each.result.lease_id for each in answers if each.result is not None}
        store = Store.open(find_places(environ).root)
        [env_id] = store.leases.env_ids()
        await eventually(lambda: {each.lease_id for each, _ in store.leases.of(env_id)} == leases)
    finally:
        await other.stop()


@contextmanager
def all_taken(threads: DiskThreads | None) -> Iterator[None]:
    """Threads that all wait for a disk: those for long work, or without any those of the loop."""
    released = threading.Event()
    loop = asyncio.get_running_loop()
    run = asyncio.to_thread if threads is None else threads.run
    # More than there are.
    waiting = [loop.create_task(run(released.wait)) for _ in range(64)]
    try:
        yield
    finally:
        released.set()
        assert waiting


@pytest.mark.uv
async def test_leases_lists_and_heartbeats_wait_for_no_long_work_on_the_disk(
    service: WorkerService, index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "wick", "1.0")
    request = asking(index, "wick")
    await ready(service, request)
    with all_taken(UPKEEP), all_taken(BUILDING):
        assert len(await service.list_virtual_envs(Selection())) == 1
        assert (await service.snapshot()).free_bytes
        # A relaunch takes a lease, and no thread for long work.
        await ready(service, request)
        assert len(await service.list_leases(Selection())) == 2


async def test_a_heartbeat_goes_out_while_no_thread_of_the_process_is_free(
    service: WorkerService,
) -> None:
    known = (await service.snapshot()).free_bytes
    assert known
    with all_taken(None):
        assert (await service.snapshot()).free_bytes == known


@pytest.mark.uv
async def test_a_launch_of_the_same_model_does_not_wait_while_a_large_tree_is_deleted(
    environ: Mapping[str, str], index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "wick", "1.0")
    disk = SlowToDelete()
    places = find_places(environ)
    store = Store.open(places.root, disk)
    uv = open_uv(places, store, environ)
    service = WorkerService(store=store, uv=uv, settings=places.settings, environ=environ)
    await service.start(ADDRESS)
    request = asking(index, "wick")
    try:
        await ready(service, request)
        [lease] = await service.list_leases(Selection())
        await service.release_lease(lease.entry.lease.env_id, lease.entry.lease.lease_id)
        disk.slow = True
        removing = asyncio.create_task(service.remove_virtual_env(Selection(model_name="glow")))
        assert await asyncio.to_thread(disk.deleting.wait, 30.0)
        assert not await service.list_virtual_envs(Selection())
        disk.slow = False
        await ready(service, request)
        assert not removing.done()
        disk.go_on.set()
        assert len((await removing).done) == 1
        assert len(await service.list_virtual_envs(Selection())) == 1
        assert os.listdir(store.layout.trash) == []
    finally:
        disk.go_on.set()
        await service.stop()


class SlowToDelete(Disk):
    """While it is `slow`, a deletion begins and does not end before it is allowed to `go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.deleting = threading.Event()
        self.go_on = threading.Event()

    def delete(self, path: Path) -> None:
        if self.slow:
            self.deleting.set()
            self.go_on.wait()
        super().delete(path)


@pytest.mark.uv
async def test_what_is_brought_ahead_of_need_hurries_when_a_launch_needs_it(
    service: WorkerService, index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "wick", "1.0")
    request = asking(index, "wick")
    index.hang("/files/wick-*.whl")
    ahead = service.prepare(request, background=True)
    await asyncio.to_thread(index.wait_for_request, "/files/wick-*.whl")
    needed = service.prepare(request)
    await service.wait(needed, since=1)
    index.release()
    assert [await ended(service, each) for each in (ahead, needed)] == ["ready", "ready"]
    # Equal launches share one build, whatever their priority.
    assert index.requests.count("GET /files/wick-1.0-py3-none-any.whl") == 1


@pytest.mark.uv
async def test_a_launch_hurries_what_was_brought_ahead_of_need_and_holds_its_key(
    service: WorkerService, index: Index, tmp_path: Path
) -> None:
    for name in ("wick", "shade"):
        build_wheel(tmp_path / "wheels", name, "1.0")
    index.hang("/files/wick-*.whl")
    ahead = service.prepare(asking(index, "wick"), background=True)
    await asyncio.to_thread(index.wait_for_request, "/files/wick-*.whl")
    builds = service._launches.builds
    [brought] = builds.values()
    needed = service.prepare(asking(index, "shade"))
    await eventually(lambda: len(builds) == 2)
    # Else it would wait for all other launches, and the one that needs the key with it.
    assert not brought.priority.background
    index.release()
    assert [await ended(service, each) for each in (ahead, needed)] == ["ready", "ready"]


@pytest.mark.uv
async def test_a_launch_hurries_an_equal_build_of_another_model_that_it_waits_for(
    service: WorkerService, index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "wick", "1.0")
    index.hang("/files/wick-*.whl")
    ahead = service.prepare(replace(asking(index, "wick"), model_name="shine"), background=True)
    await asyncio.to_thread(index.wait_for_request, "/files/wick-*.whl")
    [brought] = service._launches.builds.values()
    needed = service.prepare(asking(index, "wick"))
    # Else the one that is needed would come after all other launches.
    await eventually(lambda: not brought.priority.background)
    index.release()
    assert [await ended(service, each) for each in (ahead, needed)] == ["ready", "ready"]
