"""Work that runs to its end although its caller is cancelled, and what became of a task."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    import asyncio
    import logging

_P = ParamSpec("_P")
_T = TypeVar("_T")


def ignore(_: object) -> None:
    """Do nothing: the callback of a caller that wants no reports."""


def in_background(
    work: Coroutine[Any, Any, None], what: str, log: logging.Logger
) -> asyncio.Task[None]:
    """Run work that no one waits for; an error that ends it goes to the log at once.

    asyncio reports such an error when the task is collected as garbage, which one that is kept
    never is.
    """
    import asyncio

    def report(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s ended by a defect: restart this process", what, exc_info=error)

    task = asyncio.create_task(work)
    task.add_done_callback(report)
    return task


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

    # No task for it: each is two more rounds of the loop, and a launch has dozens of these.
    call = partial(copy_context().run, work, *args, **kwargs)
    running = asyncio.get_running_loop().run_in_executor(None, call)
    await finish(running)
    return running.result()
