"""Bytecode of trees: compiled once per tree and minor version of Python, for all environments.

Comes in: a store. Comes out: which trees an interpreter has not compiled yet, and the program that
compiles them. Bytecode is checked by time and size of its source, so an edit is seen. A tree that
was compiled has a mark; what processes compile themselves meanwhile is the same. An environment
with files of its own is compiled like a tree, and shares what its packages' trees have.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.inventory.in_place import InPlaceRecord
from xinference_venv.planning.package import PackageKey
from xinference_venv.store.envs.inspect import site_packages_of
from xinference_venv.store.in_place import read_in_place
from xinference_venv.store.keys import key_places, names_in
from xinference_venv.store.legacy.layouts import old_directories
from xinference_venv.store.packages.tree_files import SITE, walk
from xinference_venv.store.paths import BYTECODE, COMPILED_NAME, VENV_NAME, VIEW_NAME
from xinference_venv.store.store import Store

STARTED = "started"
COMPILER = f"""\
import compileall, os, py_compile, sys
try:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
except (AttributeError, OSError):
    os.nice(19)
print("{STARTED}", file=sys.stderr, flush=True)
for folder in sys.argv[1:]:
    mode = py_compile.PycInvalidationMode.TIMESTAMP
    compileall.compile_dir(folder, quiet=2, invalidation_mode=mode)
    print(folder, file=sys.stderr, flush=True)
"""
"""Compiles folders at idle priority. Prints to stderr that it has started, and each that is done.

Sources that are none for this version of Python, templates among them, are left.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncompiled:
    """What an interpreter has not compiled yet: the folders of packages, and of joined trees, which
    come after their members; last those of environments with files of their own, each with the
    trees that it was made of. `tag` stands for the interpreter in the names of bytecode.
    """

    interpreter: str
    tag: str
    packages: tuple[Path, ...]
    joined: tuple[Path, ...]
    own: Mapping[Path, tuple[str, ...]]


def uncompiled(store: Store) -> list[Uncompiled]:
    """What there is to compile for the environments of a store."""
    wanted: dict[tuple[str, str], _Wanted] = defaultdict(_Wanted)
    for env_id in names_in(str(store.layout.envs)):
        try:
            record = store.record_of(env_id)
        except (InvalidRecord, StoreError):
            continue
        tag = "cpython-" + "".join(record.python_version.split(".")[:2])
        interpreter = str(record.interpreter.get("path"))
        needed = wanted[interpreter, tag]
        needed.packages.update(map(store.layout.package, record.trees))
        needed.joined.update(map(store.layout.joined_tree, record.joined))
        env = store.layout.env(env_id)
        if not os.path.lexists(env / VIEW_NAME) and not os.path.lexists(_mark(env, tag)):
            folder = site_packages_of(env / VENV_NAME)
            if folder.is_dir():
                needed.own[folder] = record.trees
    for _, in_place in _in_place(store):
        interpreter, tag = in_place.interpreter.base_executable, _tag_of(in_place)
        trees = map(store.layout.package, _trees_of(in_place))
        wanted[interpreter, tag].packages.update(trees)
    found = [
        Uncompiled(
            interpreter=interpreter,
            tag=tag,
            packages=_without_mark(needed.packages, tag),
            joined=_without_mark(needed.joined, tag),
            own=needed.own,
        )
        for (interpreter, tag), needed in wanted.items()
    ]
    return [each for each in found if each.packages or each.joined or each.own]


@dataclass(kw_only=True, slots=True)
class _Wanted:
    """What environments show, as far as it may have to be compiled."""

    packages: set[Path] = field(default_factory=set)
    joined: set[Path] = field(default_factory=set)
    own: dict[Path, tuple[str, ...]] = field(default_factory=dict)


def mark_compiled(store: Store, folder: Path, tag: str) -> None:
    """Remember that a folder of packages was compiled, and the bytes of its bytecode; one that was
    removed is fine.
    """
    if folder.is_relative_to(store.layout.envs):
        env = store.layout.env(folder.relative_to(store.layout.envs).parts[0])
        with suppress(StoreError):
            if folder.is_dir():
                store.disk.write(_mark(env, tag), b"", durable=False)
        return
    of_members = folder.parent.parent == store.layout.joined
    size = 0
    for _, path in _bytecode(folder, tag):
        with suppress(OSError):
            found = os.lstat(folder / path)
            # A joined tree shares what its members have.
            size += 0 if of_members and found.st_nlink > 1 else found.st_size
    with suppress(StoreError):
        if folder.is_dir():
            store.disk.write(_mark(folder.parent, tag), str(size).encode(), durable=False)


def share_bytecode(store: Store, folder: Path, tag: str) -> None:
    """Give a joined tree the bytecode that its members have of the files that are theirs there.

    Only next to the source that it is of: a shared folder of bytecode runs another owner's code.
    """
    record = store.joined.record(folder.parent.name)
    for tree in () if record is None else record.plan.trees:
        site = store.layout.package(tree) / SITE
        for path, compiled in _bytecode(site, tag):
            target = folder / compiled
            with suppress(OSError):
                if os.path.samefile(site / path, folder / path) and not target.exists():
                    os.link(site / compiled, target)


def give_bytecode(store: Store) -> None:
    """Give environments of the drop-in for Xinference the bytecode of the store, where their files
    are as they came. What they have stays.
    """
    for env, record in _in_place(store):
        give_bytecode_of(store, _trees_of(record), site_packages_of(env), _tag_of(record))


def give_bytecode_of(store: Store, trees: Iterable[str], folder: Path, tag: str) -> None:
    """Give a folder of packages the bytecode of trees, where its files are as they came from them.

    Python replaces bytecode and never writes into it.
    """
    for tree in trees:
        site = store.layout.package(tree) / SITE
        for path, compiled in _bytecode(site, tag):
            target = folder / compiled
            with suppress(OSError):
                if _same(site / path, folder / path) and not target.exists():
                    target.parent.mkdir(exist_ok=True)
                    os.link(site / compiled, target)


def _in_place(store: Store) -> Iterator[tuple[Path, InPlaceRecord]]:
    """The environments that the drop-in for Xinference made, each with its record."""
    for each in old_directories(store.layout, key_places(store.layout)):
        with suppress(InvalidRecord, StoreError):
            record = read_in_place(store.disk, each.path)
            if record is not None:
                yield each.path, record


def _tag_of(record: InPlaceRecord) -> str:
    return "cpython-" + "".join(record.interpreter.version.split(".")[:2])


def _trees_of(record: InPlaceRecord) -> list[str]:
    keys = filter(None, map(PackageKey.of, record.lock.packages))
    return [key.folder for key in keys]


def _same(one: Path, other: Path) -> bool:
    """Whether two files are one to bytecode, which goes by the time and the size of its source."""
    first, second = one.stat(), other.stat()
    return (first.st_size, int(first.st_mtime)) == (second.st_size, int(second.st_mtime))


def _bytecode(site: Path, tag: str) -> Iterator[tuple[str, str]]:
    """The sources that have bytecode of a version, and that bytecode."""
    ending = f".{tag}.pyc"
    with suppress(OSError):
        for compiled, _ in walk(site):
            folder, name = os.path.split(compiled)
            if name.endswith(ending) and os.path.basename(folder) == BYTECODE:
                source = os.path.join(os.path.dirname(folder), name.removesuffix(ending) + ".py")
                yield source, compiled


def _without_mark(trees: Iterable[Path], tag: str) -> tuple[Path, ...]:
    return tuple(
        tree / SITE
        for tree in sorted(trees)
        if tree.is_dir() and not os.path.lexists(_mark(tree, tag))
    )


def _mark(tree: Path, tag: str) -> Path:
    return tree / f"{COMPILED_NAME}.{tag}"
