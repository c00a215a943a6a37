"""Removal as planned: keys first, then the files that nobody needs any more."""

from __future__ import annotations

from pathlib import Path

from xinference_venv.env import EnvState
from xinference_venv.errors import InUse
from xinference_venv.inventory import EnvEntry
from xinference_venv.store.key_places import env_of_link
from xinference_venv.store.locks import held_briefly
from xinference_venv.store.old_layouts import remove_old
from xinference_venv.store.store import Store


def remove_entry(store: Store, entry: EnvEntry) -> bool:
    """Remove one planned entry, whose key's lock the caller holds.

    Tells whether the files are gone too; those of an environment that a process or another key
    needs stay. A link that means another environment by now is not the one that was planned,
    and is left. Raises `InUse` for an environment that a launch took since it was planned as
    used by nobody: the launch wins.
    """
    if entry.state is EnvState.UNMANAGED:
        if env_of_link(entry.path, str(store.layout.envs)) is not None:
            return False
        remove_old(store.layout, store.disk, Path(entry.path))
        return True
    if entry.env_id is None or store.env_of(entry.key) != entry.env_id:
        return False
    # Who takes a lease holds the same lock, so it is taken before this or of nothing.
    with held_briefly(store.env_lock(entry.env_id)):
        if not entry.leases and not entry.shared_with:
            holders = [lease for lease, _ in store.leases.of(entry.env_id)]
            if holders:
                raise InUse(
                    f"{entry.key} is in use by {'; '.join(map(str, holders))}",
                    {"holders": [lease.to_dict() for lease in holders]},
                )
        store.detach(entry.key)
    return store.delete_if_unused(entry.env_id)
