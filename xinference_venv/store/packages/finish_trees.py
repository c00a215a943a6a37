"""Trees of packages finished: by threads of this process, or by a light one for each share.

Comes in: trees into which packages were moved. Comes out: whole trees. To finish one is mostly
Python's own work, which threads do one after the other, and in a worker among millions of objects
of its libraries. Where there is much to do it is shared out, a file says to each process what its
share is, and it prints a record for each tree, or the error that ended it.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import packaging

from xinference_venv._util.files import write_private_file
from xinference_venv._util.processors import usable_processors
from xinference_venv._util.records import Record
from xinference_venv.errors import VirtualEnvError, error_from_dict
from xinference_venv.planning.package import PackageKey, PackageRecord
from xinference_venv.store.packages.package_tree import Installed, MovedTree
from xinference_venv.store.packages.tree_files import SITE, StagedTree

# Of a share: to start its process takes a quarter of that.
_LEAST_EFFORT = 24_000.0
# More would wait for the one with the largest package.
_MOST_SHARES = 16
_ERROR_STATUS = 3
_PACKAGE = Path(__file__).parents[3]
_PROGRAM = """\
import sys
sys.path += sys.argv[2:]
from xinference_venv.store.packages.finish_trees import finish_share
sys.exit(finish_share(sys.argv[1]))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tree(Record, name="tree to finish"):
    folder: str
    metadata: str
    key: PackageKey | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Share(Record, name="trees to finish"):
    env: str
    site_packages: str
    trees: tuple[_Tree, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The trees that one process finishes."""

    trees: Sequence[MovedTree]

    @property
    def names(self) -> str:
        """The packages, for people."""
        return ", ".join(sorted(each.installed.name for each in self.trees))

    def command(self, file: Path, site_packages: Path) -> tuple[str, ...]:
        """What starts its process; writes a file for it."""
        trees = tuple(
            _Tree(folder=str(each.folder), metadata=each.installed.metadata, key=each.key)
            for each in self.trees
        )
        asked = _Share(env=str(self.trees[0].env), site_packages=str(site_packages), trees=trees)
        write_private_file(file, json.dumps(asked.to_dict()).encode())
        paths = dict.fromkeys((_PACKAGE, Path(packaging.__file__).parents[1]))
        return (sys.executable, "-I", "-S", "-c", _PROGRAM, str(file), *map(str, paths))

    def result(self, exit_status: int, output: str) -> list[StagedTree] | None:
        """The trees, by what its process has printed; None where it was ended before that.

        Raises what the process did.
        """
        lines = output.splitlines()
        if exit_status == _ERROR_STATUS and lines:
            raise error_from_dict(json.loads(lines[-1]))
        if exit_status != 0 or len(lines) != len(self.trees):
            return None
        return [
            StagedTree(folder=each.folder, record=PackageRecord.from_dict(json.loads(line)))
            for each, line in zip(self.trees, lines, strict=True)
        ]


def share_out(trees: Iterable[MovedTree], most: int) -> list[Share]:
    """Trees for at most so many processes at once, each about as much; one where it is little."""
    efforts = [(each.installed.effort, each) for each in trees]
    count = min(most, _MOST_SHARES, int(sum(effort for effort, _ in efforts) / _LEAST_EFFORT))
    shares: list[list[MovedTree]] = [[] for _ in range(max(1, count))]
    taken = [0.0] * len(shares)
    # The large ones first, so that none is left to one process in the end.
    for effort, each in sorted(efforts, key=lambda pair: -pair[0]):
        least = taken.index(min(taken))
        shares[least].append(each)
        taken[least] += effort
    return [Share(trees=each) for each in shares if each]


def finish_trees(trees: Iterable[MovedTree]) -> list[StagedTree]:
    """Finish trees in threads of this process; see `MovedTree.finish`. Blocks on the disk."""
    from concurrent.futures import ThreadPoolExecutor

    largest_first = sorted(trees, key=lambda each: -each.installed.effort)
    with ThreadPoolExecutor(usable_processors()) as pool:
        return list(pool.map(MovedTree.finish, largest_first))


def finish_share(file: str) -> int:
    """Finish the trees that a file names, and print their records; the exit status.

    It is the whole of a process.
    """
    # It ends soon, and makes few cycles.
    gc.disable()
    asked = _Share.from_dict(json.loads(Path(file).read_bytes()))
    env, site_packages = Path(asked.env), Path(asked.site_packages)
    try:
        for each in asked.trees:
            folder = Path(each.folder)
            installed = Installed.read(folder / SITE / each.metadata, env, site_packages)
            moved = MovedTree(folder=folder, env=env, key=each.key, installed=installed)
            print(json.dumps(moved.finish().record.to_dict()), flush=True)
    except VirtualEnvError as error:
        print(json.dumps(error.to_dict()))
        return _ERROR_STATUS
    return 0
