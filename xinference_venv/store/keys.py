"""Where keys stand on disk, and what stands there: links of ours, and what is none.

Comes in: the layout of a store. Comes out: every key below v4 and v3, read in one walk that
follows no link.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from xinference_venv.planning.key import EnvKey
from xinference_venv.store.paths import VENV_NAME, StorePaths
from xinference_venv.store.stat_cache import StatCache
from xinference_venv.store.visit import SkippedItems

# Stands for a Python version where nothing tells it.
UNKNOWN = "unknown"
# What makes a directory a virtual environment (PEP 405).
CONFIGURATION_NAME = "pyvenv.cfg"


class KeyPlace(NamedTuple):
    """A key's path; `env_id` is what it means, None when it is no link to an environment.

    Where a link or a virtual environment stands in the place of a model or an engine, that is the
    path, of a key without engine and of an unknown Python version.
    """

    key: EnvKey
    path: str
    env_id: str | None


# What stands in a folder, by name: places of keys, and names of folders to look into.
_Contents = tuple[KeyPlace | str, ...]
KeyFolders = StatCache[str, _Contents]


def key_places(
    layout: StorePaths, folders: KeyFolders | None = None, skipped: SkippedItems | None = None
) -> Iterator[KeyPlace]:
    """Every key that has a place, by name. Paths are strings: there may be thousands.

    `folders` remember what stands where, so that only what has changed is read. A folder that
    can't be read has none, and is kept in `skipped`.
    """
    walk = _Walk(
        envs=str(layout.envs),
        folders=StatCache() if folders is None else folders,
        skipped=SkippedItems() if skipped is None else skipped,
    )
    for version, levels in (("v4", 3), ("v3", 2)):
        if is_directory(folder := os.path.join(layout.root, version)):
            yield from walk.places(folder, (), levels)
    walk.folders.keep_only(walk.seen)


def env_of_link(path: str, envs: str) -> str | None:
    """The name of the environment in the folder `envs` that a link leads to, or None.

    It leads to the virtual environment in it, or, of an older release, to the environment itself.
    """
    try:
        target = os.path.join(os.path.dirname(path), os.readlink(path))
    except (OSError, ValueError):
        return None
    parent, name = os.path.split(os.path.normpath(target))
    if name == VENV_NAME and parent != envs:
        parent, name = os.path.split(parent)
    return name if parent == envs else None


def is_directory(path: str) -> bool:
    """Whether a path is a directory and no link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def names_in(folder: str) -> list[str]:
    """The entries of a directory by name; what is none has no entries."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def folders_in(folder: str | Path, skipped: SkippedItems) -> list[str]:
    """The paths of the directories in a directory by name, without links to any."""
    return [each.path for each in skipped.entries(folder) if each.is_dir(follow_symlinks=False)]


@dataclass(kw_only=True, slots=True)
class _Walk:
    """A walk over the folders of keys; what was `seen` of them is there."""

    envs: str
    folders: KeyFolders
    skipped: SkippedItems
    seen: set[str] = field(default_factory=set)

    def places(self, folder: str, names: tuple[str, ...], levels: int) -> Iterator[KeyPlace]:
        """The places so many levels below the directory of a version, a model or an engine."""
        self.seen.add(folder)
        read = partial(self._contents, names, levels)
        contents: _Contents = ()
        with self.skipped.visiting(folder):
            contents = self.folders.get(folder, str, read)
        for found in contents:
            if isinstance(found, KeyPlace):
                yield found
            else:
                yield from self.places(f"{folder}/{found}", (*names, found), levels - 1)

    def _contents(self, names: tuple[str, ...], levels: int, folder: str, _: str) -> _Contents:
        entries = _entries(folder)
        if names and any(entry.name == CONFIGURATION_NAME for entry in entries):
            return (KeyPlace(_key(names[0], None, UNKNOWN), folder, None),)
        contents: list[KeyPlace | str] = []
        for entry in entries:
            below = (*names, entry.name)
            if levels == 1:
                # Models and engines may begin with a dot; no version does, but links do that are
                # being made at the same time.
                if not entry.name.startswith("."):
                    key = _key(below[0], below[1] if len(below) == 3 else None, below[-1])
                    contents.append(KeyPlace(key, entry.path, env_of_link(entry.path, self.envs)))
            elif entry.is_symlink():
                contents.append(KeyPlace(_key(below[0], None, UNKNOWN), entry.path, None))
            elif entry.is_dir():
                contents.append(entry.name)
        return tuple(contents)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _key(model: str, engine: str | None, python: str) -> EnvKey:
    return EnvKey(model_name=model, model_engine=engine, python_version=python)
