"""Leases on disk, held by real processes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.store.conftest import ended_process, identity_of, tree
from xinference_venv.errors import InvalidRecord, NotFound, StoreError
from xinference_venv.lease import Holder, Lease, ProcessIdentity
from xinference_venv.store.identity import this_process
from xinference_venv.store.leases import Leases
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
    assert tree(leases.layout.leases) == []


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


def test_what_is_written_beside_a_lease_is_none(leases: Leases) -> None:
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


@pytest.mark.parametrize("lease_id", ["../../keys/key", "/etc/passwd"])
def test_a_lease_that_leads_elsewhere_is_refused(
    leases: Leases, store: Store, lease_id: str
) -> None:
    victim = store.layout.keys / "key.json"
    victim.write_text("{}")
    with pytest.raises(StoreError):
        leases.release(ENV, lease_id)
    assert victim.exists()
    assert Path("/etc/passwd").exists()
