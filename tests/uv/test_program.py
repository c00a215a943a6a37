"""The program of uv: of its package, or one that is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from uv import find_uv_bin

from xinference_venv.errors import UvNotFound
from xinference_venv.uv import program
from xinference_venv.uv.program import find_uv, is_of_package


def test_the_uv_of_the_uv_package_is_used() -> None:
    assert find_uv(None) == find_uv_bin()
    assert is_of_package(find_uv(None))


def test_where_the_package_has_no_program_the_one_on_the_path_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(program, "find_uv_bin", absent)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UvNotFound, match="has no uv program"):
        find_uv(None)
    own = tmp_path / "uv"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert find_uv(None) == str(own)
    assert not is_of_package(str(own))


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
