"""What the host's distributions look for outside of their own files, among what is installed.

Comes in: the visible distributions of a host and the names of what an environment installs. Those
that require something of it are looked at, each once as long as it is not installed again.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.records import Record, digest_of
from xinference_venv.errors import InvalidRecord
from xinference_venv.planning.host import HostDistribution, HostFacts
from xinference_venv.planning.package import LooksFor, Way
from xinference_venv.planning.view import Prefix
from xinference_venv.store.atomic import Disk
from xinference_venv.store.packages.looks_for import looks_for
from xinference_venv.store.packages.record_file import read_file_list
from xinference_venv.store.paths import StorePaths


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found(Record, name="what a host's distribution looks for", version=3):
    names: tuple[LooksFor, ...]


def requirers(host: HostFacts, visible: Collection[str], names: Collection[str]) -> frozenset[str]:
    """The visible distributions that require one of `names`."""
    return frozenset(
        each.name
        for each in host.distributions
        if each.name in visible
        and not {need.name for need in host.needs[each.name]}.isdisjoint(names)
    )


def host_looks(
    disk: Disk, layout: StorePaths, host: HostFacts, wanted: Collection[str], prefix: Prefix
) -> dict[str, tuple[LooksFor, ...]]:
    """What each of the wanted distributions looks for, by its name.

    One that finds something above the folder of packages which is not in the environment's
    `prefix` is left out: it works only where it is.
    """
    found = {}
    for each in host.distributions:
        looks = _looks_of(disk, layout, each) if each.name in wanted else ()
        if looks and all(prefix.has(one) or not _finds_above(each, one) for one in looks):
            found[each.name] = looks
    return found


def _finds_above(each: HostDistribution, looks: LooksFor) -> bool:
    """Whether what is looked for above the host's folder of packages is there."""
    if not looks.is_above:
        return False
    pattern = os.path.join(glob.escape(each.location), looks.name)
    if looks.way is Way.RUN_PATH:
        pattern = os.path.join(pattern, "*.so*")
    return next(glob.iglob(pattern), None) is not None


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
