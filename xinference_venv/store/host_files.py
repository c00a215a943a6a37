"""What lies on the disk around a request: pip's configuration, folders that it names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def read_present(paths: Iterable[str]) -> list[tuple[str, str]]:
    """The files that are there and readable, as (path, text), in the given order."""
    present = []
    for path in paths:
        try:
            present.append((path, Path(path).read_text("utf-8", "replace")))
        except OSError:
            continue
    return present


def real_directory(path: str) -> str | None:
    """The real path of an existing directory, or None."""
    real = os.path.realpath(path)
    return real if os.path.isdir(real) else None


def same_file_system(one: Path, other: Path) -> bool:
    """Whether two places are on one file system; of what is not there, its nearest parent is."""
    return nearest(one).stat().st_dev == nearest(other).stat().st_dev


def nearest(path: Path) -> Path:
    """The path itself if it is there, else the nearest one above it that is."""
    # Of what may not be looked at, `Path.exists` raises.
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return path


def free_bytes(place: Path) -> int:
    """Bytes that are free for this user on the file system of a place."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def total_bytes(place: Path) -> int:
    """Bytes that the file system of a place has."""
    found = os.statvfs(place)
    return found.f_blocks * found.f_frsize
