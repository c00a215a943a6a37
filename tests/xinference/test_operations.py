"""An operation that is cancelled ends when nothing of it goes on."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.xinference.conftest import Place
from xinference_venv.xinference import installation, operations

pytestmark = pytest.mark.uv


@pytest.mark.parametrize(
    ("module", "step", "operation"),
    [
        (operations, "_delete", operations.remove),
        (installation, "make_layer", operations.create),
    ],
)
async def test_what_writes_is_waited_for(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    step: str,
    operation: Callable[..., Any],
) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    real = getattr(module, step)

    def slowly(*args: Any, **kwargs: Any) -> Any:
        begun.set()
        goes_on.wait(60)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, step, slowly)
    more = {"python": None, "clear": False} if operation is operations.create else {}
    running = asyncio.create_task(operation(place.path, os.environ, **more))
    await asyncio.to_thread(begun.wait)
    running.cancel()
    ended, _ = await asyncio.wait([running], timeout=0.5)
    goes_on.set()
    await asyncio.wait([running])
    assert not ended
    assert running.cancelled()
