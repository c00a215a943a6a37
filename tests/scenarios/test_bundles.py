"""An environment in one file, from a cluster with an index to one that has none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from uv import find_uv_bin

from tests.index import black_hole, dead_port
from tests.plain import lock_of
from tests.scenarios.cluster import Cluster, Served, cluster
from xinference_venv.errors import InvalidInput, NotFound, VerificationFailed
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.replicas import Replica
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest

pytestmark = [pytest.mark.uv, pytest.mark.asyncio]

_PART_BYTES = 1000


@pytest_asyncio.fixture
async def staging(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path / "staging", ["127.0.0.2"]) as running:
        yield running


@pytest_asyncio.fixture
async def production(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers with nothing in their caches, whose every connection ends in a black hole."""
    with black_hole() as port:
        async with cluster(tmp_path / "production", [], supervisor_ip="127.0.1.1") as running:
            for each in (2, 3):
                await running.add(
                    f"127.0.1.{each}",
                    http_proxy=f"http://127.0.0.1:{port}",
                    https_proxy=f"http://127.0.0.1:{port}",
                    UV_CACHE_DIR=str(tmp_path / f"production-cache-{each}"),
                )
            yield running


async def _export(cluster: Cluster, model: str) -> bytes:
    client = cluster.client
    environment = await client.one_ready(Selection(model_name=model))
    parts = [part async for part in client.export(environment, lambda *_: None)]
    return b"".join(parts)


async def _import(
    cluster: Cluster, bundle: bytes, **named: Any
) -> tuple[dict[str, Replica], Exception | None]:
    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(bundle), _PART_BYTES):
            yield bundle[start : start + _PART_BYTES]

    replicas, error = await cluster.client.import_bundle(parts(), len(bundle), **named)
    return {each.worker_address: each for each in replicas}, error


def _staged(worker: Served) -> list[Path]:
    return [*worker.layout.staging.iterdir()]


async def _made(staging: Cluster, **more: Any) -> LaunchRequest:
    request = staging.asking("lantern", model="glow", **more)
    await staging.launch(request, everywhere=True)
    return request


async def test_what_was_exported_is_launched_on_a_cluster_without_an_index(
    staging: Cluster, production: Cluster, tmp_path: Path
) -> None:
    request = await _made(staging)
    staging.forget_calls()
    bundle = await _export(staging, "glow")
    assert await _export(staging, "glow") == bundle
    assert _staged(staging.workers[0]) == []
    staging.forget_calls()

    imported, error = await _import(production, bundle)
    assert error is None
    assert {each.phase for each in imported.values()} == {Phase.READY}
    assert len({lock_of(each) for each in imported.values()}) == 1
    assert await production.leases("glow") == []
    production.forget_calls()
    launched = await production.launch(request, everywhere=True)
    assert {lock_of(each) for each in launched.values()} == {
        lock_of(each) for each in imported.values()
    }
    assert [each.uv_calls for each in production.workers] == [[], []]
    assert staging.index.requests == []
    assert [_staged(each) for each in production.workers] == [[], []]
    for each in launched.values():
        assert each.result is not None
        await _run(f"{each.result.real_path}/bin/python", "-c", "import lantern, wick")

    # Unpacked it is a folder that any installer can use by itself.
    (tmp_path / "glow.tar").write_bytes(bundle)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    await _run("tar", "xf", str(tmp_path / "glow.tar"), "-C", str(unpacked))
    assert {*os.listdir(unpacked)} == {"bundle.json", "pylock.toml", "wheels"}
    for wheel in (unpacked / "wheels").iterdir():
        assert wheel.read_bytes() == (staging.wheels / wheel.name).read_bytes()
    venv = str(tmp_path / "venv")
    await _run(find_uv_bin(), "venv", "--offline", venv)
    lock = str(unpacked / "pylock.toml")
    await _run(find_uv_bin(), "pip", "install", "--offline", "-r", lock, "--python", venv)
    await _run(f"{venv}/bin/python", "-c", "import lantern, wick")


async def _run(*command: str) -> None:
    """Run a program, which must succeed."""
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, command


async def test_a_bundle_that_was_damaged_on_its_way_leaves_nothing_anywhere(
    staging: Cluster, production: Cluster
) -> None:
    await _made(staging)
    bundle = await _export(staging, "glow")
    # In the middle of the last wheel.
    place = len(bundle) - 1024 - 600
    changed = bundle[:place] + bytes([bundle[place] ^ 1]) + bundle[place + 1 :]
    replicas, error = await _import(production, changed)
    assert isinstance(error, VerificationFailed)
    assert "sha256" in str(error)
    assert {each.phase for each in replicas.values()} == {Phase.FAILED}
    replicas, error = await _import(production, bundle[:-2000])
    assert isinstance(error, InvalidInput)
    assert "cut off" in str(error)
    assert [_staged(each) for each in production.workers] == [[], []]
    listed = await production.client.supervisor.list_virtual_envs(Selection())
    assert listed.list == ()


async def test_an_import_that_is_cancelled_leaves_nothing(
    staging: Cluster, production: Cluster
) -> None:
    await _made(staging)
    bundle = await _export(staging, "glow")
    sent, never = asyncio.Event(), asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield bundle[: len(bundle) // 2]
        sent.set()
        await never.wait()

    importing = asyncio.create_task(production.client.import_bundle(parts(), len(bundle)))
    await sent.wait()
    assert all(_staged(each) for each in production.workers)
    importing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await importing
    assert [_staged(each) for each in production.workers] == [[], []]


async def test_a_worker_whose_settings_ask_for_something_else_is_sent_no_wheel(
    staging: Cluster, production: Cluster
) -> None:
    await _made(staging)
    other = await production.add("127.0.1.4", XINFERENCE_VIRTUAL_ENV_CONSTRAINTS="wick<9")
    replicas, error = await _import(production, await _export(staging, "glow"))
    assert isinstance(error, InvalidInput)
    assert "settings" in str(error)
    assert replicas[other.address].phase is Phase.FAILED
    assert [replicas[each.address].phase for each in production.workers[:2]] == [
        Phase.READY,
        Phase.READY,
    ]
    _, error = await _import(production, await _export(staging, "glow"), require=2)
    assert error is None


async def test_a_worker_without_a_route_exports_what_another_one_can_fetch(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path / "one-route", []) as running:
        named = {"PIP_INDEX_URL": running.index.url}
        await running.add("127.0.0.2", UV_CACHE_DIR=str(tmp_path / "cache-2"), **named)
        cut_off = await running.add(
            "127.0.0.3",
            UV_CACHE_DIR=str(tmp_path / "cache-3"),
            http_proxy=f"http://127.0.0.1:{dead_port()}",
            **named,
        )
        block = {"packages": ["lantern"]}
        request = LaunchRequest.from_dict({"model_name": "glow", "virtualenv": block})
        await running.launch(request, workers=[cut_off.address])
        bundle = await _export(running, "glow")
    for name in ("lantern", "wick"):
        assert (running.wheels / f"{name}-1.0-py3-none-any.whl").read_bytes() in bundle


async def test_what_is_not_there_can_not_be_exported(staging: Cluster) -> None:
    await staging.settled()
    with pytest.raises(NotFound):
        await _export(staging, "absent")
    await _made(staging)
    (staging.wheels / "lantern-1.0-py3-none-any.whl").unlink()
    with pytest.raises(NotFound, match="lantern") as caught:
        await _export(staging, "glow")
    assert "put the files back" in (caught.value.hint or "")
    assert _staged(staging.workers[0]) == []
