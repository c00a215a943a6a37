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
from xinference_venv.store.envs.proofs import sweep_proofs
from xinference_venv.store.keys import folders_in, key_places
from xinference_venv.store.locks import hold_lock_if_free
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.store import Store
from xinference_venv.store.visit import SkippedItems

# No process takes as long to write a file, not even one of a host that can't be asked.
_STALE_SECONDS = 86400.0
_TRASH_SECONDS = 2.0
_DIGEST = re.compile("[0-9a-f]{32}")


def sweep(store: Store) -> None:
    """Delete what crashes left: staging of dead owners, trash, environments without use."""
    sweep_temporary_files(store.layout, store.disk)
    visiting = store.skipped.visiting
    for trashed in store.skipped.entries(store.layout.trash):
        with visiting(trashed.path):
            store.disk.delete(Path(trashed.path))
    store.delete_unowned_staging()
    named = {env_id for _, env_id in store.links()}
    for env in store.skipped.entries(store.layout.envs):
        if env.name not in named:
            with visiting(env.path):
                store.delete_if_unused(env.name)
    with visiting(store.layout.wheels):
        store.sweep_wheels()
    sweep_stale_records(store)
    sweep_proofs(store.disk, store.layout, time.time())


def look_over(store: Store) -> None:
    """Look into the folders of a sweep, and change nothing; what can't be read is noted among the
    skipped items of the store.
    """
    for parent in (store.layout.leases, store.layout.staging, store.layout.trash):
        for folder in folders_in(parent, store.skipped):
            store.skipped.names(folder)
    for folder in _folders_of_keys(store.layout.root, store.skipped):
        store.skipped.names(folder)


def left_in_trash(store: Store, now: float) -> list[str]:
    """What lies in the trash for longer than a deletion takes to begin: what can't be deleted.

    `now` is in seconds since the epoch.
    """
    left = []
    for entry in store.skipped.entries(store.layout.trash):
        # What is being deleted just now is gone.
        with store.skipped.visiting(entry.path):
            # A rename sets it.
            if entry.stat(follow_symlinks=False).st_ctime < now - _TRASH_SECONDS:
                left.append(f"{entry.path} was removed, and can't be deleted")
    return left


def sweep_temporary_files(layout: StorePaths, disk: Disk) -> None:
    """Delete the temporary files of ended processes, and the folders of keys without a key."""
    for folder in _folders(layout, disk.skipped):
        for name in disk.skipped.names(folder):
            maker = maker_of(name) if name.startswith(".") else None
            path = Path(folder, name)
            if maker is Holder.GONE or (maker is Holder.UNKNOWN and _is_stale(path)):
                with disk.skipped.visiting(path):
                    disk.delete(path)
    for folder in _folders_of_keys(layout.root, disk.skipped):
        # Whoever makes a link there makes the folder again if it has to.
        disk.remove_empty(Path(folder))


def _folders(layout: StorePaths, skipped: SkippedItems) -> Iterator[str]:
    """Every folder in which temporary files are made, but those of a build."""
    yield from map(str, (layout.store, *layout.folders))
    for parent in (
        *(layout.envs, layout.leases, layout.wheels),
        *(layout.packages, layout.joined),
    ):
        yield from folders_in(parent, skipped)
    yield from _folders_of_keys(layout.root, skipped)


def _folders_of_keys(root: Path, skipped: SkippedItems) -> Iterator[str]:
    """The folders of the links of keys, each before the one that it lies in."""
    for model in folders_in(f"{root}/v4", skipped):
        yield from folders_in(model, skipped)
        yield model
    yield from folders_in(f"{root}/v3", skipped)
    yield from (f"{root}/v4", f"{root}/v3")


def _is_stale(path: Path) -> bool:
    try:
        return path.lstat().st_mtime < time.time() - _STALE_SECONDS
    except FileNotFoundError:
        return False


def sweep_stale_records(store: Store) -> None:
    """Delete stale leases, key records and locks, each under the lock of who would need it."""
    for env_id in store.leases.env_ids():
        with (
            store.skipped.visiting(store.layout.leases_of(env_id)),
            hold_lock_if_free(store.env_lock(env_id)) as free,
        ):
            if free:
                store.leases.prune(env_id)
    known = _key_digests(store)
    _sweep_key_records(store, known)
    _sweep_locks(store, known.union(store.skipped.names(store.layout.envs)))


def _sweep_key_records(store: Store, known: set[str]) -> None:
    """A crash in the middle of linking or unlinking a key leaves the record without its link."""
    layout = store.layout
    for name in store.skipped.names(layout.keys):
        digest = name.removesuffix(".json")
        if digest in known or not _DIGEST.fullmatch(digest):
            continue
        with (
            store.skipped.visiting(layout.keys / name),
            hold_lock_if_free(layout.locks / f"key-{digest}.lock") as free,
        ):
            if free and digest not in _key_digests(store):
                store.disk.unlink(layout.keys / name)


def _sweep_locks(store: Store, known: set[str]) -> None:
    """The locks of what is not there; who waits for one takes a new one, see `locks`."""
    layout = store.layout
    for name in store.skipped.names(layout.locks):
        kind, _, subject = name.removesuffix(".lock").partition("-")
        if kind not in ("key", "env", "build") or subject in known:
            continue
        with (
            store.skipped.visiting(layout.locks / name),
            hold_lock_if_free(layout.locks / name) as free,
        ):
            if free:
                store.disk.unlink(layout.locks / name)


def _key_digests(store: Store) -> set[str]:
    return {place.key.digest for place in key_places(store.layout, skipped=store.skipped)}
