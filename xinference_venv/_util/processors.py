"""How many processors this process may use: of the system, its affinity and its control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROCESS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def usable_processors(process: Path = _PROCESS, groups: Path = _GROUPS) -> int:
    """At least 1; a quota of part of a processor counts as a whole one.

    `process` is the kernel's list of the groups of this process, `groups` where they are mounted.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    quotas = (quota for folder in _folders(process, groups) for quota in _quotas(folder))
    return max(1, min([count, *(-(-quota // period) for quota, period in quotas)]))


def _folders(process: Path, groups: Path) -> Iterator[Path]:
    """The control groups that bound this process: each with those above it."""
    lines = []
    with suppress(OSError, UnicodeDecodeError):
        lines = process.read_text("utf-8").splitlines()
    for line in lines:
        _, _, names = line.partition(":")
        controllers, _, path = names.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container its own group is the root of what is mounted, whatever its path says.
        root = groups / controllers
        yield root
        folder = root / path.strip("/")
        while folder != root and ".." not in folder.parts:
            yield folder
            folder = folder.parent


def _quotas(folder: Path) -> Iterator[tuple[int, int]]:
    """Microseconds of processor time in each period of so many: of version 2, and of version 1."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text("ascii").split()
        yield int(quota), int(period)
    with suppress(OSError, ValueError):
        quota = (folder / "cpu.cfs_quota_us").read_text("ascii")
        period = (folder / "cpu.cfs_period_us").read_text("ascii")
        if int(quota) > 0:
            yield int(quota), int(period)
