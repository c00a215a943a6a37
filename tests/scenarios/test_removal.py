"""Removal: planned, refused while in use, forced, narrowed, and in the middle of a launch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.plain import plain, selected
from tests.scenarios.steps import asking, environments, eventually, files_of, requested
from xinference_venv.client import Client
from xinference_venv.inventory.inventory import RemovalPlan, plan_removal
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.runtime.model_process import bind
from xinference_venv.service import worker_service
from xinference_venv.store.paths import StorePaths

pytestmark = [pytest.mark.uv, pytest.mark.usefixtures("wheels")]

WHEEL = "/files/lantern-2.0-*.whl"


async def _remove(client: Client, *names: str | None, **how: Any) -> dict[str, Any]:
    """Ask the supervisor to remove; the report of the one worker."""
    answer = plain(await client.supervisor.remove_virtual_env(selected(*names), **how))
    assert answer["unreachable"] == []
    [report] = answer["list"]
    return dict(report)


def _names(entries: list[dict[str, Any]]) -> list[tuple[str, str | None, str]]:
    return [(e["model_name"], e["model_engine"], e["python_version"]) for e in entries]


@asynccontextmanager
async def _holder(
    client: Client, environment: PreparedEnvironment
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that runs in the environment and holds its lease until it is killed."""
    process = await asyncio.create_subprocess_exec(
        environment.python, "-c", "input()", stdin=asyncio.subprocess.PIPE
    )
    try:
        await bind(client.worker, environment, process.pid)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_an_environment_in_use_is_refused_with_its_holder_named(
    client: Client, index: Index, layout: StorePaths
) -> None:
    request = asking(index, "lantern==1.0", model_uid="glow-1")
    prepared = await client.prepare(request)
    async with _holder(client, prepared) as holder:
        report = await _remove(client, "glow")

    assert report["done"] == []
    [refused] = report["refuse"]
    [lease] = refused["leases"]
    assert lease["process"]["pid"] == holder.pid
    assert lease["model_uid"] == "glow-1"
    assert environments(layout) == [prepared.env_id]


async def test_a_forced_removal_takes_the_key_at_once_and_the_files_when_the_holder_is_gone(
    client: Client, index: Index, layout: StorePaths
) -> None:
    prepared = await client.prepare(asking(index, "lantern==1.0"))
    real = Path(str(prepared.real_path))
    async with _holder(client, prepared) as holder:
        before = files_of(real)
        report = await _remove(client, "glow", force=True)
        assert len(report["done"]) == 1
        assert await client.entries() == []
        assert not list(layout.root.glob("v3/*"))
        assert files_of(real) == before
        holder.kill()
        await eventually(lambda: not real.exists(), seconds=60.0)
    assert environments(layout) == []


async def test_a_removal_is_narrowed_by_engine_and_python_version(
    client: Client, index: Index
) -> None:
    for engine in (None, "vllm", "Transformers"):
        await client.release(
            await client.prepare(asking(index, "lantern==1.0", model_engine=engine))
        )
    [plain, transformers, vllm] = sorted(
        (entry.key for entry in await client.entries()), key=lambda key: key.model_engine or ""
    )

    report = await _remove(client, "glow", "TRANSFORMERS")
    assert _names(report["done"]) == [("glow", "transformers", transformers.python_version)]
    report = await _remove(client, "glow", None, "3.2")
    assert _names(report["done"]) == []
    assert {entry.key for entry in await client.entries()} == {plain, vllm}
    report = await _remove(client, "glow", None, plain.python_version)
    assert set(_names(report["done"])) == {
        ("glow", None, plain.python_version),
        ("glow", "vllm", vllm.python_version),
    }
    assert await client.entries() == []


async def test_what_is_absent_is_reported_and_removing_again_is_no_error(
    client: Client, index: Index
) -> None:
    await client.release(await client.prepare(asking(index, "lantern==1.0")))
    assert len((await _remove(client, "glow"))["done"]) == 1
    report = await _remove(client, "glow")

    assert [report[each] for each in ("remove", "unlink", "refuse", "done")] == [[], [], [], []]


async def test_a_dry_run_shows_the_removal_and_changes_nothing(
    client: Client, index: Index, layout: StorePaths
) -> None:
    prepared = await client.prepare(asking(index, "lantern==1.0"))
    await client.release(prepared)
    before = files_of(layout.root)
    report = await _remove(client, "glow", dry_run=True)

    assert _names(report["remove"]) == [("glow", None, Path(str(prepared.path)).name)]
    assert report["done"] == []
    assert files_of(layout.root) == before


async def test_the_key_of_a_shared_environment_goes_and_the_other_model_keeps_the_files(
    client: Client, index: Index, layout: StorePaths
) -> None:
    glow = await client.prepare(asking(index, "lantern==1.0"))
    shine = await client.prepare(asking(index, "lantern==1.0", model="shine"))
    await client.release(glow)
    report = await _remove(client, "glow")

    assert len(report["done"]) == 1
    [entry] = await client.entries()
    assert (entry.key.model_name, entry.env_id) == ("shine", shine.env_id)
    assert environments(layout) == [shine.env_id]


async def test_an_environment_that_is_being_built_is_not_removed(
    client: Client, index: Index
) -> None:
    index.hang(WHEEL)
    launch = asyncio.create_task(client.prepare(asking(index, "lantern==2.0")))
    await requested(index, WHEEL)
    report = await _remove(client, "glow", force=True)
    index.release()
    prepared = await launch

    assert report["done"] == []
    assert [each["state"] for each in report["refuse"]] == ["building"]
    [entry] = await client.entries()
    assert entry.env_id == prepared.env_id


async def test_a_removal_during_a_launch_of_the_same_key_leaves_what_the_launch_made(
    client: Client, index: Index, layout: StorePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = asyncio.Event()

    def planning(*arguments: Any, **named: Any) -> RemovalPlan:
        planned.set()
        return plan_removal(*arguments, **named)

    monkeypatch.setattr(worker_service, "plan_removal", planning)
    await client.release(await client.prepare(asking(index, "lantern==1.0")))
    index.hang(WHEEL)
    launch = asyncio.create_task(client.prepare(asking(index, "lantern==2.0")))
    await requested(index, WHEEL)
    removal = asyncio.create_task(_remove(client, "glow"))
    await planned.wait()
    index.release()
    prepared = await launch
    report = await removal

    assert len(report["remove"]) == 1
    assert report["done"] == []
    [entry] = await client.entries()
    assert entry.env_id == prepared.env_id
    assert environments(layout) == [prepared.env_id]
