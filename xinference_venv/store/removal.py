"""Planned removals carried out, many at once.

Comes in: entries of a listing, whose keys' locks the caller holds. Comes out: of each whether its
files are gone too, or why it stays; and where the files lie in the trash, to be deleted when no
lock is held any more. To see that no key needs an environment takes a walk over all keys, so that
is done once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xinference_venv.errors import InUse, StoreError
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.inventory import EnvEntry, leases_error
from xinference_venv.store.keys import env_of_link
from xinference_venv.store.legacy.layouts import remove_old
from xinference_venv.store.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """What became of an entry.

    `gone`: its files are as well; those of an environment that a process or another key needs
    stay. `error` is why it stays: a launch took it since it was planned as unused, or the system
    does not let us. `trashed` is what is to be deleted.
    """

    entry: EnvEntry
    gone: bool = False
    trashed: Path | None = None
    error: InUse | StoreError | None = None


def remove_entries(store: Store, entries: Sequence[EnvEntry]) -> list[Removed]:
    """Remove planned entries, whose keys' locks the caller holds; what became of each, in order.

    A link that leads to another environment by now is not the one that was planned, and is left.
    """
    done: dict[str, Removed] = {}
    ours: list[tuple[EnvEntry, str]] = []
    for entry in entries:
        if entry.state in (EnvState.UNMANAGED, EnvState.IN_PLACE):
            done[entry.path] = _remove_old(store, entry)
        elif entry.env_id is None or store.env_of(entry.key) != entry.env_id:
            done[entry.path] = Removed(entry=entry)
        else:
            ours.append((entry, entry.env_id))
    # Who takes a lease holds the same lock, so it is taken before this or of nothing.
    with store.env_locks(env_id for _, env_id in ours):
        unlinked = []
        for entry, env_id in ours:
            try:
                _unlink(store, entry, env_id)
                unlinked.append((entry, env_id))
            except (InUse, StoreError) as error:
                done[entry.path] = Removed(entry=entry, error=error)
        needed = {env_id for _, env_id in store.links()} if unlinked else set()
        trashed: dict[str, Removed] = {}
        for entry, env_id in unlinked:
            if env_id not in trashed:
                trashed[env_id] = _trash(store, entry, env_id, needed=env_id in needed)
                done[entry.path] = trashed[env_id]
            else:
                # Another key of the same environment went with it.
                done[entry.path] = Removed(entry=entry, gone=trashed[env_id].gone)
    return [done[entry.path] for entry in entries]


def _remove_old(store: Store, entry: EnvEntry) -> Removed:
    if env_of_link(entry.path, str(store.layout.envs)) is not None:
        return Removed(entry=entry)
    try:
        trashed = remove_old(store.layout, store.disk, Path(entry.path))
    except (InUse, StoreError) as error:
        return Removed(entry=entry, error=error)
    return Removed(entry=entry, gone=True, trashed=trashed)


def _unlink(store: Store, entry: EnvEntry, env_id: str) -> None:
    """Take the key from its environment; raises `InUse` if it was unused when it was planned."""
    if not entry.leases and not entry.shared_with:
        holders = [lease for lease, _ in store.leases.of(env_id)]
        if holders:
            raise leases_error(str(entry.key), holders)
    store.unlink_key(entry.key)


def _trash(store: Store, entry: EnvEntry, env_id: str, *, needed: bool) -> Removed:
    try:
        if needed or store.leases.prune(env_id):
            return Removed(entry=entry)
        trashed = store.disk.move_to_trash(store.layout.env(env_id), store.layout.trash)
    except StoreError as error:
        return Removed(entry=entry, error=error)
    return Removed(entry=entry, gone=True, trashed=trashed)
