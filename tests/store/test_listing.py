"""What a store lists: every key, every directory that is not ours, whatever their state."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clock import ClockAhead
from tests.fakes import key
from tests.store.conftest import attached, identity_of, key_record, lock_of, publish
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.lease import Holder, JudgedLease
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.store.legacy.layouts import remove_old
from xinference_venv.store.listing import entries_of
from xinference_venv.store.paths import RECORD_NAME
from xinference_venv.store.store import Store


def only(store: Store) -> EnvEntry:
    [found] = entries_of(store)
    return found


def foreign(store: Store, of: EnvKey, configuration: str = "") -> Path:
    place = store.layout.key_link(of)
    place.mkdir(parents=True)
    if configuration:
        (place / "pyvenv.cfg").write_text(configuration)
    return place


def test_a_ready_environment_is_reported_in_full(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    env_id = attached(store, "numpy", "torch")
    lease = store.take_lease(
        env_id, model_name="a-model", model_uid="uid", process=identity_of(children())
    )
    found = only(store)
    record, used = store.env_record(env_id), store.key_record(key())
    assert used is not None
    assert found == EnvEntry(
        key=key(),
        path=str(store.layout.root / "v4" / "a-model" / "vllm" / "3.11"),
        real_path=str(store.layout.env(env_id)),
        state=EnvState.READY,
        env_id=env_id,
        lock_digest=record.lock_digest,
        size_bytes=1234,
        python="3.11.7",
        installed=2,
        leases=(JudgedLease.of(lease, Holder.ALIVE),),
        created=record.created,
        last_used=used.last_used,
    )
    assert EnvEntry.from_dict(found.to_dict()) == found


def test_who_shares_an_environment_is_reported(store: Store) -> None:
    keys = [key("a"), key("b"), key("c", None)]
    for each in keys:
        attached(store, "numpy", of=each)
    attached(store, "torch", of=key("d"))
    shared = {each.key: set(each.shared_with) for each in entries_of(store)}
    expected = {each: set(keys) - {each} for each in keys}
    assert shared == {**expected, key("d"): set()}


@pytest.mark.parametrize("damage", ["record", "environment", "interpreter"])
def test_a_broken_environment_is_listed_with_the_reason(store: Store, damage: str) -> None:
    env_id = attached(store, "numpy")
    attached(store, "torch", of=key("whole"))
    place = store.layout.env(env_id)
    match damage:
        case "record":
            (place / RECORD_NAME).write_text('{"version": 1}')
        case "environment":
            shutil.rmtree(place)
        case "interpreter":
            text = (place / RECORD_NAME).read_text()
            (place / RECORD_NAME).write_text(text.replace('"modified":', '"modified":1'))
    broken, whole = entries_of(store)
    assert (broken.state, broken.env_id) == (EnvState.BROKEN, env_id)
    assert broken.reason
    assert broken.size_bytes is None
    assert whole.state is EnvState.READY


def test_what_is_half_made_is_not_listed(store: Store) -> None:
    (store.make_staging_folder("job") / "env").mkdir()
    publish(store, lock_of("numpy"), job_id="other")
    assert entries_of(store) == []


def test_a_directory_that_goes_meanwhile_harms_no_listing(store: Store) -> None:
    attached(store, "numpy")
    done = threading.Event()
    states: set[EnvState] = set()
    failures: list[OSError] = []

    def look() -> None:
        while not done.is_set():
            try:
                states.update(each.state for each in entries_of(store))
            except OSError as error:
                failures.append(error)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(30):
            place = foreign(store, key("old", None), "version = 3.11.7\n")
            for number in range(20):
                (place / str(number)).mkdir()
                (place / str(number) / "file").write_text("")
            remove_old(store.layout, store.disk, place)
    finally:
        done.set()
        looking.join()
    assert failures == []
    assert states <= {EnvState.READY, EnvState.UNMANAGED}


def test_entries_are_in_the_order_of_their_paths(store: Store) -> None:
    for each in (key("b"), key("a", None), key("a", "vllm", "3.12"), key("a", "vllm", "3.11")):
        attached(store, "numpy", of=each)
    foreign(store, key("aa"))
    paths = [each.path for each in entries_of(store)]
    assert paths == sorted(paths)
    assert len(paths) == 5


def test_an_empty_store_lists_nothing(store: Store) -> None:
    assert entries_of(store) == []


def test_only_what_is_wanted_is_listed_with_whoever_shares_it(store: Store) -> None:
    for each in (key("a"), key("b"), key("c", None)):
        attached(store, "numpy", of=each)
    [found] = entries_of(store, Selection(model_name="b"))
    assert found.key == key("b")
    assert set(found.shared_with) == {key("a"), key("c", None)}


def settled(store: Store) -> Store:
    """The same store, for which what has just changed is kept like what changed long ago."""
    return Store.open(store.layout.root, clock=ClockAhead(60.0))


def test_what_others_changed_since_the_last_listing_is_reported(store: Store) -> None:
    store = settled(store)
    # Of a file system's clock: so that two changes never have the same time.
    tick = 0.05
    other = Store.open(store.layout.root)
    first = attached(other, "numpy")

    def told() -> list[EnvEntry]:
        time.sleep(tick)
        found = entries_of(store)
        assert found == entries_of(store) == entries_of(Store.open(store.layout.root))
        return found

    assert [each.env_id for each in told()] == [first]
    second = attached(other, "torch")
    assert [each.env_id for each in told()] == [second]
    attached(other, "torch", of=key("b"))
    assert [each.key for each in told()] == [key(), key("b")]
    other.unlink_key(key("b"))
    other.touch(key_record(key(), second), host_fingerprint="another host")
    [touched] = told()
    assert (touched.key, touched.shared_with) == (key(), ())
    (other.layout.env(second) / RECORD_NAME).write_text("{}")
    assert [each.state for each in told()] == [EnvState.BROKEN]
    shutil.rmtree(other.layout.root / "v4" / "a-model")
    assert told() == []


def test_what_is_gone_is_forgotten(store: Store) -> None:
    store = settled(store)
    for name in ("a", "b", "c"):
        attached(store, name, of=key(name))
    entries_of(store)
    kept = (store._env_records, store._key_records, store._key_folders)
    full = [len(each._kept) for each in kept]
    for name in ("a", "b", "c"):
        store.unlink_key(key(name))
    entries_of(store)
    assert full == [3, 3, 7]
    assert [len(each._kept) for each in kept] == [0, 0, 0]
