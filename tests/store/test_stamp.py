"""What tells a changed file."""

from __future__ import annotations

import os
from pathlib import Path

from xinference_venv.store.stamp import stamp_of


def test_a_stamp_tells_a_file_that_was_replaced_with_its_times_and_size_kept(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    before = path.stat()
    stamp = stamp_of(path)
    assert stamp_of(path) == stamp
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert stamp_of(path) != stamp
    path.unlink()
    assert stamp_of(path) == ()
