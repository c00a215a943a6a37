"""What the file system of a home can do, found out by doing it in a folder of its own.

Comes in: where the home is or would be, and uv's cache. Comes out: the first thing that does not
work, in words, and what else there is to know of the place. Nothing stays behind.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

from xinference_venv.diagnosis.host_checks import FileSystem
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.inventory.lease import Holder, judge
from xinference_venv.store.atomic import Disk
from xinference_venv.store.host_files import nearest_existing
from xinference_venv.store.keys import names_in
from xinference_venv.store.locks import LockNote, check_locking
from xinference_venv.store.process_identity import process_start, this_process


def probe_file_system(folder: Path, cache: Path) -> FileSystem:
    """Try out what environments need; blocks on the disk."""
    place = nearest_existing(folder)
    try:
        trial = Path(tempfile.mkdtemp(prefix=".xinference-venv-doctor-", dir=place))
    except OSError as error:
        return FileSystem(place=str(place), writable=error.strerror or str(error))
    try:
        file = trial / "a-file"
        file.write_text("#!/bin/sh\n")
        file.chmod(0o700)
        return FileSystem(
            place=str(place),
            writable=None,
            locks=_locks(trial),
            links=_links(trial, file),
            # The system refuses this of every file of a file system that is mounted noexec.
            executable=None if os.access(file, os.X_OK) else "it is mounted noexec",
            cache=_cache_links(trial, nearest_existing(cache)),
            ignores_case=(trial / "A-FILE").exists(),
        )
    except OSError as error:
        return FileSystem(place=str(place), writable=error.strerror or str(error))
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def open_to_all(path: Path) -> list[str]:
    """The path and the folders above it that anybody may change (mode o+w).

    One with the sticky bit does not count: there no user replaces another's files.
    """
    found = []
    for each in (path, *path.parents):
        with suppress(OSError):
            mode = each.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                found.append(str(each))
    return found


def lock_holders(folder: Path) -> tuple[list[str], list[str]]:
    """Who holds the locks of a store by their notes, and which of these processes are stopped.

    No lock is taken: who wants one is not held up.
    """
    held, stopped = [], []
    here = this_process()
    for name in names_in(str(folder)):
        try:
            note = LockNote.from_dict(Disk().read_json(folder / name))
        except (InvalidRecord, StoreError):
            # It is not held, or its holder writes its note just now.
            continue
        if judge(note.process, here, process_start) is not Holder.ALIVE:
            continue
        held.append(str(note))
        with suppress(psutil.Error):
            if psutil.Process(note.process.pid).status() == psutil.STATUS_STOPPED:
                stopped.append(str(note))
    return held, stopped


def _locks(trial: Path) -> str | None:
    try:
        check_locking(trial)
    except StoreError as error:
        return error.message
    return None


def _links(trial: Path, file: Path) -> str | None:
    try:
        (trial / "symbolic").symlink_to(file)
    except OSError as error:
        return f"symbolic links don't work: {error.strerror or error}"
    return _hard_link(file, trial / "hard")


def _hard_link(file: Path, link: Path) -> str | None:
    try:
        link.hardlink_to(file)
    except OSError as error:
        return f"hard links don't work: {error.strerror or error}"
    return None


def _cache_links(trial: Path, cache: Path) -> str | None:
    """Bind mounts of one file system can't be linked either, so only an attempt tells."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=".xinference-venv-doctor-", dir=cache)
    except OSError as error:
        return f"{cache} can't be written to: {error.strerror or error}"
    os.close(descriptor)
    try:
        fault = _hard_link(Path(name), trial / "from-cache")
    finally:
        Path(name).unlink()
    return fault
