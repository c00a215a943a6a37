"""The store of packages: each wheel unpacked once per host, for all environments that show it.

Comes in: whole trees that were staged. Comes out: trees by their folder's name, there whole or
not at all, immutable. Who builds names what the build needs before looking whether it is there;
from then on nothing takes that away until the build's folder is gone.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from xinference_venv._util.records import Record
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.planning.package import PackageKey, PackageRecord
from xinference_venv.sentences import sentence
from xinference_venv.store.atomic import Disk
from xinference_venv.store.envs.broken_marker import BrokenMarker, bounded, read_broken_marker
from xinference_venv.store.keys import names_in
from xinference_venv.store.locks import hold_lock_briefly
from xinference_venv.store.packages.record_file import (
    RecordRow,
    check_row,
    go_on,
    parse_record,
)
from xinference_venv.store.packages.tree_files import DATA, SITE, StagedTree, walk
from xinference_venv.store.paths import (
    BROKEN_NAME,
    BYTECODE,
    COMPILED_NAME,
    NEEDS_NAME,
    PACKAGE_RECORD_NAME,
    StorePaths,
)
from xinference_venv.store.stamp import directory_identity
from xinference_venv.store.stat_cache import StatCache
from xinference_venv.store.visit import read_regular

_CLIMB = "../../../"


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs(Record, name="what a build needs", version=1):
    """The folders' names of the trees that a running build needs, joined ones included."""

    folders: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeCheck:
    """What is wrong with a tree, and what lies in it that its package did not bring."""

    faults: tuple[str, ...] = ()
    additions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    """What was found at a tree, when, and whether contents were compared."""

    at: float
    hashes: bool
    identity: tuple[int, int]
    check: TreeCheck


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Close looks at trees, which mark them: one look serves all environments that show a tree."""

    disk: Disk
    _last: dict[Path, _Look] = field(default_factory=dict, init=False)

    def at(
        self,
        packages: PackageStore,
        tree: Path,
        look: Callable[[BrokenMarker | None], tuple[TreeCheck, bool]],
        *,
        hashes: bool,
        since: float,
    ) -> TreeCheck:
        """What `look` finds, given the mark that the tree has; it also says whether it compared
        contents. A tree that is exchanged meanwhile is looked at again.
        """
        while (found := directory_identity(tree)) is not None:
            last = self._last.get(tree)
            if (
                last is not None
                and last.identity == found
                and last.at >= since
                and (last.hashes or not hashes)
            ):
                return last.check
            began = time.time()
            check, compared = look(read_broken_marker(self.disk, tree))
            with packages.lock():
                if directory_identity(tree) == found:
                    self._mark(packages.layout.broken / tree.name, tree, check.faults, compared)
                    self._last[tree] = _Look(at=began, hashes=compared, identity=found, check=check)
                    return check
        self._last.pop(tree, None)
        return TreeCheck(faults=(f"{tree} is missing",))

    def keep_only(self, trees: Collection[Path]) -> None:
        """Forget the looks at all others."""
        for tree in [*self._last]:
            if tree not in trees:
                self._last.pop(tree, None)

    def _mark(self, listed: Path, tree: Path, faults: tuple[str, ...], hashes: bool) -> None:
        path = tree / BROKEN_NAME
        if faults:
            mark = BrokenMarker(found=time.time(), faults=faults, hashes=hashes)
            # Listed first: the mark is what counts, and only what is listed is looked at for one.
            self.disk.write(listed, b"", durable=True)
            self.disk.write_json(path, mark.to_dict(), durable=True)
        elif os.path.lexists(path):
            self.disk.unlink(path)
        if not faults and os.path.lexists(listed):
            self.disk.unlink(listed)


@dataclass(frozen=True, kw_only=True)
class PackageStore:
    """The trees of one home; every method blocks on the disk."""

    layout: StorePaths
    disk: Disk
    looks: Looks
    _records: StatCache[str, PackageRecord] = field(
        default_factory=partial(StatCache, written_once=True), init=False
    )
    _bytecode: StatCache[Path, int] = field(default_factory=StatCache, init=False)

    # Looking

    def get(self, key: PackageKey) -> PackageRecord | None:
        """The record of a tree that is there and whole, as far as a glance tells; None if not."""
        return self.record(key.folder)

    def record(self, folder: str) -> PackageRecord | None:
        """The same, by the folder's name."""
        try:
            if os.path.lexists(os.path.join(self.layout.package(folder), BROKEN_NAME)):
                return None
            return self._records.get(folder, self._record_path, self._read)
        except (InvalidRecord, StoreError):
            return None

    def size_of(self, folder: str) -> int:
        """The bytes that a package brought, without bytecode; `InvalidRecord` where none tells."""
        record = self.record(folder)
        if record is None:
            raise InvalidRecord(
                sentence("{folder} is not in the store of packages, or broken", folder=folder)
            )
        return record.size_bytes

    def bytecode_bytes(self, tree: Path) -> int:
        """The bytes of the bytecode in a tree or joined tree, as far as it was compiled here."""
        return self._bytecode.get(tree, lambda _: tree, _read_bytecode_bytes)

    def broken(self) -> frozenset[str]:
        """The names of the trees and joined trees that are marked as broken."""
        layout = self.layout
        return frozenset(
            name
            for name in names_in(str(layout.broken))
            if os.path.lexists(layout.package(name) / BROKEN_NAME)
            or os.path.lexists(layout.joined_tree(name) / BROKEN_NAME)
        )

    def fault(self, folder: str) -> str:
        """What is wrong with a tree or joined tree that is marked as broken."""
        for tree in (self.layout.package(folder), self.layout.joined_tree(folder)):
            if (mark := read_broken_marker(self.disk, tree)) is not None and mark.faults:
                return mark.faults[0]
        return f"{folder}, which it shows, is damaged"

    def folders(self) -> list[str]:
        """The names of all trees that have a place, whole or not."""
        return names_in(str(self.layout.packages))

    def cache_only_there(self) -> None:
        """Forget what was read of trees that are gone."""
        packages = self.folders()
        self._records.keep_only(frozenset(packages))
        trees = {self.layout.package(each) for each in packages}
        trees.update(map(self.layout.joined_tree, names_in(str(self.layout.joined))))
        self._bytecode.keep_only(trees)
        self.looks.keep_only(trees)

    # Changing

    def keep(self, staging: Path, folders: Iterable[str]) -> None:
        """Let the build that stages at `staging` have these trees and joined trees as long as it
        runs, whether they are there yet or not; what it named before stays named.
        """
        with self.lock():
            before = self._needs_of(staging).folders
            if more := {*folders}.difference(before):
                needs = Needs(folders=tuple(sorted({*before, *more})))
                self.disk.write_json(staging / NEEDS_NAME, needs.to_dict(), durable=False)

    def needed_by_builds(self) -> set[str]:
        """The folders' names of all that running builds need."""
        return {
            folder
            for name in names_in(str(self.layout.staging))
            for folder in self._needs_of(self.layout.staging / name).folders
        }

    def add(self, trees: Iterable[StagedTree]) -> list[PackageRecord]:
        """Move staged trees to their places; of what is there already the staged one is not needed.

        A broken one is exchanged: what takes its place is the same package, so the environments
        that show it are whole again, and processes that run in them find every file. The broken
        one is left where the other was staged, and goes with the build's folder.
        """
        records = []
        with self.lock():
            for tree in trees:
                folder = tree.record.key.folder
                if (there := self.record(folder)) is None:
                    put_in_place(self.disk, tree.folder, self.layout.package(folder))
                records.append(there or tree.record)
        # One for all: what is lost in a power cut before has no environment that needs it.
        self.disk.flush(self.layout.packages)
        return records

    def lock(self) -> AbstractContextManager[None]:
        """The lock of who moves trees in or out, or names what a build needs; held briefly."""
        return hold_lock_briefly(self.layout.locks / "packages.lock")

    # Verifying

    def verify(
        self,
        folder: str,
        *,
        hashes: bool = False,
        since: float = math.inf,
        pause: Callable[[], None] = go_on,
    ) -> TreeCheck:
        """Look at every file of a tree, with `hashes` at all contents, and mark it accordingly.

        A look as close at or after `since`, in seconds since the epoch, is enough: many
        environments show one tree. `pause` is called again and again: it may wait, or end the
        look by an exception.
        """
        tree = self.layout.package(folder)

        def look(mark: BrokenMarker | None) -> tuple[TreeCheck, bool]:
            closely = hashes or (mark is not None and mark.hashes)
            return check_tree(tree, folder, hashes=closely, pause=pause), closely

        return self.looks.at(self, tree, look, hashes=hashes, since=since)

    def has_all_sizes(self, folder: str) -> bool:
        """Whether every file that RECORD names is in a tree, with its size: a glance, half of what
        `verify` takes, which says what is wrong and marks the tree.
        """
        return _has_all_sizes(self.layout.package(folder))

    def _record_path(self, folder: str) -> Path:
        return self.layout.package(folder) / PACKAGE_RECORD_NAME

    def _read(self, folder: str, path: Path) -> PackageRecord:
        return read_package_record(self.disk, path.parent)

    def _needs_of(self, staging: Path) -> Needs:
        try:
            data = self.disk.read_json(staging / NEEDS_NAME)
            return Needs() if data is None else Needs.from_dict(data)
        except InvalidRecord:
            return Needs()


def read_package_record(disk: Disk, tree: Path) -> PackageRecord:
    """The record in a tree; raises `InvalidRecord` where there is none, or another tree's."""
    data = disk.read_json(tree / PACKAGE_RECORD_NAME)
    if data is None:
        raise InvalidRecord(sentence("{tree} is gone or has no record", tree=tree))
    record = PackageRecord.from_dict(data)
    if record.key.folder != tree.name:
        raise InvalidRecord(
            sentence("{tree} has the record of {folder}", tree=tree, folder=record.key.folder)
        )
    return record


def check_tree(tree: Path, folder: str, *, hashes: bool, pause: Callable[[], None]) -> TreeCheck:
    """What a look at every file of a package's tree finds."""
    try:
        record = read_package_record(Disk(), tree)
        rows = _rows(tree, record)
        listed = {place: dict(_below(place, rows)) for place in (SITE, DATA)}
        listed[SITE][f"{record.metadata}/RECORD"] = RecordRow(f"{record.metadata}/RECORD")
        faults: list[str] = []
        additions: list[str] = []
        for place, own in listed.items():
            found = _look(tree / place, own, hashes=hashes, pause=pause)
            faults += (f"{folder}/{place}/{fault}" for fault in found.faults)
            additions += (f"{folder}/{place}/{path}" for path in found.additions)
    except (InvalidRecord, OSError, ValueError) as error:
        return TreeCheck(faults=(f"{folder}: {error}",))
    return TreeCheck(faults=bounded(faults), additions=tuple(sorted(additions)))


def _has_all_sizes(tree: Path) -> bool:
    opened: list[int] = []
    try:
        rows = _rows(tree, read_package_record(Disk(), tree))
        for place in (SITE, DATA):
            opened.append(os.open(tree / place, os.O_RDONLY | os.O_DIRECTORY))
        site, data = opened
        for path, digest, size in rows:
            if not digest:
                continue
            directory = site
            if path.startswith(_CLIMB):
                path, directory = path.removeprefix(_CLIMB), data
            found = os.stat(path, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) or size not in (None, found.st_size):
                return False
    except (InvalidRecord, OSError, ValueError):
        return False
    finally:
        for each in opened:
            os.close(each)
    return True


def put_in_place(disk: Disk, staged: Path, target: Path) -> None:
    """Give a staged tree its place; a broken one that is there gets the place of that."""
    if os.path.lexists(target):
        disk.exchange(staged, target)
    else:
        disk.rename(staged, target, durable=False)


def _read_bytecode_bytes(_: Path, tree: Path) -> int:
    size = 0
    with suppress(OSError, ValueError):
        for name in os.listdir(tree):
            if name.startswith(COMPILED_NAME):
                size += int((tree / name).read_bytes() or 0)
    return size


def _rows(tree: Path, record: PackageRecord) -> list[RecordRow]:
    content = read_regular(tree / SITE / record.metadata / "RECORD")
    if hashlib.sha256(content).hexdigest() != record.record_sha256:
        raise InvalidRecord(
            sentence("{metadata}/RECORD is not what was written", metadata=record.metadata)
        )
    return parse_record(content.decode("utf-8", "surrogateescape"))


def _below(place: str, rows: Iterable[RecordRow]) -> Iterator[tuple[str, RecordRow]]:
    """The rows of files in the tree; programs that each environment makes have no digest."""
    for row in rows:
        if row.digest and row.path.startswith(_CLIMB) == (place == DATA):
            path = row.path.removeprefix(_CLIMB)
            yield path, row._replace(path=path)


def _look(
    root: Path, rows: Mapping[str, RecordRow], *, hashes: bool, pause: Callable[[], None]
) -> TreeCheck:
    faults = []
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for path, row in rows.items():
            _, fault = check_row(row, directory, hashes=hashes, pause=pause)
            if fault:
                faults.append(f"{path} {fault}")
    finally:
        os.close(directory)
    additions = []
    for path, entry in walk(root):
        pause()
        own = path in rows or entry.is_symlink()
        if not own and not (path.endswith(".pyc") and BYTECODE in path.split("/")):
            additions.append(path)
    return TreeCheck(faults=tuple(faults), additions=tuple(additions))
