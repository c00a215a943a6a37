"""The one walk that sums the bytes of directories."""

from __future__ import annotations

import os
from pathlib import Path

from xinference_venv.store.tree_size import Weight, weigh


def test_a_file_with_two_names_counts_once_and_links_are_not_followed(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "module.py").write_bytes(b"x" * 100)
    os.link(old / "module.py", old / "same")
    os.link(old / "module.py", tmp_path / "elsewhere")
    (old / "link").symlink_to("/etc/passwd")
    (old / "loop").symlink_to(old)
    (old / "other").write_bytes(b"x" * 10)
    os.mkfifo(old / "pipe")
    assert weigh([old]) == Weight(size_bytes=110, linked_bytes=100)
    assert weigh([old / "absent"]) == Weight()
