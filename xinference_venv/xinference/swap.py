"""Put a new environment in the place of another in one step."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from xinference_venv.errors import StoreError
from xinference_venv.store.atomic import Disk, hint_for

# See rename(2) of Linux.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def put_in_place(disk: Disk, new: Path, place: Path, *, in_use: bool) -> None:
    """Let `place` be the directory that is at `new`; what was at `place`, if any, is at `new` then.

    Where the system can't exchange directories there is a moment without either: raises
    `StoreError` when the place is `in_use` then.
    """
    if not place.exists():
        disk.rename(new, place)
        return
    if not _exchanged(new, place):
        if in_use:
            raise StoreError(
                f"the file system of {place} can't exchange directories in one step, and processes"
                " run from this one",
                {"hint": "end these processes, and try again"},
            )
        aside = new.with_name("aside")
        disk.rename(place, aside)
        disk.rename(new, place)
        disk.rename(aside, new)
    disk.flush(place.parent)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two directories; false where the system has no way to."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    if rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    error = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if isinstance(error, PermissionError) or hint_for(error) is not None:
        raise StoreError(
            f"could not replace {other}: {error.strerror}", {"hint": hint_for(error)}
        ) from error
    return False
