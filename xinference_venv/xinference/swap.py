"""Put a new environment in the place of another: in one step, or adding to one that is in use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from xinference_venv.errors import StoreError
from xinference_venv.store.atomic import Disk, details_of, exchange_by_system
from xinference_venv.store.copies import copy_file, copy_tree
from xinference_venv.store.paths import IN_PLACE_RECORD_NAME
from xinference_venv.store.use_lock import USE_NAME

UNFINISHED = ".xinference-venv"
"""How the name of a copy ends until it is whole."""


def put_in_place(
    disk: Disk, new: Path, place: Path, *, in_use: bool, same_lock: bool = True
) -> None:
    """Let `place` be the directory that is at `new`; what was at `place`, if any, is at `new` then.

    Where the system can't exchange directories (of a lower layer of an overlay: EXDEV of
    rename(2)), there is a moment without either. One that is `in_use` gets the files that are new
    or others instead, each in one step: it may only grow. So does one whose users hold a lock
    that the new one has not (`same_lock`). After a crash the next call adds the rest.
    """
    if not place.exists():
        disk.rename(new, place)
        return
    if in_use and not (same_lock and exchange_by_system(new, place)):
        try:
            _add(new, place)
        except OSError as error:
            message = f"could not add to {place}: {error}"
            raise StoreError(message, details_of(error, place)) from error
    elif not in_use:
        disk.exchange(new, place)
    disk.flush(place.parent)


def _add(new: Path, place: Path) -> None:
    """Copy into a directory what it has not, or has otherwise."""
    for entry, target in sorted(_lacking(str(new), str(place)), key=_order):
        if entry.is_dir(follow_symlinks=False):
            _put_directory(entry, target)
        else:
            _replace(entry, target)


def _order(step: tuple[os.DirEntry[str], str]) -> int:
    """What says that a distribution is there comes after its files, and last the record of all:
    a crash leaves nothing that is taken for whole and is not.
    """
    entry, _ = step
    if entry.name == IN_PLACE_RECORD_NAME:
        return 2
    return any(kind in entry.path for kind in (".dist-info", ".egg-info"))


def _lacking(new: str, place: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    """What a directory has not, or has otherwise, each with its place there."""
    with os.scandir(new) as entries:
        for entry in entries:
            target = f"{place}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if os.path.isdir(target) and not os.path.islink(target):
                    yield from _lacking(entry.path, target)
                else:
                    yield entry, target
            elif entry.name != USE_NAME and not _is_same(entry, target):
                yield entry, target


def _is_same(entry: os.DirEntry[str], target: str) -> bool:
    try:
        found = os.lstat(target)
    except OSError:
        return False
    if entry.is_symlink():
        return os.path.islink(target) and os.readlink(entry.path) == os.readlink(target)
    new = entry.stat(follow_symlinks=False)
    return (new.st_size, new.st_mtime_ns) == (found.st_size, found.st_mtime_ns)


def _put_directory(entry: os.DirEntry[str], target: str) -> None:
    """Copy a directory to where there is nothing, or a link to the host's in its place."""
    temporary = _unfinished(target)
    copy_tree(entry.path, temporary)
    if os.path.lexists(target):
        os.unlink(target)
    os.rename(temporary, target)


def _replace(entry: os.DirEntry[str], target: str) -> None:
    temporary = _unfinished(target)
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), temporary)
    else:
        copy_file(entry.path, temporary)
    if os.path.isdir(target) and not os.path.islink(target):
        # The folder had a part of what the link shows.
        part = _unfinished(f"{target}-part")
        os.rename(target, part)
        os.rename(temporary, target)
        shutil.rmtree(part)
        return
    os.replace(temporary, target)


def _unfinished(target: str) -> str:
    """Where a copy for a place is made; what a crash left there is gone."""
    path = f"{target}{UNFINISHED}"
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
    return path
