"""Folders of sources that a requirement names: whether one has changed since it was looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator

from xinference_venv._util.records import digest_of

# What builds and interpreters write there, and what no build reads.
_WRITTEN = frozenset({"__pycache__", "build", "dist"})


def state_of_sources(folder: str) -> str:
    """Equal as long as no file of a folder's sources is added, changed or removed.

    What lies in hidden folders, and what builds leave, does not count. Raises `OSError` for a
    folder that can't be read.
    """
    os.listdir(folder)
    return digest_of(sorted(_files(folder)))


def _files(folder: str) -> Iterator[list[object]]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if _counts(name)]
        for name in files:
            path = f"{place}/{name}"
            found = os.lstat(path)
            yield [os.path.relpath(path, folder), found.st_size, found.st_mtime_ns]


def _counts(name: str) -> bool:
    return not (name in _WRITTEN or name.startswith(".") or name.endswith(".egg-info"))
