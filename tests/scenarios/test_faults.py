"""Launches that go wrong: what is said, what is left behind, and that the next one heals it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.index import Index
from tests.plain import plain
from tests.scenarios.processes import caller_process, worker_process
from tests.scenarios.steps import (
    alive,
    asking,
    environments,
    eventually,
    left_behind,
    outcome,
    requested,
    says,
    uv_processes,
    version_of,
)
from xinference_venv.client import Client, local_client
from xinference_venv.errors import (
    DeadlineExceeded,
    InstallFailed,
    InvalidName,
    JobCancelled,
    ResolutionFailed,
    UnknownJob,
    VirtualEnvError,
    WorkerUnavailable,
    error_from_dict,
)
from xinference_venv.store.paths import StorePaths

pytestmark = pytest.mark.uv

WHEEL = "/files/lantern-1.0-*.whl"


@pytest.fixture
def uv_cache(tmp_path: Path) -> Path:
    """A cache that no other test has filled, and that this one may damage."""
    return tmp_path / "uv-cache"


def _error(answer: dict[str, object]) -> VirtualEnvError:
    error = answer["error"]
    assert isinstance(error, dict)
    return error_from_dict(error)


def _add_line(uv_cache: Path) -> None:
    """Change a file of lantern's in place, and with it all that are linked to it."""
    [cached] = uv_cache.rglob("lantern.py")
    with cached.open("a") as file:
        file.write("# one more line\n")


@pytest.mark.usefixtures("wheels")
async def test_a_launch_cancelled_in_its_download_leaves_nothing(
    client: Client, index: Index, layout: StorePaths
) -> None:
    index.hang(WHEEL)
    request = asking(index, "lantern==1.0")
    launch = asyncio.create_task(client.prepare(request))
    await requested(index, WHEEL)
    [uv] = uv_processes(layout)
    assert alive(uv)
    [building] = await client.entries()
    assert building.state == "building"

    launch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launch

    assert not alive(uv)
    assert left_behind(layout) == []
    assert await client.entries() == []
    index.release()
    prepared = await client.prepare(request)
    assert await says(prepared.python, version_of("lantern")) == "1.0"


@pytest.mark.usefixtures("wheels")
async def test_a_cancelled_job_leaves_the_one_that_joined_it_running(
    client: Client, index: Index, layout: StorePaths
) -> None:
    index.hang(WHEEL)
    request = asking(index, "lantern==1.0")
    first = await client.supervisor.prepare(request)
    await requested(index, WHEEL)
    second = await client.supervisor.prepare(request)
    # Its first event is that it is queued; the second one, that it has joined.
    plain(await client.supervisor.wait(second, 1, 10.0))
    [uv] = uv_processes(layout)

    await client.supervisor.cancel(first)
    assert isinstance(_error(await outcome(client, first)), JobCancelled)
    assert alive(uv)
    index.release()
    answer = await outcome(client, second)
    assert answer["result"] is not None

    [entry] = await client.entries()
    assert [lease.lease_id for lease in entry.leases] == [answer["result"]["lease_id"]]


@pytest.mark.usefixtures("wheels")
async def test_the_last_cancelled_job_of_a_build_ends_it(
    client: Client, index: Index, layout: StorePaths
) -> None:
    index.hang(WHEEL)
    request = asking(index, "lantern==1.0")
    jobs = [await client.supervisor.prepare(request) for _ in range(2)]
    await requested(index, WHEEL)
    [uv] = uv_processes(layout)

    await asyncio.gather(*(client.supervisor.cancel(job) for job in jobs))

    assert not alive(uv)
    assert left_behind(layout) == []


@pytest.mark.usefixtures("wheels")
async def test_a_caller_that_dies_neither_ends_nor_leaks_its_job(
    environ: dict[str, str], index: Index
) -> None:
    index.hang(WHEEL)
    async with worker_process(environ) as worker:
        async with caller_process(environ, worker.address, asking(index, "lantern==1.0")) as (
            caller,
            job,
        ):
            await requested(index, WHEEL)
            caller.kill()
            await caller.wait()
        index.release()
        answer = await outcome(worker.client, job)

        [entry] = await worker.client.entries()
        assert answer["phase"] == "ready"
        assert entry.state == "ready"
        assert await says(answer["result"]["python"], version_of("lantern")) == "1.0"
        await worker.client.worker.release_lease(str(entry.env_id), answer["result"]["lease_id"])
        [entry] = await worker.client.entries()
        assert entry.leases == ()


@pytest.mark.usefixtures("wheels")
async def test_a_worker_killed_in_an_install_leaves_nothing_to_the_next_one(
    environ: dict[str, str], index: Index, layout: StorePaths
) -> None:
    index.hang(WHEEL)
    request = asking(index, "lantern==1.0")
    async with worker_process(environ) as worker:
        job = await worker.client.supervisor.prepare(request)
        await requested(index, WHEEL)
        [uv] = uv_processes(layout)
        await worker.kill()
        with pytest.raises((ConnectionError, UnknownJob, WorkerUnavailable)):
            plain(await worker.client.supervisor.wait(job))
    # Its guard ends it.
    await eventually(lambda: not alive(uv))
    assert list(layout.staging.iterdir())

    async with local_client(environ) as client:
        assert await client.entries() == []
        assert left_behind(layout) == []
        index.release()
        prepared = await client.prepare(request)
        assert await says(prepared.python, version_of("lantern")) == "1.0"
        [entry] = await client.entries()
        assert [lease.lease_id for lease in entry.leases] == [prepared.lease_id]


@pytest.mark.usefixtures("wheels")
async def test_leases_of_a_killed_worker_count_for_nothing(
    environ: dict[str, str], index: Index
) -> None:
    async with worker_process(environ) as worker:
        await worker.client.prepare(asking(index, "lantern==1.0"))
        [entry] = await worker.client.entries()
        assert [lease.process.pid for lease in entry.leases] == [worker.pid]
        await worker.kill()

    async with local_client(environ) as client:
        [entry] = await client.entries()
        assert entry.state == "ready"
        assert entry.leases == ()


@pytest.mark.usefixtures("wheels")
async def test_errors_cross_processes_whole(
    environ: dict[str, str], index: Index, layout: StorePaths
) -> None:
    async with worker_process(environ) as worker:
        with pytest.raises(ResolutionFailed) as failed:
            await worker.client.prepare(asking(index, "lantern==3.0"))
        request = replace(asking(index, "lantern"), model_name="..")
        with pytest.raises(InvalidName) as refused:
            await worker.client.supervisor.prepare(request)
        assert await worker.client.entries() == []

    assert "there is no version of lantern==3.0" in failed.value.message
    assert "your requirements are unsatisfiable" in failed.value.message
    assert failed.value.phase == "resolving"
    assert failed.value.details["host"] == worker.address
    assert failed.value.details["exit_status"] == 1
    assert "compile" in failed.value.details["command"]
    assert failed.value.exit_code == 5
    assert refused.value.message.startswith("Invalid model name '..'")
    assert refused.value.exit_code == 2
    assert left_behind(layout) == []


@pytest.mark.usefixtures("wheels")
async def test_an_index_that_gives_no_wheel_ends_the_launch_at_its_deadline(
    environ: dict[str, str], index: Index, layout: StorePaths
) -> None:
    environ["XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT"] = "2"
    index.hang(WHEEL)
    async with local_client(environ) as client:
        with pytest.raises(DeadlineExceeded, match="uv took longer than 2 s and was ended"):
            await client.prepare(asking(index, "lantern==1.0"))
        assert left_behind(layout) == []
        index.release()
        await client.prepare(asking(index, "lantern==1.0"))


@pytest.mark.usefixtures("wheels")
async def test_a_download_that_breaks_off_is_tried_again(client: Client, index: Index) -> None:
    index.cut(WHEEL, after_bytes=10)
    launch = asyncio.create_task(client.prepare(asking(index, "lantern==1.0")))
    await requested(index, WHEEL)
    index.heal()

    prepared = await launch
    assert await says(prepared.python, version_of("lantern")) == "1.0"


@pytest.mark.usefixtures("wheels")
async def test_a_package_that_was_changed_in_uvs_cache_is_fetched_again(
    environ: dict[str, str],
    index: Index,
    uv_cache: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    request = asking(index, "lantern==1.0")
    async with local_client(environ) as client:
        await client.prepare(request)
    _add_line(uv_cache)
    elsewhere = tmp_path / "elsewhere"
    environ["XINFERENCE_HOME"] = str(elsewhere)
    async with local_client(environ) as client:
        prepared = await client.prepare(request)
        assert await says(prepared.python, version_of("lantern")) == "1.0"
        await client.release(prepared)

    assert "lantern has other content than its RECORD says" in caplog.text
    assert "it is fetched again" in caplog.text
    assert not list((elsewhere / "virtualenv" / "store" / "staging").iterdir())


@pytest.mark.usefixtures("wheels")
async def test_what_is_damaged_in_uvs_cache_and_can_not_be_fetched_again_is_named(
    environ: dict[str, str], index: Index, uv_cache: Path, tmp_path: Path
) -> None:
    request = asking(index, "lantern==1.0")
    async with local_client(environ) as client:
        await client.prepare(request)
    _add_line(uv_cache)
    index.fail(WHEEL, status=404)
    environ["XINFERENCE_HOME"] = str(tmp_path / "elsewhere")
    async with local_client(environ) as client:
        with pytest.raises(InstallFailed, match="lantern is damaged in uv's cache and could not"):
            await client.prepare(request)


@pytest.mark.usefixtures("wheels")
async def test_a_damaged_environment_is_listed_as_broken_and_healed_to_what_it_was(
    client: Client, index: Index, layout: StorePaths
) -> None:
    request = asking(index, "lantern==1.0")
    first = await client.prepare(request)
    await client.release(first)
    (layout.env(str(first.env_id)) / "xinference-venv.json").write_text("{")
    [entry] = await client.entries()
    assert entry.state == "broken"
    assert entry.reason is not None and "xinference-venv.json is damaged" in entry.reason

    second = await client.prepare(request)

    # Its packages are whole: composing it again takes no uv.
    assert second.uv_calls == 0
    assert environments(layout) == [second.env_id]
    [entry] = await client.entries()
    assert entry.state == "ready"
