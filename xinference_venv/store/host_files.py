"""What lies on the disk around a request: pip's configuration, folders that it names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from xinference_venv.store.visit import read_regular

SHARED_MEMORY = "/dev/shm"  # noqa: S108 (where POSIX shared memory of Linux lies)


def read_present(paths: Iterable[str]) -> list[tuple[str, str]]:
    """The files that are there and readable, as (path, text), in the given order."""
    present = []
    for path in paths:
        try:
            present.append((path, read_regular(path).decode("utf-8", "replace")))
        except OSError:
            continue
    return present


def real_directory(path: str) -> str | None:
    """The real path of an existing directory, or None."""
    real = os.path.realpath(path)
    return real if os.path.isdir(real) else None


def same_file_system(one: Path, other: Path) -> bool:
    """Whether two places are on one file system; of what is not there, its nearest parent is."""
    return nearest_existing(one).stat().st_dev == nearest_existing(other).stat().st_dev


def nearest_existing(path: Path) -> Path:
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


def may_write(folder: str) -> bool:
    """Whether this user may make files in a folder that is there, by the system's word."""
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def shared_memory_fault() -> str | None:
    """Why model processes can't share memory, which xoscar needs to start them, or None."""
    if sys.platform != "linux":
        return None
    if not os.path.isdir(SHARED_MEMORY):
        return f"{SHARED_MEMORY} is not there"
    return None if may_write(SHARED_MEMORY) else f"{SHARED_MEMORY} may not be written to"


SHARED_MEMORY_HINT = (
    f"mount a tmpfs at {SHARED_MEMORY} that this user may write to (docker run --tmpfs"
    f" {SHARED_MEMORY}:mode=1777, or an emptyDir of medium Memory): no model can start without"
)
