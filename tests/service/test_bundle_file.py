"""Files of users that hold bundles: whole or not there, with the mode that their umask gives."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from xinference_venv.errors import InvalidInput, StoreError
from xinference_venv.service.bundle_file import next_part, open_bundle, writing_bundle


@pytest.mark.parametrize("name", ["model.bundle", "模" * 85])
def test_a_bundle_takes_the_place_of_an_earlier_one_when_it_is_whole(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(b"earlier")
    with writing_bundle(file) as written:
        written.write(b"a bundle")
        assert file.read_bytes() == b"earlier"
    with open_bundle(file) as opened:
        assert (next_part(opened), next_part(opened)) == (b"a bundle", b"")
    assert os.listdir(tmp_path) == [file.name]


def test_what_fails_leaves_the_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "model.bundle"
    file.write_bytes(b"earlier")
    with pytest.raises(StoreError), writing_bundle(file) as written:
        written.write(b"half of a")
        raise StoreError("the worker is gone")
    assert file.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == [file.name]


def test_its_mode_is_by_the_umask_which_no_other_thread_sees_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", None)
        with writing_bundle(tmp_path / "model.bundle") as written:
            written.write(b"a bundle")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.bundle").stat().st_mode) == 0o640


def test_a_place_where_no_file_can_be_is_refused_before_anything_is_fetched(
    tmp_path: Path,
) -> None:
    with pytest.raises(InvalidInput, match="no file that could be replaced"):
        writing_bundle(tmp_path).__enter__()
    with pytest.raises(InvalidInput, match="there is no folder"):
        writing_bundle(tmp_path / "missing" / "model.bundle").__enter__()
    with pytest.raises(InvalidInput, match="there is no file"):
        open_bundle(tmp_path / "missing")
