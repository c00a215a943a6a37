"""Work that runs to its end although its caller is cancelled, and what became of a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    import asyncio

_P = ParamSpec("_P")
_T = TypeVar("_T")


def ignore(_: object) -> None:
    """Do nothing: the callback of a caller that wants no reports."""


def gave_nothing(task: asyncio.Future[Any]) -> bool:
    """Whether a task has ended with an error, cancelled, or with a result that is false.

    So who keeps it for others knows that it is to be asked again.
    """
    return task.done() and (task.cancelled() or task.exception() is not None or not task.result())


async def finish(*tasks: asyncio.Future[Any]) -> None:
    """Wait until tasks have ended, however often this is cancelled; then raise the cancellation.

    What they leave behind would be worked on while it is cleaned away. What became of them is
    theirs to tell.
    """
    import asyncio

    cancelled = False
    while running := [each for each in tasks if not each.done()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        for each in tasks:
            if not each.cancelled():
                # Retrieved, so that asyncio does not report it as never retrieved.
                each.exception()
        raise asyncio.CancelledError


async def cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks, and `finish`; what any of them raises is lost."""
    for each in tasks:
        each.cancel()
    try:
        await finish(*tasks)
    finally:
        for each in tasks:
            if not each.cancelled():
                each.exception()


async def finish_in_thread(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Do the work in a thread, to its end even when this is cancelled meanwhile.

    A thread can't be cancelled. One that is not waited for would go on while what it works on is
    cleaned away, and make some of it again; so the cancellation is raised when it has ended.
    """
    import asyncio

    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    await finish(task)
    return task.result()
