"""The packages of an environment as files of its own, for a model that writes into them.

Comes in: where each name of a view leads. Comes out: the same names in a folder, real directories
with files that no other environment, package or host sees change. Blocks are shared where the
file system can do that, else files are copied. Two kinds are no copies: bytecode is a hard link,
which Python replaces and never writes into; and so are large shared objects, which nothing writes
into while processes have them mapped, and of which an environment has gigabytes. One of the host
is a symbolic link.

Much is placed by a light process and its forks, which a file tells what: each takes the next name.
Threads gain nothing, since most calls to the system take less time than to let another thread run.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from xinference_venv._util.files import write_private_file
from xinference_venv._util.forks import ERROR_STATUS, light_process, share_out
from xinference_venv._util.records import Record
from xinference_venv.store.paths import BYTECODE

# The request of Linux that lets two files share their blocks.
_FICLONE = 0x40049409
_LARGE_BYTES = 1 << 20
_SHARED_OBJECT = re.compile(r"\.so(\.\d+)*$")
_COPY_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Source(Record, name="where a name leads"):
    """Where a name of a view leads, and whether that is the host's."""

    path: str
    of_host: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed(Record, name="placed files"):
    """How many files were placed, and the bytes of those that are the environment's own."""

    files: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Placing(Record, name="files to place"):
    """What each name in a folder leads to, by so many forks of a process; what takes longest comes
    first.
    """

    sources: Mapping[str, Source]
    folder: str
    forks: int

    def command(self, file: Path) -> tuple[str, ...]:
        """What starts the process; makes the folder, and writes a file for it."""
        os.makedirs(self.folder)
        write_private_file(file, json.dumps(self.to_dict()).encode())
        return light_process(place, file)

    def result(self, exit_status: int, output: str) -> Placed | None:
        """What it placed, by what it has printed; None where it was ended before that. Raises the
        `OSError` that the process met.
        """
        lines = output.splitlines()
        if exit_status == ERROR_STATUS and lines:
            raise OSError(*json.loads(lines[-1]))
        if exit_status != 0 or len(lines) != len(self.sources):
            return None
        placed = [Placed.from_dict(json.loads(line)) for line in lines]
        return _together(placed)


def place(file: str) -> int:
    """Place what a file says, and print what that was; the exit status. The whole of a process."""
    asked = Placing.from_dict(json.loads(Path(file).read_bytes()))
    sources = list(asked.sources.items())

    def place_one(number: int) -> str:
        name, source = sources[number]
        try:
            placed = place_files({name: source}, Path(asked.folder))
        except OSError as error:
            print(json.dumps([error.errno, error.strerror, error.filename]), flush=True)
            sys.exit(ERROR_STATUS)
        return json.dumps(placed.to_dict())

    status, lines = share_out(len(sources), place_one, forks=asked.forks)
    print("\n".join(lines))
    return status


def place_files(sources: Mapping[str, Source], folder: Path) -> Placed:
    """Place what each name leads to in a folder that is there; raises `OSError`."""
    placed = []
    for name, source in sources.items():
        files = list(_files_of(source, str(folder), name, make=True))
        placed.append(Placed(files=len(files), size_bytes=_place(files)))
    return _together(placed)


def _together(placed: Iterable[Placed]) -> Placed:
    each = list(placed)
    return Placed(
        files=sum(one.files for one in each), size_bytes=sum(one.size_bytes for one in each)
    )


def place_file(source: Source, folder: Path, path: str) -> Placed:
    """The same for one file, at a path below a folder."""
    return Placed(files=1, size_bytes=_place([_file(source, source.path, str(folder), path)]))


def missing_files(sources: Mapping[str, Source], folder: Path) -> Iterator[str]:
    """The paths below a folder that `place_files` placed and that are not there any more.

    What else a model did with its files is its own affair. Of the host only names are looked for:
    its packages may have other files by now.
    """
    for name, source in sources.items():
        paths: Iterable[str] = (f"{folder}/{name}",)
        if not source.of_host:
            paths = (each.target for each in _files_of(source, str(folder), name, make=False))
        for path in paths:
            if not os.path.lexists(path):
                yield os.path.relpath(path, folder)


def is_never_written(name: str, size_bytes: int) -> bool:
    """Whether a file is one that two environments can share: bytecode, a large shared object."""
    is_object = ".so" in name and _SHARED_OBJECT.search(name) is not None
    return name.endswith(".pyc") or (is_object and size_bytes > _LARGE_BYTES)


class _Way(Enum):
    """How a file is placed: as one of the environment's own, as one inode with the store's or a
    link to the host's, or as a symbolic link with the same text.
    """

    COPY = auto()
    LINK = auto()
    SAME_TEXT = auto()


@dataclass(frozen=True, slots=True)
class _File:
    source: str
    target: str
    way: _Way
    of_host: bool


def _files_of(source: Source, folder: str, name: str, *, make: bool) -> Iterator[_File]:
    """The files at a place; directories are made with `make`, at once."""
    if not os.path.isdir(source.path):
        yield _file(source, source.path, folder, name)
        return
    pending = [(source, name)]
    while pending:
        here, path = pending.pop()
        if make:
            os.mkdir(f"{folder}/{path}")
        is_bytecode = os.path.basename(path) == BYTECODE
        with os.scandir(here.path) as entries:
            for entry in entries:
                below = f"{path}/{entry.name}"
                if (inner := _directory(entry, here)) is not None:
                    # The host's bytecode is that of any version.
                    if not (here.of_host and entry.name == BYTECODE):
                        pending.append((inner, below))
                elif not is_bytecode:
                    yield _file(here, entry.path, folder, below)
                elif make and entry.name.endswith(".pyc"):
                    yield _File(entry.path, f"{folder}/{below}", _Way.LINK, of_host=False)


def _directory(entry: os.DirEntry[str], inside: Source) -> Source | None:
    """An entry as a directory to enter; None for what is none.

    Links to directories are entered where the host has them, and where a joined tree has one in
    place of a part of the host.
    """
    if entry.is_dir(follow_symlinks=False):
        return Source(path=entry.path, of_host=inside.of_host)
    if entry.is_symlink() and entry.is_dir():
        of_host = inside.of_host or os.readlink(entry.path).startswith("/")
        return Source(path=entry.path, of_host=True) if of_host else None
    return None


def _file(source: Source, path: str, folder: str, below: str) -> _File:
    way = _Way.COPY
    if not source.of_host and os.path.islink(path):
        end = os.path.normpath(os.path.join(os.path.dirname(below), os.readlink(path)))
        # A joined tree may have a link to a large file of a member.
        way = _Way.COPY if end.startswith(("..", "/")) else _Way.SAME_TEXT
    if way is _Way.COPY and ".so" in path and _SHARED_OBJECT.search(path) is not None:
        way = _Way.LINK if os.stat(path).st_size > _LARGE_BYTES else _Way.COPY
    return _File(path, f"{folder}/{below}", way, source.of_host)


def _place(files: Iterable[_File]) -> int:
    """Place some files; the bytes that are the environment's own."""
    size = 0
    clones = True
    for each in files:
        if each.way is _Way.SAME_TEXT:
            os.symlink(os.readlink(each.source), each.target)
        elif each.way is _Way.COPY or not _link(each):
            copied, clones = _copy(each.source, each.target, clones=clones)
            size += copied
    return size


def _link(file: _File) -> bool:
    """Link to a file; False where that can't be done."""
    if file.of_host:
        os.symlink(file.source, file.target)
        return True
    try:
        os.link(os.path.realpath(file.source), file.target)
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
    left = size
    while left > 0:
        try:
            copied = os.sendfile(made, original, None, min(left, _COPY_BYTES))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Not on this file system.
            copied = os.write(made, os.read(original, min(left, 1 << 20)))
        if not copied:
            return
        left -= copied
