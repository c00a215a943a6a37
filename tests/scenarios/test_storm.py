"""200 launches, relaunches, removals and kills at two workers of one home; then all must be well.

``STORM_SEED`` repeats a storm's operations, ``STORM_OPERATIONS`` makes it longer.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from tests.index import Index
from tests.plain import plain
from tests.scenarios.checker import check_home
from tests.scenarios.steps import asking, eventually, left_behind
from tests.scenarios.storm import Storm
from tests.scenarios.storm_plan import MODELS, SOLVABLE, build_wheels, plan_storm
from xinference_venv.client import local_client
from xinference_venv.inventory.selection import EVERY
from xinference_venv.store.paths import StorePaths

OPERATIONS = int(os.environ.get("STORM_OPERATIONS", "200"))
SEED = int(os.environ.get("STORM_SEED", random.randrange(1 << 32)))


def _report(storm: Storm, seconds: float) -> str:
    counted = "\n".join(f"  {count:4} {what}" for what, count in sorted(storm.outcomes.items()))
    return f"STORM_SEED={SEED}, {OPERATIONS} operations in {seconds:.0f} s:\n{counted}"


async def _assert_clean(home: Path) -> None:
    """Nothing is wrong or left over; who was killed just now may take a moment to be gone."""

    def settled() -> bool:
        found = check_home(home, settled=True, imports=False)
        return all(each.kind != "process" for each in found)

    await eventually(settled)
    assert await asyncio.to_thread(check_home, home, settled=True) == []


@pytest.mark.uv
async def test_after_a_storm_every_environment_is_whole_and_nothing_is_left(
    environ: dict[str, str], index: Index, layout: StorePaths, tmp_path: Path
) -> None:
    build_wheels(tmp_path / "wheels")
    began = time.monotonic()
    storm = Storm(environ=environ, index_url=index.url)
    try:
        await storm.run(plan_storm(SEED, OPERATIONS))
        print(_report(storm, time.monotonic() - began))
        # The workers are dead, and the models go on.
        await storm.check_models()
        storm.failures += map(str, check_home(storm.home, settled=False))
        assert storm.failures == [], _report(storm, time.monotonic() - began)
    finally:
        await storm.end_models()

    async with local_client(environ) as client:
        assert all(entry.leases == () for entry in await client.entries())
        await _assert_clean(storm.home)
        for number, (model, engine) in enumerate(MODELS):
            packages = SOLVABLE[number]
            request = asking(index, *packages, model=model, model_engine=engine)
            await client.release(await client.prepare(request))
        assert len(await client.entries()) == len(MODELS)
        await _assert_clean(storm.home)
        plain(await client.supervisor.remove_virtual_env(EVERY))
        assert left_behind(layout) == []
        await _assert_clean(storm.home)


def test_a_seed_gives_the_same_storm_again() -> None:
    assert plan_storm(SEED, 50) == plan_storm(SEED, 50)
