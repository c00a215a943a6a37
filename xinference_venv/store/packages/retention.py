"""Which trees stay: those that an environment or a running build names, and others for a while.

Comes in: a store. Comes out: the trees that nothing names and that go, least recently used first.
What nothing names stays for a day, for the next launch that needs it, unless space is wanted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.store.keys import names_in
from xinference_venv.store.store import Store
from xinference_venv.store.tree_size import Scale, Stop

KEPT_SECONDS = 86_400.0
"""How long a tree that nothing names is kept from when it was last used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnneededTree:
    """A tree that nothing names; `own_bytes` are those that the disk has more of without it and
    those before it. `last_used` is in seconds since the epoch.
    """

    kind: str
    path: Path
    last_used: float
    own_bytes: int


def needed_trees(store: Store, *, without: Collection[str] = ()) -> set[str] | None:
    """The folders' names of the trees that must stay, also when the environments `without` go.

    None where that can't be known: an environment that processes use has no readable record, or
    one is another user's.
    """
    # Builds first: what is published meanwhile is among the environments, or still a build.
    try:
        needed = store.packages.needed_by_builds()
    except StoreError:
        return None
    for env_id in names_in(str(store.layout.envs)):
        if env_id in without:
            continue
        try:
            needed.update(store.trees_of(env_id))
        except InvalidRecord:
            if store.leases.of(env_id):
                return None
        except StoreError:
            return None
    for folder in store.joined.folders():
        if folder in needed and (record := store.joined.record(folder)) is not None:
            needed.update(record.plan.trees)
    return needed


def unneeded_trees(
    store: Store,
    stop: Stop,
    *,
    now: float,
    room_bytes: float,
    without: Collection[str] = (),
) -> list[UnneededTree]:
    """The trees that nothing names and that go, least recently used first.

    Those stay that were used within `KEPT_SECONDS`, as far as they fit into `room_bytes`.
    """
    needed = needed_trees(store, without=without)
    if needed is None:
        return []
    found = [
        UnneededTree(kind=kind, path=path, last_used=used, own_bytes=0)
        for kind, folders, place in (
            ("package", store.packages.folders(), store.layout.package),
            ("joined tree", store.joined.folders(), store.layout.joined_tree),
        )
        for folder in folders
        if folder not in needed
        for path in (place(folder),)
        if (used := _last_used(store, path)) is not None
    ]
    scale = Scale()
    before = 0
    going: list[UnneededTree] = []
    sized = []
    for each in sorted(found, key=lambda each: each.last_used):
        own = scale.put(each.path, stop).own_bytes
        sized.append((each, own - before))
        before = own
    total = before
    for each, own in sized:
        if each.last_used >= now - KEPT_SECONDS and total <= room_bytes:
            break
        total -= own
        going.append(
            UnneededTree(kind=each.kind, path=each.path, last_used=each.last_used, own_bytes=own)
        )
    return going


def _last_used(store: Store, path: Path) -> float | None:
    """When a tree was last used, but not before the home was first seen where it is; None for one
    that is gone by now, perhaps by another worker's doing.
    """
    with suppress(FileNotFoundError):
        return max(path.lstat().st_mtime, store.seen_since)
    return None


def remove_trees(store: Store, planned: Iterable[UnneededTree]) -> list[UnneededTree]:
    """Delete planned trees that nothing names by now either; returns those that are gone.

    One that the system does not let us delete keeps no other.
    """
    trashed: list[Path] = []
    removed = []
    # Who begins to need one names it under this lock, and looks for it then.
    with store.packages.lock():
        needed = needed_trees(store)
        for each in planned:
            if needed is None or each.path.name in needed:
                continue
            with store.skipped.visiting(each.path):
                place = store.disk.move_to_trash(each.path, store.layout.trash)
                trashed += [] if place is None else [place]
                removed.append(each)
                listed = store.layout.broken / each.path.name
                if os.path.lexists(listed):
                    store.disk.unlink(listed)
    store.packages.cache_only_there()
    store.joined.cache_only_there()
    store.delete_trashed(*trashed)
    return removed


def record_tree_use(store: Store) -> None:
    """Let every tree that something names be used now."""
    for folder in needed_trees(store) or ():
        for path in (store.layout.package(folder), store.layout.joined_tree(folder)):
            if path.is_dir():
                with store.skipped.visiting(path):
                    store.disk.touch(path)


def remove_additions(store: Store, tree: Path, additions: Iterable[str]) -> list[str]:
    """Delete what lies in a tree and no package brought, unless a process uses the tree.

    `additions` are paths as `TreeCheck` has them. Returns those that are gone; what can't be
    deleted stays.
    """
    removed = []
    with store.packages.lock():
        if _is_used(store, tree.name):
            return []
        for addition in additions:
            path = tree.parent / addition
            with suppress(StoreError, OSError):
                # Its directory is read-only, also for its owner.
                mode = stat.S_IMODE(path.parent.stat().st_mode)
                path.parent.chmod(mode | stat.S_IWUSR)
                try:
                    store.disk.unlink(path)
                    removed.append(addition)
                finally:
                    path.parent.chmod(mode)
    return removed


def _is_used(store: Store, folder: str) -> bool:
    """Whether an environment that processes use may show a tree."""
    for env_id in names_in(str(store.layout.leases)):
        try:
            shown = folder in store.trees_of(env_id)
        except (InvalidRecord, StoreError):
            shown = True
        if shown and store.leases.of(env_id):
            return True
    return False
