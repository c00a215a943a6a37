"""The sweep of what was made beside its place: that of the dead goes, all else stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.fakes import key
from tests.store.conftest import attached, tree
from xinference_venv.store.atomic import place_beside
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep_temporary_files

DAY = 86400.0


def of_the_dead(path: Path) -> Path:
    """A place beside, by a process with this pid that lived before this one."""
    beside = place_beside(path)
    start = this_process().start
    return beside.with_name(beside.name.replace(f"-{start}-", f"-{int(start) - 1}-"))


def of_another_host(path: Path) -> Path:
    beside = place_beside(path)
    where = beside.name.rpartition(".")[2].partition("-")[0]
    return beside.with_name(beside.name.replace(where, "0" * len(where)))


def places(store: Store, env_id: str) -> list[Path]:
    """One in each kind of folder in which something is made beside."""
    layout = store.layout
    return [
        layout.keys / "a-key.json",
        layout.hosts / "a-host.json",
        layout.logs / "a.log",
        layout.processes / "1.json",
        layout.staging / "a-job.owner",
        layout.leases / env_id / "a-lease.json",
        layout.wheels / "a-hash" / "a.whl",
        layout.env(env_id) / "a-mark.json",
        layout.root / "v3" / "a-model" / "3.11",
        layout.root / "v4" / "a-model" / "vllm" / "3.11",
    ]


@pytest.fixture
def env_id(store: Store) -> str:
    return attached(store, "numpy")


def test_what_the_dead_made_beside_is_deleted_everywhere(store: Store, env_id: str) -> None:
    before = [name for name in tree(store.layout.root) if not name.startswith("store/locks")]
    for path in places(store, env_id):
        path.parent.mkdir(parents=True, exist_ok=True)
        of_the_dead(path).write_text("{")
    store.layout.root.joinpath("v3/a-link").mkdir()
    of_the_dead(store.layout.root / "v3" / "a-link" / "3.11").symlink_to("nowhere")
    sweep_temporary_files(store.layout, store.disk)
    after = {name for name in tree(store.layout.root) if not name.startswith("store/locks")}
    # Folders of keys go with their last entry; those of the store are others' to delete.
    assert after - set(before) == {f"store/leases/{env_id}", "store/wheels/a-hash"}
    assert set(before) <= after


def test_what_the_living_and_other_hosts_make_stays(store: Store, env_id: str) -> None:
    made = []
    for path in places(store, env_id):
        path.parent.mkdir(parents=True, exist_ok=True)
        made += [place_beside(path), of_another_host(path)]
    for path in made:
        path.write_text("{")
    sweep_temporary_files(store.layout, store.disk)
    assert all(path.exists() for path in made)


def test_what_another_host_made_long_ago_is_deleted(store: Store) -> None:
    path = of_another_host(store.layout.keys / "a-key.json")
    path.write_text("{")
    os.utime(path, (time.time() - 2 * DAY,) * 2)
    sweep_temporary_files(store.layout, store.disk)
    assert not path.exists()


def test_a_key_stays_and_so_does_a_hidden_file_of_somebody_else(store: Store, env_id: str) -> None:
    foreign = store.layout.keys / ".a-key.json.0123abcd"
    foreign.write_text("{")
    sweep_temporary_files(store.layout, store.disk)
    assert store.env_of(key()) == env_id
    assert foreign.exists()


def test_the_folders_of_a_model_that_has_no_key_any_more_are_removed(store: Store) -> None:
    for folder in ("v3/a-model", "v4/a-model/vllm", "v4/another"):
        store.layout.root.joinpath(folder).mkdir(parents=True)
    sweep_temporary_files(store.layout, store.disk)
    assert os.listdir(store.layout.root) == ["store"]
