"""Bundles on their way to a worker: how many there may be at once, and what each leaves."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests import fakes
from xinference_venv._util.disk_threads import BUILDING
from xinference_venv.errors import InvalidInput
from xinference_venv.planning.bundle import BundleReader
from xinference_venv.service.bundle_import import BundleImports
from xinference_venv.service.jobs import Job
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


async def test_what_a_job_needs_stays_until_it_ends_whatever_is_asked_meanwhile(
    imports: BundleImports, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = asyncio.Event()
    bundle = SimpleNamespace(request=fakes.request(), wheels={})
    begun: list[Job] = []

    async def run() -> None:
        await may_end.wait()

    def start(*_: Any, job_id: str, **__: Any) -> Job:
        begun.append(Job(job_id=job_id, request=bundle.request))
        begun[-1].task = asyncio.create_task(run())
        return begun[-1]

    monkeypatch.setattr(imports.launches, "start", start)
    monkeypatch.setattr(BundleReader, "check_whole", lambda _: bundle)
    await imports.receive("import", 0, b"")
    job = await imports.launch("import", "a")
    with pytest.raises(InvalidInput, match="launched already, by job a"):
        await imports.launch("import", "a")
    with pytest.raises(InvalidInput, match="0 bytes came, and 7 come next"):
        await imports.receive("import", 7, b"part")
    await imports.end("import")
    assert begun == [job]
    assert len(staged(imports)) == 1
    may_end.set()
    await imports.stop()
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


async def test_one_whose_sender_goes_away_while_a_part_is_written_leaves_nothing(
    imports: BundleImports, monkeypatch: pytest.MonkeyPatch
) -> None:
    await imports.receive("import", 0, b"")
    began, may_go_on = threading.Event(), threading.Event()

    def take(self: BundleImports, incoming: Any, data: bytes) -> None:
        began.set()
        may_go_on.wait(60)
        imports.launches.store.disk.write(incoming.folder / "wheel", data, durable=False)

    monkeypatch.setattr(BundleImports, "_take", take)
    receiving = asyncio.create_task(imports.receive("import", 0, b"part"))
    assert await asyncio.to_thread(began.wait, 60)
    receiving.cancel()
    await asyncio.wait([receiving], timeout=0.1)
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    await BUILDING.run(lambda: None)
    assert staged(imports) == []
