"""Locks between real processes, and file systems that have none."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.clock import FakeClock
from tests.store.conftest import ended_process, tree
from tests.store.test_atomic import full_disk
from xinference_venv.errors import DeadlineExceeded, StoreError
from xinference_venv.inventory.lease import ProcessIdentity
from xinference_venv.store.locks import (
    hold_lock,
    hold_lock_briefly,
    hold_lock_if_free,
    lock_fault,
)
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store

HOLD = """
import asyncio, sys
from pathlib import Path
from xinference_venv.store.locks import hold_lock

async def main():
    async with hold_lock(Path(sys.argv[1]), purpose="prepare model-x", deadline=60):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
HOLD_BRIEFLY = """
import sys
from pathlib import Path
from xinference_venv.store.locks import hold_lock_briefly

with hold_lock_briefly(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from xinference_venv.store.locks import hold_lock_briefly

counter = Path(sys.argv[2])
for _ in range(50):
    with hold_lock_briefly(Path(sys.argv[1])):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


@pytest.fixture
def holders() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process that holds a lock until its stdin ends; it holds it already."""
    started: list[subprocess.Popen[str]] = []

    def start(path: Path, script: str = HOLD) -> subprocess.Popen[str]:
        holder = subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        return holder

    yield start
    for holder in started:
        with holder:
            holder.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key.lock"


async def acquire(path: Path, deadline: float = 0.0) -> list[str]:
    """Take the lock and give it back; what was said while waiting."""
    said: list[str] = []
    async with hold_lock(path, purpose="test", deadline=deadline, on_wait=said.append):
        return said


async def test_the_holder_is_named_to_who_waits_and_to_who_gives_up(
    path: Path, holders: Callable[..., subprocess.Popen[str]]
) -> None:
    holder = holders(path)
    said: list[str] = []
    with pytest.raises(DeadlineExceeded) as caught:
        async with hold_lock(path, purpose="test", deadline=0.1, on_wait=said.append):
            pass
    name = f"prepare model-x by process {holder.pid} on {os.uname().nodename}"
    assert said == [f"waiting for {name}"]
    assert caught.value.message == f"waited 0.1 s for {name}"


async def test_a_lock_is_free_when_its_holder_is_killed(
    path: Path, holders: Callable[..., subprocess.Popen[str]]
) -> None:
    holder = holders(path)
    told = asyncio.Event()
    waiting = asyncio.create_task(wait_for(path, told))
    await told.wait()
    assert not waiting.done()
    holder.kill()
    async with asyncio.timeout(60):
        await waiting


async def wait_for(path: Path, told: asyncio.Event) -> None:
    async with hold_lock(path, purpose="test", deadline=30, on_wait=lambda _: told.set()):
        pass


async def test_a_lock_is_free_when_its_holder_releases_it(
    path: Path, holders: Callable[..., subprocess.Popen[str]]
) -> None:
    holder = holders(path)
    told = asyncio.Event()
    waiting = asyncio.create_task(wait_for(path, told))
    await told.wait()
    assert holder.stdin is not None
    holder.stdin.close()
    async with asyncio.timeout(60):
        await waiting


async def test_two_of_one_process_exclude_each_other(path: Path) -> None:
    async with hold_lock(path, purpose="first", deadline=0):
        with pytest.raises(DeadlineExceeded, match="waited 0 s for first by process"):
            await acquire(path)
    assert await acquire(path) == []


async def test_who_fails_or_is_cancelled_releases_it(path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with hold_lock(path, purpose="first", deadline=0):
            raise ZeroDivisionError
    inside = asyncio.Event()

    async def stay() -> None:
        async with hold_lock(path, purpose="second", deadline=0):
            inside.set()
            await asyncio.Event().wait()

    staying = asyncio.create_task(stay())
    await inside.wait()
    told = asyncio.Event()
    waiting = asyncio.create_task(wait_for(path, told))
    await told.wait()
    for task in (waiting, staying):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await acquire(path) == []


async def test_locks_of_different_keys_are_independent(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        for number in range(3):
            lock = hold_lock(tmp_path / f"{number}.lock", purpose="test", deadline=0)
            await stack.enter_async_context(lock)


@pytest.mark.parametrize("note", ["", "{", "[]", '"text"', "{}", "null", '{"process": {}}'])
async def test_a_damaged_note_of_the_holder_harms_nothing(
    path: Path, holders: Callable[..., subprocess.Popen[str]], note: str
) -> None:
    holders(path, HOLD_BRIEFLY)
    note_down(path, note)
    with pytest.raises(DeadlineExceeded, match=r"^waited 0 s for another process$"):
        await acquire(path)


async def test_a_lock_can_be_held_though_its_holder_can_not_be_noted(path: Path) -> None:
    with full_disk():
        assert await acquire(path) == []


def note_down(path: Path, text: str) -> None:
    path.write_text(text)


def noted(path: Path) -> str:
    return path.read_text()


def note_of(process: ProcessIdentity, purpose: str) -> str:
    return json.dumps({"process": process.to_dict(), "purpose": purpose})


async def test_a_dead_holder_is_not_named_for_the_next_one(
    path: Path, holders: Callable[..., subprocess.Popen[str]]
) -> None:
    first = holders(path)
    first.kill()
    first.wait()
    assert str(first.pid) in noted(path)
    holders(path, HOLD_BRIEFLY)
    note_down(path, note_of(ended_process(), "prepare model-x"))
    with pytest.raises(DeadlineExceeded, match=r"^waited 0 s for another process$"):
        await acquire(path)


async def test_who_has_released_it_is_not_named_any_more(path: Path) -> None:
    async with hold_lock(path, purpose="test", deadline=0):
        assert json.loads(noted(path))["process"] == this_process().to_dict()
    assert noted(path) == ""


async def test_who_waits_learns_when_the_holder_changes(
    path: Path, holders: Callable[..., subprocess.Popen[str]]
) -> None:
    holder = holders(path)
    told: asyncio.Queue[str] = asyncio.Queue()

    async def wait() -> None:
        async with hold_lock(path, purpose="test", deadline=30, on_wait=told.put_nowait):
            pass

    waiting = asyncio.create_task(wait())
    async with asyncio.timeout(60):
        assert f"prepare model-x by process {holder.pid} on " in await told.get()
        note_down(path, note_of(this_process(), "removal of model-x"))
        assert f"removal of model-x by process {os.getpid()} on " in await told.get()
        assert holder.stdin is not None
        holder.stdin.close()
        await waiting
    assert told.empty()


# Lock files that are deleted


def test_a_lock_that_is_held_is_not_free(
    path: Path, holders: Callable[..., subprocess.Popen[str]]
) -> None:
    holder = holders(path)
    with hold_lock_if_free(path) as free:
        assert not free
    holder.kill()
    holder.wait()
    with hold_lock_if_free(path) as free:
        assert free
        with hold_lock_if_free(path) as again:
            assert not again


@pytest.mark.parametrize("replaced", [True, False])
async def test_who_gets_the_lock_of_a_deleted_file_takes_that_of_the_new_one(
    path: Path, replaced: bool
) -> None:
    told = asyncio.Event()
    with hold_lock_if_free(path):
        waiting = asyncio.create_task(wait_for(path, told))
        await told.wait()
        os.unlink(path)
        if replaced:
            note_down(path, "")
    async with asyncio.timeout(60):
        await waiting
    assert noted(path) == ""


def test_locks_exclude_processes_while_their_file_is_deleted_again_and_again(
    tmp_path: Path,
) -> None:
    counter, lock = tmp_path / "counter", tmp_path / "env.lock"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT, str(lock), str(counter)]
    counting = [subprocess.Popen(command) for _ in range(2)]
    deleted = 0
    while any(each.poll() is None for each in counting):
        with hold_lock_if_free(lock) as free:
            if free:
                lock.unlink()
                deleted += 1
    assert counter.read_text() == "100"
    assert deleted > 0


@pytest.mark.parametrize("place", ["absent/key.lock", "file/key.lock", "folder", "link"])
def test_a_lock_that_can_not_be_made_is_an_error_with_its_path(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    expected = f"could not lock {tmp_path / place}: "
    with pytest.raises(StoreError, match=expected), hold_lock_briefly(tmp_path / place):
        pass
    assert not (tmp_path / "elsewhere").exists()


# File systems without locks


class Flock:
    """Locks of a file system that is not as it should be."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.holder: int | None = None

    def __call__(self, descriptor: int, operation: int) -> None:
        if hasattr(errno, self.fault):
            number = getattr(errno, self.fault)
            raise OSError(number, os.strerror(number))
        if operation == fcntl.LOCK_UN:
            self.holder = self.holder if self.fault == "never lets go" else None
        elif self.fault == "always held" or (
            self.fault != "excludes nobody" and self.holder not in (None, descriptor)
        ):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        else:
            self.holder = descriptor


FAULTS = {
    "ENOLCK": "No locks available",
    "ENOSYS": "Function not implemented",
    "EOPNOTSUPP": "Operation not supported",
    "EINVAL": "Invalid argument",
    "excludes nobody": "two can lock one file at once",
    "never lets go": "a file that was unlocked can't be locked again",
    "always held": "an unlocked file can't be locked",
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.items())
def test_locks_that_do_not_work_are_noticed(tmp_path: Path, fault: str, message: str) -> None:
    assert lock_fault(tmp_path, Flock(fault)) == f"{message} (flock)"
    assert tree(tmp_path) == []


def test_a_file_system_with_working_locks_is_accepted(tmp_path: Path) -> None:
    assert lock_fault(tmp_path, Flock("none")) is None
    assert lock_fault(tmp_path) is None
    assert tree(tmp_path) == []


def test_a_store_on_a_file_system_without_locks_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", Flock("excludes nobody"))
    with pytest.raises(StoreError, match="no working locks") as caught:
        Store.open(tmp_path / "virtualenv")
    assert "NFS" in str(caught.value.hint)


def test_a_lock_that_the_system_refuses_is_an_error_and_no_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", Flock("ENOLCK"))
    with pytest.raises(StoreError, match="No locks available") as caught, hold_lock_briefly(path):
        pass
    assert "NFS" in str(caught.value.hint)


def test_brief_locks_exclude_processes(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path / "env.lock"), str(counter)]
    counting = [subprocess.Popen(command) for _ in range(3)]
    assert [each.wait(30) for each in counting] == [0, 0, 0]
    assert counter.read_text() == "150"


def test_a_brief_lock_that_is_kept_is_an_error_of_ours(
    path: Path, holders: Callable[..., subprocess.Popen[str]]
) -> None:
    holder = holders(path, HOLD_BRIEFLY)
    clock = FakeClock(0.0)
    expected = f"waited 30 s for a short step by process {holder.pid} on .*, which holds {path}"
    with pytest.raises(DeadlineExceeded, match=expected), hold_lock_briefly(path, clock):
        pass
    assert 30.0 <= clock.now < 30.1
    holder.kill()
    holder.wait()
    with hold_lock_briefly(path):
        pass


def test_an_error_inside_of_a_brief_lock_is_not_taken_for_the_locks(path: Path) -> None:
    with pytest.raises(TimeoutError, match="of another kind"), hold_lock_briefly(path):
        raise TimeoutError(errno.ETIMEDOUT, "of another kind")
    with hold_lock_briefly(path):
        pass
