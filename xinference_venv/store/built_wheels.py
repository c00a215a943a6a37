"""The wheels of a store that were built from source, found by what they were built from.

A folder for each, named by the wheel's sha256: the wheel, and a record that is written after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.records import Record
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.planning.source_builds import BuiltWheel
from xinference_venv.store.atomic import Disk
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.visit import open_regular

_RECORD_NAME = "built.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Built(Record, name="built wheel"):
    """The record of a wheel: the digest of what it was built from, and its file's name."""

    build: str
    file_name: str


@dataclass(frozen=True, kw_only=True)
class BuiltWheels:
    """The built wheels of one store; every method blocks on the disk."""

    layout: StorePaths
    disk: Disk

    def keep(self, wheel: Path, build: str) -> BuiltWheel:
        """Keep a copy of a wheel; `build` is the digest of what it was built from."""
        kept = BuiltWheel(file_name=wheel.name, sha256=_sha256(wheel), size=wheel.stat().st_size)
        folder = self.layout.built_wheels(kept.sha256)
        self.disk.copy(wheel, folder / wheel.name)
        record = _Built(build=build, file_name=wheel.name)
        self.disk.write_json(folder / _RECORD_NAME, record.to_dict(), durable=True)
        return kept

    def find(self, build: str, sha256: str | None) -> BuiltWheel | None:
        """A whole wheel that was built from this; of several, the one with the wanted hash."""
        folders = sorted(
            map(self.layout.wheels.joinpath, self.disk.skipped.names(self.layout.wheels)),
            key=lambda folder: (folder.name != sha256, folder.name),
        )
        for folder in folders:
            try:
                record = _Built.from_dict(self.disk.read_json(folder / _RECORD_NAME))
                if record.build != build:
                    continue
                wheel = folder / record.file_name
                if wheel.parent == folder and _sha256(wheel) == folder.name:
                    return BuiltWheel(
                        file_name=wheel.name, sha256=folder.name, size=wheel.stat().st_size
                    )
            except (InvalidRecord, StoreError, OSError, ValueError):
                # It is built again.
                continue
        return None

    def delete(self, unneeded: Iterable[str]) -> None:
        """Delete the wheels with these sha256."""
        for sha256 in unneeded:
            folder = self.layout.built_wheels(sha256)
            with self.disk.skipped.visiting(folder):
                self.disk.discard(folder, self.layout.trash)


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
