"""Trees of packages finished: by threads of this process, or by a light one and its forks.

Comes in: trees into which packages were moved. Comes out: whole trees. To finish one is mostly
Python's own work, which threads do one after the other, and in a worker among millions of objects
of its libraries. Where there is much to do it is shared out: a light process, to which a file says
the shares, forks for each of them, so that its modules are imported once. It prints a record for
each tree, or the error that ended it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.files import write_private_file
from xinference_venv._util.processors import usable_processors
from xinference_venv._util.records import Record
from xinference_venv.errors import VirtualEnvError, error_from_dict
from xinference_venv.planning.package import PackageKey, PackageRecord
from xinference_venv.store.packages.package_tree import Installed, MovedTree
from xinference_venv.store.packages.tree_files import SITE, StagedTree

# Of a share: to start the process takes a quarter of that.
_LEAST_EFFORT = 24_000.0
# More would wait for the one with the largest package.
_MOST_SHARES = 16
_ERROR_STATUS = 3
_PACKAGE = Path(__file__).parents[3]
_PROGRAM = """\
import sys
sys.path.append(sys.argv[2])
from xinference_venv.store.packages.finish_trees import finish_shares
sys.exit(finish_shares(sys.argv[1]))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tree(Record, name="tree to finish"):
    folder: str
    metadata: str
    key: PackageKey | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shares(Record, name="trees to finish"):
    env: str
    site_packages: str
    shares: tuple[tuple[_Tree, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """The trees that a light process finishes, each share by a fork of it."""

    shares: Sequence[Sequence[MovedTree]]

    @property
    def trees(self) -> Sequence[MovedTree]:
        """Those of all shares, in their order."""
        return [each for share in self.shares for each in share]

    @property
    def names(self) -> str:
        """The packages, for people."""
        return ", ".join(sorted(each.installed.name for each in self.trees))

    def command(self, file: Path, site_packages: Path) -> tuple[str, ...]:
        """What starts the process; writes a file for it."""
        shares = tuple(
            tuple(
                _Tree(folder=str(each.folder), metadata=each.installed.metadata, key=each.key)
                for each in share
            )
            for share in self.shares
        )
        env = str(self.shares[0][0].env)
        asked = _Shares(env=env, site_packages=str(site_packages), shares=shares)
        write_private_file(file, json.dumps(asked.to_dict()).encode())
        return (sys.executable, "-I", "-S", "-c", _PROGRAM, str(file), str(_PACKAGE))

    def result(self, exit_status: int, output: str) -> list[StagedTree] | None:
        """The trees, by what the process has printed; None where it was ended before that.

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


def share_out(trees: Iterable[MovedTree], most: int) -> Shares:
    """Trees in at most so many shares, each about as much; one where it is little."""
    efforts = [(each.installed.effort, each) for each in trees]
    count = min(most, _MOST_SHARES, int(sum(effort for effort, _ in efforts) / _LEAST_EFFORT))
    shares: list[list[MovedTree]] = [[] for _ in range(max(1, count))]
    taken = [0.0] * len(shares)
    # The large ones first, so that none is left to one process in the end.
    for effort, each in sorted(efforts, key=lambda pair: -pair[0]):
        least = taken.index(min(taken))
        shares[least].append(each)
        taken[least] += effort
    return Shares(shares=[each for each in shares if each])


def finish_trees(trees: Iterable[MovedTree]) -> list[StagedTree]:
    """Finish trees in threads of this process; see `MovedTree.finish`. Blocks on the disk."""
    from concurrent.futures import ThreadPoolExecutor

    largest_first = sorted(trees, key=lambda each: -each.installed.effort)
    with ThreadPoolExecutor(usable_processors()) as pool:
        return list(pool.map(MovedTree.finish, largest_first))


def finish_shares(file: str) -> int:
    """Finish the trees that a file names, and print their records; the exit status.

    It is the whole of a process, and of each fork of it.
    """
    # They end soon, and make few cycles.
    gc.disable()
    asked = _Shares.from_dict(json.loads(Path(file).read_bytes()))
    forks = []
    for share in asked.shares:
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            os.dup2(writing, sys.stdout.fileno())
            return _finish_share(share, Path(asked.env), Path(asked.site_packages))
        os.close(writing)
        forks.append((pid, reading))
    for pid, reading in forks:
        with open(reading, encoding="utf-8") as pipe:
            sys.stdout.write(pipe.read())
        if (status := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])) != 0:
            # As shells say that a signal ended a process; the other forks end with this one.
            return status if status > 0 else 128 - status
    return 0


def _finish_share(share: Iterable[_Tree], env: Path, site_packages: Path) -> int:
    records = []
    try:
        for each in share:
            folder = Path(each.folder)
            installed = Installed.read(folder / SITE / each.metadata, env, site_packages)
            moved = MovedTree(folder=folder, env=env, key=each.key, installed=installed)
            records.append(json.dumps(moved.finish().record.to_dict()))
    except VirtualEnvError as error:
        print(json.dumps(error.to_dict()))
        return _ERROR_STATUS
    # At once: of a pipe that is full the other end may not be read yet.
    print("\n".join(records))
    return 0
