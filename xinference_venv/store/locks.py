"""Locks between processes that share a home: an OS file lock each, freed by its holder's death.

A lock is flock(2) on a file, which names its holder to those who wait. Who holds the lock may
delete the file: whoever gets it afterwards sees that the file is not in its place any more, and
takes the lock of the one that is.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.clock import Clock
from xinference_venv._util.records import Record
from xinference_venv._util.tasks import ignore
from xinference_venv.errors import DeadlineExceeded, InvalidRecord, StoreError
from xinference_venv.inventory.lease import Holder, ProcessIdentity, judge
from xinference_venv.sentences import sentence
from xinference_venv.store.atomic import check_no_link_above, hint_for, temporary_path
from xinference_venv.store.process_identity import process_start, this_process
from xinference_venv.store.visit import read_regular

_POLL_SECONDS = 0.05
_BRIEF_SECONDS = 30.0
_BRIEF_POLL_SECONDS = 0.005
_NAMELESS = sentence("another process")
# A lock that another one holds; some file systems say the second.
_HELD_ERRORS = frozenset({errno.EWOULDBLOCK, errno.EACCES})
LOCK_HINT = sentence(
    "put XINFERENCE_HOME on a file system with flock(2): a local one, or NFS from version 4 on"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LockNote(Record, name="note of a lock's holder"):
    """What stands in the file of a lock that is held: by whom, and what for."""

    process: ProcessIdentity
    purpose: str

    def __str__(self) -> str:
        return sentence(
            "{purpose} by process {pid} on {host}",
            purpose=self.purpose,
            pid=self.process.pid,
            host=self.process.host,
        )


def lock_fault(folder: Path, flock: Callable[[int, int], None] = fcntl.flock) -> str | None:
    """Why a file in `folder` can't be locked by one at a time, None where it can.

    Seen from one host; whether a network file system tells others is not asked. Raises `OSError`
    where no file can be made.
    """
    # A path of this call alone: probes that run at the same time must not collide.
    path = temporary_path(folder / "probe")
    flags = os.O_RDWR | os.O_CREAT
    first = os.open(path, flags | os.O_EXCL, 0o644)
    try:
        second = os.open(path, flags, 0o644)
        try:
            fault = _fault(first, second, flock)
        finally:
            os.close(second)
    finally:
        os.close(first)
        with suppress(OSError):
            path.unlink()
    return None if fault is None else f"{fault} (flock)"


def _fault(first: int, second: int, flock: Callable[[int, int], None]) -> str | None:
    """What is wrong with the locks of a file that was opened twice."""

    def taken(descriptor: int) -> bool:
        try:
            flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD_ERRORS:
                raise
            return False
        return True

    try:
        if not taken(first):
            return "an unlocked file can't be locked"
        if taken(second):
            return "two can lock one file at once"
        flock(first, fcntl.LOCK_UN)
        if not taken(second):
            return "a file that was unlocked can't be locked again"
    except OSError as error:
        return error.strerror or str(error)
    return None


@asynccontextmanager
async def hold_lock(
    path: Path, *, purpose: str, deadline: float, on_wait: Callable[[str], None] = ignore
) -> AsyncIterator[None]:
    """Hold the lock at `path`; waits at most `deadline` seconds, and says for whom.

    Raises `DeadlineExceeded`, which names the holder as far as it is known.
    """
    import asyncio

    until = time.monotonic() + deadline
    reported = ""
    while (lock := _try(path)) is None:
        holder = _holder(path)
        if not reported or holder not in (reported, _NAMELESS):
            on_wait(sentence("waiting for {holder}", holder=holder))
            reported = holder
        if time.monotonic() >= until:
            raise DeadlineExceeded(
                sentence(
                    "waited {deadline} s for {holder}", deadline=f"{deadline:g}", holder=holder
                ),
                {"hint": sentence("wait for it to end, or end that process")},
            )
        await asyncio.sleep(_POLL_SECONDS)
    with _kept(lock, purpose):
        yield


@contextmanager
def hold_lock_briefly(path: Path, clock: Clock = time) -> Iterator[None]:
    """Hold a lock that is never kept for longer than a few disk operations; blocks the thread."""
    until = clock.monotonic() + _BRIEF_SECONDS
    while (lock := _try(path)) is None:
        if clock.monotonic() >= until:
            raise DeadlineExceeded(
                sentence(
                    "waited {seconds} s for {holder}, which holds {path}",
                    seconds=f"{_BRIEF_SECONDS:g}",
                    holder=_holder(path),
                    path=path,
                ),
                {
                    "hint": sentence(
                        "a process that shares this home may be stopped: resume it (kill -CONT),"
                        " or end it"
                    )
                },
            )
        clock.sleep(_BRIEF_POLL_SECONDS)
    with _kept(lock, sentence("a short step")):
        yield


@contextmanager
def hold_lock_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock if it is free; yields whether it is held."""
    lock = _try(path)
    if lock is None:
        yield False
        return
    with _kept(lock, sentence("a short step")):
        yield True


def _try(path: Path) -> int | None:
    """The lock's file, open and locked by us, or None while another one holds it."""
    check_no_link_above(path)
    while True:
        try:
            lock = _opened(path)
        except OSError as error:
            raise _failure(path, error) from error
        ours = False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(lock), os.lstat(path))
        except OSError as error:
            if error.errno in _HELD_ERRORS:
                return None
            # Of a file that was deleted in between, over the network or not.
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise _failure(path, error) from error
        finally:
            if not ours:
                os.close(lock)
        if ours:
            return lock


def _opened(path: Path) -> int:
    """Open a lock's file, made if it is not there; for reading alone where it can't be written.

    flock(2) needs no more, but over NFS: so a file that another user has made, or one on a
    read-only file system, can be locked as well.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            raise error from None


@contextmanager
def _kept(lock: int, purpose: str) -> Iterator[None]:
    """Keep a lock with its holder's name in its file, and release it at the end."""
    try:
        note = LockNote(process=this_process(), purpose=purpose)
        _note(lock, json.dumps(note.to_dict()))
        yield
    finally:
        _note(lock, "")
        os.close(lock)


def _note(lock: int, text: str) -> None:
    """Say who holds it, for those who wait: a courtesy, the file lock alone decides."""
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, text.encode(), 0)


def _holder(path: Path) -> str:
    """Who holds a lock, by the note in its file; a dead process that left its note does not."""
    try:
        note = LockNote.from_dict(json.loads(read_regular(path, follow=False)))
    except (OSError, ValueError, RecursionError, InvalidRecord):
        return _NAMELESS
    if judge(note.process, this_process(), process_start) is Holder.GONE:
        return _NAMELESS
    return str(note)


def _failure(path: Path, error: OSError) -> StoreError:
    return StoreError(
        sentence("could not lock {path}: {error}", path=path, error=error.strerror or error),
        {"errno": error.errno, "hint": hint_for(error) or LOCK_HINT},
    )
