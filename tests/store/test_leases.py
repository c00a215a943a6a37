"""Leases on disk, held by real processes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes import lease as lease_noun
from tests.fakes import process
from tests.store.conftest import ended_process, identity_of, tree
from xinference_venv.errors import InvalidRecord, NotFound, StoreError
from xinference_venv.inventory.lease import Holder, Lease, ProcessIdentity
from xinference_venv.store import atomic
from xinference_venv.store.leases import Leases
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store

ENV = "0123456789abcdef"


@pytest.fixture
def leases(store: Store) -> Leases:
    return store.leases


def take(leases: Leases, process: ProcessIdentity, uid: str | None = None) -> Lease:
    return leases.take(ENV, model_name="a-model", model_uid=uid, process=process)


def test_a_lease_of_a_living_process_counts(
    leases: Leases, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    lease = take(leases, identity_of(children()), "uid-1")
    assert leases.of(ENV) == [(lease, Holder.ALIVE)]
    assert (lease.model_name, lease.model_uid, lease.env_id) == ("a-model", "uid-1", ENV)
    assert leases.of("another") == []


def test_a_lease_of_a_killed_process_is_gone(
    leases: Leases, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    child, other = children(), children()
    take(leases, identity_of(child))
    kept = take(leases, identity_of(other))
    child.kill()
    child.wait()
    assert leases.of(ENV) == [(kept, Holder.ALIVE)]
    other.kill()
    other.wait()
    assert leases.of(ENV) == []


def test_looking_changes_nothing_and_pruning_drops_the_leases_of_the_dead(
    leases: Leases, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    child = children()
    kept, gone = take(leases, identity_of(child)), take(leases, ended_process())
    there = sorted(f"{ENV}/{each.lease_id}.json" for each in (kept, gone))
    assert leases.of(ENV) == [(kept, Holder.ALIVE)]
    assert tree(leases.layout.leases) == [ENV, *there]
    assert leases.prune(ENV) == [(kept, Holder.ALIVE)]
    assert tree(leases.layout.leases) == [ENV, f"{ENV}/{kept.lease_id}.json"]
    assert leases.env_ids() == [ENV]
    child.kill()
    child.wait()
    assert leases.prune(ENV) == leases.prune(ENV) == []
    assert tree(leases.layout.leases) == []


def test_a_lease_is_taken_while_the_folder_of_leases_goes_again_and_again(
    leases: Leases,
) -> None:
    """A launch and a listing of another process meet."""
    done = threading.Event()

    def remove() -> None:
        # With a pause, however short: the interpreter's lock would let no one else in between.
        while not done.wait(1e-5):
            leases.disk.remove_empty(leases.layout.leases_of(ENV))

    removing = threading.Thread(target=remove)
    removing.start()
    try:
        for _ in range(200):
            lease = take(leases, this_process())
            leases.release(ENV, lease.lease_id)
    finally:
        done.set()
        removing.join()


def test_a_pid_that_another_process_got_is_no_holder(
    leases: Leases, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    living = identity_of(children())
    take(leases, replace(living, start=str(int(living.start) - 1)))
    assert leases.of(ENV) == []


def test_a_process_of_an_earlier_boot_is_gone(
    leases: Leases, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    take(leases, replace(identity_of(children()), boot="an-earlier-boot"))
    assert leases.of(ENV) == []


def test_a_process_of_another_container_or_machine_of_this_name_counts(leases: Leases) -> None:
    lease = take(leases, replace(ended_process(), boot="of-its-own", namespace="another"))
    assert leases.prune(ENV) == [(lease, Holder.UNKNOWN)]


def test_a_process_of_another_host_is_unknown_and_counts(leases: Leases) -> None:
    lease = take(leases, replace(ended_process(), host="another-host", boot="of-its-own"))
    assert leases.of(ENV) == [(lease, Holder.UNKNOWN)]
    assert leases.of(ENV) == [(lease, Holder.UNKNOWN)]


def test_a_lease_that_was_bound_lives_with_its_new_holder_alone(
    leases: Leases, children: Callable[[], subprocess.Popen[bytes]]
) -> None:
    first, second = children(), children()
    lease = take(leases, identity_of(first))
    bound = leases.bind(ENV, lease.lease_id, identity_of(second))
    assert bound == replace(lease, process=identity_of(second))
    first.kill()
    first.wait()
    assert leases.of(ENV) == [(bound, Holder.ALIVE)]
    second.kill()
    second.wait()
    assert leases.of(ENV) == []


def test_a_lease_that_was_released_is_gone_and_can_not_be_bound(leases: Leases) -> None:
    lease = take(leases, this_process())
    for _ in range(2):
        leases.release(ENV, lease.lease_id)
    assert leases.of(ENV) == []
    with pytest.raises(NotFound, match=f"there is no lease {lease.lease_id}"):
        leases.bind(ENV, lease.lease_id, this_process())
    assert tree(leases.layout.leases) == []


def test_one_process_may_hold_many(leases: Leases) -> None:
    taken = {take(leases, this_process(), f"uid-{number}").lease_id for number in range(5)}
    assert len(taken) == 5
    assert {lease.lease_id for lease, _ in leases.of(ENV)} == taken


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 64, b"{}", b'{"lease_id": 1}', b"[]", b'{"process": {"pid": "1"}}']
)
def test_a_damaged_lease_counts_and_harms_no_other(leases: Leases, content: bytes) -> None:
    kept = take(leases, this_process())
    damaged = take(leases, this_process())
    path = leases.layout.leases_of(ENV) / f"{damaged.lease_id}.json"
    path.write_bytes(content)
    with pytest.raises(InvalidRecord):
        leases.bind(ENV, damaged.lease_id, this_process())
    found = {lease.lease_id: holder for lease, holder in leases.of(ENV)}
    assert found == {kept.lease_id: Holder.ALIVE, damaged.lease_id: Holder.UNKNOWN}
    leases.release(ENV, damaged.lease_id)
    assert leases.of(ENV) == [(kept, Holder.ALIVE)]


def test_a_lease_that_is_bound_keeps_what_a_later_version_noted_in_it(leases: Leases) -> None:
    lease = take(leases, this_process())
    path = leases.layout.lease(ENV, lease.lease_id)
    path.write_text(json.dumps({**lease.to_dict(), "gpu": [0, 1]}))
    bound = leases.bind(ENV, lease.lease_id, ended_process())
    assert json.loads(path.read_bytes()) == {**bound.to_dict(), "gpu": [0, 1]}


def test_a_lease_of_a_later_version_counts_and_is_not_rewritten(leases: Leases) -> None:
    lease = take(leases, this_process())
    path = leases.layout.lease(ENV, lease.lease_id)
    path.write_text(text := json.dumps({**lease.to_dict(), "version": 2}))
    with pytest.raises(InvalidRecord, match="of a later version 2"):
        leases.bind(ENV, lease.lease_id, this_process())
    assert [(each.lease_id, holder) for each, holder in leases.prune(ENV)] == [
        (lease.lease_id, Holder.UNKNOWN)
    ]
    assert path.read_text() == text


@pytest.mark.parametrize("change", [{"lease_id": "../../keys/victim"}, {"env_id": "another"}])
def test_a_lease_that_says_it_is_another_one_counts_by_its_place(
    leases: Leases, change: dict[str, str]
) -> None:
    lease = take(leases, ended_process())
    path = leases.layout.lease(ENV, lease.lease_id)
    path.write_text(json.dumps({**lease.to_dict(), **change}))
    [(found, holder)] = leases.prune(ENV)
    assert (found.env_id, found.lease_id, holder) == (ENV, lease.lease_id, Holder.UNKNOWN)


def test_a_lease_that_may_not_be_read_counts(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = take(leases, ended_process())

    def refuse(path: Path, **_: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(atomic, "read_regular", refuse)
    assert [holder for _, holder in leases.prune(ENV)] == [Holder.UNKNOWN]
    assert leases.layout.lease(ENV, lease.lease_id).exists()


def test_leases_that_can_not_be_listed_count_and_are_named(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    take(leases, this_process())
    monkeypatch.setattr(os, "listdir", refuse)
    for look in (leases.of, leases.prune):
        assert [holder for _, holder in look(ENV)] == [Holder.UNKNOWN]
    [skipped] = leases.disk.skipped.all()
    assert skipped.path == str(leases.layout.leases_of(ENV))
    assert "Permission denied" in skipped.reason


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_stands_in_the_place_of_leases_counts_and_is_released_without_what_it_leads_to(
    leases: Leases, tmp_path: Path, kind: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    gone = take(leases, ended_process())
    leases.layout.lease(ENV, gone.lease_id).rename(outside / f"{gone.lease_id}.json")
    place = leases.layout.leases_of(ENV)
    place.rmdir()
    place.symlink_to(outside) if kind == "link" else place.touch()
    [(lease, holder)] = leases.prune(ENV)
    assert (lease.lease_id, holder) == (ENV, Holder.UNKNOWN)
    leases.release(ENV, lease.lease_id)
    assert leases.of(ENV) == []
    assert tree(outside) == [f"{gone.lease_id}.json"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
SAMPLE = lease_noun(env_id=ENV, lease_id="sample", process=process(host="another-host"))
FIELDS = [*SAMPLE.to_dict()]
damaged = (
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3).map(
        lambda changes: json.dumps({**SAMPLE.to_dict(), **changes}).encode()
    )
    | st.dictionaries(st.sampled_from(["host", "boot", "pid", "start", "namespace"]), JSON).map(
        lambda changes: json.dumps(
            {**SAMPLE.to_dict(), "process": {**SAMPLE.process.to_dict(), **changes}}
        ).encode()
    )
)


@given(content=damaged)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_are_a_lease_or_a_clear_error(leases: Leases, content: bytes) -> None:
    path = leases.layout.lease(ENV, "sample")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    try:
        found = leases.find(ENV, "sample")
    except InvalidRecord:
        [(found, holder)] = leases.prune(ENV)
        assert holder is Holder.UNKNOWN
    assert found is not None
    assert (found.env_id, found.lease_id) == (ENV, "sample")
    assert str(found)
    # Whoever could be read is judged, and dropped only when proved gone.
    assert path.exists() == bool(leases.prune(ENV))


def test_what_is_written_next_to_a_lease_is_none(leases: Leases) -> None:
    """A crash in the middle of a write."""
    kept = take(leases, this_process())
    (leases.layout.leases_of(ENV) / f".{kept.lease_id}.json.0123abcd").write_text("{")
    assert leases.of(ENV) == [(kept, Holder.ALIVE)]


@pytest.mark.parametrize("env_id", ["", ".", "..", "../envs", "/etc"])
def test_an_id_that_leads_elsewhere_is_refused(leases: Leases, env_id: str) -> None:
    for call in (
        lambda: leases.of(env_id),
        lambda: leases.release(env_id, "a-lease"),
        lambda: leases.bind(env_id, "a-lease", this_process()),
    ):
        with pytest.raises(StoreError):
            call()


@pytest.mark.parametrize("lease_id", ["../../keys/key", "/etc/passwd", "a/b", "\0"])
def test_a_lease_that_leads_elsewhere_is_refused(
    leases: Leases, store: Store, lease_id: str
) -> None:
    victim = store.layout.keys / "key.json"
    victim.write_text("{}")
    with pytest.raises(StoreError):
        leases.release(ENV, lease_id)
    assert victim.exists()
    assert Path("/etc/passwd").exists()
