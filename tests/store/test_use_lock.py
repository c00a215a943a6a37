"""The lock of an environment's users: it is shared, and no one waits for it for ever."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from tests.clock import FakeClock
from xinference_venv.errors import StoreError
from xinference_venv.store.atomic import Disk
from xinference_venv.store.use_lock import USE_NAME, hold_unused, take_use_lock


def test_users_share_it_and_whoever_changes_the_environment_sees_them(tmp_path: Path) -> None:
    held = [take_use_lock(Disk(), tmp_path / "env") for _ in range(2)]
    for lock in held:
        with hold_unused(tmp_path / "env") as alone:
            assert not alone
        os.close(lock)
    with hold_unused(tmp_path / "env") as alone:
        assert alone


def test_one_that_is_changed_without_end_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / USE_NAME).touch()
    there = set(os.listdir("/proc/self/fd"))
    with (tmp_path / USE_NAME).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        clock = FakeClock()
        with pytest.raises(StoreError, match=f"another process has been changing {tmp_path}"):
            take_use_lock(Disk(), tmp_path, clock)
    assert clock.now > FakeClock().now + 10
    assert set(os.listdir("/proc/self/fd")) == there
