"""What was proved once need not be proved again: of an environment, or of two packages together.

Comes in: the digest of all that a proof depends on. What is kept is an empty file of that name,
whose time is when it last served. Those that did not serve for long are swept.
"""

from __future__ import annotations

import heapq
import os
import time

from xinference_venv.store.atomic import Disk
from xinference_venv.store.paths import StorePaths

_KEPT_SECONDS = 90 * 86_400.0
_MOST_PROOFS = 20_000
_TOUCHED_SECONDS = 86_400.0


def is_proved(disk: Disk, layout: StorePaths, digest: str) -> bool:
    """Whether a proof with this digest was kept; it served, so it stays."""
    path = layout.proofs / digest
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return False
    if not 0 <= age < _TOUCHED_SECONDS:
        disk.touch(path)
    return True


def keep_proof(disk: Disk, layout: StorePaths, digest: str) -> None:
    """Keep a proof."""
    disk.write(layout.proofs / digest, b"", durable=False)


def sweep_proofs(disk: Disk, layout: StorePaths, now: float) -> None:
    """Delete the proofs that served no environment for 90 days, and the oldest of very many.

    `now` is in seconds since the epoch.
    """
    kept: list[tuple[float, str]] = []
    for entry in disk.skipped.entries(layout.proofs):
        with disk.skipped.visiting(entry.path):
            served = entry.stat(follow_symlinks=False).st_mtime
            heapq.heappush(kept, (served, entry.path))
            if served < now - _KEPT_SECONDS or len(kept) > _MOST_PROOFS:
                disk.unlink(layout.proofs / os.path.basename(heapq.heappop(kept)[1]))
