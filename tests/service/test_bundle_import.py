"""Bundles on their way to a worker: how many there may be at once, and what each leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from tests import fakes
from xinference_venv.errors import InvalidInput
from xinference_venv.service.bundle_import import BundleImports
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.store.store import Store


@pytest.fixture
def imports(tmp_path: Path) -> BundleImports:
    nothing = cast(Any, None)
    store = Store.open(tmp_path / "virtualenv")
    launches = LaunchService(
        store=store, uv=nothing, settings=fakes.settings(), hosts=nothing, address="here"
    )
    return BundleImports(launches=launches)


def staged(imports: BundleImports) -> list[str]:
    return [each.name for each in imports.launches.store.layout.staging.iterdir() if each.is_dir()]


async def test_no_more_come_at_once_than_may(imports: BundleImports) -> None:
    beginning = (imports.receive(f"import-{number}", 0, b"") for number in range(20))
    answers = await asyncio.gather(*beginning, return_exceptions=True)
    refused = [each for each in answers if each is not None]
    assert (len(refused), {type(each) for each in refused}) == (12, {InvalidInput})
    assert len(staged(imports)) == 8
    await imports.stop()
    assert staged(imports) == []


async def test_a_part_that_is_sent_twice_at_once_is_taken_once(imports: BundleImports) -> None:
    await asyncio.gather(*(imports.receive("import", 0, b"") for _ in range(2)))
    await imports.end("import")
    assert staged(imports) == []


async def test_one_whose_sender_goes_away_while_it_begins_leaves_nothing(
    imports: BundleImports,
) -> None:
    beginning = asyncio.create_task(imports.receive("import", 0, b""))
    await asyncio.sleep(0)
    beginning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beginning
    assert staged(imports) == []
