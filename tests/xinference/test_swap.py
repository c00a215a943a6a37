"""Directories change places in one step, or where the system can't, in two."""

from __future__ import annotations

from pathlib import Path

import pytest

from xinference_venv.errors import StoreError
from xinference_venv.store.atomic import Disk
from xinference_venv.xinference import swap


def _two(tmp_path: Path) -> tuple[Path, Path]:
    new, place = tmp_path / "staging" / "env", tmp_path / "place"
    for folder in (new, place):
        folder.mkdir(parents=True)
        (folder / "name").write_text(folder.name)
    return new, place


@pytest.mark.parametrize("in_use", [False, True])
def test_the_new_one_takes_the_place_and_the_old_one_its(tmp_path: Path, in_use: bool) -> None:
    new, place = _two(tmp_path)
    swap.put_in_place(Disk(), new, place, in_use=in_use)
    assert ((place / "name").read_text(), (new / "name").read_text()) == ("env", "place")


def test_a_free_place_is_taken(tmp_path: Path) -> None:
    new, _ = _two(tmp_path)
    swap.put_in_place(Disk(), new, tmp_path / "deep" / "free", in_use=False)
    assert (tmp_path / "deep" / "free" / "name").exists()
    assert not new.exists()


def test_a_system_that_cannot_exchange_renames_what_no_one_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_exchanged", lambda *_: False)
    new, place = _two(tmp_path)
    with pytest.raises(StoreError, match="can't exchange"):
        swap.put_in_place(Disk(), new, place, in_use=True)
    swap.put_in_place(Disk(), new, place, in_use=False)
    assert ((place / "name").read_text(), (new / "name").read_text()) == ("env", "place")
