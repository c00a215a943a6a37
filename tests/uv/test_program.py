"""The program of uv: of its package, or one that is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from uv import find_uv_bin

from xinference_venv.errors import UvNotFound
from xinference_venv.uv.program import find_uv


def test_the_uv_of_the_uv_package_is_used() -> None:
    assert find_uv(None) == find_uv_bin()


def test_a_uv_can_be_named_by_path_or_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = str(tmp_path / "own-uv")
    Path(own).write_text("#!/bin/sh\n")
    Path(own).chmod(0o755)
    assert find_uv(own) == own
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_uv("own-uv") == own


@pytest.mark.parametrize("what", ["absent", "folder", "file"])
def test_a_named_uv_that_is_no_program_is_an_error(tmp_path: Path, what: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UvNotFound, match=r"XOSCAR_UV_PATH names .*, which is not a program"):
        find_uv(str(tmp_path / what))
