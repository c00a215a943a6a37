"""Is an environment on disk what its packages' own records say?

Every file that a RECORD names must be there with its size: whoever wrote in place into a file
of uv's cache changed every environment that links it, and no hash check of an install sees that.
"""

from __future__ import annotations

import csv
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What is there: size in bytes and number of regular files, the installed distributions
    (version by normalized name), and what is wrong.
    """

    size_bytes: int
    files: int
    installed: dict[str, str]
    faults: tuple[str, ...]


def inspect_env(env: Path, site_packages: Path) -> Inspection:
    """Look at every file of an environment; the layer is not entered."""
    installed: dict[str, str] = {}
    faults: list[str] = []
    base = os.path.relpath(site_packages, env)
    # Paths below an open directory are found in half the time of absolute ones.
    directory = os.open(site_packages, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sizes: dict[str, int] = {}
        for metadata in sorted(site_packages.glob("*.dist-info")):
            name, _, version = metadata.name.removesuffix(".dist-info").partition("-")
            installed[canonicalize_name(name)] = version
            faults += _faults_of(metadata, base, directory, sizes)
    finally:
        os.close(directory)
    _add_unrecorded(str(env), base, sizes)
    return Inspection(
        size_bytes=sum(sizes.values()), files=len(sizes), installed=installed, faults=tuple(faults)
    )


def site_packages_of(env: Path) -> Path:
    """The one site-packages folder of a virtual environment."""
    found = sorted(env.glob("lib/python3.*/site-packages"))
    return found[0] if found else env / "lib" / "site-packages"


def top_level_modules(site_packages: Path) -> list[str]:
    """The names that can be imported from a folder."""
    names = {name.partition(".")[0] for name in os.listdir(site_packages) if "-" not in name}
    return sorted(name for name in names if name.isidentifier() and name != "__pycache__")


def _faults_of(metadata: Path, base: str, directory: int, sizes: dict[str, int]) -> list[str]:
    """What is wrong with the files of one distribution; their sizes are added by path."""
    faults = []
    try:
        text = (metadata / "RECORD").read_text("utf-8")
        # Almost no RECORD quotes anything, and splitting is twice as fast as reading CSV.
        quoted = '"' in text
        rows = list(csv.reader(text.splitlines())) if quoted else _split(text)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return [f"{metadata.name}: RECORD can't be read: {error}"]
    for row in filter(None, rows):
        path = row[0]
        shown = f"{base}/{path}"
        if ".." in path or path.startswith("/"):
            shown = os.path.normpath(os.path.join(base, path))
        found = None if shown.startswith(("..", "/")) else _size_at(path, directory)
        if found is None:
            faults.append(f"{shown} is missing")
            continue
        sizes[shown] = found
        if len(row) > 2 and row[2] and str(found) != row[2]:
            faults.append(f"{shown} has {found} bytes, its RECORD says {row[2]}")
    return faults


def _size_at(path: str, directory: int) -> int | None:
    """Size of a regular file below an open directory, None for anything else."""
    try:
        found = os.stat(path, dir_fd=directory, follow_symlinks=False)
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _split(text: str) -> list[list[str]]:
    return [line.split(",") for line in text.splitlines() if line]


def _add_unrecorded(env: str, base: str, sizes: dict[str, int]) -> None:
    """Add the files of the folders in which an environment has some that no RECORD names."""
    for folder in ("", "bin/", f"{base}/"):
        with suppress(FileNotFoundError), os.scandir(os.path.join(env, folder)) as entries:
            for entry in entries:
                if f"{folder}{entry.name}" not in sizes and entry.is_file(follow_symlinks=False):
                    sizes[f"{folder}{entry.name}"] = entry.stat(follow_symlinks=False).st_size
