"""The entries of a store, read from the disk: keys, records, leases, old directories, packages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

from xinference_venv.errors import InvalidInput, InvalidRecord, StoreError
from xinference_venv.inventory.env import EnvRecord, EnvState, KeyRecord
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.lease import Holder, JudgedLease, Lease
from xinference_venv.inventory.reports import Package, ShownView
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import LockedDistribution, Role
from xinference_venv.planning.package import PackageRecord
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store.envs.contents import installed_in
from xinference_venv.store.host.changes import HostChanges, shown_among
from xinference_venv.store.keys import KeyPlace
from xinference_venv.store.legacy.layouts import old_entries
from xinference_venv.store.shown import (
    PackagePlaces,
    TreeUses,
    package_places,
    read_shown,
    shown_view,
)
from xinference_venv.store.store import Store

_EVERY = Selection()


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagesOfEntry:
    """The packages of an entry, its view where it has one, and the launch that was kept of it."""

    packages: tuple[Package, ...]
    view: ShownView | None = None
    launch: LaunchRequest | None = None


def entries_of(store: Store, wanted: Selection = _EVERY) -> list[EnvEntry]:
    """The wanted of all environments that a key finds and of what older versions left."""
    places = list(store.key_places())
    sharing: dict[str, list[EnvKey]] = defaultdict(list)
    for key, _, env_id in places:
        if env_id is not None:
            sharing[env_id].append(key)
    # Most environments are not in use, and have no folder of leases.
    leased = store.leases.env_ids()
    entries = old_entries(store.layout, store.disk, places, wanted)
    trees = TreeUses(store=store, env_ids=sharing.keys())
    changes = HostChanges(store=store)
    for place in places:
        if place.env_id is not None and wanted.matches(place.key):
            leases = store.leases.of(place.env_id) if place.env_id in leased else []
            entries.append(
                _entry(store, place, place.env_id, leases, sharing[place.env_id], trees, changes)
            )
    store.cache_only(sharing.keys(), {place.key for place in places})
    return sorted(entries, key=lambda entry: entry.path)


def packages_in(store: Store, entries: Iterable[EnvEntry]) -> list[PackagesOfEntry]:
    """The packages of each entry."""
    keys: dict[str, list[EnvKey]] = defaultdict(list)
    for key, env_id in store.links():
        keys[env_id].append(key)
    uses = TreeUses(store=store, env_ids=keys.keys())
    found: list[PackagesOfEntry] = []
    for entry in entries:
        record = None if entry.env_id is None else read_shown(store, entry.env_id)
        if entry.env_id is None or record is None:
            found.append(PackagesOfEntry(packages=packages_of(store, entry, {})))
            continue
        used = store.key_record_of(entry.key, entry.env_id)
        places = package_places(store, record, "" if used is None else used.host_fingerprint)
        view = shown_view(store, entry.env_id, record, uses, keys)
        found.append(
            PackagesOfEntry(
                packages=packages_of(store, entry, places),
                view=view,
                launch=None if used is None else _launch_of(used),
            )
        )
    return found


def _launch_of(record: KeyRecord) -> LaunchRequest | None:
    """What a key was last launched with; a later release may have kept what this can't read."""
    try:
        return None if record.request is None else LaunchRequest.from_dict(record.request)
    except InvalidInput:
        return None


def packages_of(store: Store, entry: EnvEntry, places: PackagePlaces) -> tuple[Package, ...]:
    """The distributions of an entry's lock; `size_bytes` is what one of its
    own takes there, None for those of the host.

    What an older version made has no lock: then they are what is found there.
    """
    there = {each.name: each for each in installed_in(Path(entry.real_path))}
    if entry.env_id is None:
        why = "the reason was not recorded"
        distributions = [
            LockedDistribution(name=each.name, role=Role.INSTALLED, version=each.version, why=why)
            for each in there.values()
        ]
    else:
        lock = store.lock_of(entry.env_id)
        distributions = [] if lock is None else list(lock.distributions)
    own = {each.name for each in distributions if each.role is Role.INSTALLED}
    sizes = {name: each.size_bytes for name, each in there.items() if name in own}
    if entry.env_id is not None:
        sizes |= {
            record.key.name: record.size_bytes for record in _packages_shown(store, entry.env_id)
        }
    return tuple(
        Package(
            distribution=each, size_bytes=sizes.get(each.name), places=places.get(each.name, ())
        )
        for each in distributions
    )


def _packages_shown(store: Store, env_id: str) -> list[PackageRecord]:
    """The records of the packages that an environment's view leads to."""
    try:
        folders = store.trees_of(env_id)
    except (InvalidRecord, StoreError):
        return []
    records = (store.packages.record(folder) for folder in folders)
    return [record for record in records if record is not None]


def _entry(
    store: Store,
    place: KeyPlace,
    env_id: str,
    leases: list[tuple[Lease, Holder]],
    sharing: list[EnvKey],
    trees: TreeUses,
    changes: HostChanges,
) -> EnvEntry:
    record: EnvRecord | None = None
    reason: str | None = None
    try:
        record = store.env_record(env_id, broken=trees.broken)
    except (InvalidRecord, StoreError) as error:
        reason = str(error)
    used = store.key_record_of(place.key, env_id)
    own, shared = (0, 0) if record is None else trees.bytes_of(env_id)
    changed = frozenset() if used is None else changes.since(used.host_fingerprint)
    return EnvEntry(
        key=place.key,
        path=place.path,
        real_path=str(store.venv_of(env_id)),
        state=EnvState.BROKEN if record is None else EnvState.READY,
        env_id=env_id,
        lock_digest=None if record is None else record.lock_digest,
        reason=reason,
        size_bytes=None if record is None else record.size_bytes + own,
        shared_bytes=shared,
        python=None if record is None else record.python_version,
        installed=0 if record is None else record.installed,
        inherited=0 if record is None else record.inherited,
        leases=tuple(starmap(JudgedLease.of, leases)),
        shared_with=tuple(each for each in sharing if each is not place.key),
        created=None if record is None else record.created,
        last_used=None if used is None else used.last_used,
        changed_on_host=shown_among(store, env_id, changed),
    )
