"""The entries of a store, read from the disk: keys, records, leases, old directories."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import starmap
from pathlib import Path

from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.inventory.env import EnvRecord, EnvState
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.lease import Holder, JudgedLease, Lease
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.store.host.changes import HostChanges, changed_in_place
from xinference_venv.store.keys import KeyPlace
from xinference_venv.store.legacy.layouts import old_entries
from xinference_venv.store.store import Store
from xinference_venv.store.tree_uses import TreeUses

_EVERY = Selection()


def entries_of(store: Store, wanted: Selection = _EVERY) -> list[EnvEntry]:
    """The wanted of all environments that a key finds and of what older versions left."""
    places = list(store.key_places())
    sharing: dict[str, list[EnvKey]] = defaultdict(list)
    for key, _, env_id in places:
        if env_id is not None:
            sharing[env_id].append(key)
    # Most environments are not in use, and have no folder of leases.
    leased = store.leases.env_ids()
    trees = TreeUses(store=store, env_ids=sharing.keys())
    changes = HostChanges(store=store)
    entries = [
        _with_host_changes(store, entry, changes)
        for entry in old_entries(store.layout, store.disk, places, wanted)
    ]
    for place in places:
        if place.env_id is not None and wanted.matches(place.key):
            leases = store.leases.of(place.env_id) if place.env_id in leased else []
            entries.append(
                _entry(store, place, place.env_id, leases, sharing[place.env_id], trees, changes)
            )
    store.cache_only(sharing.keys(), {place.key for place in places})
    return sorted(entries, key=lambda entry: entry.path)


def models_of(store: Store) -> tuple[str, ...]:
    """The names of the models that keys with an environment are of, in order."""
    return tuple(sorted({key.model_name for key, _ in store.links()}))


def _with_host_changes(store: Store, entry: EnvEntry, changes: HostChanges) -> EnvEntry:
    """An entry of an old place, of one that is changed in its place with what the host changed."""
    if entry.state is not EnvState.IN_PLACE:
        return entry
    changed = changed_in_place(store, Path(entry.real_path), changes)
    return replace(entry, changed_on_host=changed)


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
        changed_on_host=() if used is None else changes.shown_in(env_id, used.host_fingerprint),
    )
