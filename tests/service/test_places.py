"""Folders for sockets that killed processes left are deleted, and no other folder is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xinference_venv.errors import InvalidInput
from xinference_venv.service.places import read_settings, socket_folder

_HOLDS = """
import sys
from xinference_venv.service.places import socket_folder
with socket_folder({"TMPDIR": sys.argv[1]}) as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""
_LONG_AGO = 1_600_000_000


@pytest.fixture
def place() -> Iterator[Path]:
    """A place whose path is short enough for sockets."""
    path = Path("/tmp", f"p{os.getpid()}")
    path.mkdir(mode=0o700)
    yield path
    for folder in path.iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    path.rmdir()


def _holder(place: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_left_is_deleted_by_the_next_and_what_is_in_use_is_not(
    place: Path,
) -> None:
    killed, left = _holder(place)
    living, used = _holder(place)
    killed.kill()
    killed.communicate()
    foreign = place / "xv-of-mine"
    foreign.mkdir()
    for folder in (left, used, foreign):
        os.utime(folder, (_LONG_AGO, _LONG_AGO))
    with socket_folder({"TMPDIR": str(place)}) as made:
        assert sorted(place.iterdir()) == sorted([used, foreign, Path(made)])
    living.communicate("")
    assert sorted(place.iterdir()) == [foreign]


def test_one_that_was_just_made_may_not_be_held_yet_and_stays(place: Path) -> None:
    killed, left = _holder(place)
    killed.kill()
    killed.communicate()
    with socket_folder({"TMPDIR": str(place)}):
        assert left.exists()


def test_a_home_whose_path_has_a_colon_is_refused_since_no_program_would_be_found_in_it(
    tmp_path: Path,
) -> None:
    real = tmp_path / "cs194:294"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    for home in (real, tmp_path / "link"):
        with pytest.raises(InvalidInput, match="has a colon in its path") as caught:
            read_settings({"XINFERENCE_HOME": str(home)})
        assert "XINFERENCE_HOME" in (caught.value.hint or "")
