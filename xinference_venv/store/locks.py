"""Locks between processes that share a home: an OS file lock each, freed by its holder's death."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from xinference_venv.errors import DeadlineExceeded
from xinference_venv.store.identity import this_process

_POLL_SECONDS = 0.05
_BRIEF_SECONDS = 30.0


def _ignore(_: str) -> None:
    """Nobody listens."""


@asynccontextmanager
async def held(
    path: Path, *, purpose: str, deadline: float, on_wait: Callable[[str], None] = _ignore
) -> AsyncIterator[None]:
    """Hold the lock at `path`; waits at most `deadline` seconds, and says once for whom.

    Raises `DeadlineExceeded`, which names the holder as far as it is known.
    """
    lock = FileLock(path, timeout=0, thread_local=False)
    until = time.monotonic() + deadline
    told = False
    while not _try(lock):
        if not told:
            on_wait(f"waiting for {_holder(path)}")
            told = True
        if time.monotonic() >= until:
            raise DeadlineExceeded(
                f"waited {deadline:g} s for {_holder(path)}",
                {"hint": "wait for it to end, or end that process"},
            )
        await asyncio.sleep(_POLL_SECONDS)
    try:
        _name_holder(path, purpose)
        yield
    finally:
        lock.release()


@contextmanager
def held_briefly(path: Path) -> Iterator[None]:
    """Hold a lock that nobody keeps for longer than a few disk operations; blocks the thread."""
    lock = FileLock(path, timeout=_BRIEF_SECONDS, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise DeadlineExceeded(
            f"waited {_BRIEF_SECONDS:g} s for another process that holds {path}",
            {"hint": "a process that shares this home may be stopped: let it go on, or end it"},
        ) from None
    try:
        yield
    finally:
        lock.release()


def _try(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _name_holder(path: Path, purpose: str) -> None:
    """Say who holds it, for those who wait: a courtesy, the file lock alone decides."""
    note = {"pid": this_process().pid, "host": this_process().host, "purpose": purpose}
    with suppress(OSError):
        path.with_suffix(".holder").write_text(json.dumps(note), "utf-8")


def _holder(path: Path) -> str:
    try:
        note = json.loads(path.with_suffix(".holder").read_text("utf-8"))
        return f"{note['purpose']} by process {note['pid']} on {note['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
