"""What environments take on the disk, files with several names counted once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes import key
from tests.store.conftest import attached, lease_by
from xinference_venv.errors import InvalidRecord, JobCancelled
from xinference_venv.inventory.eviction import EnvUsage
from xinference_venv.store.disk_usage import measure, recorded_bytes, usages_of
from xinference_venv.store.paths import RECORD_NAME
from xinference_venv.store.store import Store
from xinference_venv.store.tree_size import Scale, Weight, never, weigh


def write(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def link(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.hardlink_to(source)


def usages(store: Store) -> dict[str, EnvUsage]:
    return {each.env_id: each for each in measure(store, usages_of(store, ()), never)}


def make_env(store: Store, name: str) -> Path:
    """A directory among the environments, with nothing in it."""
    env = store.layout.env(name)
    env.mkdir()
    return env


def test_a_weight_counts_each_file_once_and_says_what_is_linked_from_elsewhere(
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    shared = write(tmp_path / "cache" / "lib.so", 100)
    link(shared, one / "lib.so")
    link(shared, two / "deep" / "lib.so")
    write(one / "own.py", 7)
    link(write(one / "twice.py", 11), one / "again.py")
    (one / "layer").symlink_to(tmp_path / "cache", target_is_directory=True)
    (one / "file").symlink_to(shared)
    os.mkfifo(one / "pipe")

    assert weigh([one], never) == Weight(size_bytes=118, linked_bytes=100)
    assert weigh([one, two], never) == Weight(size_bytes=118, linked_bytes=100)
    assert weigh([one, two, tmp_path / "cache"], never) == Weight(size_bytes=118)
    assert weigh([one / "layer", tmp_path / "not there", one / "own.py"], never) == Weight()
    assert weigh([], never).own_bytes == 0


def test_what_is_put_on_the_scale_one_by_one_frees_what_the_last_name_frees(tmp_path: Path) -> None:
    link(write(tmp_path / "one" / "lib.so", 100), tmp_path / "two" / "lib.so")
    scale = Scale()
    assert scale.put(tmp_path / "one", never).own_bytes == 0
    assert scale.put(tmp_path / "two", never).own_bytes == 100


def test_measuring_stops_when_no_one_waits_for_it(store: Store) -> None:
    make_env(store, "an-env")
    with pytest.raises(JobCancelled):
        measure(store, usages_of(store, ()), lambda: True)


def test_environments_come_with_their_keys_their_users_and_their_last_use(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    env_id = attached(store, "numpy", of=key("a"))
    attached(store, "numpy", of=key("b"))
    for name, used in (("a", 5000.0), ("b", 3000.0)):
        path = store.layout.keys / f"{key(name).digest}.json"
        os.utime(path, (used, used))
    other = attached(store, "torch", of=key("c"))
    lease_by(store, other, children())
    make_env(store, "nobody's")
    os.utime(store.layout.env("nobody's"), (77.0, 77.0))

    found = {each.env_id: each for each in usages_of(store, ())}
    assert set(found) == {env_id, other, "nobody's"}
    assert set(found[env_id].keys) == {key("a"), key("b")}
    assert (found[env_id].last_used, found[env_id].in_use) == (5000.0, False)
    assert found[other].in_use and len(found[other].leases) == 1
    assert (found["nobody's"].keys, found["nobody's"].last_used) == ((), 77.0)
    [launched] = [each for each in usages_of(store, {key("b")}) if each.env_id == env_id]
    assert launched.busy and launched.in_use


def test_a_broken_environment_and_one_that_is_gone_have_a_time_too(store: Store) -> None:
    broken = attached(store, "numpy", of=key("a"))
    (store.layout.env(broken) / RECORD_NAME).unlink()
    (store.layout.keys / f"{key('a').digest}.json").write_text("{")
    os.utime(store.layout.env(broken), (99.0, 99.0))
    gone = attached(store, "torch", of=key("b"))
    (store.layout.keys / f"{key('b').digest}.json").unlink()
    store.disk.delete(store.layout.env(gone))

    found = {each.env_id: each.last_used for each in usages_of(store, ())}
    assert found == {broken: 99.0, gone: 0.0}
    with pytest.raises(InvalidRecord):
        recorded_bytes(store, usages_of(store, ()))


def test_a_file_that_two_environments_have_is_added_by_the_one_that_was_used_last(
    store: Store,
) -> None:
    old, new = make_env(store, "old"), make_env(store, "new")
    link(write(old / "lib.so", 100), new / "lib.so")
    write(new / "own", 5)
    os.utime(old, (10.0, 10.0))
    os.utime(new, (20.0, 20.0))

    found = usages(store)
    assert (found["new"].size_bytes, found["new"].added_bytes) == (105, 105)
    assert (found["old"].size_bytes, found["old"].added_bytes) == (100, 0)


def test_records_tell_what_environments_take_at_most(store: Store) -> None:
    ids = {attached(store, "numpy"), attached(store, "torch", of=key("b"))}
    found = recorded_bytes(store, usages_of(store, ()))
    assert {env_id for env_id, _ in found} == ids
    assert set(found.values()) == {1234}
    assert recorded_bytes(store, []) == {}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(1, 50), st.sets(st.sampled_from(["a", "b", "c", "cache"]))),
        max_size=8,
    )
)
def test_what_environments_add_is_what_they_take_together(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[int, set[str]]]
) -> None:
    store = Store.open(tmp_path_factory.mktemp("home"))
    folders = {name: make_env(store, name) for name in "abc"}
    folders["cache"] = store.layout.root / "cache"
    for number, (size, places) in enumerate(files):
        made: Path | None = None
        for place in sorted(places):
            path = folders[place] / f"file-{number}"
            if made is None:
                made = write(path, size)
            else:
                link(made, path)

    found = usages(store)
    assert sum(each.added_bytes for each in found.values()) == sum(
        size for size, places in files if places - {"cache"}
    )
    together = weigh([folders[name] for name in "abc"], never)
    assert together.size_bytes == sum(each.added_bytes for each in found.values())
    assert together.own_bytes == sum(
        size for size, places in files if places - {"cache"} == places and places
    )
