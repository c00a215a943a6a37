"""What the file system of a home can do, found out by doing it once, and kept with the home.

Comes in: a folder. Comes out: a `FileSystem`: which ways of locking, linking and moving work
there. It is tried again when something else is mounted there, or mounted otherwise. What can't
be foretold, as the move of a directory of an image's layer, is tried for each item.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.records import Record
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.sentences import sentence
from xinference_venv.store.atomic import Disk, exchange_by_system, temporary_path
from xinference_venv.store.copies import keep_mode_and_times
from xinference_venv.store.host_files import mount_of
from xinference_venv.store.locks import lock_fault

# The request of Linux that lets two files share their blocks (FICLONE of <linux/fs.h>).
_FICLONE = 0x40049409
_NAME = "file-system.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSystem(Record, name="file system", version=1):
    """What was tried at a place, as the words of what does not work; None where it works.

    `place` is where, `mounted` tells one mount of a file system from another one, `kind` is its
    name (``ext4``, ``overlay``), None where the system does not tell.
    """

    place: str
    mounted: tuple[int, ...]
    kind: str | None
    locks: str | None = None
    symbolic_links: str | None = None
    hard_links: str | None = None
    reflinks: str | None = None
    exchange: str | None = None
    executes: str | None = None
    modes: str | None = None
    keeps_modes: bool = True
    """Whether a file keeps the mode that it is given."""
    ignores_case: bool = False
    keeps_deleted: bool = False
    """Whether a file that is deleted while it is open stays under another name, as over NFS."""

    @property
    def faults(self) -> tuple[str, ...]:
        """Why environments can't be made there."""
        return tuple(filter(None, (self.locks, self.symbolic_links, self.executes, self.modes)))

    @property
    def has_layers(self) -> bool:
        """Whether what is there may be of a container's image: moved and linked by copying."""
        return self.kind == "overlay"

    @property
    def shares_files(self) -> bool:
        """Whether two files there can be one on the disk."""
        return self.hard_links is None or self.reflinks is None

    @property
    def link_mode(self) -> str:
        """How uv shall bring files from its cache to a home on the same file system.

        Where files can share blocks uv would clone them; no size tells then what a file takes by
        itself, so hard links are preferred (https://docs.astral.sh/uv/concepts/cache).
        """
        if self.hard_links is None:
            return "hardlink"
        return "clone" if self.reflinks is None else "copy"


def try_file_system(place: Path) -> FileSystem:
    """Try at a folder what environments need; raises `OSError` where nothing can be made."""
    mount = mount_of(place)
    trial = temporary_path(place / "trial")
    trial.mkdir(mode=0o700)
    try:
        file = trial / "a-file"
        os.close(os.open(file, os.O_CREAT | os.O_EXCL, 0o700))
        made = file.stat().st_mode
        modes = _fault(sentence("modes can't be set"), lambda: file.chmod(0o600))
        keeps_modes = made != file.stat().st_mode
        if modes is None:
            file.chmod(0o700)
        return FileSystem(
            place=str(place),
            mounted=mounted_at(place),
            kind=None if mount is None else mount.kind,
            locks=lock_fault(trial, fcntl.flock),
            symbolic_links=_fault(
                sentence("symbolic links don't work"),
                lambda: _follow(trial / "symbolic", Path("a-file")),
            )
            # As sshfs refuses them, to be safe from whoever serves it.
            or _fault(
                sentence("symbolic links that lead out of it don't work"),
                lambda: _follow(trial / "outward", Path(os.sep)),
            ),
            hard_links=_fault(
                sentence("hard links don't work"), lambda: (trial / "hard").hardlink_to(file)
            ),
            reflinks=_fault(
                sentence("files can't share blocks"), lambda: share_blocks(file, trial / "shared")
            ),
            exchange=_fault(sentence("two folders can't be exchanged"), lambda: _exchange(trial)),
            # The system refuses this of every file of a file system that is mounted noexec.
            executes=None if os.access(file, os.X_OK) else sentence("it is mounted noexec"),
            modes=modes,
            keeps_modes=keeps_modes,
            ignores_case=(trial / "A-FILE").exists(),
            keeps_deleted=_keeps_deleted(trial),
        )
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def kept_file_system(folder: Path, disk: Disk) -> FileSystem | None:
    """What was tried at a folder when it was mounted as it is now, if that was kept."""
    with suppress(InvalidRecord, StoreError):
        if (data := disk.read_json(folder / _NAME)) is not None:
            kept = FileSystem.from_dict(data)
            if kept.mounted == mounted_at(folder):
                return kept
    return None


def known_file_system(folder: Path, disk: Disk) -> FileSystem | None:
    """What was tried at a folder when it was mounted as it is now, else what is tried now.

    None where nothing can be made: it can still be looked at.
    """
    if (kept := kept_file_system(folder, disk)) is not None:
        return kept
    try:
        tried = try_file_system(folder)
    except OSError:
        return None
    # Another process may keep the same; where it can't be kept it is tried again.
    with suppress(StoreError):
        disk.write_json(folder / _NAME, tried.to_dict(), durable=False)
    return tried


def mounted_at(place: Path) -> tuple[int, ...]:
    """What tells one mount from another one, and whether it was mounted otherwise."""
    found, mount = os.stat(place), os.statvfs(place)
    return (found.st_dev, mount.f_fsid, mount.f_flag, os.geteuid())


def share_blocks(source: Path, target: Path) -> None:
    """Make a new file that shares the blocks of another one; raises `OSError` where it can't."""
    try:
        with source.open("rb") as original, target.open("xb") as made:
            fcntl.ioctl(made, _FICLONE, original.fileno())
    except OSError:
        target.unlink(missing_ok=True)
        raise
    keep_mode_and_times(source, target)


def _fault(what: str, attempt: Callable[[], object]) -> str | None:
    try:
        attempt()
    except OSError as error:
        return sentence("{what}: {error}", what=what, error=error.strerror or error)
    return None


def _follow(link: Path, target: Path) -> None:
    link.symlink_to(target)
    os.stat(link)


def _exchange(trial: Path) -> None:
    one, other = trial / "one", trial / "other"
    one.mkdir()
    other.mkdir()
    if not exchange_by_system(one, other):
        raise OSError(errno.ENOSYS, "the system has no such call, or refuses it")


def _keeps_deleted(trial: Path) -> bool:
    """As NFS does ("silly rename"): the folder of such a file can't be deleted."""
    folder = trial / "deleted"
    folder.mkdir()
    with (folder / "open").open("xb"):
        (folder / "open").unlink()
        return os.listdir(folder) != []
