"""An environment taken apart into whole trees: by threads of this process, or by a light one.

Comes in: an environment that uv has just filled. Comes out: whole trees of its packages. To make
them is mostly Python's own work, which threads do one after the other, and in a worker among
millions of objects of its libraries. Where there is much to do next to the largest package, a
light process does it, which a file tells what: it moves the packages apart and forks, so that its
modules are imported once and each RECORD is read once, and every fork finishes the next tree. It
prints a line for each tree, or the error that ended it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.files import write_private_file
from xinference_venv._util.forks import ERROR_STATUS, light_process, share_out
from xinference_venv._util.processors import usable_processors
from xinference_venv._util.records import Record
from xinference_venv.errors import VirtualEnvError, error_from_dict
from xinference_venv.planning.package import PackageKey, PackageRecord
from xinference_venv.store.packages.package_tree import MovedTree, Split, split_environment
from xinference_venv.store.packages.tree_files import StagedTree

# A RECORD has 100 bytes for a file. To start the process takes as long as all that is done for a
# thousand files, and a fork takes whole packages: the largest one is ready no sooner.
_LEAST_RECORD_BYTES = 200_000
# Who cancels a launch waits for a thread, but not for a process.
_MOST_RECORD_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Filled(Record, name="a filled environment"):
    """An environment at `env` with the names of what was installed into it, the keys of these as
    far as they are known, and the folder into which it is taken apart.
    """

    env: str
    site_packages: str
    into: str
    packages: tuple[str, ...]
    keys: Mapping[str, PackageKey]
    fetched_now: bool = False

    def is_much(self) -> bool:
        """Whether a process of its own is worth its start; blocks on the disk."""
        records = Path(self.site_packages).glob("*.dist-info/RECORD")
        sizes = [each.stat().st_size for each in records]
        others = sum(sizes) - max(sizes, default=0)
        return others >= _LEAST_RECORD_BYTES or sum(sizes) >= _MOST_RECORD_BYTES

    @property
    def names(self) -> str:
        """The packages, for people."""
        return ", ".join(sorted(self.packages))

    def split(self) -> Split:
        """The trees of its packages; see `split_environment`."""
        keys = {name: self.keys.get(name) for name in self.packages}
        return split_environment(
            Path(self.env),
            Path(self.site_packages),
            keys,
            Path(self.into),
            fetched_now=self.fetched_now,
        )

    def command(self, forks: int) -> tuple[str, ...]:
        """What starts the process, which has so many forks; writes a file for it."""
        asked = _Asked(filled=self, forks=forks)
        # Next to the trees: in the environment it may be a file of a wheel, and of uv's cache.
        file = Path(self.into, "filled.json")
        file.parent.mkdir()
        write_private_file(file, json.dumps(asked.to_dict()).encode())
        return light_process(take_apart, file)

    def result(
        self, exit_status: int, output: str
    ) -> tuple[Sequence[StagedTree], Sequence[str]] | None:
        """The trees and who shares a path, by what the process has printed; None where it was
        ended before that. Raises what the process did.
        """
        lines = output.splitlines()
        if exit_status == ERROR_STATUS and lines:
            raise error_from_dict(json.loads(lines[-1]))
        if exit_status != 0 or not lines:
            return None
        contested = json.loads(lines[0])
        made = [_Made.from_dict(json.loads(line)) for line in lines[1:]]
        if len(made) + len(contested) != len(self.packages):
            return None
        return [
            StagedTree(folder=Path(each.folder), record=each.record) for each in made
        ], contested


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked(Record, name="an environment to take apart"):
    filled: Filled
    forks: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made(Record, name="a tree that was made"):
    folder: str
    record: PackageRecord


def finish_trees(trees: Iterable[MovedTree]) -> list[StagedTree]:
    """Finish trees in threads of this process; see `MovedTree.finish`. Blocks on the disk."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(usable_processors()) as pool:
        return list(pool.map(MovedTree.finish, _largest_first(trees)))


def take_apart(file: str) -> int:
    """Take apart the environment that a file names, and print its trees; the exit status.

    It is the whole of a process.
    """
    asked = _Asked.from_dict(json.loads(Path(file).read_bytes()))
    try:
        split = asked.filled.split()
    except VirtualEnvError as error:
        return _fail(error)
    trees = _largest_first(split.trees.values())

    def finish(number: int) -> str:
        try:
            made = trees[number].finish()
        except VirtualEnvError as error:
            sys.exit(_fail(error))
        return json.dumps(_Made(folder=str(made.folder), record=made.record).to_dict())

    status, lines = share_out(len(trees), finish, forks=asked.forks)
    print("\n".join(lines if status else [json.dumps(split.contested), *lines]))
    return status


def _fail(error: VirtualEnvError) -> int:
    print(json.dumps(error.to_dict()), flush=True)
    return ERROR_STATUS


def _largest_first(trees: Iterable[MovedTree]) -> list[MovedTree]:
    """In the order in which none of the large ones is left for the end."""
    return sorted(trees, key=lambda each: -each.installed.effort)
