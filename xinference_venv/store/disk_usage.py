"""What is on the disk and how much it takes: environments, what older versions left, uv's cache.

Bytes are sizes of regular files as the system tells them; a file with several names counts once,
links are not followed, and what can't be read has no size. All of this blocks, for long where
there are many files, and asks at each directory whether to stop: then it raises `JobCancelled`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace

from xinference_venv.inventory.eviction import EnvUsage, walk_order
from xinference_venv.planning.key import EnvKey
from xinference_venv.store.store import Store
from xinference_venv.store.tree_size import Inode, Stop, regular_files


def usages_of(store: Store, launching: Collection[EnvKey]) -> list[EnvUsage]:
    """Every environment and who uses it, not measured yet; `launching` are keys under way."""
    keys: dict[str, list[EnvKey]] = defaultdict(list)
    for key, env_id in store.links():
        keys[env_id].append(key)
    return [
        EnvUsage(
            env_id=env_id,
            keys=tuple(keys[env_id]),
            leases=tuple(lease for lease, _ in store.leases.of(env_id)),
            busy=any(key in launching for key in keys[env_id]),
            last_used=last_used(store, env_id, keys[env_id]),
        )
        for env_id in sorted({*keys, *store.skipped.names(store.layout.envs)})
    ]


def last_used(store: Store, env_id: str, keys: Iterable[EnvKey]) -> float:
    """When the latest of an environment's keys was used, in seconds since the epoch.

    Where none of them tells, when the environment was made; what is not there is of old.
    """
    records = (store.key_record_of(key, env_id) for key in keys)
    times = [record.last_used for record in records if record is not None]
    with suppress(OSError):
        times = times or [store.layout.env(env_id).lstat().st_mtime]
    return max(times, default=0.0)


def measure(store: Store, usages: Iterable[EnvUsage], stop: Stop) -> list[EnvUsage]:
    """The same in `walk_order`, with their bytes.

    Of files with more than one name the inodes are remembered, of others nothing.
    """
    seen: set[Inode] = set()
    weighed = []
    for usage in walk_order(usages):
        here: set[Inode] = set()
        size = added = 0
        for found in regular_files(store.layout.env(usage.env_id), stop):
            inode = (found.st_dev, found.st_ino)
            if inode in here:
                continue
            size += found.st_size
            if inode not in seen:
                added += found.st_size
            if found.st_nlink > 1:
                here.add(inode)
        seen |= here
        weighed.append(replace(usage, size_bytes=size, shared_bytes=size - added))
    return weighed


def recorded_bytes(store: Store, usages: Iterable[EnvUsage]) -> dict[tuple[str, float], int]:
    """What environments take at most, as their records say: by id and time of creation.

    Raises `InvalidRecord` where one says nothing.
    """
    records = (store.record_of(usage.env_id) for usage in usages)
    return {(record.env_id, record.created): record.size_bytes for record in records}
