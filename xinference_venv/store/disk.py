"""The door to the disk: the few operations that change it, each whole or not at all.

A file is written beside its place and renamed; a link is made beside its place and renamed; a
directory is moved to the trash before it is deleted, so nobody meets half of it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from xinference_venv.errors import InvalidRecord, StoreError

_ATTEMPTS = 10

# What tells a changed file: inode, size, times of content and of status in nanoseconds; empty
# for one that is not there.
Stamp = tuple[int, ...]


def stamp_of(path: str | Path) -> Stamp:
    """The stamp of a file or directory, links followed."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Disk:
    """The operations; every failure of the system is a `StoreError` that names the path."""

    def make_directory(self, path: Path, mode: int = 0o755) -> None:
        """Make a directory and its parents; one that is there is left as it is."""
        try:
            path.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError as error:
            raise _failure("make the directory", path, error) from error

    def write(self, path: Path, content: bytes, *, durable: bool, mode: int = 0o644) -> None:
        """Write a file whole; `durable` ones survive a power cut once this returns."""
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(
                os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb"
            ) as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            beside.replace(path)
            if durable:
                _flush_directory(path.parent)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            raise _failure("write", path, error) from error

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file whole; it survives a power cut once this returns."""
        beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as original, beside.open("xb") as file:
                shutil.copyfileobj(original, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
            _flush_directory(target.parent)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            raise _failure("write", target, error) from error

    def write_json(self, path: Path, value: Mapping[str, Any], *, durable: bool) -> None:
        """Write plain JSON values whole."""
        text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
        self.write(path, text.encode(), durable=durable)

    def touch(self, path: Path) -> None:
        """Set a file's times to now; one that is gone is fine."""
        try:
            os.utime(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failure("touch", path, error) from error

    def read_json(self, path: Path) -> Any | None:
        """Read plain JSON values; None when there is no file, `InvalidRecord` when damaged."""
        try:
            return json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, RecursionError) as error:
            raise InvalidRecord(f"{path} is damaged: {error}") from None
        except OSError as error:
            raise _failure("read", path, error) from error

    def swap_link(self, link: Path, target: Path) -> None:
        """Point a link at a target in one step; what is there must be a link or nothing."""
        beside = link.with_name(f".{link.name}.{uuid.uuid4().hex[:8]}")
        try:
            if os.path.lexists(link) and not link.is_symlink():
                raise StoreError(
                    f"{link} is a directory that this program did not make",
                    {"hint": "remove it with `xinference-venv remove`, or move it away"},
                )
            _link_in_new_directory(beside, target)
            beside.replace(link)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            raise _failure("link", link, error) from error

    def rename(self, source: Path, target: Path) -> None:
        """Give a directory its final name."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
        except OSError as error:
            raise _failure("rename to", target, error) from error

    def unlink(self, path: Path) -> None:
        """Remove a file or a link; one that is gone is fine."""
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise _failure("remove", path, error) from error

    def remove_empty(self, path: Path) -> bool:
        """Remove a directory if it is empty; tells whether it is gone."""
        try:
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def discard(self, path: Path, trash: Path) -> None:
        """Delete a directory by way of the trash; one that is gone is fine."""
        grave = trash / uuid.uuid4().hex
        try:
            trash.mkdir(parents=True, exist_ok=True)
            path.rename(grave)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failure("remove", path, error) from error
        self.delete(grave)

    def delete(self, path: Path) -> None:
        """Delete a file or a tree that nobody can find any more; links are not followed."""
        try:
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
                return
            try:
                shutil.rmtree(path)
            except FileNotFoundError:
                # Another process deletes the same: what it has left is for both.
                self.delete(path)
            except PermissionError:
                # A directory that was made read-only keeps its entries: open it, try again.
                for folder, _, _ in os.walk(path):
                    Path(folder).chmod(stat.S_IRWXU)
                shutil.rmtree(path)
        except OSError as error:
            raise _failure("delete", path, error) from error


def _link_in_new_directory(link: Path, target: Path) -> None:
    for attempts_left in reversed(range(_ATTEMPTS)):
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
            return
        except FileNotFoundError:
            # Whoever removed the last entry of the directory has removed it in between.
            if not attempts_left:
                raise


def _flush_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _failure(what: str, path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"could not {what} {path}: {error.strerror or error}",
        {"errno": error.errno},
    )
