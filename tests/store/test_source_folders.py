"""When a folder of sources counts as changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xinference_venv.store.source_folders import state_of_sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "src/lamp/__init__.py", "src/lamp/data/build.json"):
        file = tmp_path / "sources" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    return tmp_path / "sources"


@pytest.mark.parametrize("change", ["add", "edit", "touch", "remove"])
def test_every_change_of_a_file_counts(folder: Path, change: str) -> None:
    before = state_of_sources(str(folder))
    file = folder / "src" / "lamp" / "data" / "build.json"
    match change:
        case "add":
            (folder / "setup.cfg").write_text("")
        case "edit":
            file.write_text("{}")
        case "touch":
            os.utime(file, (1, 1))
        case "remove":
            file.unlink()
    assert state_of_sources(str(folder)) != before


@pytest.mark.parametrize(
    "left", ["build/lib/a.py", "dist/a.whl", "src/lamp.egg-info/PKG-INFO", ".git/HEAD"]
)
def test_what_builds_leave_does_not_count(folder: Path, left: str) -> None:
    before = state_of_sources(str(folder))
    (folder / left).parent.mkdir(parents=True)
    (folder / left).write_text("")
    (folder / "src" / "lamp" / "__pycache__").mkdir()
    (folder / "src" / "lamp" / "__pycache__" / "a.pyc").write_text("")
    assert state_of_sources(str(folder)) == before


def test_what_is_no_folder_is_an_error(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        state_of_sources(str(folder / "gone"))
    with pytest.raises(NotADirectoryError):
        state_of_sources(str(folder / "pyproject.toml"))
