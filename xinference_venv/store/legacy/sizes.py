"""How large the directories are that older versions left; measurements are kept.

A directory is measured once, and again when its own entries, its programs or its installed
packages change. A file deep inside that grows is not noticed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from xinference_venv._util.clock import Clock
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.store.atomic import Disk
from xinference_venv.store.envs.inspect import site_packages_of
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.stamp import stamp_of
from xinference_venv.store.tree_size import weigh

_MEASURING_SECONDS = 1.0


def sizes_of(
    layout: StorePaths, disk: Disk, directories: Collection[Path], clock: Clock = time
) -> dict[Path, int]:
    """Bytes by directory. One is measured in any case, others in the second after it began; what
    is left is absent.
    """
    if not directories:
        return {}
    kept = _kept(layout, disk)
    known = {path: data for path, data in kept.items() if os.path.isdir(path)}
    until = None
    sizes = {}
    for directory in directories:
        stamp = [*map(list, map(stamp_of, _telling(directory)))]
        found = known.get(str(directory))
        if not (isinstance(found, dict) and found.get("stamp") == stamp):
            now = clock.monotonic()
            if until is None:
                until = now + _MEASURING_SECONDS
            elif now > until:
                continue
            found = known[str(directory)] = {"stamp": stamp, "size": weigh([directory]).size_bytes}
        if isinstance(size := found.get("size"), int):
            sizes[directory] = size
    if known != kept:
        # A disk that is full or read-only is no reason not to list.
        with suppress(StoreError):
            disk.write_json(layout.old_sizes, known, durable=False)
    return sizes


def _telling(directory: Path) -> tuple[Path, ...]:
    """What changes when something is installed or removed."""
    return directory, directory / "bin", site_packages_of(directory)


def _kept(layout: StorePaths, disk: Disk) -> dict[str, Any]:
    try:
        data = disk.read_json(layout.old_sizes)
    except InvalidRecord:
        return {}
    return data if isinstance(data, dict) else {}
