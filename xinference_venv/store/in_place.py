"""Environments that the drop-in for Xinference changes in their place: what is in them, and whole.

Comes in: the directory of one. Comes out: its record, its distributions as they are now, and
what is wrong with it. What was written into its files is its users' own affair.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from xinference_venv.errors import InvalidRecord
from xinference_venv.inventory.in_place import (
    InPlaceRecord,
    distributions_now,
)
from xinference_venv.planning.lock import LockedDistribution
from xinference_venv.store.atomic import Disk
from xinference_venv.store.envs.contents import installed_in
from xinference_venv.store.envs.inspect import site_packages_of
from xinference_venv.store.packages.record_file import metadata_name, read_record
from xinference_venv.store.paths import IN_PLACE_RECORD_NAME, LAYER_NAME


def read_in_place(disk: Disk, env: Path) -> InPlaceRecord | None:
    """The record of an environment, None without one; raises `InvalidRecord` when damaged."""
    data = disk.read_json(env / IN_PLACE_RECORD_NAME)
    return None if data is None else InPlaceRecord.from_dict(data)


def packages_in_place(disk: Disk, env: Path) -> list[LockedDistribution]:
    """The distributions that an environment has and inherits; none where its record is damaged."""
    try:
        record = read_in_place(disk, env)
    except InvalidRecord:
        record = None
    if record is None:
        return []
    there = [(each.name, each.version) for each in installed_in(env)]
    return sorted(distributions_now(record, there))


def in_place_faults(disk: Disk, env: Path, pause: Callable[[], None]) -> Iterator[str]:
    """What an environment lacks: its interpreter, files of its packages, what of the host it shows.

    `pause` is called again and again: it may wait, and end the look by an exception.
    """
    try:
        if read_in_place(disk, env) is None:
            yield f"{IN_PLACE_RECORD_NAME} is missing"
    except InvalidRecord as error:
        yield str(error)
    if not (env / "bin" / "python").exists():
        yield "bin/python is missing, or leads nowhere"
    site_packages = site_packages_of(env)
    for metadata in sorted(site_packages.glob("*.dist-info")):
        pause()
        name, _ = metadata_name(metadata.name)
        try:
            rows = read_record(metadata)
        except (OSError, ValueError) as error:
            yield f"{name}: {error}"
            continue
        for row in rows:
            if not row.path.endswith(".pyc") and not os.path.lexists(site_packages / row.path):
                yield f"{name} lacks {row.path}"
    for folder, names, files in os.walk(env / LAYER_NAME):
        pause()
        for each in (*names, *files):
            if not os.path.exists(path := os.path.join(folder, each)):
                yield f"{each} leads nowhere: {os.readlink(path)} was removed from the host"
