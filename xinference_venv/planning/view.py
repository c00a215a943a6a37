"""The plan of a view: the one folder of links that a model's process imports from.

Comes in: the records of the packages of an environment, the joined trees, what the host's site
directories have and which of it is visible. Comes out: a `ViewPlan`, which names for each entry
of the view where it leads, and for each file of the environment's prefix where it comes from.

The view behaves like one site-packages into which everything visible had been installed: what is
installed first, then the host's site directories in the order of its search path. Of these a
later one does not get a name, nor an import name, that an earlier one has.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from xinference_venv._util.records import Record
from xinference_venv.planning.host import HostDistribution
from xinference_venv.planning.joins import HostName, HostSite
from xinference_venv.planning.package import (
    DataFile,
    EntryKind,
    JoinedRecord,
    LooksFor,
    PackageRecord,
    TopLevelName,
    Way,
)
from xinference_venv.sentences import sentence
from xinference_venv.settings import ViewKind

ADDS_SITE = re.compile(
    r"""import[ \t]+site[ \t]*;[ \t]*site\.addsitedir\((['"])(?P<path>[^'"\\]+)\1\)[ \t]*"""
)
"""How a ``.pth`` file shows a whole site directory, with the ``.pth`` files of that."""
_EXTENSION = re.compile(r"\.(so|pyd)$")
_IMPORTS = ("import ", "import\t")
# Sorts after the .pth files of packages.
PATHS_NAME = "zzzz-xinference-venv-paths.pth"
VIEW_PTH_NAME = "zzzz-xinference-venv-view.pth"
_EDITABLE_LINK = ".egg-link"
# What installers leave of what they could not remove, and bytecode, which lies in the trees.
_NEVER_SHOWN = re.compile(r"__pycache__$|~|zzzz-xinference-venv-")
# What an environment has of its own, whatever wheels or the host have for these paths; file systems
# may ignore case.
_OWN_PLACES = re.compile(
    r"(bin/(python[0-9.]*|activate[.a-z]*|xinference-venv-.*)|pyvenv\.cfg|xinference-venv.*)$"
    r"|(bin|lib|lib64|view)$|(lib64|view)/",
    re.IGNORECASE,
)
# Where a pattern of `fnmatch` begins.
_PATTERN = re.compile(r"[*?[]")
_SHOWN_PATHS = 5


class Place(StrEnum):
    """Where a link of a view leads: a package's tree, a joined tree, the host."""

    PACKAGE = "package"
    JOINED = "joined"
    HOST = "host"


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewLink(Record, name="link of a view"):
    """One entry of the view; `tree` is the name of a tree's folder or a directory of the host.

    With `has_directories` it is no link but real directories with hard links to the tree's files,
    since one of them looks for something in the environment's prefix.
    """

    name: str
    place: Place
    tree: str
    has_directories: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenFile(Record, name="written file of a view"):
    """A ``.pth`` file of the view that is written and no link."""

    name: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefixFile(Record, name="file of a prefix"):
    """A file of the environment's prefix, by its path there.

    `tree` is the folder of a package, or the host's prefix. The first line of a `python_script`
    is to be the environment's own.
    """

    path: str
    place: Place
    tree: str
    executable: bool
    python_script: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Script(Record, name="script of an environment"):
    """A program in ``bin`` that calls an entry point."""

    name: str
    module: str
    attribute: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewPlan(Record, name="plan of a view", version=1):
    """What a view shows and where each of it is; what it shows is linked or copied, by its `kind`.

    `trees` and `joined` name all that it leads into. `reasons` says of each joined tree why it
    is one. `warnings` are for whoever launches.
    """

    links: tuple[ViewLink, ...]
    written: tuple[WrittenFile, ...]
    prefix_files: tuple[PrefixFile, ...]
    scripts: tuple[Script, ...]
    trees: tuple[str, ...]
    joined: tuple[str, ...]
    reasons: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    kind: ViewKind = ViewKind.LINKS


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinedTree:
    """A joined tree of this environment; `packages` are the folders of its members."""

    folder: str
    record: JoinedRecord
    packages: tuple[str, ...]
    locations: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class HostPartition:
    """The host as a view sees it: its `merged` site directories and the `paths` behind the view,
    both in the order of the search path.
    """

    merged: tuple[HostSite, ...]
    paths: tuple[str, ...]


def partition_host(
    sites: Sequence[HostSite],
    distributions: Iterable[HostDistribution],
    visible: Collection[str],
    *,
    loose: bool,
) -> HostPartition:
    """Tell the host's site directories, which are merged into the view, from the folders that
    ``.pth`` files of it add to the path (editable projects), which stay folders of the path.

    One of these that has hidden distributions is merged if it has visible ones too, else left
    out. `loose`: what belongs to no distribution is visible.
    """
    here: dict[str, set[str]] = defaultdict(set)
    for each in distributions:
        here[posixpath.normpath(each.location)].add(each.name)
    added = _added_by(sites, visible, loose=loose)
    merged, paths = [], []
    for site in sites:
        location = posixpath.normpath(site.location)
        owners = here[location]
        if location not in added or (owners & {*visible} and owners - {*visible}):
            merged.append(site)
        elif owners & {*visible} or (added[location] and not owners):
            paths.append(site.location)
    return HostPartition(merged=tuple(merged), paths=tuple(paths))


def _added_by(
    sites: Iterable[HostSite], visible: Collection[str], *, loose: bool
) -> dict[str, bool]:
    """The folders that lines of ``.pth`` files add, and whether a visible file adds each."""
    added: dict[str, bool] = {}
    for site in sites:
        owned = {each.name: each for each in site.names}
        for name, text in site.path_files.items():
            entry = owned.get(name)
            shown = entry is not None and _is_shown(entry, visible, loose=loose)
            for line in _lines(text):
                if not line.startswith(_IMPORTS):
                    place = posixpath.normpath(posixpath.join(site.location, line))
                    added[place] = added.get(place, False) or shown
    return added


def plan_view(
    packages: Sequence[PackageRecord],
    joined: Sequence[JoinedTree],
    host: HostPartition,
    visible: Collection[str],
    *,
    loose: bool,
    prefix: Prefix,
    host_looks: Iterable[LooksFor] = (),
    kind: ViewKind = ViewKind.LINKS,
) -> ViewPlan:
    """The plan of a view; `packages` are in the order of the install.

    `prefix` has what these and the host's visible distributions put there, `host_looks` is what
    the latter look for.
    """
    entries = _Entries(joined={folder: tree for tree in joined for folder in tree.packages})
    for record in packages:
        entries.add_package(record)
    for tree in joined:
        entries.add_shared_paths(tree.record)
    entries.close_installed()
    for site in host.merged:
        for tree in joined:
            if not tree.packages and site.location in tree.locations[:1]:
                entries.add_joined(tree)
        entries.add_site(site, visible, host.paths, loose=loose)
    written = list(entries.written)
    if others := [path for path in host.paths if path not in entries.inner_paths]:
        text = "".join(f"{path}\n" for path in others)
        written.append(WrittenFile(name=PATHS_NAME, text=text))
    installed_looks = (looks for record in packages for looks in record.looks_for)
    entries.leave_where_they_look_above((*installed_looks, *host_looks), prefix)
    members = {folder for tree in joined for folder in tree.packages}
    return ViewPlan(
        links=tuple(entries.links[name] for name in sorted(entries.links)),
        written=tuple(written),
        prefix_files=tuple(prefix.files.values()),
        scripts=tuple(prefix.scripts.values()),
        trees=tuple(sorted({*(record.key.folder for record in packages), *members})),
        joined=tuple(tree.folder for tree in joined),
        reasons={tree.folder: tree.reasons for tree in joined},
        warnings=(*_bounded(entries.warnings), *_bounded(prefix.warnings)),
        kind=kind,
    )


def import_name(name: str, *, is_directory: bool) -> str | None:
    """The name by which an entry of a site directory is imported, or None."""
    kind = EntryKind.NAMESPACE
    if not is_directory:
        extension = name.partition(".")[2]
        kind = EntryKind.EXTENSION if _EXTENSION.search(name) else EntryKind.FILE
        kind = EntryKind.MODULE if extension in ("py", "pyc") else kind
    return TopLevelName(name=name, kind=kind).import_name


def importable_name(name: str) -> str | None:
    """The name by which an entry of a view may be imported, as far as its own name tells."""
    found = import_name(name, is_directory="." not in name)
    return found if found is not None and found.isidentifier() else None


class _Entries:
    """The entries of a view while they are decided, the first ones of a name first."""

    def __init__(self, *, joined: Mapping[str, JoinedTree]) -> None:
        self.links: dict[str, ViewLink] = {}
        self.written: list[WrittenFile] = []
        self.inner_paths: set[str] = set()
        self.warnings: list[str] = []
        self._joined = joined
        self._owners: dict[str, str] = {}
        self._names: dict[str, str] = {}
        # The import names of earlier roots: those of one root are no rivals of each other.
        self._taken: set[str] = set()
        # By import name: the installed package that has it.
        self._installed: dict[str, str] = {}

    def add_package(self, record: PackageRecord) -> None:
        """Show what an installed package has; it is in the way of no later one."""
        self._names[record.key.folder] = record.key.name
        tree = self._joined.get(record.key.folder)
        if tree is not None:
            self.add_joined(tree)
            self._owners.update({each.name: record.key.name for each in record.top_level})
            return
        for each in record.top_level:
            other = self._owners.get(each.name)
            if other is not None and other != record.key.name:
                self._warn(each.name, record.key.name, [other])
            self._owners[each.name] = record.key.name
            self.links[each.name] = ViewLink(
                name=each.name, place=Place.PACKAGE, tree=record.key.folder
            )

    def add_joined(self, tree: JoinedTree) -> None:
        """Show what a joined tree has."""
        for each in tree.record.top_level:
            imported = import_name(each.name, is_directory=True)
            if not tree.packages and (each.name in self.links or imported in self._taken):
                continue
            self.links[each.name] = ViewLink(name=each.name, place=Place.JOINED, tree=tree.folder)

    def add_shared_paths(self, record: JoinedRecord) -> None:
        """Warn of what several packages of a joined tree own."""
        for shared in record.shared_paths:
            losers = [self._names.get(label, label) for label in shared.losers]
            self._warn(shared.path, self._names.get(shared.winner, shared.winner), losers)

    def close_installed(self) -> None:
        """From now on nothing is shown that has an import name of what was installed."""
        for name in self.links:
            for is_directory in (True, False):
                found = import_name(name, is_directory=is_directory)
                if found is not None:
                    self._taken.add(found)
                    self._installed[found] = self._owners.get(name, "")

    def leave_where_they_look_above(self, found: Iterable[LooksFor], prefix: Prefix) -> None:
        """Let those entries have directories of which a file finds something in the prefix, as it
        would from a folder of packages there. Those of the host are where they were.
        """
        for looks in found:
            link = self.links.get(looks.path.partition("/")[0])
            if link is not None and link.place is not Place.HOST and prefix.has(looks):
                self.links[link.name] = replace(link, has_directories=True)

    def add_site(
        self, site: HostSite, visible: Collection[str], paths: Collection[str], *, loose: bool
    ) -> None:
        """Show what is visible of a site directory of the host, next to all that came before.

        Of the folders that its ``.pth`` files add those stay lines which lie in it and are among
        the `paths` to show; they are then in `inner_paths`.
        """
        here: set[str] = set()
        owned = sorted(site.names, key=lambda each: not each.owners)
        for entry in owned:
            imported = import_name(entry.name, is_directory=entry.is_directory)
            is_free = entry.name not in self.links and imported not in self._taken
            if not entry.owners:
                is_free = is_free and imported not in here
            if not _is_shown(entry, visible, loose=loose):
                continue
            if not is_free:
                self._warn_of_rival(entry, imported, visible)
                continue
            if imported is not None:
                here.add(imported)
            text = site.path_files.get(entry.name)
            if text is not None and (changed := self._path_file(text, site, paths)) is not None:
                if changed:
                    self.written.append(WrittenFile(name=entry.name, text=changed))
                continue
            self.links[entry.name] = ViewLink(name=entry.name, place=Place.HOST, tree=site.location)
        self._taken |= here

    def _path_file(self, text: str, site: HostSite, paths: Collection[str]) -> str | None:
        """The text of a ``.pth`` file as it has to be in the view; None when it is as it was.

        Folders elsewhere are no lines of it: they are entries of the search path themselves.
        """
        lines, kept = _lines(text), []
        for line in lines:
            if line.startswith(_IMPORTS):
                if not ADDS_SITE.fullmatch(line):
                    kept.append(line)
                continue
            place = posixpath.normpath(posixpath.join(site.location, line))
            found = next((path for path in paths if posixpath.normpath(path) == place), None)
            if found is not None and place.startswith(f"{posixpath.normpath(site.location)}/"):
                kept.append(posixpath.relpath(place, site.location))
                self.inner_paths.add(found)
        return None if kept == lines else "".join(f"{line}\n" for line in kept)

    def _warn_of_rival(
        self, entry: HostName, imported: str | None, visible: Collection[str]
    ) -> None:
        """Warn where an installed package has the import name of a visible one of the host.

        Of a directory that both have there is a joined tree, which warns of each file.
        """
        winner = self._installed.get(imported or "")
        owners = sorted({*entry.owners} & {*visible} - {winner})
        link = self.links.get(entry.name)
        is_joined = entry.is_directory and link is not None and link.place is Place.JOINED
        if winner and owners and not is_joined:
            self._warn(entry.name, winner, [f"{each} of the host" for each in owners])

    def _warn(self, path: str, winner: str, losers: Iterable[str]) -> None:
        names = ", ".join(losers)
        self.warnings.append(
            sentence(
                "{path} is of {winner} and of {names} too: that of {winner} is seen",
                path=path,
                winner=winner,
                names=names,
            )
        )


class Prefix:
    """The files of an environment's prefix: those of installed packages, in the order of the
    install, and of the host's visible distributions. The later one of a path wins.

    `host_prefix` is where the host's programs and data files lie below. `library` is the
    environment's own ``lib/pythonX.Y``, into which nothing is put.
    """

    def __init__(
        self,
        packages: Iterable[PackageRecord],
        distributions: Iterable[HostDistribution],
        *,
        host_prefix: str,
        library: str,
    ) -> None:
        self.files: dict[str, PrefixFile] = {}
        self.scripts: dict[str, Script] = {}
        self.warnings: list[str] = []
        self._library = library
        for each in distributions:
            self._add_host(each, host_prefix)
        for record in packages:
            self._add_package(record)

    def has(self, looks: LooksFor) -> bool:
        """Whether there is what is looked for above the folder of packages."""
        return any(True for _ in self._found(looks))

    def installed_for(self, host_looks: Mapping[str, Iterable[LooksFor]]) -> dict[str, LooksFor]:
        """Which of the host's distributions find something here that an installed package has,
        and by what they look for it first.
        """
        found = {
            name: next((each for each in looks if self._has_installed(each)), None)
            for name, looks in host_looks.items()
        }
        return {name: looks for name, looks in found.items() if looks is not None}

    def _has_installed(self, looks: LooksFor) -> bool:
        return any(each.place is Place.PACKAGE for each in self._found(looks))

    def _found(self, looks: LooksFor) -> Iterator[PrefixFile]:
        if not looks.is_above:
            return
        place = posixpath.normpath(posixpath.join(self._library, "site-packages", looks.name))
        plain = _PATTERN.split(place)[0]
        for path, file in self.files.items():
            if not path.startswith(plain):
                continue
            if looks.way is Way.RUN_PATH:
                folder, name = posixpath.split(path)
                is_there = folder == place and ".so" in name
            else:
                # It may be a pattern, as one that `glob` gets.
                is_there = any(fnmatchcase(path, each) for each in (place, f"{place}/*"))
            if is_there:
                yield file

    def _add_package(self, record: PackageRecord) -> None:
        """The data files and scripts of an installed package."""
        for each in record.data_files:
            if self._is_allowed(each.path):
                self._put(each, Place.PACKAGE, record.key.folder)
            else:
                self.warnings.append(
                    sentence(
                        "{name} has a file for {path}, which is the environment's own: it is left"
                        " out",
                        name=record.key.name,
                        path=each.path,
                    )
                )
        for point in record.entry_points:
            self._put_script(point.name, point.module, point.attribute)

    def _add_host(self, each: HostDistribution, prefix: str) -> None:
        """The data files, programs and scripts of a visible distribution of the host."""
        for path in each.data_files:
            if self._is_allowed(path):
                self._put(DataFile(path=path), Place.HOST, prefix)
        for path in each.programs:
            if self._is_allowed(path):
                self._put(DataFile(path=path, executable=True), Place.HOST, prefix)
        for text in each.scripts:
            name, _, place = text.partition(" = ")
            module, _, attribute = place.partition(":")
            self._put_script(name, module, attribute)

    def _put(self, file: DataFile, place: Place, tree: str) -> None:
        self.files[file.path] = PrefixFile(
            path=file.path,
            place=place,
            tree=tree,
            executable=file.executable,
            python_script=file.python_script,
        )
        self.scripts.pop(file.path.removeprefix("bin/"), None)

    def _put_script(self, name: str, module: str, attribute: str) -> None:
        if attribute and "/" not in name and self._is_allowed(f"bin/{name}"):
            self.scripts[name] = Script(name=name, module=module, attribute=attribute)
            self.files.pop(f"bin/{name}", None)

    def _is_allowed(self, path: str) -> bool:
        """Whether a path is no place of the environment's own."""
        return (
            posixpath.normpath(path) == path
            and not path.startswith(("/", "../"))
            and not f"{path}/".startswith(f"{self._library}/")
            and not _OWN_PLACES.match(path)
        )


def _is_shown(entry: HostName, visible: Collection[str], *, loose: bool) -> bool:
    """Whether an entry of the host is visible."""
    if _NEVER_SHOWN.match(entry.name) or entry.name.endswith(_EDITABLE_LINK):
        return False
    if entry.owners:
        return entry.is_visible(visible)
    return loose and not entry.is_metadata


def _lines(text: str) -> list[str]:
    """The lines of a ``.pth`` file that do something."""
    stripped = (line.rstrip() for line in text.splitlines())
    return [line for line in stripped if line.strip() and not line.startswith("#")]


def _bounded(warnings: Sequence[str]) -> list[str]:
    """The first warnings, and how many more there are."""
    if len(warnings) <= _SHOWN_PATHS:
        return list(warnings)
    more = sentence("and {count} more like this", count=len(warnings) - _SHOWN_PATHS)
    return [*warnings[:_SHOWN_PATHS], more]
