"""Files of an environment's own, made one by one of what the names of a view lead to.

Comes in: a name, where it leads and whether that is the host's. Comes out: the same in a folder.
`store.envs.real_files` says which files are copies and which are links.

It is all that the light process imports that places many: what its modules take to be imported is
paid at each launch. So they are few, paths are text, and the file that tells it what to do has
paths with NUL between them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from contextlib import suppress

from xinference_venv._util.forks import ERROR_STATUS, share_out

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# The request of Linux that lets two files share their blocks.
_FICLONE = 0x40049409
_LARGE_BYTES = 1 << 20
_COPY_BYTES = 1 << 30
# As `store.paths` has it, which imports much.
_BYTECODE = "__pycache__"
_SEPARATOR = b"\0"

FOLDER = "folder"
COPY = "copy"
LINK = "link"
"""One inode with the store's, or a link to the host's."""
SAME_TEXT = "same text"
"""A symbolic link with the same text."""
COMPILED = "compiled"
"""Bytecode, which is a link as well."""

# One of these, the host's or not, where it is, and the path that it gets below a folder.
Entry = tuple[str, bool, str, str]


def place_from_file(file: str) -> int:
    """Place what a file says, and print of each name how many files that were, and their bytes;
    the exit status. The whole of a process.
    """
    with open(file, "rb", buffering=0) as stream:
        folder, forks, *words = map(os.fsdecode, stream.readall().split(_SEPARATOR))

    def place_one(number: int) -> str:
        kind, name, path = words[3 * number : 3 * number + 3]
        try:
            files, size_bytes = place_name(path, bool(kind), folder, name)
        except OSError as error:
            import json

            print(json.dumps([error.errno, error.strerror, error.filename]), flush=True)
            sys.exit(ERROR_STATUS)
        return f"{files} {size_bytes}"

    status, lines = share_out(len(words) // 3, place_one, forks=int(forks))
    print("\n".join(lines))
    return status


def placing_file(folder: str, forks: int, names: Sequence[tuple[str, str, bool]]) -> bytes:
    """What `place_from_file` reads: of each name where it leads, and whether that is the host's."""
    words = [folder, str(forks)]
    for name, path, of_host in names:
        words += ("host" if of_host else "", name, path)
    return _SEPARATOR.join(map(os.fsencode, words))


def place_name(path: str, of_host: bool, folder: str, name: str) -> tuple[int, int]:
    """Place in a folder what a name leads to; how many files that are, and the bytes of those that
    are the environment's own. Raises `OSError`.
    """
    return place_entries(entries_of(path, of_host, name), folder)


def place_entries(entries: Iterable[Entry], folder: str) -> tuple[int, int]:
    """The same for what was found at places, directories first."""
    files = size_bytes = 0
    clones = True
    for way, of_host, source, below in entries:
        target = f"{folder}/{below}"
        if way is FOLDER:
            os.mkdir(target)
            continue
        files += 1
        if way is SAME_TEXT:
            os.symlink(os.readlink(source), target)
        elif way is COPY or not _link(source, target, of_host=of_host):
            copied, clones = _copy(source, target, clones=clones)
            size_bytes += copied
    return files, size_bytes


def entries_of(path: str, of_host: bool, name: str) -> Iterator[Entry]:
    """What is at a place and below it, directories before what is in them.

    Those for bytecode are left out where they are empty: Python makes them.
    """
    if not os.path.isdir(path):
        yield entry_at(path, of_host, name, is_link=os.path.islink(path))
        return
    pending = [(path, of_host, name)]
    while pending:
        path, of_host, name = pending.pop()
        with os.scandir(path) as found:
            entries = list(found)
        is_bytecode = name.rpartition("/")[2] == _BYTECODE
        if entries or not is_bytecode:
            yield FOLDER, of_host, path, name
        for entry in entries:
            below = f"{name}/{entry.name}"
            if (host := _owner_of_directory(entry, of_host)) is not None:
                # The host's bytecode is that of any version.
                if not (of_host and entry.name == _BYTECODE):
                    pending.append((entry.path, host, below))
            elif not is_bytecode:
                yield entry_at(entry.path, of_host, below, is_link=entry.is_symlink())
            elif entry.name.endswith(".pyc"):
                yield COMPILED, False, entry.path, below


def entry_at(path: str, of_host: bool, below: str, *, is_link: bool) -> Entry:
    """What is no directory, and how it is placed at `below`."""
    if is_link and not of_host:
        end = os.path.normpath(os.path.join(os.path.dirname(below), os.readlink(path)))
        # A joined tree may have a link to a large file of a member.
        if not end.startswith(("..", "/")):
            return SAME_TEXT, of_host, path, below
    if is_shared_object(path) and is_large(os.stat(path).st_size):
        return LINK, of_host, path, below
    return COPY, of_host, path, below


def is_shared_object(path: str) -> bool:
    """Whether a file is an extension module or a shared library, by its name."""
    if ".so" not in path:
        return path.endswith((".pyd", ".dylib"))
    if path.endswith((".so", ".pyd", ".dylib")):
        return True
    # ``libx.so.1.2`` is how wheels that carry libraries name them.
    _, found, version = path.rpartition(".so.")
    return found != "" and all(part.isdecimal() for part in version.split("."))


def is_large(size_bytes: int) -> bool:
    """Whether a shared object of this size is a link."""
    return size_bytes > _LARGE_BYTES


def _owner_of_directory(entry: os.DirEntry[str], of_host: bool) -> bool | None:
    """Whether an entry is a directory to enter that is the host's; None for what is none to enter.

    Links to directories are entered where the host has them, and where a joined tree has one in
    place of a part of the host.
    """
    if entry.is_dir(follow_symlinks=False):
        return of_host
    if entry.is_symlink() and entry.is_dir():
        return True if of_host or os.readlink(entry.path).startswith("/") else None
    return None


def _link(source: str, target: str, *, of_host: bool) -> bool:
    """Link to a file; False where that can't be done."""
    if of_host:
        os.symlink(source, target)
        return True
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        # No hard links here, no more of this file, or none of another user's.
        return False
    return True


def _copy(source: str, target: str, *, clones: bool) -> tuple[int, bool]:
    """Copy a file with its times, so that bytecode stays valid, for its owner to write.

    Returns its bytes, and whether blocks can be shared here.
    """
    original = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(original)
        mode = stat.S_IMODE(found.st_mode) & 0o777 | stat.S_IWUSR
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        made = os.open(target, flags, mode)
        try:
            if found.st_size:
                clones = clones and _clone(original, made)
                if not clones:
                    _copy_content(original, made, found.st_size)
            # Some mounts refuse it; bytecode is then compiled again.
            with suppress(OSError):
                os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(made)
    finally:
        os.close(original)
    return found.st_size, clones


def _clone(original: int, made: int) -> bool:
    try:
        fcntl.ioctl(made, _FICLONE, original)
    except OSError:
        return False
    return True


def _copy_content(original: int, made: int, size: int) -> None:
    done = 0
    while done < size:
        try:
            copied = os.sendfile(made, original, done, min(size - done, _COPY_BYTES))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Not on this file system.
            copied = os.write(made, os.pread(original, min(size - done, 1 << 20), done))
        if not copied:
            return
        done += copied
