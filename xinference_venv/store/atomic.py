"""The only operations that change the disk, each done whole or not at all.

A file or a link is made under a temporary name in the same folder and renamed; a directory is
moved to the trash before it is deleted: no process ever sees half of any of them. A temporary name
says which process made it, so that a sweep can delete what a crash left. Nothing is changed through
a symbolic link among the parents of a path: callers pass resolved paths.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import sys
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from xinference_venv._util.records import digest_of
from xinference_venv.errors import InvalidInput, InvalidRecord, StoreError
from xinference_venv.inventory.lease import Holder, ProcessIdentity, judge
from xinference_venv.sentences import sentence
from xinference_venv.store.copies import copy_tree
from xinference_venv.store.host_files import NO_INODES, free_inodes
from xinference_venv.store.process_identity import process_start, this_process
from xinference_venv.store.visit import SkippedItems, read_regular

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_ATTEMPTS = 1000
# Python deletes a tree by one call of itself, with an open directory, for each level.
_MOST_LEVELS = 100
_FULL = sentence(
    "free some space on this file system; `xinference-venv gc` deletes what is not needed"
)
_NO_INODES_LEFT = sentence(
    "this file system has no inodes left for more files (`df -i`): delete some, `xinference-venv"
    " gc` deletes what is not needed, or put XINFERENCE_HOME on another one"
)
_QUOTA = sentence(
    "the quota of this user or folder is used up (`quota`): have it raised,"
    " or free some space; `xinference-venv gc` deletes what is not needed"
)
_CLOSED = sentence(
    "this user must be able to write there: see the folder's owner, mode and file system"
)
_TOO_LARGE = sentence(
    "this process may not write files of this size: raise its limit (`ulimit -f`), or put the home"
    " on a file system that can hold them"
)
_HINTS = {
    errno.EFBIG: _TOO_LARGE,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _QUOTA,
    errno.ENOTDIR: sentence("a file stands where a folder must be: correct the path"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _CLOSED),
}
# What the system answers where a process may not set the times of a file.
_NO_TIMES = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP})
_TEMPORARY_NAME = re.compile(
    r"\..+\.(?P<where>[0-9a-f]{12})-(?P<pid>[0-9]{1,9})-(?P<start>[0-9a-f.@:-]*)-[0-9a-f]{8}"
)
_T = TypeVar("_T")


class Disk:
    """The operations; every failure of the system is a `StoreError` that names the path.

    `skipped` is what could not be visited, read or deleted by those who visit many items.
    """

    def __init__(self) -> None:
        self.skipped = SkippedItems()

    def make_directory(self, path: Path, mode: int = 0o755) -> None:
        """Make a directory and its parents; one that is there is left as it is."""
        try:
            path.mkdir(mode=mode, parents=True, exist_ok=True)
        except FileNotFoundError as error:
            # As in /proc, whose folders are the system's alone.
            failure = _failure("make the directory", path, error)
            raise StoreError(failure.message, {**failure.details, "hint": _CLOSED}) from error
        except OSError as error:
            raise _failure("make the directory", path, error) from error

    def write(self, path: Path, content: bytes, *, durable: bool, mode: int = 0o644) -> None:
        """Write a file whole; `durable` ones survive a power cut once this returns."""
        check_no_link_above(path)
        temporary = temporary_path(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            opened = _in_new_directory(temporary, lambda: os.open(temporary, flags, mode))
            with os.fdopen(opened, "wb") as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
            if durable:
                self.flush(path.parent)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise _failure("write", path, error) from error

    def append(self, path: Path, content: bytes) -> None:
        """Add to the end of a file that is there; what could not be added whole is taken back."""
        try:
            with path.open("r+b", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                try:
                    while content:
                        content = content[file.write(content) :]
                except OSError:
                    file.truncate(end)
                    raise
        except OSError as error:
            raise _failure("write to", path, error) from error

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file whole; it survives a power cut once this returns."""
        check_no_link_above(target)
        temporary = temporary_path(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as original, temporary.open("xb") as file:
                shutil.copyfileobj(original, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            self.flush(target.parent)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise _failure("write", target, error) from error

    def write_json(self, path: Path, value: Mapping[str, Any], *, durable: bool) -> None:
        """Write plain JSON values whole."""
        text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
        self.write(path, text.encode(), durable=durable)

    def rewrite_json(self, path: Path, value: Mapping[str, Any], *, durable: bool) -> None:
        """Write plain JSON values whole; further keys of those that stand there are kept.

        They are of a later version of this program, which must not lose what it noted. Of a
        damaged file nothing is kept.
        """
        try:
            current = self.read_json(path)
        except InvalidRecord:
            current = None
        kept = current if isinstance(current, dict) else {}
        self.write_json(path, {**kept, **value}, durable=durable)

    def touch(self, path: Path) -> None:
        """Set the times of a file or a directory to now; one that is gone is fine.

        Only its owner may, and on some mounts not even that one: there a file is replaced by one
        with the same content, and a directory gets an entry for a moment, which sets its time.
        """
        try:
            os.utime(path)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in _NO_TIMES:
                raise _failure("touch", path, error) from error
            if path.is_file():
                self.write(path, read_regular(path), durable=False)
                return
            entry = temporary_path(path / "touch")
            try:
                entry.mkdir()
                entry.rmdir()
            except OSError:
                raise _failure("touch", path, error) from error

    def read_json(self, path: Path) -> Any | None:
        """Read plain JSON values; None when there is no file, `InvalidRecord` when damaged."""
        try:
            value = json.loads(read_regular(path, follow=False))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, RecursionError, IsADirectoryError) as error:
            raise InvalidRecord(
                sentence("{path} is damaged: {error}", path=path, error=error)
            ) from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise InvalidRecord(
                    sentence("{path} is damaged: {error}", path=path, error=error.strerror)
                ) from None
            raise _failure("read", path, error) from error
        if value is None:
            # It is there, so it must not pass for one that is not.
            raise InvalidRecord(sentence("{path} is damaged: it holds nothing but null", path=path))
        return value

    def swap_link(self, link: Path, target: Path) -> None:
        """Point a link at a target in one step; what is there must be a link or nothing."""
        check_no_link_above(link)
        temporary = temporary_path(link)
        try:
            if os.path.lexists(link) and not link.is_symlink():
                raise StoreError(
                    sentence("{link} is a directory that this program did not make", link=link),
                    {"hint": sentence("remove it with `xinference-venv remove`, or move it away")},
                )
            _in_new_directory(temporary, lambda: temporary.symlink_to(target))
            temporary.replace(link)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise _failure("link", link, error) from error

    def rename(self, source: Path, target: Path, *, durable: bool = True) -> None:
        """Give a directory its final name.

        A `durable` one survives a power cut once this returns. Where the system can't rename it,
        a copy in the same folder gets the name in one step: from another file system, or of a
        lower layer of an overlay (rename(2): EXDEV; the kernel's filesystems/overlayfs.rst,
        "redirect_dir").
        """
        check_no_link_above(source, target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._rename_or_copy(source, target)
            if durable:
                self.flush(target.parent)
        except OSError as error:
            raise _failure("rename to", target, error) from error

    def exchange(self, one: Path, other: Path) -> None:
        """Let two directories of one file system change places; in one step where it can do that.

        Where it can't, there is a moment in which the second one is not at its place.
        """
        check_no_link_above(one, other)
        try:
            if not exchange_by_system(one, other):
                aside = temporary_path(one)
                self._rename_or_copy(other, aside)
                try:
                    self._rename_or_copy(one, other)
                except OSError:
                    # It would be deleted as what a crash left.
                    with suppress(OSError):
                        self._rename_or_copy(aside, other)
                    raise
                self._rename_or_copy(aside, one)
        except OSError as error:
            raise _failure("exchange", other, error) from error

    def _rename_or_copy(self, source: Path, target: Path) -> None:
        try:
            source.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._move_by_copy(source, target)

    def _move_by_copy(self, source: Path, target: Path) -> None:
        copy = temporary_path(target)
        try:
            copy_tree(source, copy)
            copy.rename(target)
        except OSError:
            shutil.rmtree(copy, ignore_errors=True)
            raise
        self.delete(source)

    def flush(self, directory: Path) -> None:
        """Let the names in a directory survive a power cut."""
        try:
            opened = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        except OSError as error:
            raise _failure("flush", directory, error) from error

    def unlink(self, path: Path) -> None:
        """Remove a file or a link; one that is gone is fine."""
        check_no_link_above(path)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise _failure("remove", path, error) from error

    def remove_empty(self, path: Path) -> bool:
        """Remove a directory if it is empty; tells whether it is gone."""
        if not is_real(os.fspath(path.parent)):
            return False
        try:
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def move_to_trash(self, path: Path, trash: Path) -> Path | None:
        """Move a directory to the trash, where it is at the path returned; None if it is gone.

        What the system can't move, a directory of a lower layer of an overlay, is deleted in its
        place, its own files first: among them is the record without which nothing is whole.
        """
        trashed = trash / uuid.uuid4().hex
        check_no_link_above(path, trashed)
        try:
            trash.mkdir(parents=True, exist_ok=True)
            path.rename(trashed)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise _failure("remove", path, error) from error
            self._delete_in_place(path)
            return None
        return trashed

    def _delete_in_place(self, path: Path) -> None:
        for entry in self.skipped.entries(path):
            if not entry.is_dir(follow_symlinks=False):
                self.unlink(Path(entry.path))
        self.delete(path)

    def discard(self, path: Path, trash: Path) -> None:
        """Delete a directory by way of the trash; one that is gone is fine.

        What can't be deleted stays in the trash, and is kept in `skipped`.
        """
        trashed = self.move_to_trash(path, trash)
        if trashed is not None:
            with self.skipped.visiting(trashed):
                self.delete(trashed)

    def delete(self, path: Path) -> None:
        """Delete a file or a tree that nothing refers to any more; links are not followed.

        All that can be deleted is. Of what can't, the error names the first.
        """
        check_no_link_above(path)
        try:
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
                return
        except OSError as error:
            raise _failure("delete", path, error) from error
        if _delete_tree(path):
            # A directory that was made read-only keeps its entries, and so does one that lies too
            # deep: open and flatten them, try again.
            _open_directories(path)
            if failures := _delete_tree(path):
                failed, first = failures[0]
                raise _failure("delete", failed, first) from first


def _delete_tree(path: Path) -> list[tuple[Path, OSError]]:
    """Delete what can be deleted of a tree; the rest, each with the system's word.

    What another process deleted in between is gone, and no failure.
    """
    failures: list[tuple[Path, OSError]] = []

    def keep(failed: str, error: BaseException) -> None:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            failures.append((Path(failed), error))

    try:
        if sys.version_info >= (3, 12):
            shutil.rmtree(path, onexc=lambda _, failed, error: keep(failed, error))
        else:
            shutil.rmtree(path, onerror=lambda _, failed, about: keep(failed, about[1]))
    except RecursionError:
        keep(str(path), OSError(errno.ENAMETOOLONG, "it has too many levels of directories"))
    return failures


def _open_directories(path: Path) -> None:
    """Let the owner change every directory of a tree, as far as the system lets us.

    Those that lie deep are moved to the top of the tree.
    """
    folders = [(os.fspath(path), 0)]
    while folders:
        folder, level = folders.pop()
        with suppress(OSError):
            os.chmod(folder, stat.S_IRWXU)
            if level > _MOST_LEVELS:
                top = os.path.join(path, uuid.uuid4().hex)
                os.rename(folder, top)
                folder, level = top, 1
            with os.scandir(folder) as entries:
                below = [each.path for each in entries if each.is_dir(follow_symlinks=False)]
            folders += [(each, level + 1) for each in below]


def check_no_link_above(*paths: Path) -> None:
    """Raise `StoreError` for a path that is reached through a link, and so may be anywhere."""
    for path in paths:
        if not is_real(os.fspath(path.parent)):
            raise StoreError(
                sentence(
                    "{path} is not where it seems to be: a link leads to its folder, {real_path}",
                    path=path,
                    real_path=os.path.realpath(path.parent),
                ),
                {
                    "hint": sentence(
                        "remove that link, which this program did not make; to move everything,"
                        " set XINFERENCE_HOME"
                    )
                },
            )


def is_real(directory: str) -> bool:
    """Whether a directory, if it is there, is where its path says, with no link on the way."""
    return os.path.realpath(directory) == directory


def _in_new_directory(path: Path, make: Callable[[], _T]) -> _T:
    """Make what shall be at a path, and its directory first."""
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return make()
        # Whoever removed the last entry of the directory has removed it in between.
    path.parent.mkdir(parents=True, exist_ok=True)
    return make()


def exchange_by_system(one: Path, other: Path) -> bool:
    """Exchange two paths as Linux can (``man 2 renameat2``); tells whether it did."""
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    done: int = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return done == 0


def _failure(what: str, path: Path, error: OSError) -> StoreError:
    message = sentence(
        "could not {what} {path}: {error}",
        what=what,
        path=path,
        error=error.strerror or error,
    )
    return StoreError(message, details_of(error, path))


def store_error(error: OSError) -> StoreError:
    """An error of the system that nothing else has made one of ours of, with its path."""
    path = error.filename2 or error.filename
    why = error.strerror or error
    message = (
        sentence("a disk operation failed at {path}: {error}", path=os.fsdecode(path), error=why)
        if isinstance(path, str | bytes)
        else sentence("a disk operation failed: {error}", error=why)
    )
    return StoreError(message, details_of(error))


def name_error(error: UnicodeEncodeError) -> InvalidInput:
    """A name that no file can have in this process, whose locale has other letters."""
    return InvalidInput(
        sentence(
            "{name} can't be the name of a file here: this process names files in {encoding}",
            name=ascii(error.object),
            encoding=error.encoding,
        ),
        {"hint": sentence("run it in a locale of UTF-8 (LC_ALL=C.UTF-8), or with PYTHONUTF8=1")},
    )


def details_of(error: OSError, path: Path | None = None) -> dict[str, object]:
    """The details of an error of ours whose reason is an error of the system at a path."""
    hint = hint_for(error, path)
    return {"errno": error.errno, **({} if hint is None else {"hint": hint})}


def hint_for(error: OSError, path: Path | None = None) -> str | None:
    """What to do about an error of the system at a path, when there is something to say."""
    if path is None and isinstance(error.filename, str | bytes):
        path = Path(os.fsdecode(error.filename))
    if error.errno == errno.ENOSPC and path is not None:
        # What was in the way may have been cleared away meanwhile.
        left = free_inodes(path)
        if left is not None and left < NO_INODES:
            return _NO_INODES_LEFT
    return None if error.errno is None else _HINTS.get(error.errno)


def temporary_path(path: Path) -> Path:
    """A new place in the same folder, hidden, with a name that says which process uses it."""
    maker = this_process()
    unique = uuid.uuid4().hex[:8]
    return path.with_name(f".{path.name}.{_where(maker)}-{maker.pid}-{maker.start}-{unique}")


def maker_of(name: str) -> Holder | None:
    """Whether the process that made a temporary name lives; None for any other name."""
    found = _TEMPORARY_NAME.fullmatch(name)
    if found is None:
        return None
    here = this_process()
    if found["where"] != _where(here):
        return Holder.UNKNOWN
    return judge(replace(here, pid=int(found["pid"]), start=found["start"]), here, process_start)


def _where(process: ProcessIdentity) -> str:
    """In what the process's pid is counted."""
    return digest_of([process.host, process.namespace])[:12]
