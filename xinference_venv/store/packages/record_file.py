"""Which files a host distribution has, by the lists that installers leave.

Comes in: a location and the name of a metadata folder in it. Comes out: the paths of RECORD
(PEP 627) or of ``installed-files.txt``, told apart by whether they lie inside the location.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from xinference_venv.planning.host import HostDistribution

# ``.so.1`` is how wheels that carry libraries name them.
_SHARED_OBJECT = re.compile(r"\.(so(\.\d+)*|pyd|dylib)$")
# A part of a path that is empty, one dot or two: what makes it absolute or not in normal form.
_NOT_NORMAL = re.compile(r"(^|/)\.{0,2}(/|$)")
# An editable project may lie in a folder with anything in it.
_WALKED_FILES = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class FileList:
    """The files of a distribution: those `inside` its location as paths relative to it, those
    `outside` as absolute ones, in normal form.

    Where nothing is `recorded`, `inside` has the top-level modules and packages instead that go
    by its import names.
    """

    inside: tuple[str, ...]
    outside: tuple[str, ...] = ()
    recorded: bool


def read_file_list(location: str, name: str, metadata: str) -> FileList:
    """The files of a distribution, from its RECORD or older kinds of lists.

    Without any list the files can't be known; then its import names are taken from
    ``top_level.txt``, else from its own normalized name.
    """
    folder = os.path.join(location, metadata)
    paths = _recorded_paths(folder) or [
        os.path.join(metadata, line) for line in _lines(os.path.join(folder, "installed-files.txt"))
    ]
    if paths:
        return _split(os.path.normpath(location), paths)
    import_names = _lines(os.path.join(folder, "top_level.txt")) or [name.replace("-", "_")]
    return FileList(inside=tuple(_modules(location, import_names)), recorded=False)


def recorded_files(location: str, distribution: HostDistribution) -> list[str]:
    """A distribution's files inside a location, as `read_file_list` knows them."""
    return list(read_file_list(location, distribution.name, distribution.metadata).inside)


def shared_objects(location: str, files: FileList) -> list[str]:
    """The absolute paths of extension modules and shared libraries.

    Where nothing is recorded they are looked for below the distribution's packages.
    """
    location = os.path.normpath(location)
    if files.recorded:
        paths = [f"{location}/{path}" for path in files.inside if _SHARED_OBJECT.search(path)]
        return [*paths, *(path for path in files.outside if _SHARED_OBJECT.search(path))]
    below = (path for entry in files.inside for path in _walk(f"{location}/{entry}"))
    return [path for path in islice(below, _WALKED_FILES) if _SHARED_OBJECT.search(path)]


def _recorded_paths(folder: str) -> list[str]:
    try:
        return [
            row[0] for row in csv.reader(_lines(os.path.join(folder, "RECORD"))) if row and row[0]
        ]
    except csv.Error:
        return []


def _split(location: str, paths: Iterable[str]) -> FileList:
    inside, outside = [], []
    for path in paths:
        if not _NOT_NORMAL.search(path):
            inside.append(path)
            continue
        absolute = os.path.normpath(os.path.join(location, path))
        if absolute.startswith(f"{location}/"):
            inside.append(absolute[len(location) + 1 :])
        elif absolute != location:
            outside.append(absolute)
    return FileList(inside=tuple(inside), outside=tuple(outside), recorded=True)


def _modules(location: str, import_names: Iterable[str]) -> Iterator[str]:
    names = set(import_names)
    try:
        entries = sorted(os.listdir(location))
    except OSError:
        return
    for entry in entries:
        stem, _, kind = entry.partition(".")
        if entry in names or (stem in names and kind.endswith(("py", "so", "pyd"))):
            yield entry


def _walk(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
    for folder, _, names in os.walk(path):
        yield from (os.path.join(folder, name) for name in names)


def _lines(file: str) -> list[str]:
    """The lines of a file list that are not blank; none where there is no such list."""
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()]
