"""What a process knows and decides about itself: whose it is, who may look into it, its files,
garbage.

What only Linux lets it decide does nothing elsewhere.
"""

from __future__ import annotations

import gc
import os
import platform
import pwd
import resource
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# linux/prctl.h
_SET_DUMPABLE = 4
_OPEN_FILES = 65_536
_OBJECTS_BETWEEN_COLLECTIONS = 10_000
# Fields of /proc/PID/stat behind the name of the program, which is the second one; see proc(5).
_ENV_START, _ENV_END = 50 - 3, 51 - 3


def user_and_host() -> str:
    """Whose process this is, as ``user@host``; a user that the system does not know by number."""
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = str(os.geteuid())
    return f"{name}@{platform.node()}"


def hide_variables(names: Collection[str]) -> None:
    """Take the values of variables out of ``/proc/PID/environ``; this process keeps them.

    The kernel shows the memory in which it handed the variables over at the start, whatever
    became of them since, to every process of the same user. Call it before there are threads.
    """
    hidden = [name for name in names if name in os.environ]
    if not hidden or sys.platform != "linux":
        return
    for name in hidden:
        # The C library reads it from a copy from now on.
        os.environ[name] = os.environ[name]
    import ctypes

    fields = Path("/proc/self/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    start, end = int(fields[_ENV_START]), int(fields[_ENV_END])
    if not 0 < start < end:
        # The system does not tell.
        return
    place = start
    for entry in ctypes.string_at(start, end - start).split(b"\0"):
        variable, _, value = entry.partition(b"=")
        if os.fsdecode(variable) in hidden:
            ctypes.memset(place + len(variable) + 1, 0, len(value))
        place += len(entry) + 1


def forbid_inspection() -> None:
    """Keep other processes of the same user out of this one's memory and ``/proc/PID``.

    It writes no core dumps then. Processes with CAP_SYS_PTRACE, root's by default, get in.
    """
    _prctl(_SET_DUMPABLE, 0)


def raise_file_limit() -> None:
    """Let this process open up to `_OPEN_FILES` files, if it may: each connection is one.

    Not all that a system with a limit of a milliard allows: there are programs that close every
    descriptor that they might have, one by one, and children inherit the limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems refuse more than they say.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def collect_cycles_seldom() -> None:
    """Let Python look for cycles of dead objects after 10,000 new objects, not after 700.

    A question to each of thousands of workers is a hundred objects for each while it is under way,
    all of which every full collection goes through, and finds nothing.
    """
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])


@contextmanager
def without_collections() -> Iterator[None]:
    """Look for no cycles of dead objects meanwhile: while modules are imported, all stays.

    What was imported then is not gone through again either.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
