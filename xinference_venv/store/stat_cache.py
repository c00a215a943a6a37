"""What was read from small files and folders, kept as long as their stamps stay the same.

Comes in: a path and a way to read it. Comes out: what stands there now, whoever changed it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from xinference_venv._util.clock import Clock
from xinference_venv.store.stamp import Stamp, stamp_of

_K = TypeVar("_K", bound=Hashable)
_P = TypeVar("_P", str, Path)
_T = TypeVar("_T")

# The clock of a file system may tick so seldom: two changes within a tick leave the same stamp, so
# what has just changed is read again.
SETTLED_NANOSECONDS = 2_000_000_000


@dataclass(kw_only=True, slots=True)
class StatCache(Generic[_K, _T]):
    """Values by key, each read from a file or a folder of its own.

    Of files that are `written_once` none is ever written into: what takes the place of one has
    another stamp, however soon that is.
    """

    clock: Clock = time
    written_once: bool = False
    _kept: dict[_K, tuple[str, Stamp, _T]] = field(default_factory=dict, init=False)

    def get(self, key: _K, path_of: Callable[[_K], _P], read: Callable[[_K, _P], _T]) -> _T:
        """What the key's file holds now; what `read` raises is not kept."""
        kept = self._kept.get(key)
        # Making a path takes longer than asking for its stamp, so it is made once.
        if kept is not None and kept[1] == stamp_of(kept[0]):
            return kept[2]
        self._kept.pop(key, None)
        path = path_of(key)
        # The stamp comes first: what changes while it is read is read again the next time.
        stamp = stamp_of(path)
        value = read(key, path)
        settled = self.written_once or max(stamp[2:], default=0) < (
            self.clock.time_ns() - SETTLED_NANOSECONDS
        )
        if stamp and settled:
            self._kept[key] = (str(path), stamp, value)
        return value

    def keep_only(self, keys: Collection[_K]) -> None:
        """Forget all others, so that what is gone takes no memory."""
        for key in self._kept.keys() - keys:
            self._kept.pop(key, None)
