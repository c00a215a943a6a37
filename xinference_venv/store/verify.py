"""Is an environment on disk what its packages' own records say?

Every file that a RECORD names must be there with its size: whoever wrote in place into a file
of uv's cache changed every environment that links it, and no hash check of an install sees that.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from xinference_venv.store.layout import LAYER_NAME


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
    sizes = _sizes(str(env))
    installed: dict[str, str] = {}
    faults: list[str] = []
    base = os.path.relpath(site_packages, env)
    for metadata in sorted(site_packages.glob("*.dist-info")):
        name, _, version = metadata.name.removesuffix(".dist-info").partition("-")
        installed[canonicalize_name(name)] = version
        faults += _faults_of(metadata, base, sizes)
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


def _sizes(root: str) -> dict[str, int]:
    """Size of every regular file by path below the root."""
    sizes: dict[str, int] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    if path != LAYER_NAME:
                        folders.append(f"{path}/")
                elif not entry.is_symlink():
                    sizes[path] = entry.stat(follow_symlinks=False).st_size
    return sizes


def _faults_of(metadata: Path, base: str, sizes: dict[str, int]) -> list[str]:
    faults = []
    try:
        text = (metadata / "RECORD").read_text("utf-8")
        # Almost no RECORD quotes anything, and splitting is twice as fast as reading CSV.
        quoted = '"' in text
        rows = list(csv.reader(text.splitlines())) if quoted else _split(text)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return [f"{metadata.name}: RECORD can't be read: {error}"]
    for row in filter(None, rows):
        path = f"{base}/{row[0]}"
        if ".." in path:
            path = os.path.normpath(path)
        found = sizes.get(path)
        if found is None:
            faults.append(f"{path} is missing")
        elif len(row) > 2 and row[2] and str(found) != row[2]:
            faults.append(f"{path} has {found} bytes, its RECORD says {row[2]}")
    return faults


def _split(text: str) -> list[list[str]]:
    return [line.split(",") for line in text.splitlines() if line]
