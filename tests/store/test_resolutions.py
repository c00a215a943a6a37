"""Locks of recent resolutions: found while they are fresh, and no more than there is place for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fakes import lock
from xinference_venv.store import resolutions
from xinference_venv.store.resolutions import state_of_folders
from xinference_venv.store.store import Store

QUESTION = "0123456789abcdef"


def test_an_answer_holds_for_as_long_as_it_may(store: Store) -> None:
    kept = store.resolutions
    assert kept.find(QUESTION, now=100.0, max_age=60.0) is None
    kept.keep(QUESTION, lock(), now=100.0)
    assert kept.find(QUESTION, now=160.0, max_age=60.0) == lock()
    assert kept.find(QUESTION, now=160.1, max_age=60.0) is None
    assert kept.find(QUESTION, now=99.0, max_age=60.0) is None
    kept.forget(QUESTION)
    assert kept.find(QUESTION, now=100.0, max_age=60.0) is None


def test_a_damaged_answer_is_none(store: Store) -> None:
    (store.layout.resolutions / f"{QUESTION}.json").write_text("{")
    assert store.resolutions.find(QUESTION, now=0.0, max_age=60.0) is None


def test_the_oldest_go_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolutions, "_MOST", 2)
    for number in range(4):
        store.resolutions.keep(f"{number}", lock(), now=0.0)
        os.utime(store.layout.resolutions / f"{number}.json", (number, number))
    assert sorted(path.stem for path in store.layout.resolutions.iterdir()) == ["2", "3"]


def test_the_state_of_a_folder_differs_when_a_file_does(tmp_path: Path) -> None:
    states = [state_of_folders([str(tmp_path), str(tmp_path / "absent")])]
    (tmp_path / "a.whl").write_text("1")
    states.append(state_of_folders([str(tmp_path), str(tmp_path / "absent")]))
    (tmp_path / "a.whl").write_text("22")
    states.append(state_of_folders([str(tmp_path), str(tmp_path / "absent")]))
    assert states[0] != states[1] != states[2]
