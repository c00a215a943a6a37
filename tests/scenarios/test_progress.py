"""How far a launch is, as its bytes arrive."""

from __future__ import annotations

import asyncio
import json
import platform
import random
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.steps import asking
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.errors import PythonNotFound
from xinference_venv.inventory.jobs import JobEvent, Phase

pytestmark = pytest.mark.uv

SIZE = 4 << 20
WHEEL = "/files/ballast-1.0-*.whl"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's counts are Linux's")
async def test_bytes_are_reported_while_a_wheel_arrives_and_no_phase_runs_backwards(
    client: Client, index: Index, tmp_path: Path
) -> None:
    noise = random.Random(1).randbytes(SIZE)
    wheel = build_wheel(
        *(tmp_path / "wheels", "ballast", "1.0"),
        modules={"ballast.py": ""},
        data={"ballast.bin": noise},
    )
    half_came, go_on = asyncio.Event(), threading.Event()
    index.slow(WHEEL, go_on)
    events: list[JobEvent] = []

    def hear(event: JobEvent) -> None:
        events.append(event)
        if (event.done_bytes or 0) >= SIZE // 2:
            half_came.set()

    launch = asyncio.create_task(client.prepare(asking(index, "ballast==1.0"), on_event=hear))
    try:
        async with asyncio.timeout(60):
            await half_came.wait()
        arriving = events[-1]
        assert arriving.phase is Phase.DOWNLOADING
        # What the answer's head takes is little.
        assert SIZE // 2 <= (arriving.done_bytes or 0) < SIZE // 2 + 100_000
        # As uv shows it: this index names no sizes.
        assert abs((arriving.total_bytes or 0) - wheel.stat().st_size) < 60_000
    finally:
        go_on.set()
        prepared = await launch
    await client.release(prepared)
    order = list(Phase)
    reached = [order.index(each.phase) for each in events]
    assert reached == sorted(reached)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's counts are Linux's")
async def test_bytes_are_reported_while_a_python_arrives_from_where_the_operator_says(
    environ: dict[str, str], index: Index, tmp_path: Path
) -> None:
    archive, noise = tmp_path / "wheels/python-1.0.tar.gz", tmp_path / "noise"
    noise.write_bytes(random.Random(1).randbytes(SIZE))
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(noise, "python/noise")
    version = f"3.{sys.version_info.minor}.99"
    described = {
        "name": "cpython",
        "arch": {"family": platform.machine(), "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": 3,
        "minor": sys.version_info.minor,
        "patch": 99,
        "prerelease": "",
        "variant": None,
        "build": "1",
        "url": index.url.replace("/simple/", "/files/python-1.0.tar.gz"),
        # What comes is no Python.
        "sha256": "0" * 64,
    }
    index.replace("/downloads.json", json.dumps({"a-python": described}).encode())
    some_came, go_on = asyncio.Event(), threading.Event()
    index.slow("/files/python-*", go_on)
    events: list[JobEvent] = []

    def hear(event: JobEvent) -> None:
        events.append(event)
        if (event.done_bytes or 0) >= SIZE // 2:
            some_came.set()

    environ |= {
        "XINFERENCE_VIRTUAL_ENV_PYTHON_DOWNLOADS": "1",
        "UV_PYTHON_DOWNLOADS_JSON_URL": index.url.replace("/simple/", "/downloads.json"),
        "UV_PYTHON_INSTALL_DIR": str(tmp_path / "pythons"),
        "UV_HTTP_RETRIES": "0",
    }
    async with local_client(environ) as client:
        request = asking(index, "ballast", python_version=version)
        launch = asyncio.create_task(client.prepare(request, on_event=hear))
        try:
            async with asyncio.timeout(60):
                await some_came.wait()
        finally:
            go_on.set()
            with pytest.raises(PythonNotFound, match=version):
                await launch
    arriving = next(each for each in events if (each.done_bytes or 0) >= SIZE // 2)
    assert arriving.phase is Phase.PROBING
    # As uv shows it.
    assert abs((arriving.total_bytes or 0) - archive.stat().st_size) < 60_000


async def test_what_is_there_already_is_no_download(
    client: Client, index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "wick", "1.0")
    await client.release(await client.prepare(asking(index, "wick==1.0")))
    events: list[JobEvent] = []
    again = asking(index, "wick==1.0", model="other")
    await client.release(await client.prepare(again, on_event=events.append))
    phases = {each.phase for each in events}
    assert Phase.DOWNLOADING not in phases
    assert Phase.INSTALLING not in phases
