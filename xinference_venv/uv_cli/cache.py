"""uv's cache: what of a lock is in it already, and how it is made smaller."""

from __future__ import annotations

import re

from xinference_venv.uv_cli import command
from xinference_venv.uv_cli.process import Uv

# In uv's own words, of an index's wheel that it would have to fetch.
_UNCACHED = re.compile(r"Identified uncached distribution: ([A-Za-z0-9._-]+)(?:==|\s|$)")


async def prune_cache(uv: Uv, *, deadline: float) -> None:
    """Delete from the cache what nobody can find any more; raises `UvFailed`.

    uv waits until no other uv uses the cache, at most `deadline` seconds.
    """
    await uv(command.prune_cache(), deadline=deadline)


def uncached_name(line: str) -> str | None:
    """The name of the distribution that a line of uv's says is not in its cache."""
    found = _UNCACHED.search(line)
    return None if found is None else found[1]
