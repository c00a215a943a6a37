"""Who uses an environment that others start processes in: a lock that each of these holds.

Comes in: an environment that is made in its place, and whose callers start its interpreter as
they like: nothing in the arguments, the variables or the memory of such a process need lead to
it. So its first ``.pth`` file has every process of it take a shared lock (flock(2)) on a file of
the environment, which the kernel keeps until the process has ended. Comes out: who holds it. Of
a process in another container or on another host only that it is there.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from xinference_venv._util.clock import Clock
from xinference_venv.errors import StoreError
from xinference_venv.sentences import sentence
from xinference_venv.store.atomic import Disk, store_error
from xinference_venv.store.envs.inspect import site_packages_of

USE_NAME = "xinference-venv.use"
_MODULE = "_xinference_venv_use"
# Sorts before what others write, so that a process is seen before it imports anything.
_PTH = "00-xinference-venv-use.pth"
HOOK_NAMES = frozenset({USE_NAME, f"{_MODULE}.py", _PTH})

# Whoever changes an environment keeps its processes from starting for a few renames; one that is
# stopped in the middle of that must not keep them for ever.
_WAIT_SECONDS = 10

_SOURCE = f'''\
"""Written by xinference_venv: shows that this process uses the environment, until it ends."""

import os
import sys
import time

held = None


def hold():
    """Take the environment's shared lock, and keep it as long as the process lives."""
    global held
    if held is not None:
        return
    try:
        import fcntl

        held = os.open(os.path.join(sys.prefix, {USE_NAME!r}), os.O_RDONLY)
        until = time.monotonic() + {_WAIT_SECONDS}
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    break
                time.sleep(0.005)
    except (ImportError, OSError):
        # It is known by other signs then.
        pass
'''
_LINE = f"import {_MODULE}; {_MODULE}.hold()\n"

_TRIES = 5
_TRY_SECONDS = 0.01


def write_use_hook(disk: Disk, env: Path) -> None:
    """Let the processes of an environment show that they use it; what is right is left as it is."""
    site_packages = site_packages_of(env)
    for path, text in (
        (env / USE_NAME, ""),
        (site_packages / f"{_MODULE}.py", _SOURCE),
        (site_packages / _PTH, _LINE),
    ):
        if not _is(path, text):
            disk.write(path, text.encode(), durable=False)


def note_launch(env: Path) -> None:
    """Note that an environment is launched now, as the time of its lock's file."""
    # Of another user's file the time stays; it only shows when it was last used.
    with suppress(OSError):
        os.utime(env / USE_NAME)


def take_use_lock(disk: Disk, folder: Path, clock: Clock = time) -> int:
    """Hold the shared lock of a folder, which is made, until the returned descriptor is closed.

    Raises `StoreError`, also when another process keeps it for itself for more than 10 s.
    """
    disk.make_directory(folder)
    if not (folder / USE_NAME).exists():
        disk.write(folder / USE_NAME, b"", durable=False)
    lock = _open(folder)
    assert lock is not None
    with ExitStack() as unless_shared:
        unless_shared.callback(os.close, lock)
        _wait_for_share(lock, folder, clock)
        unless_shared.pop_all()
    return lock


def share_use_lock(old: Path, new: Path) -> bool:
    """Let what takes the place of an environment have the lock that processes of the old one hold.

    False where there is none, or no second name of it can be made.
    """
    try:
        os.unlink(new / USE_NAME)
        os.link(old / USE_NAME, new / USE_NAME)
    except OSError:
        with suppress(OSError):
            (new / USE_NAME).touch()
        return False
    return True


@contextmanager
def hold_unused(env: Path) -> Iterator[bool]:
    """Keep processes of an environment from starting meanwhile, unless some hold its lock.

    Yields whether that is so. A process that starts waits in its first ``.pth`` file.
    """
    lock = _open(env)
    try:
        yield lock is not None and _taken(lock)
    finally:
        if lock is not None:
            os.close(lock)


def holders(envs: Mapping[str, Path], locks: Path) -> dict[int, set[str]]:
    """The environments whose locks are held, by the pid of the process that took each.

    `envs` are the environments by a name; `locks` is the kernel's list (proc_locks(5)). Under
    pid 0 are those whose holders it does not show.
    """
    by_inode = {}
    for name, env in envs.items():
        with suppress(OSError):
            by_inode[os.stat(env / USE_NAME).st_ino] = name
    found: dict[int, set[str]] = {}
    # Devices are not compared: those of stat(2) are others on btrfs and overlays.
    for pid, inode in _shared_locks(locks) if by_inode else ():
        if inode in by_inode:
            found.setdefault(pid, set()).add(by_inode[inode])
    seen = set[str]().union(*found.values())
    for name in set(by_inode.values()) - seen:
        if not _is_free(envs[name]):
            found.setdefault(0, set()).add(name)
    return found


def _shared_locks(locks: Path) -> Iterator[tuple[int, int]]:
    """Pid and inode of each shared flock(2) that the kernel shows."""
    try:
        lines = locks.read_text("ascii", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        match line.split():
            case [_, "FLOCK", _, "READ", pid, place, _, _] if pid.isdigit():
                yield int(pid), int(place.rpartition(":")[2])


def _is_free(env: Path) -> bool:
    """Whether no process holds an environment's lock; two that ask at once may meet."""
    lock = _open(env)
    if lock is None:
        return True
    try:
        for number in range(_TRIES):
            if number:
                time.sleep(_TRY_SECONDS)
            if _taken(lock):
                return True
        return False
    finally:
        os.close(lock)


def _wait_for_share(lock: int, folder: Path, clock: Clock) -> None:
    until = clock.monotonic() + _WAIT_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic() > until:
                raise StoreError(
                    sentence(
                        "another process has been changing {folder} for more than {seconds} s",
                        folder=folder,
                        seconds=_WAIT_SECONDS,
                    ),
                    {"hint": sentence("let that process go on, or end it, then try again")},
                ) from None
            clock.sleep(_TRY_SECONDS)
        except OSError as error:
            raise store_error(error) from error
        else:
            return


def _open(env: Path) -> int | None:
    try:
        # NFS has exclusive locks only of files that are open for writing.
        return os.open(env / USE_NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        try:
            return os.open(env / USE_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(
                sentence("could not open {env}: {error}", env=env / USE_NAME, error=error.strerror)
            ) from error


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is(path: Path, text: str) -> bool:
    try:
        return path.read_text("utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False
