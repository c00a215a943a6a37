"""The files of a package's tree: where they lie, how they are walked, what stands at the top.

Comes in: the folder of a tree. Comes out: paths and names; `close_directories` makes the folders
of a finished tree read-only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xinference_venv.planning.package import EntryKind, PackageRecord, TopLevelName
from xinference_venv.store.paths import BYTECODE

SITE = "site"
DATA = "data"
DIRECTORY_MODE = 0o555


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedTree:
    """A whole tree that is not in the store yet."""

    folder: Path
    record: PackageRecord


def walk(root: Path | str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below a directory but directories, by relative path; links are not followed."""
    for prefix, _, entries in walk_folders(os.path.join(root, "")):
        for entry in entries:
            yield f"{prefix}{entry.name}", entry


def walk_folders(
    base: str,
) -> Iterator[tuple[str, Sequence[str], Sequence[os.DirEntry[str]]]]:
    """Each directory below `base`, which ends with a slash, itself first: what its entries' paths
    begin with, the names of its directories, its other entries.
    """
    prefixes = [""]
    while prefixes:
        prefix = prefixes.pop()
        folders, others = [], []
        with os.scandir(base + prefix) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                    prefixes.append(f"{prefix}{entry.name}/")
                else:
                    others.append(entry)
        yield prefix, folders, others


def top_level_names(site: Path) -> tuple[TopLevelName, ...]:
    """What is in a folder of packages, by name; bytecode is left out."""
    found = []
    with os.scandir(site) as entries:
        for entry in entries:
            if entry.name != BYTECODE:
                kind = _kind(entry)
                inner: Sequence[str] = ()
                if kind is EntryKind.NAMESPACE:
                    inner = sorted(name for name in os.listdir(entry.path) if name != BYTECODE)
                found.append(TopLevelName(name=entry.name, kind=kind, entries=tuple(inner)))
    return tuple(sorted(found, key=lambda each: each.name))


def close_directories(root: Path) -> None:
    """Give every directory with sources one for bytecode, and make all but these read-only.

    So nothing changes a directory's time later: what is written next to modules can be noticed.
    Files are made read-only where no other name has their inode: a hard link shares its mode.
    """
    for folder, folders, names in os.walk(root):
        if os.path.basename(folder) == BYTECODE:
            continue
        if BYTECODE not in folders and any(name.endswith(".py") for name in names):
            os.mkdir(f"{folder}/{BYTECODE}")
        for name in names:
            found = os.lstat(f"{folder}/{name}")
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                os.chmod(f"{folder}/{name}", stat.S_IMODE(found.st_mode) & 0o555)
        os.chmod(folder, DIRECTORY_MODE)


def _kind(entry: os.DirEntry[str]) -> EntryKind:
    name = entry.name
    if entry.is_dir():
        if name.endswith(".dist-info"):
            return EntryKind.METADATA
        inner = os.listdir(entry.path)
        regular = any(each.partition(".")[0] == "__init__" and _is_module(each) for each in inner)
        return EntryKind.PACKAGE if regular else EntryKind.NAMESPACE
    if name.endswith(".pth"):
        return EntryKind.PTH
    if name.endswith((".py", ".pyc")):
        return EntryKind.MODULE
    return EntryKind.EXTENSION if _is_module(name) else EntryKind.FILE


def _is_module(name: str) -> bool:
    return name.endswith((".py", ".pyc", ".so"))
