"""What the file system of a home can do, found out by doing it in a folder of its own.

Comes in: where the home is or would be, and uv's cache. Comes out: the first thing that does not
work, in words, and what else there is to know of the place. Nothing stays behind.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from xinference_venv.diagnosis.host_checks import ProbedHome
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.inventory.lease import Holder, judge
from xinference_venv.store.atomic import Disk
from xinference_venv.store.file_system import try_file_system
from xinference_venv.store.host_files import locks_of_one_host, mount_of, nearest_existing
from xinference_venv.store.keys import names_in
from xinference_venv.store.locks import LockNote
from xinference_venv.store.process_identity import process_start, this_process

_PREFIX = ".xinference-venv-doctor-"


def probe_home(folder: Path, cache: Path) -> ProbedHome:
    """Try out what environments need; blocks on the disk."""
    place = nearest_existing(folder)
    try:
        tried = try_file_system(place)
        mount = mount_of(place)
        return ProbedHome(
            place=str(place),
            writable=None,
            tried=tried,
            cache=_cache_links(place, nearest_existing(cache)),
            locks_of_one_host=None if mount is None else locks_of_one_host(mount),
        )
    except OSError as error:
        return ProbedHome(place=str(place), writable=error.strerror or str(error))


def open_to_all(path: Path) -> list[str]:
    """The path and the folders above it that anybody may change (mode o+w).

    One with the sticky bit does not count: there no user replaces another's files. The path counts
    also for the folders of its store: a process whose umask was 0 made them so.
    """
    found = [each for each in (path, *path.parents) if _may_be_changed(each)]
    if path not in found and all(_mode_of(each) & stat.S_IXOTH for each in (path, *path.parents)):
        store = path / "store"
        if any(map(_may_be_changed, (store, *store.glob("*/")))):
            found.insert(0, path)
    return list(map(str, found))


def _may_be_changed(folder: Path) -> bool:
    mode = _mode_of(folder)
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def _mode_of(folder: Path) -> int:
    try:
        return folder.stat().st_mode
    except OSError:
        return 0


def lock_holders(folder: Path) -> tuple[list[str], list[str]]:
    """Who holds the locks of a store by their notes, and which of these processes are stopped.

    No lock is taken: who wants one is not held up.
    """
    held, stopped = [], []
    here = this_process()
    for name in names_in(str(folder)):
        try:
            # Of hundreds of locks hardly one is held.
            if not os.stat(f"{folder}/{name}").st_size:
                continue
            note = LockNote.from_dict(Disk().read_json(folder / name))
        except (InvalidRecord, StoreError, OSError):
            # It is not held, or its holder writes its note just now.
            continue
        if judge(note.process, here, process_start) is not Holder.ALIVE:
            continue
        held.append(str(note))
        # Mostly no lock is held: what tells of processes is not imported then.
        import psutil

        with suppress(psutil.Error):
            if psutil.Process(note.process.pid).status() == psutil.STATUS_STOPPED:
                stopped.append(str(note))
    return held, stopped


def _cache_links(place: Path, cache: Path) -> str | None:
    """Bind mounts of one file system can't be linked either, so only an attempt tells."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=cache)
    except OSError as error:
        return f"{cache} can't be written to: {error.strerror or error}"
    os.close(descriptor)
    link = place / f"{os.path.basename(name)}-from-cache"
    try:
        link.hardlink_to(name)
    except OSError as error:
        return f"hard links don't work: {error.strerror or error}"
    else:
        link.unlink()
        return None
    finally:
        Path(name).unlink()
