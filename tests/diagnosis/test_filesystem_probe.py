"""What a file system can do, found out on real ones."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xinference_venv.diagnosis.filesystem_probe import (
    lock_holders,
    open_to_all,
    probe_home,
)
from xinference_venv.store.host_files import nearest_existing

HOLDER = """\
import asyncio, sys
from pathlib import Path
from xinference_venv.store.locks import hold_lock

async def hold():
    async with hold_lock(Path(sys.argv[1]), purpose="a build", deadline=1.0):
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""
Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount a file system in memory with these options; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"mounted-{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting is not allowed here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


def test_an_ordinary_file_system_can_all_and_keeps_nothing(tmp_path: Path) -> None:
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    cache.mkdir()
    found = probe_home(home, cache)
    assert (found.place, found.writable, found.cache) == (str(home), None, None)
    assert found.tried is not None and found.tried.faults == ()
    assert not found.tried.ignores_case and found.tried.keeps_modes
    assert list(home.iterdir()) == list(cache.iterdir()) == []


def test_of_a_home_that_is_not_there_the_nearest_folder_is_tried(tmp_path: Path) -> None:
    found = probe_home(tmp_path / "a" / "b", tmp_path / "c")
    assert (found.place, found.writable) == (str(tmp_path), None)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_home_is_reported(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    found = probe_home(tmp_path / "home" / "virtualenv", tmp_path)
    assert (found.place, found.writable) == (str(tmp_path / "home"), "Not a directory")


def test_a_read_only_file_system_is_reported(mount: Mount, tmp_path: Path) -> None:
    assert probe_home(mount("ro"), tmp_path).writable == "Read-only file system"


def test_a_file_system_that_runs_nothing_is_reported(mount: Mount, tmp_path: Path) -> None:
    found = probe_home(mount("noexec"), tmp_path)
    assert found.writable is None
    assert found.tried is not None and found.tried.faults == ("it is mounted noexec",)


def test_a_cache_on_another_file_system_can_not_be_linked(mount: Mount, tmp_path: Path) -> None:
    found = probe_home(tmp_path, mount("size=1m"))
    assert found.tried is not None and found.tried.hard_links is None
    assert found.cache is not None and "cross-device" in found.cache


def test_a_full_file_system_is_reported(mount: Mount, tmp_path: Path) -> None:
    place = mount("nr_inodes=2")
    (place / "the-last-one").write_text("")
    assert probe_home(place, tmp_path).writable == "No space left on device"


def test_locks_that_do_not_work_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    found = probe_home(tmp_path, tmp_path).tried
    assert found is not None and "two can lock one file at once" in str(found.locks)


def test_the_nearest_of_a_link_that_leads_nowhere_is_its_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    assert nearest_existing(tmp_path / "link" / "below") == tmp_path


def test_folders_that_anybody_may_change_are_named_but_not_those_with_a_sticky_bit(
    tmp_path: Path,
) -> None:
    home = tmp_path / "open" / "home"
    home.mkdir(parents=True)
    home.chmod(0o755)
    home.parent.chmod(0o1777)
    assert str(home.parent) not in open_to_all(home)
    home.parent.chmod(0o777)
    home.chmod(0o777)
    assert open_to_all(home)[:2] == [str(home), str(home.parent)]


def test_a_store_that_was_made_with_a_umask_of_0_is_open_where_others_get_to_it() -> None:
    # pytest's own folder lets nobody else in.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        home = Path(folder)
        home.chmod(0o755)
        envs = home / "store" / "envs"
        envs.mkdir(parents=True)
        assert open_to_all(home) == []
        envs.chmod(0o777)
        assert open_to_all(home) == [folder]
        home.chmod(0o700)
        assert open_to_all(home) == []


def test_who_holds_a_lock_is_reported_and_whether_it_is_stopped(tmp_path: Path) -> None:
    lock = tmp_path / "a-key.lock"
    assert lock_holders(tmp_path) == ([], [])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        held, stopped = lock_holders(tmp_path)
        assert len(held) == 1 and held[0].startswith(f"a build by process {process.pid} on ")
        assert stopped == []
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert lock_holders(tmp_path) == (held, held)
    finally:
        process.kill()
        process.communicate()
    # Its note is still there, and it is nobody's any more.
    assert lock.read_text() and lock_holders(tmp_path) == ([], [])
