"""Is an environment on disk what its packages' own records say?

Every file that a RECORD names must be there with its size, or with its content where a wheel's
size is wrong: whoever wrote in place into a file of uv's cache changed every environment that
links it, and no hash check of an install sees that. On request all contents are compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from xinference_venv.store.packages.record_file import (
    check_row,
    go_on,
    metadata_name,
    read_record,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What is there: size in bytes and number of regular files, the installed distributions
    (version by normalized name), and what is wrong.

    `own_files` are those files that no package brought: the launcher, activation scripts,
    ``.pth`` files; sizes in bytes by path.
    """

    size_bytes: int
    files: int
    installed: Mapping[str, str]
    own_files: Mapping[str, int]
    faults: tuple[str, ...]


def inspect_env(
    env: Path, site_packages: Path, *, hashes: bool = False, pause: Callable[[], None] = go_on
) -> Inspection:
    """Look at every file of an environment; the layer is not entered.

    With `hashes` every content is read and compared with RECORD (PEP 376, PEP 427). `pause` is
    called again and again: it may wait, and end the inspection by an exception. Raises `OSError`
    when the folder of packages can't be opened.
    """
    installed: dict[str, str] = {}
    # Paths below an open directory are found in half the time of absolute ones.
    directory = os.open(site_packages, os.O_RDONLY | os.O_DIRECTORY)
    try:
        look = _Look(
            base=os.path.relpath(site_packages, env),
            directory=directory,
            hashes=hashes,
            pause=pause,
        )
        for metadata in sorted(site_packages.glob("*.dist-info")):
            name, version = metadata_name(metadata.name)
            installed[name] = version
            look.at(metadata)
            pause()
    finally:
        os.close(directory)
    own_files = _unrecorded(str(env), look.base, look.sizes)
    return Inspection(
        size_bytes=sum(look.sizes.values()) + sum(own_files.values()),
        files=len(look.sizes) + len(own_files),
        installed=installed,
        own_files=own_files,
        faults=tuple(look.faults),
    )


def site_packages_of(env: Path) -> Path:
    """The one site-packages folder of a virtual environment."""
    found = sorted(env.glob("lib/python3.*/site-packages"))
    return found[0] if found else env / "lib" / "site-packages"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    """A look at the recorded files: `sizes` by path and `faults` grow with each distribution.

    `directory` is the open folder of packages, `base` its path inside the environment.
    """

    base: str
    directory: int
    hashes: bool
    pause: Callable[[], None]
    sizes: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def at(self, metadata: Path) -> None:
        """Look at the files of one distribution."""
        try:
            rows = read_record(metadata)
        except (OSError, ValueError) as error:
            self.faults.append(f"{metadata.name}: RECORD can't be read: {error}")
            return
        for row in rows:
            shown = f"{self.base}/{row.path}"
            if row.path.startswith(("..", "/")):
                shown = os.path.normpath(os.path.join(self.base, row.path))
            if shown.startswith(("..", "/")):
                self.faults.append(f"{shown} is missing")
                continue
            size, fault = check_row(row, self.directory, hashes=self.hashes, pause=self.pause)
            if size is not None:
                self.sizes[shown] = size
            if fault:
                self.faults.append(f"{shown} {fault}")


def _unrecorded(env: str, base: str, recorded: Mapping[str, int]) -> dict[str, int]:
    """The files of the folders in which an environment has some that no RECORD names."""
    found: dict[str, int] = {}
    for folder in ("", "bin/", f"{base}/"):
        with suppress(FileNotFoundError), os.scandir(os.path.join(env, folder)) as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                if path not in recorded and entry.is_file(follow_symlinks=False):
                    found[path] = entry.stat(follow_symlinks=False).st_size
    return found
