from __future__ import annotations

import os
from pathlib import Path

import pytest

from xinference_venv.store.envs import proofs
from xinference_venv.store.envs.proofs import is_proved, keep_proof, sweep_proofs
from xinference_venv.store.store import Store

DAY = 86_400.0
NOW = 2_000_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "virtualenv")


def kept(store: Store, name: str, served: float) -> Path:
    keep_proof(store.disk, store.layout, name)
    path = store.layout.proofs / name
    os.utime(path, (served, served))
    return path


def names(store: Store) -> list[str]:
    return sorted(os.listdir(store.layout.proofs))


def test_a_proof_is_kept_until_it_served_no_one_for_long(store: Store) -> None:
    kept(store, "long ago", NOW - 91 * DAY)
    kept(store, "lately", NOW - 89 * DAY)
    assert is_proved(store.disk, store.layout, "lately")
    assert not is_proved(store.disk, store.layout, "never")
    kept(store, "lately", NOW - 89 * DAY)
    sweep_proofs(store.disk, store.layout, NOW)
    assert names(store) == ["lately"]


def test_a_proof_that_serves_again_is_as_good_as_new(store: Store) -> None:
    path = kept(store, "old", 1_000_000_000.0)
    assert is_proved(store.disk, store.layout, "old")
    assert path.stat().st_mtime > 1_700_000_000


def test_of_very_many_those_go_that_served_the_longest_ago(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "_MOST_PROOFS", 2)
    for day, name in enumerate(["d", "a", "c", "b"]):
        kept(store, name, NOW - 10 * DAY + day * DAY)
    sweep_proofs(store.disk, store.layout, NOW)
    assert names(store) == ["b", "c"]


def test_a_start_of_the_store_sweeps_them(store: Store) -> None:
    from xinference_venv.store.sweep import sweep

    kept(store, "long ago", 1_000_000_000.0)
    sweep(store)
    assert names(store) == []
