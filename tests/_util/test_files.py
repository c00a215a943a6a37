"""Files of a private folder, and the error of one that can't be written."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from xinference_venv._util.files import write_private_file


def test_a_private_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private_file(path, b"one")
    write_private_file(path, b"two")
    assert path.read_bytes() == b"two"


def test_an_error_of_writing_names_the_file_as_one_of_opening_does() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError) as raised:
        write_private_file(full, b"x")
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, "/dev/full")
