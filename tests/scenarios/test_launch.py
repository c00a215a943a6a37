"""Launches that go well: at once, again, over a changed host, for another Python."""

from __future__ import annotations

import asyncio
import os
import shutil
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.index import Index
from tests.plain import plain
from tests.scenarios.hosts import another_python
from tests.scenarios.processes import worker_process
from tests.scenarios.steps import (
    asking,
    environments,
    eventually,
    files_of,
    outcome,
    real_path_of,
    requested,
    says,
    uv_subcommands,
    version_of,
)
from tests.wheels import build_wheel, fake_distribution
from xinference_venv.client import Client, local_client
from xinference_venv.errors import UnknownJob
from xinference_venv.inventory.jobs import JobEvent, Phase
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.lock import EnvLock
from xinference_venv.store.paths import StorePaths

pytestmark = pytest.mark.uv


@pytest.mark.usefixtures("wheels")
async def test_six_launches_of_one_spec_at_once_make_one_build_and_six_leases(
    client: Client, index: Index, layout: StorePaths, started: list[tuple[str, ...]]
) -> None:
    request = asking(index, "lantern==1.0")
    prepared = await asyncio.gather(*(client.prepare(request) for _ in range(6)))

    commands = uv_subcommands(started)
    assert commands.count("pip install") == 1
    assert [each.uv_calls for each in prepared] == [len(commands)] * 6
    assert index.requests.count("GET /files/lantern-1.0-py3-none-any.whl") == 1
    assert environments(layout) == [prepared[0].env_id]
    leases = {each.lease_id for each in prepared}
    assert len(leases) == 6
    for each in prepared:
        [entry] = await client.entries()
        assert {lease.lease_id for lease in entry.leases} == leases
        await client.release(each)
        leases.discard(each.lease_id)
    [entry] = await client.entries()
    assert entry.leases == ()
    assert environments(layout) == [entry.env_id]


@pytest.mark.usefixtures("wheels")
async def test_uv_learns_of_the_interpreter_of_new_environments_once(
    client: Client, index: Index, uv_cache: Path
) -> None:
    def learned() -> list[Path]:
        return sorted(uv_cache.glob("interpreter-*/**/*.msgpack"))

    await client.prepare(asking(index, "lantern==1.0", model="first"))
    before = learned()
    assert before
    await client.prepare(asking(index, "lantern==2.0", model="second"))
    assert learned() == before


@pytest.mark.usefixtures("wheels")
@pytest.mark.parametrize("other", ["host_digest", "platform_digest"])
async def test_a_lock_of_another_host_or_platform_is_refused(
    client: Client, index: Index, layout: StorePaths, other: str
) -> None:
    request = asking(index, "lantern==1.0")
    lock = (await client.worker.plan(request)).lock
    assert lock is not None

    changed = EnvLock.from_dict({**lock.to_dict(), other: "0" * 64})
    refused = await client.worker.prepare(request, changed)
    assert (await outcome_at(client, refused))["error"]["code"] == "invalid_input"
    assert environments(layout) == []

    taken = await outcome_at(client, await client.worker.prepare(request, lock))
    assert taken["error"] is None
    assert environments(layout) == [taken["result"]["env_id"]]


async def outcome_at(client: Client, job: str) -> dict[str, Any]:
    """The end of a job of the worker itself."""
    answer: dict[str, Any] = {"result": None, "error": None, "events": []}
    while answer["result"] is None and answer["error"] is None:
        seen = answer["events"][-1]["seq"] if answer["events"] else 0
        answer = plain(await client.worker.wait(job, seen))
    return answer


@pytest.mark.usefixtures("wheels")
async def test_equal_locks_of_two_models_share_one_directory(
    client: Client, index: Index, layout: StorePaths
) -> None:
    one, other = await asyncio.gather(
        client.prepare(asking(index, "lantern==1.0", model="glow")),
        client.prepare(asking(index, "lantern==1.0", "wick", model="shine")),
    )

    assert one.path != other.path
    assert one.real_path == other.real_path == real_path_of(one)
    assert environments(layout) == [one.env_id]
    glow, shine = await client.entries()
    assert glow.shared_with == (shine.key,)
    assert shine.shared_with == (glow.key,)


@pytest.mark.usefixtures("wheels")
async def test_two_specs_of_one_model_wait_for_each_other_and_the_last_one_wins_the_key(
    client: Client, index: Index, layout: StorePaths
) -> None:
    index.hang("/files/lantern-1.0-*.whl")
    heard: dict[str, list[JobEvent]] = {"first": [], "second": []}
    first = asyncio.create_task(
        client.prepare(asking(index, "lantern==1.0"), on_event=heard["first"].append)
    )
    await requested(index, "/files/lantern-1.0-*.whl")
    second = asyncio.create_task(
        client.prepare(asking(index, "lantern==2.0"), on_event=heard["second"].append)
    )
    await eventually(lambda: bool(heard["second"]))
    index.release()
    index.hang("/files/lantern-2.0-*.whl")
    old = await first
    await requested(index, "/files/lantern-2.0-*.whl")
    before = files_of(Path(str(old.real_path)))
    index.release()
    new = await second

    resolving = next(each for each in heard["second"] if each.phase is Phase.RESOLVING)
    publishing = next(each for each in heard["first"] if each.phase is Phase.PUBLISHING)
    assert publishing.at <= resolving.at
    assert real_path_of(old) == new.real_path
    [entry] = await client.entries()
    assert entry.env_id == new.env_id
    assert files_of(Path(str(old.real_path))) == before
    assert await says(old.python, version_of("lantern")) == "1.0"
    assert await says(new.python, version_of("lantern")) == "2.0"
    await client.release(old)
    assert environments(layout) == [new.env_id]


async def test_a_relaunch_starts_no_process_and_asks_no_index_even_in_a_new_worker(
    environ: dict[str, str], tmp_path: Path, started: list[tuple[str, ...]]
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    build_wheel(folder, "lantern", "1.0")
    async with local_client(environ) as client:
        with Index(folder) as index:
            request = asking(index, "lantern")
            first = await client.prepare(request)
            index.clear()
            started.clear()
            second = await client.prepare(request)
            assert index.requests == []
        shutil.rmtree(folder)
        third = await client.prepare(request)
    async with local_client(environ) as client:
        fourth = await client.prepare(request)
        [entry] = await client.entries()

    assert started == []
    for each in (second, third, fourth):
        assert each.uv_calls == 0
        assert each.real_path == first.real_path
    assert entry.last_used is not None and entry.created is not None
    assert entry.last_used > entry.created


@pytest.mark.usefixtures("wheels")
async def test_two_workers_on_one_home_make_one_build(
    environ: dict[str, str], client: Client, index: Index, started: list[tuple[str, ...]]
) -> None:
    wheel = "/files/lantern-1.0-*.whl"
    request = asking(index, "lantern==1.0")
    index.hang(wheel)
    heard: list[JobEvent] = []
    async with worker_process(environ) as other:
        job = await other.client.supervisor.prepare(request)
        await requested(index, wheel)
        launch = asyncio.create_task(client.prepare(request, on_event=heard.append))
        await eventually(lambda: len(heard) > 1)
        index.release()
        mine, theirs = await launch, await outcome(other.client, job)

        waiting = heard[1]
        assert waiting.phase is Phase.QUEUED
        assert waiting.message.startswith("waiting for launch of glow (Python 3.")
        assert f"by process {other.pid} on " in waiting.message
        assert "venv" not in uv_subcommands(started)
        assert mine.uv_calls == 0
        assert mine.real_path == theirs["result"]["real_path"]
        [entry] = await client.entries()
        assert {lease.process.pid for lease in entry.leases} == {os.getpid(), other.pid}


@pytest.fixture
def host_site(environ: dict[str, str], tmp_path: Path) -> Path:
    """The site-packages of a host of the test's own, which has ``wick`` 1.0."""
    host = tmp_path / "host"
    venv.create(host, symlinks=True)
    environ["XINFERENCE_VIRTUAL_ENV_HOST_PYTHON"] = str(host / "bin" / "python")
    [site] = host.glob("lib/python3.*/site-packages")
    _put_wick(site, "1.0")
    return site


def _put_wick(site: Path, version: str) -> None:
    for old in site.glob("wick-*.dist-info"):
        shutil.rmtree(old)
    source = f"__version__ = {version!r}\n"
    fake_distribution(site, "wick", version, files={"wick.py": source})


@pytest.mark.usefixtures("wheels")
async def test_what_is_added_to_the_host_changes_no_environment(
    host_site: Path, client: Client, index: Index
) -> None:
    first = await client.prepare(asking(index, "lantern==1.0"))
    assert "GET /files/wick-1.0-py3-none-any.whl" not in index.requests
    fake_distribution(host_site, "matches", "1.0")
    index.clear()
    second = await client.prepare(asking(index, "lantern==1.0"))

    assert second.env_id == first.env_id
    assert second.uv_calls == 0
    assert index.requests == []


@pytest.mark.usefixtures("wheels")
async def test_an_upgrade_of_what_is_inherited_is_resolved_again(
    host_site: Path, client: Client, index: Index, layout: StorePaths
) -> None:
    first = await client.prepare(asking(index, "lantern==1.0"))
    assert await says(first.python, version_of("wick")) == "1.0"
    _put_wick(host_site, "1.1")
    second = await client.prepare(asking(index, "lantern==1.0"))

    assert second.uv_calls > 0
    assert second.env_id != first.env_id
    assert await says(second.python, version_of("wick")) == "1.1"
    assert environments(layout) == sorted([str(first.env_id), str(second.env_id)])
    [listed] = plain(
        await client.supervisor.list_virtual_env_packages(Selection(model_name="glow"))
    )["list"]
    [wick] = [each for each in listed["packages"] if each["name"] == "wick"]
    assert (wick["role"], wick["version"]) == ("inherited", "1.1")


@pytest.mark.usefixtures("wheels")
async def test_another_python_inherits_nothing_and_gets_xoscar(
    client: Client, index: Index, layout: StorePaths, wheels: Path
) -> None:
    other = await another_python(client, index)
    build_wheel(wheels, "xoscar", version("xoscar"))
    job = await client.supervisor.prepare(asking(index, "lantern==1.0", python_version=other))
    answer = await outcome(client, job)

    result = answer["result"]
    assert result is not None, answer["error"]
    assert result["path"].endswith(f"/glow/{other}")
    assert any("inherits nothing" in each for each in result["warnings"])
    assert await says(result["python"], "list(sys.version_info[:2])") == [
        int(part) for part in other.split(".")
    ]
    assert await says(result["python"], version_of("xoscar")) == version("xoscar")
    [view] = layout.env(result["env_id"]).glob("view/lib/python3.*/site-packages")
    links = [each for each in view.iterdir() if each.is_symlink()]
    assert links
    assert not any(os.path.isabs(os.readlink(each)) for each in links)
    [listed] = plain(
        await client.supervisor.list_virtual_env_packages(Selection(model_name="glow"))
    )["list"]
    assert {each["name"]: each["role"] for each in listed["packages"]} == dict.fromkeys(
        ("lantern", "wick", "xoscar"), "installed"
    )


async def test_local_mode_opens_no_port_to_other_hosts(client: Client) -> None:
    listening = [
        each.laddr.ip
        for each in psutil.net_connections(kind="inet")
        if each.pid == os.getpid() and each.laddr and each.status == psutil.CONN_LISTEN
    ]

    assert client.worker.address.startswith("127.0.0.1:")
    assert listening and set(listening) == {"127.0.0.1"}


@pytest.mark.usefixtures("wheels")
async def test_a_job_of_the_only_worker_is_found_by_its_bare_id(
    environ: dict[str, str], index: Index
) -> None:
    async with local_client(environ) as client:
        job = await client.supervisor.prepare(asking(index, "lantern"), count=1)
        bare, _, address = job.partition("@")
        assert address
        while not (report := await client.supervisor.wait(bare)).phase.is_last:
            pass
        assert (report.job_id, report.phase) == (bare, Phase.READY)
        assert [each.worker_address for each in report.workers] == [address]
        await client.supervisor.cancel(bare)
        with pytest.raises(UnknownJob):
            await client.supervisor.wait("0" * 32)
