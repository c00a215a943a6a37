"""What lies in an environment's own folder of packages, whoever made it.

Comes in: a virtual environment. Comes out: its distributions, each with version and bytes, as
their own metadata and RECORDs (PEP 376) tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xinference_venv.store.envs.inspect import site_packages_of
from xinference_venv.store.packages.record_file import metadata_name, recorded_bytes


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
        name, version = metadata_name(metadata.name)
        found[name] = InstalledDistribution(
            name=name, version=version, size_bytes=recorded_bytes(metadata)
        )
    return [found[name] for name in sorted(found)]
