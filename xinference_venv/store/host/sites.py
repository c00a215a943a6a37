"""What lies in the host's site directories, and to whom it belongs: what a view is planned from.

Comes in: the facts of the host. Comes out: a `HostSite` for each directory of its search path,
and the files of it that go into a joined tree.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from xinference_venv._util.records import digest_of
from xinference_venv.errors import StoreError
from xinference_venv.planning.host import HostDistribution, HostFacts
from xinference_venv.planning.joins import COVERED, HostName, HostShare, HostSite, is_metadata
from xinference_venv.planning.package import HostPart
from xinference_venv.sentences import sentence
from xinference_venv.store.packages.record_file import read_file_list
from xinference_venv.store.paths import BYTECODE
from xinference_venv.store.stamp import stamp_of
from xinference_venv.store.visit import read_text


def read_sites(host: HostFacts) -> tuple[HostSite, ...]:
    """The directories of the host's search path with their entries; raises `StoreError`.

    Which distribution owns what is taken from the facts: nothing of it is read here but the
    file lists of distributions that another one of their name covers.
    """
    sites = []
    for location in dict.fromkeys(host.interpreter.search_path):
        try:
            sites.append(_read_site(location, host))
        except OSError as error:
            raise StoreError(
                sentence("could not read the host's packages: {error}", error=error)
            ) from error
    return tuple(sites)


def _read_site(location: str, host: HostFacts) -> HostSite:
    with os.scandir(location) as found:
        entries = {entry.name: entry.is_dir() for entry in found}
    owners: dict[str, list[str]] = defaultdict(list)
    described = set()
    for each in host.distributions:
        if os.path.normpath(each.location) == os.path.normpath(location):
            described.add(each.metadata)
            for name in {*each.entries, each.metadata}:
                owners[name].append(each.name)
    for name in entries:
        if not is_metadata(name) or name in described:
            continue
        # A later copy, which the host's first one covers: where that is hidden it would come to
        # light, and where it is visible there would be two of one name.
        owner = canonicalize_name(os.path.splitext(name)[0].partition("-")[0])
        listed = read_file_list(location, owner, name).inside if owner in host.by_name else ()
        for top in {name, *(path.partition("/")[0] for path in listed)}:
            owners[top].append(COVERED)
    path_files = {
        name: read_text(f"{location}/{name}", errors="replace")
        for name, is_directory in entries.items()
        if name.endswith(".pth") and not is_directory and os.path.isfile(f"{location}/{name}")
    }
    return HostSite(
        location=location,
        names=tuple(
            HostName(name=name, is_directory=entries[name], owners=tuple(owners.get(name, ())))
            for name in sorted(entries)
        ),
        path_files=path_files,
    )


def host_part(
    host: HostFacts, share: HostShare, visible: Collection[str], *, loose: bool
) -> HostPart:
    """What of a site directory goes into a joined tree; raises `StoreError`.

    `loose`: files that belong to no distribution go with the directory that they lie in, if all
    that is known there is visible.
    """
    location = share.location
    try:
        owners = [
            _Owner(
                distribution=each,
                visible=each.name in visible,
                files=frozenset(read_file_list(location, each.name, each.metadata).inside),
            )
            for each in host.distributions
            if os.path.normpath(each.location) == os.path.normpath(location)
            and not {*each.entries}.isdisjoint(share.names)
        ]
        listed = _Listed.of(owners)
        files = [
            path
            for name in share.names
            for path in _walk(location, name)
            if listed.shows(path, loose=loose)
        ]
    except OSError as error:
        raise StoreError(
            sentence("could not read the host's packages: {error}", error=error)
        ) from error
    shown = [owner.distribution for owner in owners if owner.visible]
    return HostPart(
        name=", ".join(each.name for each in shown),
        location=location,
        files=tuple(sorted(files)),
        identity=digest_of(
            [
                [each.name, each.version, each.metadata, stamp_of(f"{location}/{each.metadata}")]
                for each in shown
            ]
        ),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Owner:
    distribution: HostDistribution
    visible: bool
    files: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Listed:
    """Whether each listed file is visible, and which directories have visible or hidden ones.

    Of owners without a list of files it is known only under which names they have some.
    """

    files: dict[str, bool]
    folders: dict[str, set[bool]]
    unlisted: dict[str, set[bool]]

    @classmethod
    def of(cls, owners: Iterable[_Owner]) -> _Listed:
        files: dict[str, bool] = {}
        folders: dict[str, set[bool]] = defaultdict(set)
        unlisted: dict[str, set[bool]] = defaultdict(set)
        for owner in owners:
            if not owner.distribution.recorded:
                for name in owner.distribution.entries:
                    unlisted[name].add(owner.visible)
                continue
            for path in owner.files:
                files[path] = files.get(path, False) or owner.visible
                for folder in _parents(path):
                    folders[folder].add(owner.visible)
        return cls(files=files, folders=folders, unlisted=unlisted)

    def shows(self, path: str, *, loose: bool) -> bool:
        """Whether a file is to be seen."""
        if (known := self.files.get(path)) is not None:
            return known
        if (kinds := self.unlisted.get(path.partition("/")[0])) is not None:
            return kinds == {True}
        if not loose:
            # What was written there by a visible distribution alone is still its own.
            return self._kinds_near(path) == {True}
        return False not in self._kinds_near(path)

    def _kinds_near(self, path: str) -> set[bool]:
        return next((self.folders[each] for each in _parents(path) if each in self.folders), set())


def _parents(path: str) -> Iterator[str]:
    """The folders that a path lies in, the nearest first."""
    while path := os.path.dirname(path):
        yield path


def _walk(location: str, name: str) -> Iterator[str]:
    """The files below an entry of a site directory, relative to that; bytecode left out."""
    top = f"{location}/{name}"
    if not os.path.isdir(top):
        yield name
        return
    for folder, folders, names in os.walk(top):
        folders[:] = [each for each in folders if each != BYTECODE]
        below = os.path.relpath(folder, location)
        yield from (f"{below}/{each}" for each in names)
        yield from (f"{below}/{each}" for each in folders if os.path.islink(f"{folder}/{each}"))
