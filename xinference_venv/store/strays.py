"""What nothing means any more and nobody holds: leases of dead processes, notes of keys, locks.

They do no harm and take little room; a start deletes them so that they don't grow for ever.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from xinference_venv.store.key_places import key_places, names_in
from xinference_venv.store.locks import held_if_free

if TYPE_CHECKING:
    from xinference_venv.store.store import Store

_DIGEST = re.compile("[0-9a-f]{32}")


def sweep_strays(store: Store) -> None:
    """Delete them, each under the lock that who would need it holds."""
    for env_id in store.leases.env_ids():
        with held_if_free(store.env_lock(env_id)) as free:
            if free:
                store.leases.prune(env_id)
    known = _key_digests(store)
    _sweep_key_records(store, known)
    _sweep_locks(store, known.union(names_in(str(store.layout.envs))))


def _sweep_key_records(store: Store, known: set[str]) -> None:
    """A crash in the middle of an attaching or a detaching leaves the record without its link."""
    layout = store.layout
    for name in names_in(str(layout.keys)):
        digest = name.removesuffix(".json")
        if digest in known or not _DIGEST.fullmatch(digest):
            continue
        with held_if_free(layout.locks / f"key-{digest}.lock") as free:
            if free and digest not in _key_digests(store):
                store.disk.unlink(layout.keys / name)


def _sweep_locks(store: Store, known: set[str]) -> None:
    """The locks of what is not there; who waits for one takes a new one, see `locks`."""
    layout = store.layout
    for name in names_in(str(layout.locks)):
        kind, _, subject = name.removesuffix(".lock").partition("-")
        if kind not in ("key", "env", "build") or subject in known:
            continue
        with held_if_free(layout.locks / name) as free:
            if free:
                store.disk.unlink(layout.locks / name)


def _key_digests(store: Store) -> set[str]:
    return {place.key.digest for place in key_places(store.layout)}
