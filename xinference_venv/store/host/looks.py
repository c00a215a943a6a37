"""What the host's distributions look for outside of their own files, among what is installed.

Comes in: the visible distributions of a host and the names of what an environment installs. Only
those that require something of it are looked at, each once as long as it is not installed again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.records import Record, digest_of
from xinference_venv.errors import InvalidRecord
from xinference_venv.planning.host import HostDistribution, HostFacts
from xinference_venv.planning.package import ABOVE, LooksFor
from xinference_venv.store.atomic import Disk
from xinference_venv.store.packages.looks_for import looks_for
from xinference_venv.store.packages.record_file import read_file_list
from xinference_venv.store.paths import StorePaths


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found(Record, name="what a host's distribution looks for", version=1):
    names: tuple[LooksFor, ...]


def host_looks(
    disk: Disk,
    layout: StorePaths,
    host: HostFacts,
    visible: Collection[str],
    names: Collection[str],
) -> dict[str, tuple[LooksFor, ...]]:
    """By name of each visible distribution that requires one of `names`: what it looks for.

    One that looks above the folder of packages is left out: it works only where it is.
    """
    found = {}
    for each in host.distributions:
        requires = {need.name for need in host.needs[each.name]}
        if each.name not in visible or requires.isdisjoint(names):
            continue
        looks = _looks_of(disk, layout, each)
        if looks and not any(one.name == ABOVE for one in looks):
            found[each.name] = looks
    return found


def _looks_of(disk: Disk, layout: StorePaths, each: HostDistribution) -> tuple[LooksFor, ...]:
    identity = digest_of([each.name, each.version, each.location, each.metadata, each.inode])
    path = layout.hosts / f"looks-{identity[:32]}.json"
    try:
        if (data := disk.read_json(path)) is not None:
            return _Found.from_dict(data).names
    except InvalidRecord:
        # Damaged: it is found out again.
        pass
    files = read_file_list(each.location, each.name, each.metadata)
    names = looks_for(Path(each.location), files.inside, each.entries) if files.recorded else ()
    disk.write_json(path, _Found(names=names).to_dict(), durable=False)
    return names
