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

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.files import write_private_file
from xinference_venv._util.forks import ERROR_STATUS, light_process
from xinference_venv._util.records import Record
from xinference_venv.store.envs.file_copies import (
    COMPILED,
    FOLDER,
    entries_of,
    entry_at,
    is_large,
    is_shared_object,
    place_entries,
    place_from_file,
    place_name,
    placing_file,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a name of a view leads, and whether that is the host's."""

    path: str
    of_host: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed(Record, name="placed files"):
    """How many files were placed, and the bytes of those that are the environment's own."""

    files: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Placing:
    """What each name in a folder leads to, by so many forks of a process; what takes longest comes
    first.
    """

    sources: Mapping[str, Source]
    folder: str
    forks: int

    def command(self, file: Path) -> tuple[str, ...]:
        """What starts the process; makes the folder, and writes a file for it."""
        os.makedirs(self.folder)
        names = [(name, each.path, each.of_host) for name, each in self.sources.items()]
        write_private_file(file, placing_file(self.folder, self.forks, names))
        return light_process(place_from_file, file)

    def result(self, exit_status: int, output: str) -> Placed | None:
        """What it placed, by what it has printed; None where it was ended before that. Raises the
        `OSError` that the process met.
        """
        lines = output.splitlines()
        if exit_status == ERROR_STATUS and lines:
            raise OSError(*json.loads(lines[-1]))
        if exit_status != 0 or len(lines) != len(self.sources):
            return None
        return _together(map(int, line.split()) for line in lines)


def place_files(sources: Mapping[str, Source], folder: Path) -> Placed:
    """Place what each name leads to in a folder that is there; raises `OSError`."""
    return _together(
        place_name(source.path, source.of_host, str(folder), name)
        for name, source in sources.items()
    )


def _together(placed: Iterable[Iterable[int]]) -> Placed:
    files = size_bytes = 0
    for more_files, more_bytes in placed:
        files += more_files
        size_bytes += more_bytes
    return Placed(files=files, size_bytes=size_bytes)


def place_file(source: Source, folder: Path, path: str) -> Placed:
    """The same for one file, at a path below a folder."""
    is_link = os.path.islink(source.path)
    entry = entry_at(source.path, source.of_host, path, is_link=is_link)
    return _together([place_entries([entry], str(folder))])


def missing_files(sources: Mapping[str, Source], folder: Path) -> Iterator[str]:
    """The paths below a folder that `place_files` placed and that are not there any more.

    What else a model did with its files is its own affair. Of the host only names are looked for:
    its packages may have other files by now.
    """
    for name, source in sources.items():
        paths: Iterable[str] = (name,)
        if not source.of_host:
            paths = (
                below
                for way, _, _, below in entries_of(source.path, False, name)
                if way not in (FOLDER, COMPILED)
            )
        for path in paths:
            if not os.path.lexists(f"{folder}/{path}"):
                yield path


def is_never_written(name: str, size_bytes: int) -> bool:
    """Whether a file is one that two environments can share: bytecode, a large shared object."""
    return name.endswith(".pyc") or (is_large(size_bytes) and is_shared_object(name))
