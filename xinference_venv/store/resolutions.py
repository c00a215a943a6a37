"""Locks of recent resolutions, found by the digest of the question that uv was asked.

A file for each, written whole. Only solutions are kept: that something has no solution may change
with the next upload.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.records import Record
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.planning.lock import EnvLock
from xinference_venv.store.atomic import Disk
from xinference_venv.store.paths import StorePaths

_MOST = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class _Resolution(Record, name="recent resolution", version=1):
    """A lock, and when its indexes were asked, in seconds since 1970."""

    asked: float
    lock: EnvLock


@dataclass(frozen=True, kw_only=True)
class Resolutions:
    """The recent resolutions of one store; every method blocks on the disk."""

    layout: StorePaths
    disk: Disk

    def find(self, question: str, *, now: float, max_age: float) -> EnvLock | None:
        """The lock of a question that was asked at most `max_age` seconds ago."""
        try:
            data = self.disk.read_json(self._path(question))
            found = None if data is None else _Resolution.from_dict(data)
        except InvalidRecord:
            return None
        # A clock that was set back leaves answers of the future.
        fits = found is not None and 0 <= now - found.asked <= max_age
        return found.lock if found is not None and fits else None

    def keep(self, question: str, lock: EnvLock, *, now: float) -> None:
        """Keep an answer; of more than there is place for the oldest go."""
        record = _Resolution(asked=now, lock=lock)
        self.disk.write_json(self._path(question), record.to_dict(), durable=False)
        names = self.disk.skipped.names(self.layout.resolutions)
        if len(names) > _MOST:
            paths = sorted(map(self.layout.resolutions.joinpath, names), key=_written)
            for path in paths[:-_MOST]:
                with suppress(StoreError):
                    self.disk.unlink(path)

    def forget(self, question: str) -> None:
        """Ask again the next time."""
        self.disk.unlink(self._path(question))

    def _path(self, question: str) -> Path:
        return self.layout.resolutions / f"{question}.json"


def state_of_folders(folders: Iterable[str]) -> list[list[object]]:
    """What of folders of packages differs when something in them does."""
    return [[folder, sorted(_entries(folder))] for folder in folders]


def _entries(folder: str) -> list[list[object]]:
    try:
        with os.scandir(folder) as entries:
            return [[each.name, *_stamp(each)] for each in entries]
    except OSError:
        return []


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        found = entry.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
