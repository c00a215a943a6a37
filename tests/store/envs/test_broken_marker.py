"""What a few looks and a mark tell of an environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import check_record, key, through_json
from tests.store.conftest import attached
from xinference_venv.errors import InvalidRecord
from xinference_venv.inventory.env import EnvState
from xinference_venv.store.atomic import Disk
from xinference_venv.store.envs.broken_marker import (
    FAULTS_KEPT,
    BrokenMarker,
    bounded,
    read_broken_marker,
)
from xinference_venv.store.listing import entries_of
from xinference_venv.store.paths import BROKEN_NAME, LOCK_NAME
from xinference_venv.store.store import Store

MARK = BrokenMarker(found=1_700_000_000.0, faults=("a.py is missing", "b.py too"), hashes=False)
marks = st.builds(
    BrokenMarker,
    found=st.floats(0, 1e11),
    faults=st.lists(st.text(max_size=5)).map(tuple),
    hashes=st.booleans(),
)


@given(marks)
def test_a_mark_comes_back_from_json(mark: BrokenMarker) -> None:
    assert BrokenMarker.from_dict(through_json(mark.to_dict())) == mark


def test_a_mark_is_read_whole_or_refused() -> None:
    check_record(replace(MARK, hashes=True), may_be_absent=("version", "hashes"))


def test_a_marked_environment_is_listed_as_broken_with_the_first_fault(store: Store) -> None:
    env_id = attached(store, "numpy")
    store.env_record(env_id)
    path = store.layout.env(env_id) / BROKEN_NAME
    store.disk.write_json(path, MARK.to_dict(), durable=False)

    with pytest.raises(InvalidRecord, match=r"^a\.py is missing$"):
        store.env_record(env_id)
    [entry] = entries_of(store)
    assert (entry.state, entry.reason) == (EnvState.BROKEN, "a.py is missing")
    # Its record can be read all the same.
    assert store.record_of(env_id).env_id == env_id

    path.unlink()
    assert store.env_record(env_id).env_id == env_id


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"faults":3}', '{"version":99,"found":1,"faults":[]}']
)
def test_a_mark_that_can_not_be_read_still_says_that_it_is_broken(
    store: Store, content: str
) -> None:
    env_id = attached(store, "numpy")
    (store.layout.env(env_id) / BROKEN_NAME).write_text(content)
    with pytest.raises(InvalidRecord, match="marked as broken"):
        store.env_record(env_id)
    mark = read_broken_marker(store.disk, store.layout.env(env_id))
    assert mark is not None
    assert mark.hashes


def test_a_mark_without_faults_says_that_it_is_broken(store: Store) -> None:
    env_id = attached(store, "numpy")
    path = store.layout.env(env_id) / BROKEN_NAME
    store.disk.write_json(path, replace(MARK, faults=()).to_dict(), durable=False)
    with pytest.raises(InvalidRecord, match="marked as broken"):
        store.env_record(env_id)


def test_an_environment_without_its_lock_or_its_interpreter_is_broken(store: Store) -> None:
    env_id = attached(store, "numpy")
    env = store.layout.env(env_id)
    lock = (env / LOCK_NAME).read_bytes()
    (env / LOCK_NAME).unlink()
    with pytest.raises(InvalidRecord, match=f"{LOCK_NAME} is missing"):
        store.env_record(env_id)
    (env / LOCK_NAME).write_bytes(lock)
    (env / "bin" / "python").unlink()
    with pytest.raises(InvalidRecord, match="bin/python leads to no interpreter"):
        store.env_record(env_id)
    (env / "bin" / "python").symlink_to("/nowhere/python3")
    with pytest.raises(InvalidRecord, match="bin/python leads to no interpreter"):
        store.env_record(env_id)
    assert store.env_of(key()) == env_id


def test_no_environment_has_no_mark(tmp_path: Path) -> None:
    assert read_broken_marker(Disk(), tmp_path / "none") is None


def test_many_faults_are_counted_and_not_all_reported() -> None:
    few = [str(number) for number in range(FAULTS_KEPT)]
    assert bounded(few) == tuple(few)
    assert bounded([*few, "more", "and more"]) == (*few, "and 2 more faults")
