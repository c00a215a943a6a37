"""Which packages must lie in one tree, and why: those that depend on each other's place.

Comes in: the records of the packages of an environment, what the host's site directories have,
and which of the host's distributions are visible. Comes out: a `Join` for each group of them.
Joined are those that share a directory of one name, and those of which one looks, physically,
for a name that another one provides. A name that none provides joins nothing.
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from xinference_venv.planning.package import EntryKind, LooksFor, PackageRecord, Way

COVERED = ""
"""Stands among the owners of a name for a distribution that the search path covers."""

_DIRECTORIES = frozenset({EntryKind.PACKAGE, EntryKind.NAMESPACE})
_WILDCARD = re.compile(r"[*?\[]")
_METADATA = re.compile(r"\.(dist-info|egg-info|egg-link)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class HostName:
    """One entry of a site directory of the host, and the distributions that have files under it.

    `owners` are normalized names, `COVERED` among them for a distribution that another one of
    the same name covers; without any the entry belongs to no distribution.
    """

    name: str
    is_directory: bool
    owners: tuple[str, ...] = ()

    def is_visible(self, visible: Collection[str]) -> bool:
        """Whether a visible distribution owns something of it."""
        return any(owner in visible for owner in self.owners)

    def is_partial(self, visible: Collection[str]) -> bool:
        """Whether some of its owners are not visible."""
        return any(owner not in visible for owner in self.owners)

    @property
    def is_metadata(self) -> bool:
        """Whether it describes a distribution."""
        return is_metadata(self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSite:
    """A directory of the host's search path; `names` are its entries by name.

    `path_files` has the text of each ``.pth`` file.
    """

    location: str
    names: tuple[HostName, ...]
    path_files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostShare:
    """The names of one site directory that go into a joined tree, as far as they are visible."""

    location: str
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Join:
    """A group that has to lie in one tree: packages by their folders in the order of the install,
    what of the host belongs to them, and the reasons, each a sentence.
    """

    packages: tuple[str, ...]
    host: tuple[HostShare, ...]
    reasons: tuple[str, ...]


def is_metadata(name: str) -> bool:
    """Whether an entry of a site directory describes a distribution."""
    return _METADATA.search(name) is not None


def install_order(packages: Iterable[PackageRecord]) -> list[PackageRecord]:
    """Packages in the order in which pip installs them: what others require comes first.

    Of packages that nothing tells apart the one that is last by name comes first, as in pip's
    ``get_topological_weights``, and so do packages that require each other.
    """
    records = {record.key.name: record for record in packages}
    left = {
        name: {other for other in record.requires if other in records} - {name}
        for name, record in records.items()
    }
    ordered: list[PackageRecord] = []
    while left:
        ready = [name for name, needs in left.items() if not needs & left.keys()] or list(left)
        for name in sorted(ready, reverse=True):
            ordered.append(records[name])
            del left[name]
    return ordered


def find_joins(
    packages: Sequence[PackageRecord],
    sites: Sequence[HostSite],
    visible: Collection[str],
    host_looks: Mapping[str, Sequence[LooksFor]] | None = None,
    in_prefix: Mapping[str, LooksFor] | None = None,
) -> tuple[Join, ...]:
    """The groups that must be joined; `packages` are in the order of the install.

    `host_looks` says what visible distributions of the host look for, by name; `in_prefix` has
    one of these for those that find something of an installed package in the environment's
    prefix, and have to be there for it. What stays a link to its own tree or to the host is in no
    group.
    """
    names = _names_of(packages, sites, visible)
    host_looks = {owner: _named(found, names) for owner, found in (host_looks or {}).items()}
    groups = _Groups()
    for name, provided in names.items():
        if (why := provided.must_join(name)) is not None:
            groups.unite(name, provided.packages, why)
    for record in packages:
        for looks, paths in _by_way(_named(record.looks_for, names)).items():
            if (wanted := names.get(looks.name)) is not None and not (
                wanted.packages == [record.key.folder] and not wanted.host
            ):
                why = f"{record.key.name} looks for {looks.name} {_WAYS[looks.way]} ({paths})"
                groups.unite(looks.name, [*wanted.packages, record.key.folder], why)
    for distribution, found in host_looks.items():
        for looks in found:
            wanted = names.get(looks.name)
            if wanted is None or not wanted.packages:
                continue
            why = f"the host's {distribution} looks for {looks.name} {_WAYS[looks.way]}"
            groups.unite(looks.name, wanted.packages, f"{why} ({looks.path})")
            for name, provided in names.items():
                if distribution in provided.owners:
                    groups.unite(name, [*provided.packages, *wanted.packages], None)
    for distribution, looks in (in_prefix or {}).items():
        why = f"the host's {distribution} looks for {looks.name} {_WAYS[looks.way]} ({looks.path})"
        owned = [name for name, each in names.items() if distribution in each.owners]
        for name in owned:
            groups.unite(name, names[name].packages, None)
            groups.unite_names(owned[0], name, why)
    # What of the host is in a joined tree is not where its neighbours on the host are.
    while _follow(groups, names, host_looks):
        pass
    return groups.joins(packages, names, sites)


def _named(found: Iterable[LooksFor], names: Iterable[str]) -> tuple[LooksFor, ...]:
    """What is looked for, by each of the names that a pattern of `glob` fits.

    A pattern that begins with a wildcard fits no name: it would join packages that have nothing in
    common, for what is a search of a source checkout nearly always.
    """
    named: list[LooksFor] = []
    for looks in found:
        wildcard = _WILDCARD.search(looks.name)
        if wildcard is None:
            named.append(looks)
        elif wildcard.start() > 0:
            named += (replace(looks, name=each) for each in fnmatch.filter(names, looks.name))
    return tuple(named)


def _follow(
    groups: _Groups, names: Mapping[str, _Provided], host_looks: Mapping[str, Sequence[LooksFor]]
) -> bool:
    """Join to what of the host is joined what its files look for; whether anything was to do."""
    grown = False
    for distribution, found in host_looks.items():
        for looks in found:
            top = looks.path.partition("/")[0]
            if looks.name in names and groups.has(top) and not groups.are_one(top, looks.name):
                why = f"the host's {distribution} looks for {looks.name} {_WAYS[looks.way]}"
                groups.unite_names(top, looks.name, f"{why} ({looks.path})")
                groups.unite(looks.name, names[looks.name].packages, None)
                grown = True
    return grown


def _by_way(found: Iterable[LooksFor]) -> dict[LooksFor, str]:
    """The first of those that look for one name in one way, with its path, and how many more."""
    paths: dict[tuple[str, Way], list[LooksFor]] = defaultdict(list)
    for each in found:
        paths[each.name, each.way].append(each)
    return {
        first: first.path + (f" and {len(more)} more" if more else "")
        for first, *more in paths.values()
    }


def joined_owners(
    joins: Iterable[Join], sites: Iterable[HostSite], visible: Collection[str]
) -> frozenset[str]:
    """The visible distributions of the host that have something in a join."""
    shares = {
        (share.location, name) for join in joins for share in join.host for name in share.names
    }
    return frozenset(
        owner
        for site in sites
        for entry in site.names
        if (site.location, entry.name) in shares
        for owner in entry.owners
        if owner in visible
    )


_WAYS = {
    Way.PARENT: "by a path with ..",
    Way.REALPATH: "from its real path",
    Way.RESOLVE: "from its resolved path",
    Way.RUN_PATH: "by a run path of a library",
}


@dataclass(kw_only=True, slots=True)
class _Provided:
    """Who provides a name: packages by folder, and visible site directories of the host."""

    packages: list[str] = field(default_factory=list)
    host: list[str] = field(default_factory=list)
    owners: set[str] = field(default_factory=set)
    is_directory: bool = False
    is_partial: bool = False

    def must_join(self, name: str) -> str | None:
        """Why its providers must be joined whatever they look for, or None."""
        if not self.is_directory:
            return None
        if len(self.packages) + len(self.host) > 1:
            return f"they share the directory {name}"
        if self.is_partial:
            return f"not all that the host has in {name} is visible"
        return None


def _names_of(
    packages: Iterable[PackageRecord], sites: Iterable[HostSite], visible: Collection[str]
) -> dict[str, _Provided]:
    names: dict[str, _Provided] = defaultdict(_Provided)
    for record in packages:
        for each in record.top_level:
            if each.kind is not EntryKind.METADATA:
                provided = names[each.name]
                provided.packages.append(record.key.folder)
                provided.is_directory |= each.kind in _DIRECTORIES
    for site in sites:
        for entry in site.names:
            if not entry.is_metadata and entry.is_visible(visible):
                provided = names[entry.name]
                provided.host.append(site.location)
                provided.owners |= {*entry.owners} & {*visible}
                provided.is_directory |= entry.is_directory
                provided.is_partial |= entry.is_partial(visible)
    return dict(names)


@dataclass(kw_only=True, slots=True)
class _Groups:
    """Names and packages that were united; each has a parent, a root is its own."""

    parents: dict[tuple[bool, str], tuple[bool, str]] = field(default_factory=dict)
    why: list[tuple[str, str]] = field(default_factory=list)

    def unite(self, name: str, packages: Iterable[str], why: str | None) -> None:
        """Put a name and packages into one group."""
        root = self._root((False, name))
        for folder in packages:
            self.parents[self._root((True, folder))] = root
        if why is not None:
            self.why.append((name, why))

    def unite_names(self, one: str, other: str, why: str) -> None:
        """Put two names into one group."""
        self.parents[self._root((False, other))] = self._root((False, one))
        self.why.append((one, why))

    def has(self, name: str) -> bool:
        """Whether a name is in any group."""
        return (False, name) in self.parents

    def are_one(self, one: str, other: str) -> bool:
        """Whether two names are in one group."""
        return self.has(other) and self._root((False, one)) == self._root((False, other))

    def _root(self, node: tuple[bool, str]) -> tuple[bool, str]:
        while (parent := self.parents.setdefault(node, node)) != node:
            node = parent
        return node

    def joins(
        self,
        packages: Sequence[PackageRecord],
        names: Mapping[str, _Provided],
        sites: Sequence[HostSite],
    ) -> tuple[Join, ...]:
        """The groups, in the order of their first names."""
        members: dict[tuple[bool, str], tuple[set[str], set[str]]] = defaultdict(
            lambda: (set(), set())
        )
        for is_package, value in list(self.parents):
            members[self._root((is_package, value))][is_package].add(value)
        joins = []
        for united, folders in sorted(members.values(), key=lambda each: sorted(each[0])):
            shares = [
                HostShare(location=site.location, names=tuple(sorted(shared)))
                for site in sites
                if (shared := {name for name in united if site.location in names[name].host})
            ]
            ordered = [each.key.folder for each in packages if each.key.folder in folders]
            reasons = dict.fromkeys(why for name, why in self.why if name in united)
            joins.append(Join(packages=tuple(ordered), host=tuple(shares), reasons=tuple(reasons)))
        return tuple(joins)
