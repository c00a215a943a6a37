"""Locks between real processes."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.store.test_disk import full_disk
from xinference_venv.errors import DeadlineExceeded
from xinference_venv.store import locks
from xinference_venv.store.locks import held, held_briefly

HOLD = """
import asyncio, sys
from pathlib import Path
from xinference_venv.store.locks import held

async def main():
    async with held(Path(sys.argv[1]), purpose="prepare model-x", deadline=60):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
HOLD_BRIEFLY = """
import sys
from pathlib import Path
from xinference_venv.store.locks import held_briefly

with held_briefly(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from xinference_venv.store.locks import held_briefly

counter = Path(sys.argv[2])
for _ in range(50):
    with held_briefly(Path(sys.argv[1])):
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
    async with held(path, purpose="test", deadline=deadline, on_wait=said.append):
        return said


async def test_the_holder_is_named_to_who_waits_and_to_who_gives_up(
    path: Path, holders: Callable[..., subprocess.Popen[str]]
) -> None:
    holder = holders(path)
    said: list[str] = []
    with pytest.raises(DeadlineExceeded) as caught:
        async with held(path, purpose="test", deadline=0.1, on_wait=said.append):
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
    async with asyncio.timeout(10):
        await waiting


async def wait_for(path: Path, told: asyncio.Event) -> None:
    async with held(path, purpose="test", deadline=30, on_wait=lambda _: told.set()):
        pass


async def test_a_lock_is_free_when_its_holder_lets_go(
    path: Path, holders: Callable[..., subprocess.Popen[str]]
) -> None:
    holder = holders(path)
    told = asyncio.Event()
    waiting = asyncio.create_task(wait_for(path, told))
    await told.wait()
    assert holder.stdin is not None
    holder.stdin.close()
    async with asyncio.timeout(10):
        await waiting


async def test_two_of_one_process_exclude_each_other(path: Path) -> None:
    async with held(path, purpose="first", deadline=0):
        with pytest.raises(DeadlineExceeded, match="waited 0 s for first by process"):
            await acquire(path)
    assert await acquire(path) == []


async def test_who_fails_or_is_cancelled_lets_go(path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with held(path, purpose="first", deadline=0):
            raise ZeroDivisionError
    inside = asyncio.Event()

    async def stay() -> None:
        async with held(path, purpose="second", deadline=0):
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
            lock = held(tmp_path / f"{number}.lock", purpose="test", deadline=0)
            await stack.enter_async_context(lock)


@pytest.mark.parametrize("note", ["", "{", "[]", '"text"', "{}", "null", '{"pid": 1}'])
async def test_a_damaged_note_of_the_holder_harms_nothing(
    path: Path, holders: Callable[..., subprocess.Popen[str]], note: str
) -> None:
    holders(path, HOLD_BRIEFLY)
    path.with_suffix(".holder").write_text(note)
    with pytest.raises(DeadlineExceeded, match=r"^waited 0 s for another process$"):
        await acquire(path)


async def test_a_lock_can_be_held_though_its_holder_can_not_be_noted(path: Path) -> None:
    await acquire(path)
    path.with_suffix(".holder").unlink()
    with full_disk():
        assert await acquire(path) == []


def test_brief_locks_exclude_processes(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path / "env.lock"), str(counter)]
    counting = [subprocess.Popen(command) for _ in range(3)]
    assert [each.wait(30) for each in counting] == [0, 0, 0]
    assert counter.read_text() == "150"


def test_a_brief_lock_that_is_kept_is_an_error_of_ours(
    path: Path,
    holders: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    holder = holders(path, HOLD_BRIEFLY)
    monkeypatch.setattr(locks, "_BRIEF_SECONDS", 0.1)
    with pytest.raises(DeadlineExceeded, match=str(path)), held_briefly(path):
        pass
    holder.kill()
    holder.wait()
    with held_briefly(path):
        pass


def test_an_error_inside_of_a_brief_lock_is_not_taken_for_the_locks(path: Path) -> None:
    with pytest.raises(TimeoutError, match="of another kind"), held_briefly(path):
        raise TimeoutError(errno.ETIMEDOUT, "of another kind")
    with held_briefly(path):
        pass
