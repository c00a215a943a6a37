"""Copies have what their originals have, but for times that the system refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xinference_venv.store.copies import copy_tree


@pytest.fixture(params=[False, True])
def refused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system lets nobody set times."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if request.param:
        monkeypatch.setattr(os, "utime", refuse)
    return bool(request.param)


def test_a_directory_is_copied_with_modes_links_and_times(tmp_path: Path, refused: bool) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "closed").mkdir(parents=True)
    (source / "closed" / "program").write_text("#!/bin/sh\n")
    (source / "closed" / "program").chmod(0o755)
    (source / "closed").chmod(0o555)
    (source / "link").symlink_to("nowhere")
    copy_tree(source, target)
    assert os.readlink(target / "link") == "nowhere"
    assert (target / "closed" / "program").read_text() == "#!/bin/sh\n"
    for path in ("closed", "closed/program"):
        was, found = (source / path).stat(), (target / path).stat()
        assert found.st_mode == was.st_mode
        assert refused or found.st_mtime_ns == was.st_mtime_ns


def test_what_is_neither_file_nor_directory_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    os.mkfifo(tmp_path / "source" / "pipe")
    with pytest.raises(OSError, match="pipe"):
        copy_tree(tmp_path / "source", tmp_path / "target")
