"""What the views of environments lead to, and who shares it.

Comes in: the records of environments, of their views and of the trees. Comes out: the bytes that
each environment has for itself and shares, where the files of each package really are, and the
trees of a view. Read from records alone; no tree is walked.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path

from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.inventory.reports import PackagePlace, ShownHost, ShownTree, ShownView
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.view import PATHS_NAME, Place, ViewLink
from xinference_venv.store.envs.compose import ViewRecord, read_view
from xinference_venv.store.packages.package_tree import SITE
from xinference_venv.store.paths import VIEW_NAME
from xinference_venv.store.store import Store

PackagePlaces = Mapping[str, tuple[PackagePlace, ...]]
"""By the normalized name of a package: where its files really are."""


class TreeUses:
    """Which trees the environments of a home show, and what these take."""

    def __init__(self, *, store: Store, env_ids: Collection[str]) -> None:
        self._store = store
        self._env_ids = env_ids
        self._sizes: dict[str, int | None] = {}
        self._trees: dict[str, tuple[str, ...]] = {}

    @cached_property
    def broken(self) -> frozenset[str]:
        """The trees that are marked as broken."""
        return self._store.packages.broken()

    @cached_property
    def _bytes(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """The bytes of every tree, and the same with 0 for what one environment alone shows."""
        sizes = {folder: self.size_of(folder) or 0 for folder in self.users}
        shared = {
            folder: sizes[folder] if len(env_ids) > 1 else 0
            for folder, env_ids in self.users.items()
        }
        return sizes, shared

    @cached_property
    def users(self) -> Mapping[str, tuple[str, ...]]:
        """The ids of the environments that show each tree, by the name of its folder."""
        users: dict[str, list[str]] = defaultdict(list)
        for env_id in self._env_ids:
            for folder in self._trees_of(env_id):
                users[folder].append(env_id)
        return {folder: tuple(env_ids) for folder, env_ids in users.items()}

    def bytes_of(self, env_id: str) -> tuple[int, int]:
        """The bytes of the trees that one of these environments alone shows, and of those that
        others show as well; bytecode included, as far as it was compiled here.
        """
        # A listing may have a thousand environments with a hundred trees each.
        trees = self._trees_of(env_id)
        total, shared = (sum(map(sizes.__getitem__, trees)) for sizes in self._bytes)
        return total - shared, shared

    def size_of(self, folder: str) -> int | None:
        """The bytes of a tree; of a joined one those that its members do not have."""
        if folder not in self._sizes:
            self._sizes[folder] = self._read_size(folder)
        return self._sizes[folder]

    def _read_size(self, folder: str) -> int | None:
        packages, layout = self._store.packages, self._store.layout
        tree, size = layout.package(folder), None
        if (package := packages.record(folder)) is not None:
            size = package.size_bytes
        elif (joined := self._store.joined.record(folder)) is not None:
            tree, size = layout.joined_tree(folder), joined.size_bytes
        return None if size is None else size + packages.bytecode_bytes(tree)

    def _trees_of(self, env_id: str) -> tuple[str, ...]:
        if env_id not in self._trees:
            try:
                self._trees[env_id] = self._store.trees_of(env_id)
            except (InvalidRecord, StoreError):
                self._trees[env_id] = ()
        return self._trees[env_id]


def read_shown(store: Store, env_id: str) -> ViewRecord | None:
    """What an environment was composed of; None where nothing tells, or it has no view."""
    try:
        return read_view(store.disk, store.layout.env(env_id))
    except (InvalidRecord, StoreError):
        return None


def package_places(store: Store, record: ViewRecord, host_fingerprint: str) -> PackagePlaces:
    """Where the files of each package that a view shows really are.

    `host_fingerprint` is of the state of the host that the environment was found sound over.
    """
    names: dict[str, set[str]] = {}
    for folder in record.plan.trees:
        if (package := store.packages.record(folder)) is not None:
            names[package.key.name] = {each.name for each in package.top_level}
    host = store.saved_host(host_fingerprint)
    for each in () if host is None else host.distributions:
        names.setdefault(each.name, {*each.entries, each.metadata})
    links = {link.name: link for link in record.plan.links}
    return {
        name: _places(store, [links[entry] for entry in sorted(entries & links.keys())])
        for name, entries in names.items()
    }


def shown_view(
    store: Store, env_id: str, record: ViewRecord, uses: TreeUses, keys: Mapping[str, list[EnvKey]]
) -> ShownView:
    """What a view leads to; `keys` are those of each environment, by its id."""
    plan = record.plan
    by_tree: dict[tuple[Place, str], list[str]] = defaultdict(list)
    for link in plan.links:
        by_tree[link.place, link.tree].append(link.name)
    trees = []
    for place, folders in ((Place.PACKAGE, plan.trees), (Place.JOINED, plan.joined)):
        for folder in folders:
            others = (each for each in uses.users.get(folder, ()) if each != env_id)
            trees.append(
                ShownTree(
                    place=place,
                    path=str(_directory(store, place, folder)),
                    label=_label(store, place, folder),
                    names=tuple(by_tree[place, folder]),
                    size_bytes=uses.size_of(folder),
                    reasons=tuple(plan.reasons.get(folder, ())),
                    shared_with=tuple(
                        sorted((key for each in others for key in keys[each]), key=str)
                    ),
                )
            )
    written = {each.name: each.text for each in plan.written}
    return ShownView(
        path=str(store.layout.env(env_id) / VIEW_NAME / record.library),
        trees=tuple(trees),
        host=tuple(
            ShownHost(path=tree, names=tuple(names))
            for (place, tree), names in sorted(by_tree.items())
            if place is Place.HOST
        ),
        search_path=tuple(written.get(PATHS_NAME, "").splitlines()),
    )


def _places(store: Store, links: Iterable[ViewLink]) -> tuple[PackagePlace, ...]:
    found: dict[tuple[Place, str], list[str]] = defaultdict(list)
    for link in links:
        found[link.place, link.tree].append(link.name)
    return tuple(
        PackagePlace(place=place, path=str(_directory(store, place, tree)), names=tuple(names))
        for (place, tree), names in found.items()
    )


def _directory(store: Store, place: Place, tree: str) -> Path:
    """The folder of packages that a link of a view leads into."""
    if place is Place.HOST:
        return Path(posixpath.normpath(tree))
    if place is Place.JOINED:
        return store.layout.joined_tree(tree) / SITE
    return store.layout.package(tree) / SITE


def _label(store: Store, place: Place, folder: str) -> str:
    if place is Place.PACKAGE:
        package = store.packages.record(folder)
        return folder if package is None else f"{package.key.name} {package.key.version}"
    joined = store.joined.record(folder)
    if joined is None:
        return folder
    labels = []
    for member in joined.plan.members:
        package = None if member.tree is None else store.packages.record(member.tree)
        label = member.label if package is None else f"{package.key.name} {package.key.version}"
        labels.append(label)
    return ", ".join(labels)
