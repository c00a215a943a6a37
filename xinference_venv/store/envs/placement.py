"""Whether the files of freshly installed wheels lie where wheels may put them.

Comes in: a private environment that uv has just filled and that has nothing else yet: no link to
the host, no launcher, no record. Comes out: nothing, or a refusal that names the package. What
happens to files that a wheel may not have is decided before the first link is made and before the
environment's interpreter runs.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from packaging.utils import canonicalize_name

from xinference_venv.errors import InstallFailed
from xinference_venv.sentences import sentence
from xinference_venv.store.envs.launcher import LAUNCHER_NAME
from xinference_venv.store.envs.layer import PTH_NAME
from xinference_venv.store.packages.record_file import written_paths
from xinference_venv.store.paths import (
    BROKEN_NAME,
    LAYER_NAME,
    LOCK_NAME,
    OWN_FILES_NAME,
    RECORD_NAME,
)

# What an environment has of its own, by path in lower case: file systems may ignore case.
_OURS = {
    LAYER_NAME: "the links to the host's packages",
    "view": "the view of an environment",
    "pycache": "the bytecode of an environment",
    "pyvenv.cfg": "the configuration of the interpreter",
    f"bin/{LAUNCHER_NAME}": "the launcher of model processes",
    **dict.fromkeys(
        (RECORD_NAME, LOCK_NAME, OWN_FILES_NAME, BROKEN_NAME), "the records of an environment"
    ),
}
_IS_OURS = "that is the place of what shows the host's packages"
# uv takes the dots of ``x.data/purelib/../../y`` away when it unpacks, pip refuses it:
# https://github.com/astral-sh/uv/issues/8731
_CLIMBS_BACK = re.compile(r"[^/.]/+(\./+)*\.\.(/|\Z)")
_OF_A_VERSION = re.compile(r"lib/python\d[^/]*")


def check_placement(env: Path, site_packages: Path) -> None:
    """Refuse an environment in which a wheel has put a file that is not a wheel's to put.

    Refused are files outside of the environment, those at the places of what is ours, and those
    in a folder of packages other than `site_packages`, which was the only one before. Raises
    `InstallFailed`, which names the package and the path. Blocks on the disk.
    """
    base = os.path.relpath(site_packages, env)
    for metadata in sorted(site_packages.glob("*.dist-info")):
        for row in written_paths(metadata):
            if ".." in row and _CLIMBS_BACK.search(row):
                reason: str | None = "a path in a wheel must not contain '..'"
                path = row
            elif row.startswith(("../", "/")) or row == PTH_NAME:
                path = posixpath.normpath(posixpath.join(base, row))
                reason = refusal(path, base)
            else:
                continue
            if reason is not None:
                name = canonicalize_name(metadata.name.partition("-")[0])
                raise _refused(name, path, reason)
    # uv adds what it moves to RECORD, but does not ask whether RECORD names the rest (PEP 427).
    if os.path.lexists(site_packages / PTH_NAME):
        raise _refused("one of the packages", f"{base}/{PTH_NAME}", _IS_OURS)


def refusal(path: str, base: str) -> str | None:
    """Why a wheel may not have a file at a path inside an environment; None where it may.

    The path is relative to the environment, in normal form, and `base` that of the folder of
    packages: ``lib/python3.11/site-packages``.
    """
    if path.startswith(("/", "..")):
        return "that is outside of the environment"
    # A virtual environment has `lib64` as a link to `lib`.
    path = re.sub(r"\Alib64(?=/)", "lib", path)
    own = _OF_A_VERSION.match(base)
    other = _OF_A_VERSION.match(path)
    if other is not None and own is not None and other[0] != own[0]:
        return f"the packages of an environment are in {base}"
    lowered = path.lower()
    if posixpath.basename(lowered) == PTH_NAME:
        return _IS_OURS
    for place, what in _OURS.items():
        if lowered == place or lowered.startswith(f"{place}/"):
            return f"that is the place of {what}"
    return None


def _refused(name: str, path: str, reason: str) -> InstallFailed:
    return InstallFailed(
        sentence(
            "{name} is refused: it puts a file at {path}, and {reason}",
            name=name,
            path=repr(path),
            reason=reason,
        ),
        {
            "package": name,
            "path": path,
            "hint": sentence(
                "ask for another version of it, or for a package that does without this file"
            ),
        },
    )
