"""Joined trees: packages that depend on each other's place, in one real folder of packages.

Comes in: a plan, which names the members in the order of installers. Comes out: a tree of real
directories with hard links to the members' files, made once per combination, immutable. A part
of the host is copied, times kept: a hard link to a file of the host would be written through.
"""

from __future__ import annotations

import errno
import filecmp
import itertools
import math
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.planning.package import JoinedRecord, JoinPlan, SharedPath
from xinference_venv.sentences import sentence
from xinference_venv.store.atomic import Disk
from xinference_venv.store.copies import copy_file
from xinference_venv.store.envs.broken_marker import bounded
from xinference_venv.store.file_system import share_blocks
from xinference_venv.store.keys import names_in
from xinference_venv.store.packages.package_store import PackageStore, TreeCheck, put_in_place
from xinference_venv.store.packages.record_file import go_on
from xinference_venv.store.packages.tree_files import (
    SITE,
    close_directories,
    top_level_names,
    walk,
)
from xinference_venv.store.paths import BROKEN_NAME, BYTECODE, JOINED_RECORD_NAME, StorePaths
from xinference_venv.store.stat_cache import StatCache

MOST_COPIED_BYTES = 256 * 1024 * 1024
"""Up to this much of the host is copied into one joined tree; its largest files are links then."""

_MOST_COPIED_PER_FILE = 16 * 1024 * 1024
_NO_HARD_LINK = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.ENOSYS})


@dataclass(frozen=True, kw_only=True)
class JoinedTrees:
    """The joined trees of one home; every method blocks on the disk."""

    layout: StorePaths
    disk: Disk
    packages: PackageStore
    _records: StatCache[str, JoinedRecord] = field(default_factory=StatCache, init=False)

    def record(self, folder: str) -> JoinedRecord | None:
        """The record of a joined tree that is there and whole, as far as a glance tells."""
        try:
            if os.path.lexists(self.layout.joined_tree(folder) / BROKEN_NAME):
                return None
            return self._records.get(folder, self._record_path, self._read)
        except (InvalidRecord, StoreError):
            return None

    def size_of(self, folder: str) -> int:
        """The bytes at most that a joined tree takes in addition to its members, bytecode included.

        Raises `InvalidRecord` where no record tells.
        """
        record = self.record(folder)
        if record is None:
            raise InvalidRecord(
                sentence("{folder} is not among the joined trees, or broken", folder=folder)
            )
        return record.size_bytes + sum(map(self.packages.size_of, record.plan.trees))

    def cache_only_there(self) -> None:
        """Forget what was read of joined trees that are gone."""
        self._records.keep_only(frozenset(self.folders()))

    def folders(self) -> list[str]:
        """The names of all joined trees that have a place, whole or not."""
        return names_in(str(self.layout.joined))

    def make(self, plan: JoinPlan, staging: Path) -> JoinedRecord:
        """The joined tree of a plan, made if it is not there; the build at `staging` keeps it.

        Raises `StoreError`, also where a member is not there.
        """
        folder = plan.folder
        self.packages.keep(staging, [folder, *plan.trees])
        if (there := self.record(folder)) is not None:
            return there
        made = staging / f"joined-{folder}"
        self.disk.discard(made, self.layout.trash)
        self.disk.make_directory(made / SITE)
        try:
            record = _Joining(
                layout=self.layout,
                plan=plan,
                site=made / SITE,
                final=self.layout.joined_tree(folder) / SITE,
            ).run()
        except OSError as error:
            raise StoreError(
                sentence(
                    "could not join {members}: {error}",
                    members=", ".join(each.label for each in plan.members),
                    error=error,
                ),
                {"errno": error.errno},
            ) from error
        self.disk.write_json(made / JOINED_RECORD_NAME, record.to_dict(), durable=False)
        target = self.layout.joined_tree(folder)
        with self.packages.lock():
            if (there := self.record(folder)) is not None:
                return there
            put_in_place(self.disk, made, target)
        return record

    def verify(
        self, folder: str, *, since: float = math.inf, pause: Callable[[], None] = go_on
    ) -> TreeCheck:
        """Look whether every file is the member's, and mark the tree accordingly.

        Members are verified by themselves; what is one inode with a member's file has the same
        content, and other files are compared. A look at or after `since`, in seconds since the
        epoch, is enough. `pause` is called again and again.
        """
        tree = self.layout.joined_tree(folder)
        return self.packages.looks.at(
            self.packages,
            tree,
            lambda _: (self._check(tree, pause), True),
            hashes=False,
            since=since,
        )

    def _check(self, tree: Path, pause: Callable[[], None]) -> TreeCheck:
        try:
            record = self._read(tree.name, tree / JOINED_RECORD_NAME)
            wanted = dict(_sources(self.layout, record.plan))
            faults = []
            for path, source in wanted.items():
                pause()
                if not _is_as_placed(source, tree / SITE / path):
                    faults.append(f"joined/{tree.name}/{path} is not its member's file")
            faults += (
                f"joined/{tree.name}: its member {member} is damaged"
                for member in record.plan.trees
                if os.path.lexists(self.layout.package(member) / BROKEN_NAME)
            )
            additions = [
                f"{tree.name}/{SITE}/{path}"
                for path, entry in walk(tree / SITE)
                if path not in wanted
                and not entry.is_symlink()
                and not (path.endswith(".pyc") and BYTECODE in path.split("/"))
            ]
        except (InvalidRecord, OSError) as error:
            return TreeCheck(faults=(f"joined/{tree.name}: {error}",))
        return TreeCheck(faults=bounded(faults), additions=tuple(sorted(additions)))

    def _record_path(self, folder: str) -> Path:
        return self.layout.joined_tree(folder) / JOINED_RECORD_NAME

    def _read(self, folder: str, path: Path) -> JoinedRecord:
        data = self.disk.read_json(path)
        if data is None:
            raise InvalidRecord(sentence("{parent} is gone or has no record", parent=path.parent))
        record = JoinedRecord.from_dict(data)
        if record.plan.folder != folder:
            raise InvalidRecord(
                sentence(
                    "{parent} has the record of {folder}",
                    parent=path.parent,
                    folder=record.plan.folder,
                )
            )
        return record


def _files_of_tree(layout: StorePaths, folder: str) -> Iterator[tuple[str, str]]:
    for path, entry in walk(layout.package(folder) / SITE):
        if BYTECODE not in path.split("/"):
            yield path, entry.path


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """A file of a member, which goes by its label, and whether it is the host's."""

    label: str
    file: str
    of_host: bool


def _sources(layout: StorePaths, plan: JoinPlan) -> Iterator[tuple[str, _Source]]:
    """Every file of every member in order, by its path in the joined tree."""
    for member in plan.members:
        if member.host is not None:
            for path in member.host.files:
                file = os.path.join(member.host.location, path)
                yield path, _Source(label=member.label, file=file, of_host=True)
        else:
            assert member.tree is not None
            for path, file in _files_of_tree(layout, member.tree):
                yield path, _Source(label=member.label, file=file, of_host=False)


@dataclass(kw_only=True, slots=True)
class _Joining:
    """One joined tree on its way: the winner of each path is placed, and who lost is noted.

    `site` is where it is made, `final` where it will be.
    """

    layout: StorePaths
    plan: JoinPlan
    site: Path
    final: Path

    def run(self) -> JoinedRecord:
        winners: dict[str, _Source] = {}
        losers: dict[str, list[str]] = defaultdict(list)
        for path, source in _sources(self.layout, self.plan):
            earlier = winners.get(path)
            # Of equal files, an empty ``__init__.py`` above all, it is no matter which is there.
            if earlier is not None and not _is_equal(earlier.file, source.file):
                losers[path].append(earlier.label)
            winners[path] = source
        own = self._place(winners, linked := _too_large_to_copy(winners))
        top_level = top_level_names(self.site)
        close_directories(self.site)
        return JoinedRecord(
            plan=self.plan,
            top_level=top_level,
            shared_paths=tuple(
                SharedPath(path=path, winner=winners[path].label, losers=tuple(losers[path]))
                for path in sorted(losers)
            ),
            files=len(winners),
            size_bytes=own,
            linked_files=tuple(sorted(linked)),
        )

    def _place(self, winners: Mapping[str, _Source], linked: Collection[str]) -> int:
        """Put files at their places; the bytes that are not a member's."""
        made: set[str] = set()
        own = 0
        for path, source in winners.items():
            folder = os.path.dirname(path)
            if folder not in made:
                os.makedirs(self.site / folder, exist_ok=True)
                made.add(folder)
            target = os.path.join(self.site, path)
            if path in linked:
                os.symlink(source.file, target)
            elif source.of_host:
                # What a link of the host leads to is copied: the tree has to be whole by itself.
                copy_file(source.file, target)
                own += os.path.getsize(target)
            else:
                own += place_file(source.file, target, final=os.path.join(self.final, path))
        return own


def _too_large_to_copy(winners: Mapping[str, _Source]) -> frozenset[str]:
    """The paths of the host's files that are one link each: its largest ones, where all of them
    together are too much to be copied.

    These are libraries and data, which are opened where they are named: a library finds its
    neighbours from the path by which it was opened. Sources are small, and their real paths and
    those of their directories stay within the tree.
    """
    sizes = {path: os.stat(each.file).st_size for path, each in winners.items() if each.of_host}
    by_size = sorted(sizes, key=lambda path: (sizes[path], path))
    sums = itertools.accumulate(sizes[path] for path in by_size)
    return frozenset(
        path for path, total in zip(by_size, sums, strict=True) if total > MOST_COPIED_BYTES
    )


def place_file(source: str | Path, target: str | Path, *, final: str | Path) -> int:
    """Put a file of the store at a second place in it; the bytes that this takes.

    A hard link; where the file system has none, or no more for this file, shared blocks, else a
    copy of what is small and a link to what is large. `final` is where `target` will be, for
    that link is relative: a home may be moved.
    """
    if os.path.islink(source):
        # A hard link to a link may lead elsewhere on some systems, so it is made again.
        os.symlink(os.readlink(source), target)
        return 0
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINK:
            raise
    else:
        return 0
    size = os.path.getsize(source)
    try:
        share_blocks(Path(source), Path(target))
    except OSError:
        if size > _MOST_COPIED_PER_FILE:
            os.symlink(os.path.relpath(source, os.path.dirname(final)), target)
            return 0
        copy_file(source, target)
    return size


def _is_equal(one: str, other: str) -> bool:
    """Whether two files have the same content, or two links the same target."""
    links = os.path.islink(one), os.path.islink(other)
    if any(links):
        return all(links) and os.readlink(one) == os.readlink(other)
    return filecmp.cmp(one, other, shallow=False)


def _is_as_placed(source: _Source, target: Path) -> bool:
    """Whether a file of a joined tree is what was placed there.

    The host's file may have changed since it was copied or linked. A member that was made again
    has other inodes than the joined tree, and the same contents.
    """
    try:
        if source.of_host:
            if target.is_symlink():
                return os.path.samefile(source.file, target)
            return stat.S_ISREG(target.lstat().st_mode)
        if os.path.islink(source.file):
            return target.is_symlink()
        return os.path.samefile(source.file, target) or filecmp.cmp(
            source.file, target, shallow=False
        )
    except OSError:
        return False
