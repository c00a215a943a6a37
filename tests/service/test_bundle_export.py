"""Bundles that a worker puts together: what is left of one that is not wanted any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
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
