"""Indexes that hold processes up: the launches of others go on, and hear what they wait for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.steps import asking, left_behind, requested
from tests.wheels import build_wheel
from xinference_venv.client import local_client
from xinference_venv.errors import NoProgress
from xinference_venv.store.paths import StorePaths

pytestmark = pytest.mark.uv


@pytest.fixture
def held(tmp_path: Path, index: Index) -> tuple[str, ...]:
    """Packages of which the index never tells what there is."""
    names = ("tar", "pitch", "glue")
    for name in names:
        build_wheel(tmp_path / "wheels", name, "1.0")
        index.hang(f"/simple/{name}/")
    return names


@pytest.mark.usefixtures("wheels")
async def test_two_launches_from_a_slow_index_hold_up_none_of_a_good_one(
    environ: dict[str, str], index: Index, held: tuple[str, ...]
) -> None:
    async with local_client(environ) as client:
        slow = [asyncio.create_task(client.prepare(asking(index, n, model=n))) for n in held[:2]]
        for name in held[:2]:
            await requested(index, f"/simple/{name}/")
        async with asyncio.timeout(60):
            made = await client.prepare(asking(index, "lantern"))
        assert made.env_id is not None
        for each in slow:
            each.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


@pytest.mark.usefixtures("wheels")
async def test_who_waits_for_a_slow_index_of_others_hears_it_and_comes_next_when_it_is_given_up(
    environ: dict[str, str], index: Index, held: tuple[str, ...], layout: StorePaths
) -> None:
    environ["XINFERENCE_VIRTUAL_ENV_PATIENCE"] = "2"
    environ["XINFERENCE_VIRTUAL_ENV_UV_PROCESSES"] = "3"
    heard: list[str] = []
    async with local_client(environ) as client:
        slow = [asyncio.create_task(client.prepare(asking(index, n, model=n))) for n in held[:2]]
        for name in held[:2]:
            await requested(index, f"/simple/{name}/")
        async with asyncio.timeout(60):
            await client.prepare(
                asking(index, "lantern"), on_event=lambda event: heard.append(event.message)
            )
        for ended in await asyncio.gather(*slow, return_exceptions=True):
            assert isinstance(ended, NoProgress)
            assert ended.details["phase"] == "resolving"
        waiting = next(each for each in heard if each.startswith("waiting for one of 3 places"))
        assert "pitch" in waiting and "tar" in waiting and "(resolving)" in waiting
        assert len(left_behind(layout)) == 2
