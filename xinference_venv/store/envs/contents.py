"""What lies in an environment's own folder of packages, whoever made it.

Comes in: a virtual environment. Comes out: its distributions, each with version and bytes, as
their own metadata and RECORDs (PEP 376) tell.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from xinference_venv.store.envs.inspect import site_packages_of


@dataclass(frozen=True, kw_only=True, slots=True)
class InstalledDistribution:
    """A distribution by its normalized name; `size_bytes` is what its RECORD says of its files,
    None where it says nothing.
    """

    name: str
    version: str
    size_bytes: int | None


def installed_in(env: Path) -> list[InstalledDistribution]:
    """The distributions of an environment by name; blocks on the disk, and never raises."""
    found = {}
    for metadata in sorted(site_packages_of(env).glob("*.dist-info")):
        name, _, version = metadata.name.removesuffix(".dist-info").partition("-")
        found[canonicalize_name(name)] = InstalledDistribution(
            name=canonicalize_name(name), version=version, size_bytes=_recorded_bytes(metadata)
        )
    return [found[name] for name in sorted(found)]


def _recorded_bytes(metadata: Path) -> int | None:
    try:
        with open(os.path.join(metadata, "RECORD"), encoding="utf-8", newline="") as file:
            return sum(int(row[2]) for row in csv.reader(file) if len(row) > 2 and row[2])
    except (OSError, ValueError, csv.Error):
        return None
