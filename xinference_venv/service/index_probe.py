"""Asks the places of packages whether they are there, all at once, each under a deadline.

Comes in: places, and the variables by which uv would reach them: proxies, certificates,
``NETRC``. Comes out: an `IndexAnswer` for each, whatever happens. No credential goes anywhere but
to its own host, and none comes out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence

from xinference_venv._util.disk_threads import in_abandonable_thread
from xinference_venv.planning.index_answers import IndexAnswer, IndexFailure, Place
from xinference_venv.planning.pip_config import local_path

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
