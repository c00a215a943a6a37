"""The packages of environments, and what the views of these lead to.

Comes in: the records of environments, of their views and of the trees. Comes out: the packages of
each environment, where the files of each really are, and the trees of a view. No tree is walked.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from xinference_venv.errors import InvalidInput, InvalidRecord, StoreError
from xinference_venv.inventory.env import EnvState, KeyRecord
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.packages import (
    EnvironmentPackages,
    Package,
    PackagePlace,
    ShownHost,
    ShownTree,
    ShownView,
    UnlockedPackage,
)
from xinference_venv.planning.host import HostDistribution, HostFacts
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import EnvLock, LockedDistribution, Role
from xinference_venv.planning.package import PackageRecord
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.view import PATHS_NAME, Place, ViewLink
from xinference_venv.settings import ViewKind
from xinference_venv.store.envs.contents import installed_in
from xinference_venv.store.envs.view_record import ViewRecord, read_view
from xinference_venv.store.in_place import packages_in_place
from xinference_venv.store.packages.tree_files import SITE
from xinference_venv.store.paths import VIEW_NAME
from xinference_venv.store.store import Store
from xinference_venv.store.tree_uses import TreeUses

PackagePlaces = Mapping[str, tuple[PackagePlace, ...]]
"""By the normalized name of a package: where its files really are."""


def read_shown(store: Store, env_id: str) -> ViewRecord | None:
    """What an environment was composed of; None where nothing tells."""
    try:
        return read_view(store.disk, store.layout.env(env_id))
    except (InvalidRecord, StoreError):
        return None


def package_places(store: Store, record: ViewRecord, host: HostFacts | None) -> PackagePlaces:
    """Where the files of each package that a view shows really are.

    `host` is the state of the host that the environment was found sound over. What is composed of
    files of its own has no places: all lies in the environment itself.
    """
    if record.plan.kind is ViewKind.FILES:
        return {}
    names: dict[str, set[str]] = {}
    for folder in record.plan.trees:
        if (package := store.packages.record(folder)) is not None:
            names[package.key.name] = {each.name for each in package.top_level}
    projects: dict[str, str] = {}
    for each in () if host is None else host.distributions:
        if each.name not in names:
            names[each.name] = {*each.entries, each.metadata}
            if (project := _project_of(each)) is not None:
                projects[each.name] = project
    links = {link.name: link for link in record.plan.links}
    places = {
        name: _places(store, [links[entry] for entry in sorted(entries & links.keys())])
        for name, entries in names.items()
    }
    for name, project in projects.items():
        places[name] += (PackagePlace(place=Place.HOST, path=project, names=()),)
    return places


def _project_of(distribution: HostDistribution) -> str | None:
    """The directory that an editable install leads to, where its metadata names one.

    It has no modules of its own but those that find the project's.
    """
    url = urlsplit(distribution.direct_url or "")
    modules = {*distribution.entries} - {distribution.metadata}
    is_editable = all(name.endswith(".pth") or "editable" in name for name in modules)
    return unquote(url.path) if url.scheme == "file" and is_editable else None


def unlocked_packages(
    entry: EnvEntry,
    record: ViewRecord,
    lock: EnvLock,
    host: HostFacts | None,
    places: PackagePlaces,
) -> tuple[UnlockedPackage, ...]:
    """What a model sees and the lock does not name: of the host, and what was installed by hand."""
    locked = {each.name: each.version for each in lock.distributions}
    links = {link.name for link in record.plan.links}
    found = {
        each.name: UnlockedPackage(
            name=each.name,
            version=each.version,
            by_hand=False,
            places=places.get(each.name, ()),
        )
        for each in (() if host is None else host.distributions)
        if each.name not in locked and each.metadata in links
    }
    for own in installed_in(Path(entry.real_path)):
        composed = locked.get(own.name) or (found[own.name].version if own.name in found else None)
        if record.plan.kind is ViewKind.LINKS or own.version != composed:
            found[own.name] = UnlockedPackage(
                name=own.name, version=own.version, by_hand=True, size_bytes=own.size_bytes
            )
    return tuple(found[name] for name in sorted(found))


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
        warnings=plan.warnings,
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


def packages_in(
    store: Store, entries: Iterable[EnvEntry], worker_address: str
) -> tuple[EnvironmentPackages, ...]:
    """The packages of each entry of the worker at an address."""
    keys: dict[str, list[EnvKey]] = defaultdict(list)
    for key, env_id in store.links():
        keys[env_id].append(key)
    uses = TreeUses(store=store, env_ids=keys.keys())
    found: list[EnvironmentPackages] = []
    for entry in entries:
        places: PackagePlaces = {}
        unlocked: tuple[UnlockedPackage, ...] = ()
        view: ShownView | None = None
        launch: LaunchRequest | None = None
        if entry.env_id is not None:
            used = store.key_record_of(entry.key, entry.env_id)
            launch = None if used is None else _launch_of(used)
            record, lock = read_shown(store, entry.env_id), store.lock_of(entry.env_id)
            if record is not None and lock is not None:
                host = None if used is None else store.saved_host(used.host_fingerprint)
                places = package_places(store, record, host)
                unlocked = unlocked_packages(entry, record, lock, host, places)
                if record.plan.kind is ViewKind.LINKS:
                    view = shown_view(store, entry.env_id, record, uses, keys)
        found.append(
            EnvironmentPackages(
                environment=Environment.at(worker_address, entry),
                packages=packages_of(store, entry, places),
                unlocked=unlocked,
                view=view,
                launch=launch,
            )
        )
    return tuple(found)


def _launch_of(record: KeyRecord) -> LaunchRequest | None:
    """What a key was last launched with; a later release may have kept what this can't read."""
    try:
        return None if record.request is None else LaunchRequest.from_dict(record.request)
    except InvalidInput:
        return None


def packages_of(store: Store, entry: EnvEntry, places: PackagePlaces) -> tuple[Package, ...]:
    """The distributions of an entry's lock; `size_bytes` is what one of its own takes there, None
    for those of the host, whose place one of its own may have taken.

    What an older version made has no lock: then they are what is found there.
    """
    there = {each.name: each for each in installed_in(Path(entry.real_path))}
    if entry.state is EnvState.IN_PLACE:
        distributions = packages_in_place(store.disk, Path(entry.real_path))
    elif entry.env_id is None:
        why = "the reason was not recorded"
        distributions = [
            LockedDistribution(name=each.name, role=Role.INSTALLED, version=each.version, why=why)
            for each in there.values()
        ]
    else:
        lock = store.lock_of(entry.env_id)
        distributions = [] if lock is None else list(lock.distributions)
    sizes = {name: each.size_bytes for name, each in there.items()}
    if entry.env_id is not None:
        sizes |= {
            record.key.name: record.size_bytes for record in _packages_shown(store, entry.env_id)
        }
    return tuple(
        Package(
            distribution=each,
            size_bytes=sizes.get(each.name) if each.role is Role.INSTALLED else None,
            places=places.get(each.name, ()),
        )
        for each in distributions
    )


def _packages_shown(store: Store, env_id: str) -> list[PackageRecord]:
    """The records of the packages that an environment's view leads to."""
    try:
        folders = store.trees_of(env_id)
    except (InvalidRecord, StoreError):
        return []
    records = (store.packages.record(folder) for folder in folders)
    return [record for record in records if record is not None]
