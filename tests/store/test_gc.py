"""What a collection takes, and what it leaves since somebody needs it by now."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import fakes
from tests.fakes import key
from tests.store.conftest import (
    attached,
    envs,
    key_record,
    lease_by,
    publish,
    tree,
)
from tests.wheels import build_wheel
from xinference_venv.errors import InUse, InvalidRecord
from xinference_venv.inventory.eviction import EnvUsage
from xinference_venv.planning.source_builds import with_built
from xinference_venv.store.atomic import Disk
from xinference_venv.store.disk_usage import usages_of
from xinference_venv.store.gc import (
    UnneededFile,
    delete_unneeded,
    find_unneeded,
    move_to_trash,
    record_use,
)
from xinference_venv.store.relayed_wheels import RelayedWheels
from xinference_venv.store.store import Store
from xinference_venv.store.sweep import sweep

DAY = 86_400.0


def planned(store: Store) -> EnvUsage:
    [usage] = usages_of(store, ())
    return usage


def found(store: Store) -> list[UnneededFile]:
    return find_unneeded(store, time.time(), relayed(store), lambda: False)


def relayed(store: Store, max_bytes: int = 1 << 30) -> RelayedWheels:
    return RelayedWheels(layout=store.layout, disk=store.disk, max_bytes=max_bytes)


def age(path: Path, days: float) -> Path:
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


def test_an_environment_goes_with_all_its_keys(store: Store) -> None:
    attached(store, "numpy", of=key("a"))
    attached(store, "numpy", of=key("b", None))
    trashed = move_to_trash(store, planned(store))
    assert (
        trashed is not None
        and trashed.parent == store.layout.trash
        and (trashed / "bin" / "python").exists()
    )
    assert envs(store) == []
    assert not list(store.links()) and not tree(store.layout.keys)
    assert not (store.layout.root / "v4").exists() and not (store.layout.root / "v3").exists()


def test_what_is_gone_already_leaves_its_keys(store: Store) -> None:
    env_id = attached(store, "numpy")
    usage = planned(store)
    store.disk.delete(store.layout.env(env_id))
    assert move_to_trash(store, usage) is None
    assert list(store.links()) == []


def test_what_a_process_uses_by_now_stays(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    env_id = attached(store, "numpy")
    usage = planned(store)
    lease_by(store, env_id, children())
    with pytest.raises(InUse, match="in use by a-model"):
        move_to_trash(store, usage)
    assert (envs(store), store.env_of(key())) == ([env_id], env_id)


def test_what_was_launched_after_the_plan_stays(store: Store) -> None:
    env_id = attached(store, "numpy")
    usage = planned(store)
    store.touch(key_record(key(), env_id), host_fingerprint="a host")
    with pytest.raises(InUse, match="launched after"):
        move_to_trash(store, usage)
    assert envs(store) == [env_id]


@pytest.mark.parametrize("change", ["another key more", "another environment"])
def test_what_keys_mean_otherwise_by_now_stays(store: Store, change: str) -> None:
    env_id = attached(store, "numpy")
    usage = planned(store)
    if change == "another key more":
        attached(store, "numpy", of=key("other"))
    else:
        attached(store, "torch")
    with pytest.raises(InUse, match="have changed since"):
        move_to_trash(store, usage)
    assert env_id in envs(store)


def test_no_one_leases_what_is_on_its_way_to_the_trash(tmp_path: Path) -> None:
    """A launch that comes while the keys go finds the environment gone, not half of it."""
    leased: list[Any] = []

    class Slow(Disk):
        def unlink(self, path: Path) -> None:
            super().unlink(path)
            if path.is_relative_to(store.layout.root / "v4"):
                launch.start()
                launch.join(0.2)

    store = Store.open(tmp_path / "virtualenv", Slow())

    def lease() -> None:
        try:
            leased.append(
                store.take_lease(env_id, model_name="m", model_uid=None, process=fakes.process())
            )
        except InvalidRecord:
            leased.append(None)

    launch = threading.Thread(target=lease)
    env_id = attached(store, "numpy")
    move_to_trash(store, planned(store))
    launch.join()
    assert leased == [None]


def test_the_keys_of_what_runs_are_used_now(
    store: Store, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    running, idle = attached(store, "numpy", of=key("a")), attached(store, "torch", of=key("b"))
    for name in "ab":
        age(store.layout.keys / f"{key(name).digest}.json", 3)
    lease_by(store, running, children())
    record_use(store, usages_of(store, ()))
    now = {each.env_id: time.time() - each.last_used for each in usages_of(store, ())}
    assert now[running] < 60 < now[idle]


def test_states_and_stubs_of_hosts_go_when_no_one_needs_them_and_they_are_old(
    store: Store,
) -> None:
    present = fakes.host(fakes.distribution("numpy"))
    launched, gone = fakes.host(fakes.distribution("a")), fakes.host(fakes.distribution("b"))
    env_id = attached(store, "numpy")
    record = key_record(key(), env_id)
    store.touch(record, host_fingerprint=launched.fingerprint)
    probe = store.layout.hosts / "probe-1.json"
    probe.write_text(json.dumps({"answer": present.to_dict()}))
    (store.layout.hosts / "probe-2.json").write_text('{"answer": 3}')
    for facts in (present, launched, gone):
        store.save_host(facts)
        (store.layout.stubs / facts.digest).mkdir()
        (store.layout.stubs / facts.digest / "a.whl").write_bytes(b"1234")
    assert found(store) == []

    for folder in (store.layout.hosts, store.layout.stubs):
        for path in folder.iterdir():
            age(path, 2)
    state = store.layout.hosts / f"{gone.fingerprint}.json"
    stubs = {store.layout.stubs / facts.digest for facts in (launched, gone)}
    there = found(store)
    assert {each.path for each in there} == {state, *stubs}
    assert {each.size_bytes for each in there} == {state.stat().st_size, 4}
    assert delete_unneeded(store, there) == there
    assert found(store) == []
    assert store.saved_host(launched.fingerprint) == launched
    assert store.saved_host(gone.fingerprint) is None
    assert (store.layout.stubs / present.digest).exists()


def test_built_wheels_that_no_lock_needs_go_when_no_one_builds(
    store: Store, tmp_path: Path
) -> None:
    kept = store.wheels.keep(build_wheel(tmp_path, "tool", "1.0"), "a build")
    there = found(store)
    assert [(each.kind, each.path.name) for each in there] == [("built wheel", kept.sha256)]
    store.make_staging_folder("job")
    assert delete_unneeded(store, there) == []
    store.delete_trashed(store.trash_staging_folder("job"))
    assert delete_unneeded(store, there) == there
    assert store.wheels.find("a build", None) is None


def test_relayed_wheels_go_when_they_were_not_used_for_a_day_or_have_no_room(
    store: Store,
) -> None:
    paths = []
    for number in range(3):
        content = bytes([number]) * 100
        sha256 = hashlib.sha256(content).hexdigest()
        with relayed(store).adding(sha256) as file:
            file.write(content)
        paths.append(store.layout.relayed_wheel(sha256))
        age(paths[-1], (3 - number) / 10)
    (store.layout.relay / ".being-fetched").write_bytes(b"part")
    assert relayed(store).size_bytes() == 300
    assert found(store) == []
    # The limit may be lower than it was.
    assert relayed(store, 200).unneeded(0.0) == paths[:1]
    age(paths[1], 2)
    there = found(store)
    assert [(each.kind, each.path, each.size_bytes) for each in there] == [
        ("relayed wheel", paths[1], 100)
    ]
    assert delete_unneeded(store, there) == there
    assert [each.exists() for each in paths] == [True, False, True]


def test_a_wheel_that_a_build_finds_stays_while_it_is_swept(tmp_path: Path) -> None:
    """Another process begins to build between the sweep's look at who builds and its deletion."""
    seen: list[tuple[Any, bool]] = []

    class Slow(Disk):
        def discard(self, path: Path, trash: Path) -> None:
            if path.parent == store.layout.wheels:
                build.start()
                build.join(0.3)
            super().discard(path, trash)

    store = Store.open(tmp_path / "virtualenv", Slow())
    kept = store.wheels.keep(build_wheel(tmp_path, "tool", "1.0"), "a build")
    swept = threading.Event()

    def begin() -> None:
        store.make_staging_folder("another")
        wheel = store.wheels.find("a build", None)
        swept.wait(10)
        seen.append((wheel, store.layout.built_wheels(kept.sha256).exists()))

    build = threading.Thread(target=begin)
    sweep(store)
    swept.set()
    build.join()
    # Found and there, or neither: never found and then gone.
    assert seen == [(None, False)]


def test_a_lock_that_is_published_while_wheels_are_swept_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path / "virtualenv")
    kept = store.wheels.keep(build_wheel(tmp_path, "tool", "1.0"), "a build")
    sdist = {"url": "https://files.example/tool-1.0.tar.gz", "hashes": {"sha256": "0" * 64}}
    source = {"name": "tool", "version": "1.0", "sdist": sdist}
    lock = with_built(fakes.lock(source), [kept])
    real = Store.unneeded_wheels

    def publishing(of: Store) -> list[str]:
        unneeded = real(of)
        publish(of, lock)
        return unneeded

    monkeypatch.setattr(Store, "unneeded_wheels", publishing)
    store.sweep_wheels()
    assert store.wheels.find("a build", None) == kept
