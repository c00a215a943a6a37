"""What tells whether a file or directory has changed since it was looked at."""

from __future__ import annotations

import os
from pathlib import Path

Stamp = tuple[int, ...]
"""Inode, size, times of content and of status in nanoseconds; empty for what is not there."""


def stamp_of(path: str | Path) -> Stamp:
    """The stamp of a file or directory, links followed."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def directory_identity(path: Path) -> tuple[int, int] | None:
    """Which directory stands at a path; another one has another identity."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
