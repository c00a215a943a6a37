"""Bundles that a worker puts together: what is left of one that is not wanted any more."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests import fakes
from xinference_venv.errors import NotFound
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.service.bundle_export import BundleExports
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.store.store import Store


class _Exports(BundleExports):
    """Exports of an environment whose launch is known."""

    known: asyncio.Event

    async def _of_key(self, key: EnvKey) -> tuple[EnvLock, LaunchRequest, EnvSpec]:
        self.known.set()
        return fakes.lock(), fakes.request(), fakes.spec()


async def test_one_that_ends_while_it_begins_leaves_no_folder(tmp_path: Path) -> None:
    nothing = cast(Any, None)
    store = Store.open(tmp_path / "virtualenv")
    launches = LaunchService(
        store=store, uv=nothing, settings=fakes.settings(), hosts=nothing, address="here"
    )
    exports = _Exports(launches=launches, relay=nothing)
    exports.known = asyncio.Event()
    preparing = asyncio.create_task(exports.prepare("export", fakes.spec().key, 30.0))
    await exports.known.wait()
    await exports.end("export")
    with pytest.raises(NotFound, match="there is no bundle"):
        await preparing
    assert [each for each in store.layout.staging.iterdir() if each.is_dir()] == []


async def test_one_that_is_ended_copies_nothing_more_into_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released, ended = threading.Event(), threading.Event(), threading.Event()

    def copy(source: Path, target: Path) -> None:
        begun.set()
        released.wait(10.0)
        ended.set()

    class Exports(BundleExports):
        async def _of_key(self, key: EnvKey) -> tuple[EnvLock, LaunchRequest, EnvSpec]:
            table = fakes.wheel_package("toy")
            table["wheels"][0]["url"] = "file:///wheels/toy-1.0-py3-none-any.whl"
            return fakes.lock(table), fakes.request(), fakes.spec()

    nothing = cast(Any, None)
    store = Store.open(tmp_path / "virtualenv")
    monkeypatch.setattr(store.disk, "copy", copy)
    launches = LaunchService(
        store=store, uv=nothing, settings=fakes.settings(), hosts=nothing, address="here"
    )
    none_relayed = cast(Any, SimpleNamespace(wheels=SimpleNamespace(lend=lambda *_: False)))
    exports = Exports(launches=launches, relay=none_relayed)
    preparing = asyncio.create_task(exports.prepare("export", fakes.spec().key, 30.0))
    assert await asyncio.to_thread(begun.wait, 10.0)
    asyncio.get_running_loop().call_later(0.1, released.set)
    await exports.end("export")
    assert ended.is_set()
    with pytest.raises(NotFound):
        await preparing
