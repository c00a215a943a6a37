"""Directories change places in one step, or where the system can't, one that is in use grows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xinference_venv.store import atomic
from xinference_venv.store.atomic import Disk
from xinference_venv.xinference import swap


def _two(tmp_path: Path) -> tuple[Path, Path]:
    new, place = tmp_path / "staging" / "env", tmp_path / "place"
    for folder in (new, place):
        folder.mkdir(parents=True)
        (folder / "name").write_text(folder.name)
    return new, place


@pytest.fixture(params=[False, True])
def cannot_exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system has no way to exchange directories; it has none then."""
    if request.param:
        for module in (atomic, swap):
            monkeypatch.setattr(module, "exchange_by_system", lambda *_: False)
    return bool(request.param)


@pytest.mark.usefixtures("cannot_exchange")
def test_the_new_one_takes_the_place_and_the_old_one_its(tmp_path: Path) -> None:
    new, place = _two(tmp_path)
    swap.put_in_place(Disk(), new, place, in_use=False)
    assert ((place / "name").read_text(), (new / "name").read_text()) == ("env", "place")


def test_a_free_place_is_taken(tmp_path: Path) -> None:
    new, _ = _two(tmp_path)
    swap.put_in_place(Disk(), new, tmp_path / "deep" / "free", in_use=False)
    assert (tmp_path / "deep" / "free" / "name").exists()
    assert not new.exists()


@pytest.mark.usefixtures("cannot_exchange")
def test_a_link_that_shows_more_takes_the_place_of_a_folder_in_one_that_is_in_use(
    tmp_path: Path,
) -> None:
    new, place = _two(tmp_path)
    host = tmp_path / "host"
    for folder in (host, place / "shown"):
        folder.mkdir()
        (folder / "kept.py").write_text("1")
    (host / "more.py").write_text("2")
    (new / "shown").symlink_to(host)
    swap.put_in_place(Disk(), new, place, in_use=True)
    assert sorted(os.listdir(place / "shown")) == ["kept.py", "more.py"]
    assert sorted(os.listdir(place)) == ["name", "shown"]


def test_one_in_use_has_what_is_new_and_keeps_the_files_that_are_the_same(
    tmp_path: Path, cannot_exchange: bool
) -> None:
    new, place = _two(tmp_path)
    (place / "lib").mkdir()
    (place / "lib" / "kept").write_text("same")
    (place / "link").symlink_to("lib")
    (new / "lib").mkdir()
    (new / "lib" / "kept").write_text("same")
    os.utime(new / "lib" / "kept", ns=(0, (place / "lib" / "kept").stat().st_mtime_ns))
    (new / "lib" / "more").mkdir()
    (new / "lib" / "more" / "module.py").write_text("1")
    (new / "link").symlink_to("elsewhere")
    before = (place / "lib" / "kept").stat().st_ino
    swap.put_in_place(Disk(), new, place, in_use=True)
    assert (place / "name").read_text() == "env"
    assert (place / "lib" / "more" / "module.py").read_text() == "1"
    assert os.readlink(place / "link") == "elsewhere"
    if cannot_exchange:
        assert (place / "lib" / "kept").stat().st_ino == before


@pytest.mark.usefixtures("cannot_exchange")
def test_a_directory_takes_the_place_of_a_link_to_the_hosts(tmp_path: Path) -> None:
    new, place = _two(tmp_path)
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "hidden.py").touch()
    (place / "space").symlink_to(tmp_path / "host")
    (new / "space").mkdir()
    (new / "space" / "shown.py").touch()
    # What a crash left there.
    (place / "space.xinference-venv").mkdir()
    (place / "space.xinference-venv" / "half.py").touch()
    swap.put_in_place(Disk(), new, place, in_use=True)
    assert os.listdir(place / "space") == ["shown.py"]
    assert os.listdir(tmp_path / "host") == ["hidden.py"]


@pytest.mark.usefixtures("cannot_exchange")
def test_what_a_crash_left_of_a_link_is_in_the_way_of_no_later_call(tmp_path: Path) -> None:
    new, place = _two(tmp_path)
    (tmp_path / "host").mkdir()
    for name in ("file", "folder"):
        (new / name).symlink_to(tmp_path / "host")
        (place / f"{name}.xinference-venv").symlink_to(tmp_path / "gone")
    (place / "folder").mkdir()
    (place / "folder-part.xinference-venv" / "half").mkdir(parents=True)
    swap.put_in_place(Disk(), new, place, in_use=True)
    assert sorted(os.listdir(place)) == ["file", "folder", "name"]
    assert {os.readlink(place / name) for name in ("file", "folder")} == {str(tmp_path / "host")}


def test_the_lock_that_its_users_hold_stays(tmp_path: Path) -> None:
    new, place = _two(tmp_path)
    for folder in (new, place):
        (folder / "xinference-venv.use").touch()
    before = (place / "xinference-venv.use").stat().st_ino
    swap.put_in_place(Disk(), new, place, in_use=True, same_lock=False)
    assert (place / "name").read_text() == "env"
    assert (place / "xinference-venv.use").stat().st_ino == before
