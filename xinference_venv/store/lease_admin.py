"""Who holds which environment: leases bound to processes, listed and released by an operator.

Comes in: ids and processes that callers name. Comes out: what became of the leases. Each change
of a lease is made under the lock of its environment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from xinference_venv.errors import InvalidInput, InvalidRecord, StoreError
from xinference_venv.inventory.inventory import is_release_refused
from xinference_venv.inventory.lease import (
    Holder,
    Lease,
    LeaseEntry,
    ProcessIdentity,
    ReleaseReport,
)
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.sentences import sentence
from xinference_venv.store.locks import hold_lock_briefly
from xinference_venv.store.store import Store


def bind_lease(store: Store, env_id: str, lease_id: str, process: ProcessIdentity) -> Lease:
    """Hand a lease to the process that uses the environment; raises `NotFound`."""
    with hold_lock_briefly(store.env_lock(env_id)):
        return store.leases.bind(env_id, lease_id, process)


def release_unbound(store: Store, taken: Lease) -> None:
    """Give a lease back if it is still held by who took it; a damaged one is left."""
    with hold_lock_briefly(store.env_lock(taken.env_id)):
        try:
            current = store.leases.find(taken.env_id, taken.lease_id)
        except InvalidRecord:
            return
        if current is None or current.process != taken.process:
            return
        store.leases.release(taken.env_id, taken.lease_id)
    store.delete_if_unused(taken.env_id)


def lease_entries(store: Store, wanted: Selection) -> list[LeaseEntry]:
    """The leases that count, of the environments that a wanted key refers to.

    An environment without a key is known by the model that its lease names, and by its
    Python; which engine it was for is not.
    """
    meaning: dict[str, list[EnvKey]] = defaultdict(list)
    for key, env_id in store.links():
        meaning[env_id].append(key)
    entries = []
    for env_id in store.leases.env_ids():
        keys = tuple(meaning[env_id])
        for lease, holder in store.leases.of(env_id):
            if any(map(wanted.matches, keys or [_key_of(store, lease)])):
                entries.append(LeaseEntry(lease=lease, holder=holder, keys=keys))
    return entries


def release_leases(
    store: Store, lease_ids: Sequence[str], *, force: bool, worker_address: str = ""
) -> ReleaseReport:
    """Release leases whose holder can't be judged, with `force` those of the living as well.

    Raises `InvalidInput` for what is no list of ids. An environment that neither key nor lease
    needs then is deleted.
    """
    if isinstance(lease_ids, str) or not all(isinstance(each, str) for each in lease_ids):
        raise InvalidInput(sentence("leases are named by a list of their ids"))
    # An id is only compared with those that are there: no path is made of it.
    there = {entry.lease.lease_id: entry for entry in lease_entries(store, Selection())}
    released, refused, absent, deleted = [], [], [], []
    for lease_id in dict.fromkeys(lease_ids):
        entry = there.get(lease_id)
        if entry is None:
            absent.append(lease_id)
            continue
        env_id = entry.lease.env_id
        with hold_lock_briefly(store.env_lock(env_id)):
            # It may have been bound, or have ended, in between.
            now = {each.lease_id: holder for each, holder in store.leases.of(env_id)}
            if is_release_refused(now.get(lease_id), force=force):
                refused.append(replace(entry, holder=Holder.ALIVE))
                continue
            store.leases.release(env_id, lease_id)
        released.append(entry)
        if store.layout.env(env_id).is_dir() and store.delete_if_unused(env_id):
            deleted.append(env_id)
    return ReleaseReport(
        released=tuple(released),
        refused=tuple(refused),
        absent=tuple(absent),
        deleted=tuple(deleted),
        worker_address=worker_address,
    )


def _key_of(store: Store, lease: Lease) -> EnvKey:
    """What the key of a unlinked environment may have been."""
    try:
        python = store.env_record(lease.env_id).python_version
    except (InvalidRecord, StoreError):
        python = ""
    return EnvKey(model_name=lease.model_name, model_engine=None, python_version=python)
