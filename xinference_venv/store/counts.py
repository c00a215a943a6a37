"""How much there is in a store, in numbers alone: read from records, without a walk over files.

Comes in: a store. Comes out: counts of environments, keys and leases, for whoever watches it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.lease import Holder
from xinference_venv.store.host_files import free_bytes
from xinference_venv.store.legacy.layouts import old_directories
from xinference_venv.store.paths import IN_PLACE_RECORD_NAME
from xinference_venv.store.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreCounts:
    """Environments by state, the keys that find one, and the leases that count, by holder.

    `recorded_bytes` is what the environments took when they were built, each by itself;
    `free_bytes` what their file system has left.
    """

    environments: Mapping[EnvState, int]
    keys: int
    leases: Mapping[Holder, int]
    recorded_bytes: int
    free_bytes: int


def count_store(store: Store) -> StoreCounts:
    """Count what is there; blocks on the disk, for some microseconds an environment."""
    places = list(store.key_places())
    linked = {place.env_id for place in places if place.env_id is not None}
    environments: Counter[EnvState] = Counter()
    size = 0
    for env_id in {*linked, *store.skipped.names(store.layout.envs)}:
        with suppress(InvalidRecord, StoreError):
            size += store.record_of(env_id).size_bytes
        try:
            store.env_record(env_id)
        except (InvalidRecord, StoreError):
            environments[EnvState.BROKEN] += 1
        else:
            environments[EnvState.READY] += 1
    for each in old_directories(store.layout, places):
        in_place = not each.is_link and (each.path / IN_PLACE_RECORD_NAME).exists()
        environments[EnvState.IN_PLACE if in_place else EnvState.UNMANAGED] += 1
    leases = Counter(
        holder for env_id in store.leases.env_ids() for _, holder in store.leases.of(env_id)
    )
    return StoreCounts(
        environments=environments,
        keys=sum(1 for place in places if place.env_id is not None),
        leases=leases,
        recorded_bytes=size,
        free_bytes=free_bytes(store.layout.root),
    )
