"""Whether a lock fits on the disk: what its packages take at least, against what is free.

Comes in: the packages of a lock, where they go, what uv has of them already. Comes out: nothing,
or the error that says what is missing where.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xinference_venv._util.humanize import size_text
from xinference_venv.errors import StoreError
from xinference_venv.sentences import sentence

# Measured over many wheels; libraries for GPUs are nearer to one and a half.
_UNPACKED_TO_PACKED = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """Bytes that packages certainly take at a place: as much as they are packed."""

    place: str
    packed_bytes: int

    def fits(self, free: int) -> bool:
        """Whether so many free bytes may do. None at all may mean that it is unknown."""
        return free == 0 or free >= self.packed_bytes


def packed_bytes(packages: Iterable[Mapping[str, Any]]) -> int:
    """Bytes of the wheels of PEP 751 packages, as far as their sizes are known."""
    return sum(
        min((wheel.get("size") or 0 for wheel in package.get("wheels", [])), default=0)
        for package in packages
    )


def needs_of(
    packages: Collection[Mapping[str, Any]],
    *,
    home: str,
    cache: str,
    links: bool,
    uncached: Collection[str] | None,
) -> tuple[Need, ...]:
    """What installing PEP 751 packages takes in the home and in uv's cache.

    `links` says that both are on one file system: then an environment is links into the cache,
    and only what has to be fetched takes space; else it is a copy of everything. `uncached` are
    the names of what uv has to fetch; None while it was not asked: all.
    """
    fetched = packed_bytes(
        # uv does not say whether it has what comes by path or direct URL.
        package
        for package in packages
        if uncached is None or (package["name"] in uncached and "index" in package)
    )
    if links:
        return (Need(place=home, packed_bytes=fetched),)
    everything = Need(place=home, packed_bytes=packed_bytes(packages))
    return (everything, Need(place=cache, packed_bytes=fetched))


def check_space(needs: Iterable[Need], free_at: Callable[[str], int]) -> None:
    """Raises `StoreError` for what certainly does not fit; `free_at` gives the free bytes."""
    for need in needs:
        if not need.fits(free := free_at(need.place)):
            about = round(need.packed_bytes * _UNPACKED_TO_PACKED)
            raise StoreError(
                sentence(
                    "the environment needs about {about} in {place}, {free} are free",
                    about=size_text(about),
                    place=need.place,
                    free=size_text(free),
                ),
                {
                    "hint": sentence(
                        "see what could be deleted with `xinference-venv gc --max-bytes N"
                        " --dry-run`, make uv's cache smaller with `xinference-venv gc"
                        " --prune-uv-cache`, or free space otherwise"
                    ),
                    "needed_bytes": about,
                    "free_bytes": free,
                },
            )


def check_quota(needs: Iterable[Need], left_at: Callable[[str, int], int]) -> None:
    """Raises `StoreError` for what a quota certainly has no space for.

    `left_at` tells for a place and a number of bytes how many of these a quota leaves.
    """
    for need in needs:
        if (left := left_at(need.place, need.packed_bytes)) < need.packed_bytes:
            about = round(need.packed_bytes * _UNPACKED_TO_PACKED)
            raise StoreError(
                sentence(
                    "the environment needs about {about} in {place}, a quota leaves about"
                    " {left}, whatever else is free",
                    about=size_text(about),
                    place=need.place,
                    left=size_text(left),
                ),
                {
                    "hint": sentence(
                        "have the quota raised, put XINFERENCE_HOME elsewhere, or see what may go"
                        " with `xinference-venv gc --max-bytes N --dry-run`"
                    ),
                    "needed_bytes": about,
                    "free_bytes": left,
                },
            )
