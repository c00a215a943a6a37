"""Wheels that were fetched for other workers: whole files named by their sha256, within a limit.

Whoever fetches one writes a temporary file here, which gets its name when its hash is right. The
least recently used go first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xinference_venv.errors import StoreError, VerificationFailed
from xinference_venv.sentences import sentence
from xinference_venv.store.atomic import Disk, temporary_path
from xinference_venv.store.paths import StorePaths


@dataclass(frozen=True, kw_only=True)
class RelayedWheels:
    """The wheels of one home, of at most `max_bytes` together; every method blocks on the disk."""

    layout: StorePaths
    disk: Disk
    max_bytes: int

    def size_of(self, sha256: str) -> int | None:
        """The bytes of a wheel that is here, used now; None when it is not."""
        path = self.layout.relayed_wheel(sha256)
        try:
            size = path.stat().st_size
        except OSError:
            return None
        with suppress(StoreError):
            self.disk.touch(path)
        return size

    def read(self, sha256: str, offset: int, length: int) -> bytes:
        """So many bytes of a wheel, fewer at its end; raises `OSError` for one that is gone."""
        with self.layout.relayed_wheel(sha256).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    @contextmanager
    def adding(self, sha256: str) -> Iterator[BinaryIO]:
        """A file to write a wheel to; it is kept if its content has this hash.

        Raises `VerificationFailed` when it has another one.
        """
        path = self.layout.relayed_wheel(sha256)
        temporary = temporary_path(path)
        try:
            temporary.parent.mkdir(exist_ok=True)
            with temporary.open("xb") as file:
                yield file
                # One that a power cut emptied would be given to everybody for good.
                file.flush()
                os.fsync(file.fileno())
            with temporary.open("rb") as written:
                found = hashlib.file_digest(written, "sha256").hexdigest()
            if found != sha256:
                raise VerificationFailed(
                    sentence(
                        "what came for the wheel with sha256 {sha256} has sha256 {found}",
                        sha256=sha256,
                        found=found,
                    )
                )
            self._make_room(temporary.stat().st_size)
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink()

    def lend(self, sha256: str, target: Path) -> bool:
        """Put a wheel that is here at another place, as a link if that can be; False if not."""
        path = self.layout.relayed_wheel(sha256)
        try:
            try:
                os.link(path, target)
            except FileNotFoundError:
                return False
            except OSError:
                shutil.copyfile(path, target)
        except OSError:
            return False
        with suppress(StoreError):
            self.disk.touch(path)
        return True

    def size_bytes(self) -> int:
        """The bytes of all that are here."""
        return sum(each for _, each, _ in self._all())

    def unneeded(self, before: float) -> list[Path]:
        """Those that were not used since `before`, in seconds since the epoch, and those for which
        there is no room.
        """
        there = self._all()
        too_many = self._too_many(there)
        return [path for used, _, path in sorted(there) if used < before or path in too_many]

    def _make_room(self, size: int) -> None:
        """Delete the least recently used until one more of so many bytes fits."""
        for path in self._too_many(self._all(), size):
            self.disk.unlink(path)

    def _too_many(self, there: Sequence[tuple[float, int, Path]], more: int = 0) -> list[Path]:
        """The least recently used, without which the others and so many bytes more have room."""
        total = sum(each for _, each, _ in there) + more
        going = []
        for _, freed, path in sorted(there):
            if total <= self.max_bytes:
                break
            total -= freed
            going.append(path)
        return going

    def _all(self) -> list[tuple[float, int, Path]]:
        """When each that is here was last used, its bytes, and its path."""
        there = []
        for entry in self.disk.skipped.entries(self.layout.relay):
            if not entry.name.startswith("."):
                with suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    there.append((found.st_mtime, found.st_size, Path(entry.path)))
        return there
