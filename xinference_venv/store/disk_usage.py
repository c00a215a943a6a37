"""What is on the disk and how much it takes: environments, what older versions left, uv's cache.

Bytes are sizes of regular files as the system tells them; a file with several names counts once,
links are not followed, and what can't be read has no size. All of this blocks, for long where
there are many files, and asks at each directory whether to stop: then it raises `JobCancelled`.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from xinference_venv.errors import JobCancelled
from xinference_venv.inventory.eviction import EnvUsage, walk_order
from xinference_venv.planning.key import EnvKey
from xinference_venv.store.keys import names_in
from xinference_venv.store.store import Store

Stop = Callable[[], bool]

_Inode = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """Bytes of directories together; `linked_bytes` of them have names elsewhere as well."""

    size_bytes: int = 0
    linked_bytes: int = 0

    @property
    def own_bytes(self) -> int:
        """What the disk has more of when the directories are deleted."""
        return self.size_bytes - self.linked_bytes


@dataclass(kw_only=True, slots=True)
class Scale:
    """Weighs one directory after the other, and says what they take together.

    Remembered are only files of which some names were seen and others not.
    """

    _size: int = 0
    _linked: int = 0
    _names_left: dict[_Inode, int] = field(default_factory=dict)

    def put(self, folder: str | Path, stop: Stop) -> Weight:
        """The weight of all that was put here, this directory included."""
        for found in _files(folder, stop):
            inode = (found.st_dev, found.st_ino)
            left = self._names_left.pop(inode, None)
            if left is None:
                left = found.st_nlink
                self._size += found.st_size
                self._linked += found.st_size
            if left > 1:
                self._names_left[inode] = left - 1
            else:
                self._linked -= found.st_size
        return Weight(size_bytes=self._size, linked_bytes=self._linked)


def weigh(folders: Iterable[str | Path], stop: Stop) -> Weight:
    """What directories take together, and what of it would stay if they went."""
    scale = Scale()
    weight = Weight()
    for folder in folders:
        weight = scale.put(folder, stop)
    return weight


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
        for env_id in sorted({*keys, *names_in(str(store.layout.envs))})
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


def measured(store: Store, usages: Iterable[EnvUsage], stop: Stop) -> list[EnvUsage]:
    """The same in `walk_order`, with their bytes.

    Of files with more than one name the inodes are remembered, of others nothing.
    """
    seen: set[_Inode] = set()
    weighed = []
    for usage in walk_order(usages):
        here: set[_Inode] = set()
        size = added = 0
        for found in _files(store.layout.env(usage.env_id), stop):
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


def _files(folder: str | Path, stop: Stop) -> Iterator[os.stat_result]:
    """The regular files below a directory."""
    folders = [] if os.path.islink(folder) else [os.fspath(folder)]
    while folders:
        if stop():
            raise JobCancelled("nobody waits for the measuring any more")
        try:
            with os.scandir(folders.pop()) as entries:
                found = list(entries)
        except OSError:
            continue
        for entry in found:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif stat.S_ISREG((facts := entry.stat(follow_symlinks=False)).st_mode):
                    yield facts
