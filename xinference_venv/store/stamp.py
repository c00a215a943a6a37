"""What tells whether a file or directory has changed since it was looked at."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from xinference_venv.store.visit import read_regular

Stamp = tuple[int, ...]
"""Inode, size, times of content and of status in nanoseconds; empty for what is not there.

A fifth number is a digest of the content.
"""

# Metadata and path files are smaller; interpreters, which are rarely linked, are larger.
_SMALL = 1 << 20


def stamp_of(path: str | Path) -> Stamp:
    """The stamp of a file or directory, links followed."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def stamp_with_content(path: str | Path) -> Stamp:
    """As `stamp_of`, for `renew`; a small file's has a digest of its content."""
    stamp = stamp_of(path)
    digest = _digest(path) if stamp and stamp[1] <= _SMALL else None
    return stamp if digest is None else (*stamp, digest)


def renew(path: str | Path, stamp: Stamp) -> Stamp | None:
    """The stamp that it has now of what has not changed since it got this one, else None.

    A further hard link, a mode and a backup change the time of a file's status alone: uv links the
    files of its cache into each environment that it makes, the host's METADATA among them. Then the
    content decides.
    """
    now = stamp_of(path)
    if now == stamp[:4]:
        return stamp
    if len(stamp) == 5 and now[:3] == stamp[:3] and _digest(path) == stamp[4]:
        return (*now, stamp[4])
    return None


def _digest(path: str | Path) -> int | None:
    try:
        content = read_regular(path)
    except (OSError, ValueError):
        return None
    # As many bits as every reader of JSON keeps.
    return int.from_bytes(hashlib.blake2b(content, digest_size=6).digest())


def directory_identity(path: Path) -> tuple[int, int] | None:
    """Which directory stands at a path; another one has another identity."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
