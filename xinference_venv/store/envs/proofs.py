"""What was proved of an environment once need not be proved again, of another one like it.

Comes in: the digest of all that a proof depends on. What is kept is an empty file of that name.
"""

from __future__ import annotations

import os

from xinference_venv.store.atomic import Disk
from xinference_venv.store.paths import StorePaths


def is_proved(layout: StorePaths, digest: str) -> bool:
    """Whether a proof with this digest was kept."""
    return os.path.exists(layout.proofs / digest)


def keep_proof(disk: Disk, layout: StorePaths, digest: str) -> None:
    """Keep a proof."""
    disk.write(layout.proofs / digest, b"", durable=False)
