"""Is an environment on disk what its packages' own records say?

Every file that a RECORD names must be there with its size: whoever wrote in place into a file
of uv's cache changed every environment that links it, and no hash check of an install sees that.
On request the contents are compared as well.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name

from xinference_venv._util.humanize import quoted

_CHUNK_BYTES = 1 << 20


def _go_on() -> None:
    """Nobody wants to end the inspection."""


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
    env: Path, site_packages: Path, *, hashes: bool = False, pause: Callable[[], None] = _go_on
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
            name, _, version = metadata.name.removesuffix(".dist-info").partition("-")
            installed[canonicalize_name(name)] = version
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


def top_level_modules(site_packages: Path) -> list[str]:
    """The names that can be imported from a folder."""
    names = {name.partition(".")[0] for name in os.listdir(site_packages) if "-" not in name}
    return sorted(name for name in names if name.isidentifier() and name != "__pycache__")


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
            text = (metadata / "RECORD").read_text("utf-8")
            # Almost no RECORD quotes anything, and splitting is twice as fast as reading CSV.
            quoted = '"' in text
            rows = list(csv.reader(text.splitlines())) if quoted else _split(text)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            self.faults.append(f"{metadata.name}: RECORD can't be read: {error}")
            return
        for row in filter(None, rows):
            path = row[0]
            shown = f"{self.base}/{path}"
            if ".." in path or path.startswith("/"):
                shown = os.path.normpath(os.path.join(self.base, path))
            found = None if shown.startswith(("..", "/")) else _size_at(path, self.directory)
            if found is None:
                self.faults.append(f"{shown} is missing")
                continue
            self.sizes[shown] = found
            if len(row) > 2 and row[2] and str(found) != row[2]:
                self.faults.append(f"{shown} has {found} bytes, its RECORD says {row[2]}")
            elif self.hashes and len(row) > 1 and row[1]:
                self.faults.extend(self._other_content(path, shown, row[1]))

    def _other_content(self, path: str, shown: str, recorded: str) -> list[str]:
        """What is wrong with the content of a file; `recorded` is like ``sha256=...``."""
        algorithm, _, wanted = recorded.partition("=")
        # Those that PEP 427 allows. Digests are urlsafe base64 without padding.
        if algorithm not in ("sha256", "sha384", "sha512"):
            return [f"{shown} can't be compared: its RECORD has a digest of {quoted(algorithm)}"]
        digest = hashlib.new(algorithm)
        try:
            opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self.directory)
            with os.fdopen(opened, "rb", buffering=0) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    self.pause()
        except OSError as error:
            return [f"{shown} can't be read: {error.strerror}"]
        if base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode() != wanted.rstrip("="):
            return [f"{shown} has other content than its RECORD says"]
        return []


def _size_at(path: str, directory: int) -> int | None:
    """Size of a regular file below an open directory, None for anything else."""
    try:
        found = os.stat(path, dir_fd=directory, follow_symlinks=False)
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _split(text: str) -> list[list[str]]:
    return [line.split(",") for line in text.splitlines() if line]


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
