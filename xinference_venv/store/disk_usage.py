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
from pathlib import Path

from xinference_venv.errors import InvalidRecord, StoreError
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
    """The same in `walk_order`, with their bytes, those of the trees that they show included.

    Of files with more than one name the inodes are kept, of others nothing.
    """
    seen: set[Inode] = set()
    in_trees: set[Inode] = set()
    trees: dict[Path, int] = {}
    weighed = []
    for usage in walk_order(usages):
        size = added = 0
        for tree in trees_shown(store, usage.env_id):
            if tree not in trees:
                trees[tree] = _not_seen(tree, in_trees, stop)
                added += trees[tree]
            size += trees[tree]
        here: set[Inode] = set()
        for found in regular_files(store.layout.env(usage.env_id), stop):
            inode = (found.st_dev, found.st_ino)
            if inode in here or inode in in_trees:
                continue
            size += found.st_size
            if inode not in seen:
                added += found.st_size
            if found.st_nlink > 1:
                here.add(inode)
        seen |= here
        weighed.append(replace(usage, size_bytes=size, shared_bytes=size - added))
    return weighed


def trees_shown(store: Store, env_id: str) -> list[Path]:
    """The trees that an environment shows, packages before joined trees; none where its record
    can't be read.
    """
    try:
        folders = store.trees_of(env_id)
    except (InvalidRecord, StoreError):
        return []
    joined = frozenset(store.joined.folders())
    layout = store.layout
    return [
        layout.joined_tree(folder) if folder in joined else layout.package(folder)
        for folder in folders
    ]


def _not_seen(folder: Path, seen: set[Inode], stop: Stop) -> int:
    """The bytes of a directory's files that were not seen yet."""
    size = 0
    for found in regular_files(folder, stop):
        inode = (found.st_dev, found.st_ino)
        if found.st_nlink == 1 or inode not in seen:
            size += found.st_size
            if found.st_nlink > 1:
                seen.add(inode)
    return size


def recorded_bytes(store: Store, usages: Iterable[EnvUsage]) -> dict[tuple[str, float], int]:
    """What environments and the trees that they show take at most, as their records say.

    By id and time of creation of an environment, by the name of a tree's folder and 0. Bytecode
    takes no more than the sources. Raises `InvalidRecord` where one says nothing.
    """
    found = {}
    for usage in usages:
        record = store.record_of(usage.env_id)
        found[record.env_id, record.created] = record.size_bytes
        for folder in record.trees:
            found[folder, 0.0] = 2 * store.packages.size_of(folder)
        for folder in record.joined:
            found[folder, 0.0] = store.joined.size_of(folder)
    return found
