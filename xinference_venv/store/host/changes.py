"""What of the host changed since environments were made, at the cost of one look at each package.

Comes in: the state of the host that an environment was found sound over. Comes out: which of the
distributions of then the host has no more, or was given again: pip and uv give whatever they
install a new metadata folder.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.store.keys import KeyPlace
from xinference_venv.store.legacy.layouts import OldDirectory
from xinference_venv.store.store import HostMark, Store


@dataclass(kw_only=True, slots=True)
class HostChanges:
    """The host as it is now, looked at once for all that is asked."""

    store: Store
    _inodes: dict[str, int | None] = field(default_factory=dict, init=False)
    _changed: dict[str, frozenset[HostMark]] = field(default_factory=dict, init=False)
    _shown: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict, init=False)

    def since(self, fingerprint: str) -> frozenset[HostMark]:
        """The distributions of a state of the host that are not as they were then."""
        if fingerprint not in self._changed:
            self._changed[fingerprint] = frozenset(
                mark
                for mark in self.store.host_marks(fingerprint)
                if mark.inode not in (0, self._inode(mark.path))
            )
        return self._changed[fingerprint]

    def shown_in(self, env_id: str, fingerprint: str) -> tuple[str, ...]:
        """The names of those of these that an environment's view shows."""
        # Many keys may lead to one environment.
        asked = (env_id, fingerprint)
        if asked not in self._shown:
            self._shown[asked] = _shown_among(self.store, env_id, self.since(fingerprint))
        return self._shown[asked]

    def _inode(self, path: str) -> int | None:
        if path not in self._inodes:
            try:
                self._inodes[path] = os.stat(path).st_ino
            except OSError:
                self._inodes[path] = None
        return self._inodes[path]


def _shown_among(store: Store, env_id: str, marks: Collection[HostMark]) -> tuple[str, ...]:
    """The names of those distributions of the host that an environment's view shows."""
    if not marks:
        return ()
    # Where nothing changed, which is nearly always, no view is read.
    from xinference_venv.planning.view import Place
    from xinference_venv.store.envs.view_record import read_view

    try:
        record = read_view(store.disk, store.layout.env(env_id))
    except (InvalidRecord, StoreError):
        return ()
    links = () if record is None else record.plan.links
    shown = {os.path.join(link.tree, link.name) for link in links if link.place is Place.HOST}
    return tuple(sorted(mark.name for mark in marks if mark.path in shown))


def changed_in_place(store: Store, env: Path, changes: HostChanges) -> tuple[str, ...]:
    """The names of those that an environment shows which the drop-in for Xinference made."""
    # Looking at what is there needs the rules of packages only for these.
    from xinference_venv.planning.overlay import hidden_names
    from xinference_venv.store.in_place import read_in_place

    try:
        record = read_in_place(store.disk, env)
    except (InvalidRecord, StoreError):
        record = None
    if record is None:
        return ()
    # It links to the host's packages by their places: what is only installed again is the same.
    changed = {
        mark.name
        for mark in changes.since(record.host_fingerprint)
        if not os.path.lexists(mark.path)
    }
    return tuple(sorted(changed - hidden_names(record.lock)))


def changed_views(
    store: Store, places: Iterable[KeyPlace], in_place: Iterable[OldDirectory]
) -> dict[str, tuple[str, ...]]:
    """By key of each environment that shows such distributions: their names."""
    changes = HostChanges(store=store)
    found = {
        str(each.key): names
        for each in in_place
        if (names := changed_in_place(store, each.path, changes))
    }
    for place in places:
        used = None if place.env_id is None else store.key_record_of(place.key, place.env_id)
        if used is None or place.env_id is None:
            continue
        if names := changes.shown_in(place.env_id, used.host_fingerprint):
            found[str(place.key)] = names
    return found
