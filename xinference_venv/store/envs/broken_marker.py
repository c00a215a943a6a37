"""What tells at a glance that an environment is broken: a part that is missing, or a mark.

A mark is a file inside the environment. Whoever looked closely and found faults writes it; it
goes with the environment, or when as close a look finds none.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.records import Record
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.store.atomic import Disk
from xinference_venv.store.paths import BROKEN_NAME, LOCK_NAME, VENV_NAME

FAULTS_KEPT = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokenMarker(Record, name="mark of a broken environment", version=1):
    """What is wrong with an environment, and when it was found, in seconds since the epoch.

    `hashes` says whether contents were compared: then only a look that compares them too can
    find that nothing is wrong.
    """

    found: float
    faults: tuple[str, ...]
    hashes: bool = True


def read_broken_marker(disk: Disk, env: str | Path) -> BrokenMarker | None:
    """The mark of an environment, or None; one that can't be read still says that it is broken."""
    path = Path(env, BROKEN_NAME)
    try:
        data = disk.read_json(path)
        return None if data is None else BrokenMarker.from_dict(data)
    except (InvalidRecord, StoreError) as error:
        return BrokenMarker(
            found=0.0, faults=(f"it is marked as broken, and {error}",), hashes=True
        )


def missing_part(env: str) -> str | None:
    """What an environment lacks that none can be without, as far as a few looks tell."""
    if os.path.islink(env):
        # Where it leads is not ours.
        return f"{env} is a link"
    if not _is_there(f"{env}/{LOCK_NAME}"):
        return f"{env}/{LOCK_NAME} is missing"
    # Of an older release an environment is the virtual environment itself.
    for venv in (f"{env}/{VENV_NAME}", env):
        if _is_there(f"{venv}/bin/python"):
            return None
    return f"{env}/{VENV_NAME}/bin/python leads to no interpreter"


def fault_at_a_glance(disk: Disk, env: str) -> str | None:
    """Why an environment is broken, in a few microseconds while it is not; None when it is whole.

    Its record is read elsewhere.
    """
    if (missing := missing_part(env)) is not None:
        return missing
    mark = read_broken_marker(disk, env) if _is_there(f"{env}/{BROKEN_NAME}") else None
    if mark is None:
        return None
    return mark.faults[0] if mark.faults else "it is marked as broken"


def bounded(faults: Sequence[str]) -> tuple[str, ...]:
    """The first faults, and how many more there are."""
    if len(faults) <= FAULTS_KEPT:
        return tuple(faults)
    return (*faults[:FAULTS_KEPT], f"and {len(faults) - FAULTS_KEPT} more faults")


def _is_there(path: str) -> bool:
    """Whether there is something at a path, at the end of its links.

    Takes a third of the time of asking for its status, and thousands may be looked at.
    """
    return os.access(path, os.F_OK)
