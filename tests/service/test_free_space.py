"""Room for a lock: refused before anything is installed, and never what would work."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from uv import find_uv_bin

from tests import fakes
from tests.index import Index
from tests.plain import plain
from tests.scenarios.steps import asking, left_behind
from tests.uv.conftest import Bench, bench, uv
from tests.wheels import build_wheel
from xinference_venv.client import local_client
from xinference_venv.errors import StoreError
from xinference_venv.planning.lock import EnvLock
from xinference_venv.service.free_space import check_free_space, free_at
from xinference_venv.store.paths import StorePaths
from xinference_venv.uv.installer import Builder
from xinference_venv.uv.subprocess import ProcessRunner, Uv

__all__ = ["bench", "uv"]
"""Fixtures of the tests with the real uv."""

pytestmark = pytest.mark.uv

SIZE = 6 << 20


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """The folder that the index serves: two wheels of `SIZE` bytes and a little more."""
    folder = tmp_path / "wheels"
    for name in ("big", "huge"):
        build_wheel(folder, name, "1.0", data={f"{name}.bin": os.urandom(SIZE)})
    return folder


def sized(packages: Any, wheels: Path) -> tuple[dict[str, Any], ...]:
    """Packages with the sizes of their wheels, as indexes give them that tell sizes."""
    return tuple(
        {
            **package,
            "wheels": [
                {**wheel, "size": (wheels / wheel["url"].rpartition("/")[2]).stat().st_size}
                for wheel in package["wheels"]
            ],
        }
        for package in packages
    )


@pytest_asyncio.fixture
async def lock(bench: Bench, wheels: Path) -> EnvLock:
    return fakes.lock(*sized((await bench.resolve("big", "huge")).packages, wheels))


@pytest_asyncio.fixture
async def builder(uv: Uv, bench: Bench, tmp_path: Path) -> Builder:
    """A builder whose uv has a cache of its own, beside the home."""
    environment = {**uv.door.environment, "UV_CACHE_DIR": str(tmp_path / "cache")}
    scratch = tmp_path / "staged"
    scratch.mkdir()
    made = Builder(
        uv=Uv(program=find_uv_bin(), door=ProcessRunner(environment=environment, slots=1)),
        spec=bench.spec(["big", "huge"]),
        env=scratch / "env",
        scratch=scratch,
        deadline=60,
    )
    await made.make_empty()
    return made


async def test_enough_space_costs_no_subprocess(
    lock: EnvLock, builder: Builder, tmp_path: Path
) -> None:
    calls = builder.uv.calls
    await check_free_space(lock, builder, tmp_path, free=lambda _: 3 * SIZE)
    assert builder.uv.calls == calls


async def test_what_does_not_fit_is_refused_before_anything_is_installed(
    lock: EnvLock, builder: Builder, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=r"needs about 24.0 MiB in .*, 6.00 MiB are free"):
        await check_free_space(lock, builder, tmp_path, free=lambda _: SIZE)
    assert not list(builder.env.glob("lib/python3*/site-packages/*.bin"))


async def test_what_uv_has_already_needs_no_space(
    lock: EnvLock, builder: Builder, index: Index, tmp_path: Path
) -> None:
    await builder.install(fakes.lock(lock.packages[0]), lambda _: None)
    asked = len(index.requests)
    # Too little for both, enough for the one that is missing.
    await check_free_space(lock, builder, tmp_path, free=lambda _: SIZE + SIZE // 2)
    with pytest.raises(StoreError, match=r"needs about 12.0 MiB"):
        await check_free_space(lock, builder, tmp_path, free=lambda _: SIZE // 2)
    assert len(index.requests) == asked


async def test_a_uv_that_does_not_say_what_it_has_refuses_nothing(
    lock: EnvLock, builder: Builder, tmp_path: Path
) -> None:
    builder.uv.program = "/bin/false"
    await check_free_space(lock, builder, tmp_path, free=lambda _: 1)


def test_space_is_reported_of_a_place_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free_at(str(tmp_path / "not" / "there")) > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 10 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=10m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"this machine has no mount: {error}")
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_a_launch_on_a_full_disk_is_refused_and_one_that_fits_is_not(
    environ: dict[str, str],
    index: Index,
    wheels: Path,
    small_disk: Path,
) -> None:
    environ = {
        **environ,
        "XINFERENCE_HOME": str(small_disk),
        "UV_CACHE_DIR": str(small_disk / "cache"),
    }
    layout = StorePaths(small_disk / "virtualenv")

    async def launch(*packages: str) -> dict[str, Any]:
        request = asking(index, *packages)
        lock = plain(await client.worker.plan(request))["lock"]
        given = EnvLock.from_dict({**lock, "packages": sized(lock["packages"], wheels)})
        job = await client.worker.prepare(request, given)
        seen = 0
        while True:
            answer = plain(await client.worker.wait(job, seen))
            seen = answer["events"][-1]["seq"]
            if answer["error"] or answer["result"]:
                return answer

    async with local_client(environ) as client:
        error = (await launch("big", "huge"))["error"]
        assert (error["code"], error["details"]["phase"]) == ("store_error", "installing")
        assert "are free" in error["message"]
        assert left_behind(layout) == []
        assert (await launch("big"))["error"] is None
