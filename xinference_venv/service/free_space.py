"""Whether a lock fits on the disk, asked before anything is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from xinference_venv.errors import StoreError, UvFailed
from xinference_venv.inventory.disk_space import check_quota, check_space, needs_of
from xinference_venv.planning.lock import EnvLock
from xinference_venv.store.host_files import (
    free_bytes,
    nearest_existing,
    quota_left,
    same_file_system,
)
from xinference_venv.uv.environment import LINK_MODE_VARIABLE
from xinference_venv.uv.installer import Builder


def free_at(place: str) -> int:
    """Bytes that are free at a place, which need not be there yet."""
    return free_bytes(nearest_existing(Path(place)))


def quota_at(place: str, wanted: int) -> int:
    """Bytes that a quota leaves at a place, which need not be there yet; `wanted` if enough."""
    left = quota_left(nearest_existing(Path(place)), wanted)
    return wanted if left is None else left


async def check_free_space(
    lock: EnvLock, builder: Builder, home: Path, free: Callable[[str], int] = free_at
) -> bool:
    """Raises `StoreError` when what a lock installs certainly does not fit.

    Costs no subprocess while it fits whatever uv has in its cache. Returns whether uv links what
    it installs to its cache, rather than copying it.
    """
    environment = builder.uv.door.environment
    cache = environment.get("UV_CACHE_DIR", str(home))
    links = environment.get(LINK_MODE_VARIABLE) != "copy" and await asyncio.to_thread(
        same_file_system, Path(cache), home
    )

    def check(uncached: frozenset[str] | None) -> None:
        needs = needs_of(lock.packages, home=str(home), cache=cache, links=links, uncached=uncached)
        check_space(needs, free)
        check_quota(needs, quota_at)

    try:
        await asyncio.to_thread(check, None)
    except StoreError:
        # Perhaps most of it is there already.
        try:
            uncached = await builder.uncached(lock)
        except UvFailed:
            # The install itself will say what is wrong.
            return links
        await asyncio.to_thread(check, uncached)
    return links
