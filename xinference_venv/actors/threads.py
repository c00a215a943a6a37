"""Work that blocks on the disk, in a thread, where to leave it behind would do harm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from xinference_venv.uv_cli.finishing import finish

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def finish_in_thread(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Do the work in a thread, to its end even when this is cancelled meanwhile.

    A thread can't be cancelled. One that nobody waits for would go on while what it works on is
    cleaned away, and make some of it anew; so the cancellation is raised when it has ended.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    await finish(task)
    return task.result()
