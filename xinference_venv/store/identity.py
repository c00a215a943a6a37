"""Which process this is and which others live, as the system tells it."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import psutil

from xinference_venv.lease import ProcessIdentity


@cache
def _boot() -> str:
    """A name for this boot of the system, so that a pid of an earlier one is told apart."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def process_start(pid: int) -> str | None:
    """When the process with this pid started, or None when there is none.

    In clock ticks since boot where the system tells them (Linux), since setting the clock does
    not change these. A process that ended and was not reaped yet counts as none.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
        return _start_by_psutil(pid)
    state, *fields = text.rpartition(")")[2].split()
    return None if state in ("Z", "X") else fields[18]


def _start_by_psutil(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return repr(process.create_time())
    except psutil.NoSuchProcess:
        return None


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a living process of this host, or None when there is none."""
    start = process_start(pid)
    if start is None:
        return None
    return ProcessIdentity(host=platform.node(), boot=_boot(), pid=pid, start=start)


def this_process() -> ProcessIdentity:
    """The identity of the running process."""
    identity = identify(os.getpid())
    assert identity is not None
    return identity
