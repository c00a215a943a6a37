"""The sweep at a start: what crashes left is deleted, and records that refer to nothing.

Comes in: a store. What living processes own, or may own, stays.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from xinference_venv.inventory.lease import Holder
from xinference_venv.store.atomic import Disk, maker_of
from xinference_venv.store.keys import folders_in, key_places, names_in
from xinference_venv.store.locks import hold_lock_if_free
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.store import Store

# No process takes as long to write a file, not even one of a host that can't be asked.
_STALE_SECONDS = 86400.0
_DIGEST = re.compile("[0-9a-f]{32}")


def sweep(store: Store) -> None:
    """Delete what crashes left: staging of dead owners, trash, environments without use."""
    sweep_temporary_files(store.layout, store.disk)
    for trashed in store.layout.trash.iterdir():
        store.disk.delete(trashed)
    store.delete_unowned_staging()
    named = {env_id for _, env_id in store.links()}
    for env in store.layout.envs.iterdir():
        if env.name not in named:
            store.delete_if_unused(env.name)
    store.sweep_wheels()
    sweep_stale_records(store)


def sweep_temporary_files(layout: StorePaths, disk: Disk) -> None:
    """Delete the temporary files of ended processes, and the folders of keys without a key."""
    for folder in _folders(layout):
        for name in names_in(folder):
            maker = maker_of(name) if name.startswith(".") else None
            path = Path(folder, name)
            if maker is Holder.GONE or (maker is Holder.UNKNOWN and _is_stale(path)):
                disk.unlink(path)
    for folder in _folders_of_keys(layout.root):
        # Whoever makes a link there makes the folder again if it has to.
        disk.remove_empty(Path(folder))


def _folders(layout: StorePaths) -> Iterator[str]:
    """Every folder in which temporary files are made, but those of a build."""
    yield from map(str, layout.folders)
    for parent in (layout.envs, layout.leases, layout.wheels):
        yield from (f"{parent}/{name}" for name in folders_in(str(parent)))
    yield from _folders_of_keys(layout.root)


def _folders_of_keys(root: Path) -> Iterator[str]:
    """The folders of the links of keys, each before the one that it lies in."""
    for model in folders_in(f"{root}/v4"):
        for engine in folders_in(f"{root}/v4/{model}"):
            yield f"{root}/v4/{model}/{engine}"
        yield f"{root}/v4/{model}"
    for model in folders_in(f"{root}/v3"):
        yield f"{root}/v3/{model}"
    yield from (f"{root}/v4", f"{root}/v3")


def _is_stale(path: Path) -> bool:
    try:
        return path.lstat().st_mtime < time.time() - _STALE_SECONDS
    except FileNotFoundError:
        return False


def sweep_stale_records(store: Store) -> None:
    """Delete stale leases, key records and locks, each under the lock of who would need it."""
    for env_id in store.leases.env_ids():
        with hold_lock_if_free(store.env_lock(env_id)) as free:
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
        with hold_lock_if_free(layout.locks / f"key-{digest}.lock") as free:
            if free and digest not in _key_digests(store):
                store.disk.unlink(layout.keys / name)


def _sweep_locks(store: Store, known: set[str]) -> None:
    """The locks of what is not there; who waits for one takes a new one, see `locks`."""
    layout = store.layout
    for name in names_in(str(layout.locks)):
        kind, _, subject = name.removesuffix(".lock").partition("-")
        if kind not in ("key", "env", "build") or subject in known:
            continue
        with hold_lock_if_free(layout.locks / name) as free:
            if free:
                store.disk.unlink(layout.locks / name)


def _key_digests(store: Store) -> set[str]:
    return {place.key.digest for place in key_places(store.layout)}
