"""Asks the places of packages whether they are there, all at once, each under a deadline.

Comes in: places, and the variables by which uv would reach them: proxies, certificates,
``NETRC``. Comes out: an `IndexAnswer` for each, whatever happens. No credential goes anywhere but
to its own host, and none comes out.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar

from xinference_venv.planning.index_answers import IndexAnswer, IndexFailure, Place
from xinference_venv.planning.pip_config import local_path

_T = TypeVar("_T")
_SECONDS = 5.0


async def answers_of(
    places: Sequence[Place],
    environment: Mapping[str, str],
    deadline: float = _SECONDS,
    *,
    method: str = "GET",
) -> list[IndexAnswer]:
    """The answer of each place, in order; none takes longer than `deadline` seconds.

    `environment` are uv's own variables. With the method ``HEAD`` no content is sent.
    """

    async def ask(place: Place) -> IndexAnswer:
        try:
            async with asyncio.timeout(deadline):
                return await in_abandonable_thread(
                    lambda: _ask(place, environment, deadline, method)
                )
        except TimeoutError:
            return IndexAnswer(failure=IndexFailure.TIMEOUT, words=f"{deadline:g} s")

    return await asyncio.gather(*map(ask, places))


def _ask(place: Place, environment: Mapping[str, str], timeout: float, method: str) -> IndexAnswer:
    if (path := local_path(place.url)) is not None:
        there = os.path.exists(path)
        return IndexAnswer() if there else IndexAnswer(failure=IndexFailure.ABSENT)
    # What speaks HTTP is not imported where only folders are asked.
    from xinference_venv.service.http_client import ask

    return ask(place, environment, timeout, method)


async def in_abandonable_thread(work: Callable[[], _T]) -> _T:
    """Do the work in a thread that is not waited for once this is cancelled.

    The end of the process would wait for those of `asyncio.to_thread`, and a resolver of names
    that does not answer can't be interrupted.
    """
    outcome: Future[_T] = Future()
    # From now on it can't be cancelled, as the thread can't.
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 (the edge of a thread: it is raised to who waits)
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)
