"""Records on disk: of a later version refused, their further keys kept, any bytes survived."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import key
from tests.store.conftest import attached, env_record, key_record, lease_by, lock_of, publish
from xinference_venv.errors import InvalidRecord
from xinference_venv.inventory.env import EnvRecord, KeyRecord
from xinference_venv.inventory.lease import Holder
from xinference_venv.planning.lock import EnvLock
from xinference_venv.store.paths import LOCK_NAME, RECORD_NAME
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep

KEY = key()
LOCK = lock_of("numpy")
LATER = {"of a later version": [1, {}]}


def key_path(store: Store) -> Path:
    return store.layout.keys / f"{KEY.digest}.json"


def add_to(path: Path, **more: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **more}))


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (env_record(LOCK), "environment record"),
        (key_record(KEY, "an-env"), "key record"),
        (LOCK, "environment lock"),
    ],
)
def test_a_record_of_a_later_version_is_refused_as_such(
    record: EnvRecord | KeyRecord | EnvLock, name: str
) -> None:
    data = record.to_dict()
    later = {**data, "version": 2}
    expected = f"{name} is of a later version 2 of this program, which reads up to 1"
    with pytest.raises(InvalidRecord, match=expected):
        type(record).from_dict(later)
    assert type(record).from_dict({**data, **LATER}) == record


def test_an_environment_of_a_later_version_is_broken_for_us_and_kept(store: Store) -> None:
    env_id = attached(store, "numpy")
    add_to(store.layout.env(env_id) / RECORD_NAME, version=2)
    with pytest.raises(InvalidRecord, match="of a later version 2"):
        store.env_record(env_id)
    add_to(store.layout.env(env_id) / LOCK_NAME, version=2)
    assert store.lock_of(env_id) is None
    sweep(store)
    assert store.layout.env(env_id).is_dir()


def test_a_key_that_is_used_or_linked_again_keeps_what_a_later_version_noted(
    store: Store,
) -> None:
    attached(store, "numpy")
    add_to(key_path(store), **LATER)
    record = store.key_record(KEY)
    assert record is not None
    store.touch(record, host_fingerprint=record.host_fingerprint)
    assert json.loads(key_path(store).read_bytes()).items() >= LATER.items()
    store.touch(record, host_fingerprint="another host")
    used = json.loads(key_path(store).read_bytes())
    assert used.items() >= LATER.items()
    assert used["host_fingerprint"] == "another host"
    other = publish(store, lock_of("torch"))
    store.point_key(key_record(KEY, other.env_id))
    again = json.loads(key_path(store).read_bytes())
    assert again == {**key_record(KEY, other.env_id).to_dict(), **LATER}


def test_what_was_noted_of_a_key_that_was_removed_is_not_kept(store: Store) -> None:
    attached(store, "numpy")
    add_to(key_path(store), **LATER)
    store.unlink_key(KEY)
    attached(store, "numpy")
    assert not json.loads(key_path(store).read_bytes()).keys() & LATER.keys()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def damages(sample: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Any bytes, any JSON, and a sample with some of its values replaced."""
    changes = st.dictionaries(st.sampled_from(list(sample)), VALUES, min_size=1, max_size=3)
    return st.binary(max_size=60) | (
        VALUES | changes.map(lambda changed: {**sample, **changed})
    ).map(lambda value: json.dumps(value).encode())


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, str]]:
    """A store for all examples, with an environment that a key means."""
    store = Store.open(tmp_path_factory.mktemp("kept") / "virtualenv")
    yield store, attached(store, "numpy")


@given(content=damages(key_record(KEY, LOCK.env_id).to_dict()))
@settings(deadline=None)
def test_any_bytes_are_a_record_of_a_key_or_none(kept: tuple[Store, str], content: bytes) -> None:
    store, env_id = kept
    key_path(store).write_bytes(content)
    record = store.key_record(KEY)
    assert record is None or record.env_id == env_id
    assert store.env_of(KEY) == env_id


@given(content=damages(env_record(LOCK).to_dict()))
@settings(deadline=None)
def test_any_bytes_are_a_record_of_an_environment_or_a_clear_error(
    kept: tuple[Store, str], content: bytes
) -> None:
    store, env_id = kept
    path = store.layout.env(env_id) / RECORD_NAME
    path.write_bytes(content)
    try:
        record = store.env_record(env_id)
    except InvalidRecord:
        return
    assert record.env_id == env_id


@pytest.mark.parametrize("holder", ["dead", "living"])
def test_a_lease_that_was_cut_at_any_byte_counts_and_keeps_its_environment(
    store: Store, children: Callable[[], Any], holder: str
) -> None:
    env_id = attached(store, "numpy")
    store.unlink_key(KEY)
    child = children()
    lease_by(store, env_id, child)
    [(lease, _)] = store.leases.of(env_id)
    if holder == "dead":
        child.kill()
        child.wait()
    path = store.layout.lease(env_id, lease.lease_id)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert [judged for _, judged in store.leases.prune(env_id)] == [Holder.UNKNOWN], end
        # Which takes time, and decides by the leases alone.
        if end % 20 == 0:
            assert not store.delete_if_unused(env_id)
            sweep(store)
    assert store.env_record(env_id).env_id == env_id
    path.write_bytes(whole)
    assert store.delete_if_unused(env_id) is (holder == "dead")
