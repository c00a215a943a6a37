"""Since when a home has been where it is."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.store.conftest import attached, known_for_long
from xinference_venv.store import first_seen
from xinference_venv.store.host_files import Mount
from xinference_venv.store.store import Store


def test_a_home_is_known_from_when_it_was_made(tmp_path: Path) -> None:
    before = time.time()
    since = Store.open(tmp_path / "virtualenv").seen_since
    assert before <= since <= time.time()
    assert Store.open(tmp_path / "virtualenv").seen_since == since


def test_a_home_that_was_there_before_this_was_recorded_is_known_for_ever(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "virtualenv")
    attached(store, "numpy")
    (store.layout.store / "first-seen.json").unlink()
    assert Store.open(tmp_path / "virtualenv").seen_since == 0.0


def test_a_copy_of_a_home_is_seen_for_the_first_time(tmp_path: Path) -> None:
    known_for_long(tmp_path / "one" / "virtualenv")
    shutil.copytree(tmp_path / "one", tmp_path / "other", symlinks=True)
    before = time.time()
    assert Store.open(tmp_path / "other" / "virtualenv").seen_since >= before
    assert Store.open(tmp_path / "one" / "virtualenv").seen_since == 0.0


def test_each_container_sees_a_home_of_its_image_for_the_first_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["/layers/one"]
    mount = lambda _: Mount(kind="overlay", options={"upperdir": own[-1]})  # noqa: E731
    monkeypatch.setattr(first_seen, "mount_of", mount)
    built = Store.open(tmp_path / "virtualenv").seen_since
    assert Store.open(tmp_path / "virtualenv").seen_since == built
    own.append("/layers/two")
    started = Store.open(tmp_path / "virtualenv").seen_since
    assert started > built
    assert Store.open(tmp_path / "virtualenv").seen_since == started
