"""Who holds which environment, bound and let go of, with real processes."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import key
from tests.store.conftest import attached, end, ended_process, envs, identity_of
from xinference_venv.errors import InvalidInput, NotFound, StoreError
from xinference_venv.inventory.lease import Holder, Lease, LeaseEntry, ProcessIdentity
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.store.lease_admin import (
    bind_lease,
    lease_entries,
    release_leases,
    release_unbound,
)
from xinference_venv.store.locks import hold_lock
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store

KEY = key()
ANY = Selection()
Children = Callable[[], "subprocess.Popen[bytes]"]


def elsewhere() -> ProcessIdentity:
    return replace(ended_process(), host="another-host")


def lease(store: Store, env_id: str, process: ProcessIdentity, name: str = "a-model") -> Lease:
    return store.take_lease(env_id, model_name=name, model_uid=None, process=process)


def entry(lease: Lease, holder: Holder, *keys: EnvKey) -> LeaseEntry:
    return LeaseEntry(lease=lease, holder=holder, keys=keys)


# Binding


async def test_a_lease_is_bound_under_the_lock_of_its_environment(store: Store) -> None:
    env_id = attached(store, "numpy")
    taken = lease(store, env_id, this_process())
    async with hold_lock(store.env_lock(env_id), purpose="test", deadline=0):
        binding = asyncio.create_task(
            asyncio.to_thread(bind_lease, store, env_id, taken.lease_id, ended_process())
        )
        done, _ = await asyncio.wait([binding], timeout=0.1)
        assert not done
    assert (await binding).lease_id == taken.lease_id
    assert store.leases.of(env_id) == []


@pytest.mark.parametrize("lease_id", ["0" * 32, "x"])
def test_a_lease_that_is_not_there_is_not_bound(store: Store, lease_id: str) -> None:
    with pytest.raises(NotFound, match=f"there is no lease {lease_id}"):
        bind_lease(store, attached(store, "numpy"), lease_id, this_process())


@pytest.mark.parametrize("names", [("..", "x"), ("a/../../b", "x"), ("a", "../x"), ("a", "\0")])
def test_names_that_lead_elsewhere_bind_nothing(store: Store, names: tuple[str, str]) -> None:
    with pytest.raises(StoreError):
        bind_lease(store, *names, this_process())


def test_a_lease_that_was_bound_is_not_given_back_by_who_took_it(
    store: Store, children: Children
) -> None:
    env_id = attached(store, "numpy")
    taken, other = (lease(store, env_id, this_process()) for _ in range(2))
    bound = bind_lease(store, env_id, taken.lease_id, identity_of(children()))
    damaged = lease(store, env_id, this_process())
    store.layout.lease(env_id, damaged.lease_id).write_text("{")
    for each in (taken, other, other, damaged):
        release_unbound(store, each)
    counting = {each.lease_id: holder for each, holder in store.leases.of(env_id)}
    assert counting == {bound.lease_id: Holder.ALIVE, damaged.lease_id: Holder.UNKNOWN}


# Listing


def test_leases_are_listed_with_their_holders_and_the_keys_they_keep(
    store: Store, children: Children
) -> None:
    env_id = attached(store, "numpy")
    attached(store, "numpy", of=key("other", None))
    alive = lease(store, env_id, identity_of(children()))
    unknown = lease(store, env_id, elsewhere())
    lease(store, env_id, ended_process())
    keys = (key("other", None), KEY)
    found = lease_entries(store, ANY)
    assert sorted(found, key=lambda each: each.holder) == [
        LeaseEntry(lease=alive, holder=Holder.ALIVE, keys=(KEY, key("other", None))),
        entry(unknown, Holder.UNKNOWN, KEY, key("other", None)),
    ]
    for each in keys:
        assert lease_entries(store, Selection(model_name=each.model_name)) == found
    assert lease_entries(store, Selection(model_engine="vllm")) == found
    assert lease_entries(store, Selection(model_engine="sglang")) == []


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ({}, True),
        ({"model_name": "a-model"}, True),
        ({"model_name": "another"}, False),
        ({"python_version": "3.11"}, True),
        ({"python_version": "3.12"}, False),
        # Nobody knows for which engine it was.
        ({"model_engine": "vllm"}, False),
    ],
)
def test_a_lease_on_an_unlinked_environment_is_known_by_its_model_and_its_python(
    store: Store, children: Children, wanted: dict[str, Any], meant: bool
) -> None:
    env_id = attached(store, "numpy")
    held_by = lease(store, env_id, identity_of(children()))
    store.unlink_key(KEY)
    expected = [entry(held_by, Holder.ALIVE)] if meant else []
    assert lease_entries(store, Selection(**wanted)) == expected


def test_a_lease_on_what_is_gone_is_listed_and_released(store: Store) -> None:
    stuck = store.leases.take("gone", model_name="m", model_uid=None, process=elsewhere())
    assert lease_entries(store, ANY) == [entry(stuck, Holder.UNKNOWN)]
    report = release_leases(store, [stuck.lease_id], force=False)
    assert (report.released, report.deleted) == ((entry(stuck, Holder.UNKNOWN),), ())
    assert lease_entries(store, ANY) == []


# Releasing


def test_only_what_no_one_living_holds_is_released_unless_by_force(
    store: Store, children: Children
) -> None:
    env_id = attached(store, "numpy")
    alive = lease(store, env_id, identity_of(children()))
    unknown = lease(store, env_id, elsewhere())
    ids = [alive.lease_id, unknown.lease_id, alive.lease_id, "f" * 32]
    report = release_leases(store, ids, force=False)
    assert report.released == (entry(unknown, Holder.UNKNOWN, KEY),)
    assert report.refused == (entry(alive, Holder.ALIVE, KEY),)
    assert (report.absent, report.deleted) == (("f" * 32,), ())
    report = release_leases(store, ids, force=True)
    assert report.released == (entry(alive, Holder.ALIVE, KEY),)
    assert report.refused == ()
    assert report.absent == (unknown.lease_id, "f" * 32)
    assert store.leases.of(env_id) == []
    assert envs(store) == [env_id]


def test_the_last_lease_takes_an_environment_without_a_key_with_it(
    store: Store, children: Children
) -> None:
    env_id = attached(store, "numpy")
    unknown, child = lease(store, env_id, elsewhere()), children()
    alive = lease(store, env_id, identity_of(child))
    store.unlink_key(KEY)
    assert release_leases(store, [unknown.lease_id], force=False).deleted == ()
    assert envs(store) == [env_id]
    again = lease(store, env_id, elsewhere())
    end(child)
    report = release_leases(store, [again.lease_id, alive.lease_id], force=False)
    assert (report.deleted, report.absent) == ((env_id,), (alive.lease_id,))
    assert envs(store) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff" * 40, b"[]"])
def test_a_lease_that_can_not_be_read_is_released_by_its_id(store: Store, content: bytes) -> None:
    env_id = attached(store, "numpy")
    damaged = lease(store, env_id, this_process())
    store.layout.lease(env_id, damaged.lease_id).write_bytes(content)
    [found] = lease_entries(store, ANY)
    assert (found.lease.lease_id, found.holder) == (damaged.lease_id, Holder.UNKNOWN)
    report = release_leases(store, [damaged.lease_id], force=False)
    assert report.released == (found,)
    assert lease_entries(store, ANY) == []


@pytest.mark.parametrize(
    "hostile", ["../../keys/victim", "/etc/passwd", "", ".", "..", "*", "\0", "\ud800", "x" * 5000]
)
def test_ids_that_lead_elsewhere_are_absent(store: Store, hostile: str) -> None:
    victim = store.layout.keys / "victim.json"
    victim.write_text("{}")
    report = release_leases(store, [hostile], force=True)
    assert report.absent == (hostile,)
    assert victim.exists()


@pytest.mark.parametrize("ids", ["0123456789", [1], [None], [["x"]]])
def test_what_is_no_list_of_ids_is_refused(store: Store, ids: Any) -> None:
    with pytest.raises(InvalidInput, match="a list of their ids"):
        release_leases(store, ids, force=True)
