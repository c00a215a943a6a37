"""Garbage collection on disk: environments that a plan evicts, and files that none needs.

Comes in: one entry of an `EvictionPlan`. Comes out: its place in the trash, or why it stays.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xinference_venv.errors import InUse, InvalidRecord, StoreError
from xinference_venv.inventory.eviction import EnvUsage
from xinference_venv.inventory.inventory import leases_error
from xinference_venv.planning.host import HostFacts
from xinference_venv.sentences import sentence
from xinference_venv.store.disk_usage import last_used
from xinference_venv.store.in_place import read_in_place
from xinference_venv.store.keys import key_places
from xinference_venv.store.legacy.layouts import old_directories
from xinference_venv.store.locks import hold_lock_briefly
from xinference_venv.store.relayed_wheels import RelayedWheels
from xinference_venv.store.store import Store
from xinference_venv.store.tree_size import Stop, weigh

# Whoever looks at a host's state, or resolves over its stubs, has ended by then.
_KEPT_SECONDS = 86_400.0
# Clocks of hosts that share a home differ.
_SKEW_SECONDS = 3_600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class UnneededFile:
    """A file or folder of the store that nothing needs; `kind` says what it was."""

    kind: str
    path: Path
    size_bytes: int


def move_to_trash(store: Store, planned: EnvUsage) -> Path | None:
    """Take an environment from its keys, whose locks the caller holds, and to the trash.

    Returns its place in the trash, to be deleted when the locks are free again, or None when
    nothing is left to delete. Raises `InUse` when it is not as it was planned any more: a process
    or another key needs it, or it was launched. No process can lease it meanwhile, so it
    is found whole or not at all.
    """
    env_id = planned.env_id
    env = store.layout.env(env_id)
    with hold_lock_briefly(store.env_lock(env_id)):
        keys = [key for key, named in store.links() if named == env_id]
        if set(keys) != set(planned.keys):
            raise InUse(sentence("the keys that refer to it have changed since this was planned"))
        if leases := store.leases.of(env_id):
            raise leases_error("it", [lease for lease, _ in leases])
        if last_used(store, env_id, keys) != planned.last_used:
            raise InUse(sentence("it was launched after this was planned"))
        for key in keys:
            store.unlink_key(key)
        return store.disk.move_to_trash(env, store.layout.trash)


def record_use(store: Store, usages: Iterable[EnvUsage]) -> None:
    """Let the keys of environments that processes use be used now.

    What ran until a moment ago is not unused, however long ago it was launched. A date that is
    still to come, of a clock that was wrong, would keep its environment until then.
    """
    now = time.time()
    for usage in usages:
        is_to_come = usage.last_used > now + _SKEW_SECONDS
        for key in usage.keys if usage.leases or is_to_come else ():
            record = store.key_record_of(key, usage.env_id)
            if record is not None:
                store.touch(record, host_fingerprint=record.host_fingerprint)


def find_unneeded(
    store: Store, now: float, relayed: RelayedWheels, stop: Stop
) -> list[UnneededFile]:
    """Wheels, built here or relayed, states of hosts and stubs that nothing needs, at `now`.

    Needed are the states over which keys were launched or the drop-in for Xinference made its
    environments, the present ones of this host's interpreters, and all that is not a day old; of
    relayed wheels no more than have room.
    """
    layout = store.layout
    present = list(_present_hosts(store))
    states = {facts.fingerprint for facts in present}
    for key, env_id in store.links():
        record = store.key_record_of(key, env_id)
        states.update([] if record is None else [record.host_fingerprint])
    states.update(_hosts_of_in_place(store))
    digests = {facts.digest for facts in present}
    found = [("built wheel", layout.built_wheels(name)) for name in store.unneeded_wheels()]
    for name in store.skipped.names(layout.hosts):
        path = layout.hosts / name
        is_state = path.suffix == ".json" and not name.startswith(("probe-", "."))
        if is_state and path.stem not in states and _is_old(store, path, now):
            found.append(("state of a host", path))
    for name in store.skipped.names(layout.stubs):
        path = layout.stubs / name
        if name not in digests and _is_old(store, path, now):
            found.append(("stubs of a host", path))
    found += [("relayed wheel", path) for path in relayed.unneeded(now - _KEPT_SECONDS)]
    return [
        UnneededFile(kind=kind, path=path, size_bytes=_size(path, stop)) for kind, path in found
    ]


def delete_unneeded(store: Store, found: Iterable[UnneededFile]) -> list[UnneededFile]:
    """Delete unneeded files, built wheels only while no build runs; returns those that are gone."""
    with store.skipped.visiting(store.layout.wheels):
        store.sweep_wheels()
    found = list(found)
    for each in found:
        if each.path.parent != store.layout.wheels:
            with store.skipped.visiting(each.path):
                store.disk.discard(each.path, store.layout.trash)
    return [each for each in found if not os.path.lexists(each.path)]


def _present_hosts(store: Store) -> Iterator[HostFacts]:
    """The states of hosts that workers of this store found last."""
    for path in store.layout.hosts.glob("probe-*.json"):
        try:
            saved: Any = store.disk.read_json(path)
            yield HostFacts.from_dict(saved["answer"])
        except (InvalidRecord, StoreError, KeyError, TypeError):
            # An interpreter that is no host, or it is probed again.
            continue


def _hosts_of_in_place(store: Store) -> Iterator[str]:
    """The states of the host over which the drop-in for Xinference made environments."""
    for each in old_directories(store.layout, key_places(store.layout)):
        try:
            record = read_in_place(store.disk, each.path)
        except (InvalidRecord, StoreError):
            continue
        if record is not None:
            yield record.host_fingerprint


def _is_old(store: Store, path: Path, now: float) -> bool:
    try:
        return max(path.lstat().st_mtime, store.seen_since) < now - _KEPT_SECONDS
    except FileNotFoundError:
        return False


def _size(path: Path, stop: Stop) -> int:
    try:
        return weigh([path], stop).size_bytes or path.lstat().st_size
    except FileNotFoundError:
        return 0
