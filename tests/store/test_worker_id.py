"""The id of a worker that its home keeps."""

from __future__ import annotations

import platform
from contextlib import ExitStack
from pathlib import Path

import pytest

from xinference_venv.store.store import Store
from xinference_venv.store.worker_id import take_worker_id


def test_a_worker_has_the_same_id_at_each_start(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    ids = []
    for _ in range(2):
        with ExitStack() as kept:
            ids.append(take_worker_id(store, kept))
    assert ids[0] == ids[1]


def test_workers_that_share_a_home_have_ids_of_their_own(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with ExitStack() as first, ExitStack() as second:
        one, two = take_worker_id(store, first), take_worker_id(store, second)
    assert one != two
    with ExitStack() as again:
        assert take_worker_id(store, again) == one


def test_a_home_that_came_from_another_host_is_another_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path)
    with ExitStack() as kept:
        here = take_worker_id(store, kept)
    monkeypatch.setattr(platform, "node", lambda: "another-host")
    with ExitStack() as kept:
        assert take_worker_id(store, kept) != here


@pytest.mark.parametrize("content", ["", "{", "null", "{}"])
def test_a_damaged_id_is_replaced(tmp_path: Path, content: str) -> None:
    store = Store.open(tmp_path)
    store.layout.worker_id(1).write_text(content)
    with ExitStack() as kept:
        taken = take_worker_id(store, kept)
    assert taken
    with ExitStack() as kept:
        assert take_worker_id(store, kept) == taken
