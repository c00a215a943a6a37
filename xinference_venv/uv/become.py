"""The end of this program in favour of another one, in the same process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NoReturn


def become_process(argv: Sequence[str]) -> NoReturn:
    """Become another program, in this process: its pid, its open streams; raises `OSError`."""
    os.execv(argv[0], list(argv))  # noqa: S606 (there is no shell in between)
