"""How many bytes directories take: the one walk that sums them.

Comes in: directories. Comes out: the bytes of their regular files, links not followed, a file
with several names counted once, and how many of these bytes have names elsewhere as well.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from xinference_venv.errors import JobCancelled
from xinference_venv.sentences import sentence

Stop = Callable[[], bool]
"""Whether whoever waits for the measuring has given up."""

Inode = tuple[int, int]


def never() -> bool:
    """Measure to the end."""
    return False


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

    What it keeps is only of files of which some names were seen and others not.
    """

    _size: int = 0
    _linked: int = 0
    _names_left: dict[Inode, int] = field(default_factory=dict)

    def put(self, folder: str | Path, stop: Stop) -> Weight:
        """The weight of all that was put here, this directory included."""
        for found in regular_files(folder, stop):
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


def weigh(folders: Iterable[str | Path], stop: Stop = never) -> Weight:
    """What directories take together, and what of it would stay if they went."""
    scale = Scale()
    weight = Weight()
    for folder in folders:
        weight = scale.put(folder, stop)
    return weight


def regular_files(folder: str | Path, stop: Stop) -> Iterator[os.stat_result]:
    """The regular files below a directory."""
    folders = [] if os.path.islink(folder) else [os.fspath(folder)]
    while folders:
        if stop():
            raise JobCancelled(sentence("the measuring was cancelled"))
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
