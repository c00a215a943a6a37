"""What lies on the disk around a request: pip's configuration, folders that it names."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.records import digest_of
from xinference_venv.sentences import sentence
from xinference_venv.store.process_identity import boot
from xinference_venv.store.visit import read_regular

# How a blank and its like are written in /proc/self/mountinfo.
_ESCAPED = re.compile(r"\\([0-7]{3})")
NO_INODES = 1_000
"""With fewer inodes than this left no environment can be made."""
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


def disk_id(place: Path) -> str:
    """The same text for all places on one file system of this machine, in containers too."""
    return digest_of([boot(), os.stat(place).st_dev])[:16]


def folder_id(place: Path) -> str:
    """The same text for one folder of this machine, wherever containers have it."""
    found = os.stat(place)
    return digest_of([boot(), found.st_dev, found.st_ino])[:16]


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


def free_inodes(place: Path) -> int | None:
    """How many more files and folders this user can make at a place, or the nearest above it that
    is there; None where the file system sets no limit, or does not tell.
    """
    try:
        found = os.statvfs(nearest_existing(place))
    except OSError:
        return None
    return found.f_favail if found.f_files else None


def quota_left(place: Path, wanted: int) -> int | None:
    """About how many bytes a quota leaves at a folder, None where it leaves `wanted` or more.

    No figure of a file system tells of quotas, so it is tried: the space is allotted to a file
    that has no name, and is free again at once.
    """
    import tempfile

    # In memory this would take what it tries to find out.
    if wanted <= 0 or (mount := mount_of(place)) is None or mount.kind in ("tmpfs", "ramfs"):
        return None
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            if _allot(file.fileno(), wanted) != errno.EDQUOT:
                return None
            least, most = 0, wanted
            while most - least > max(1 << 20, most // 16):
                middle = (least + most) // 2
                os.ftruncate(file.fileno(), 0)
                if _allot(file.fileno(), middle):
                    most = middle
                else:
                    least = middle
    except OSError as error:
        return 0 if error.errno == errno.EDQUOT else None
    return least


def _allot(file: int, size: int) -> int:
    """Let a file have so many bytes of the disk (fallocate(2)); the system's error, or 0."""
    import ctypes

    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except (AttributeError, OSError):
        return errno.ENOSYS
    # What glibc's posix_fallocate does where a file system can't would write every block.
    done: int = fallocate(file, 0, ctypes.c_int64(0), ctypes.c_int64(size))
    return ctypes.get_errno() if done else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """What is mounted at a place: the file system's name, and its options."""

    kind: str
    options: Mapping[str, str]


# Of these the kernel, or the server, keeps flock(2) on each host by itself, whatever the options.
_LOCKS_OF_ONE_HOST = frozenset({"9p", "virtiofs", "fuse.sshfs"})
_LOCAL_LOCKS = {
    "nfs": ("local_lock=flock", "local_lock=all"),
    "nfs4": ("local_lock=flock", "local_lock=all"),
    "lustre": ("localflock",),
    "cifs": ("nobrl",),
    "smb3": ("nobrl",),
}


def locks_of_one_host(mount: Mount) -> str | None:
    """What says that the locks of a mount are not seen by other hosts that share it, if anything.

    Of other file systems in user space (``fuse.``) no one can tell.
    """
    if mount.kind in _LOCKS_OF_ONE_HOST:
        return mount.kind
    options = {f"{name}={value}" if value else name for name, value in mount.options.items()}
    found = next((each for each in _LOCAL_LOCKS.get(mount.kind, ()) if each in options), None)
    return None if found is None else f"{mount.kind}, {found}"


def mount_of(place: Path) -> Mount | None:
    """What a place lies on; None where the system does not tell."""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    real = os.path.realpath(place)
    found: tuple[int, Mount] | None = None
    for line in lines:
        before, _, after = line.partition(" - ")
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), before.split()[4])
        inside = real == point or real.startswith(f"{point.rstrip('/')}/")
        # Of several at one place the last one counts.
        if inside and (found is None or len(point) >= found[0]):
            kind, _, options = after.split(" ", 2)
            pairs = (each.partition("=") for each in options.split(","))
            found = (
                len(point),
                Mount(kind=kind, options={name: value for name, _, value in pairs}),
            )
    return None if found is None else found[1]


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


SHARED_MEMORY_HINT = sentence(
    "mount a tmpfs at {shared_memory} that this user may write to (docker run"
    " --tmpfs {shared_memory}:mode=1777, or an emptyDir of medium Memory): no"
    " model can start without",
    shared_memory=SHARED_MEMORY,
)
