"""What was begun is waited for, whoever is cancelled."""

from __future__ import annotations

import asyncio
import logging

import pytest

from xinference_venv._util.tasks import cancel, finish, in_background


async def _slow(gate: asyncio.Event, ended: list[str], name: str) -> None:
    """Takes its time to end, whatever is asked of it."""
    while not gate.is_set():
        try:
            await gate.wait()
        except asyncio.CancelledError:
            continue
    ended.append(name)
    raise ValueError(name)


@pytest.mark.parametrize("wait", [finish, cancel])
async def test_who_is_cancelled_again_and_again_waits_for_all_of_them(wait: object) -> None:
    assert callable(wait)
    gate, ended = asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(_slow(gate, ended, name)) for name in "ab"]
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(wait(*tasks))
    for _ in range(3):
        await asyncio.wait([waiting], timeout=0.01)
        assert not waiting.done()
        waiting.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert sorted(ended) == ["a", "b"]


async def test_what_became_of_them_is_theirs_to_tell() -> None:
    async def answer() -> int:
        return 7

    task = asyncio.create_task(answer())
    await finish(task)
    assert task.result() == 7
    await finish()


async def test_a_task_that_is_cancelled_has_ended_and_raises_nowhere() -> None:
    forever = asyncio.create_task(asyncio.Event().wait())
    await cancel(forever)
    assert forever.cancelled()


async def test_a_defect_in_what_no_one_waits_for_is_logged_when_it_happens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise KeyError("jobs")

    async def wait() -> None:
        await asyncio.Event().wait()

    log = logging.getLogger("test")
    failing, waiting = (in_background(work(), "looking", log) for work in (fail, wait))
    await asyncio.wait([failing])
    await cancel(waiting)
    [record] = caplog.records
    assert record.message == "looking ended by a defect: restart this process"
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError
