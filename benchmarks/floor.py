"""What checking packages takes at the least: each piece of it, over folders of packages.

    python -m benchmarks.floor SITE_PACKAGES [--rounds N]

Comes in: a folder with packages as uv has installed them. Comes out: the processor time of each
piece that a first build can't do without while Python checks every file, and of all that it does
for the same files. The parts of `benchmarks.compose`'s case ``first build`` that no environment
and no worker takes.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import packaging

import xinference_venv
from benchmarks.common import aligned
from xinference_venv.store.packages.looks_for import looks_of
from xinference_venv.store.packages.record_file import read_record
from xinference_venv.store.packages.tree_files import walk

_LARGE_BYTES = 1024 * 1024
_START = "import sys; sys.path += sys.argv[1:]; import xinference_venv.store.packages.finish_trees"


class _File(NamedTuple):
    path: str
    place: str
    size: int
    content: bytes


def main(arguments: Sequence[str]) -> int:
    """Print the pieces, the fastest of some rounds each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=__doc__)
    parser.add_argument("site_packages", metavar="SITE_PACKAGES", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    root: Path = options.site_packages
    files = list(_files(root))
    if not files:
        parser.error(f"{root} has no files")
    sources = [each for each in files if each.path.endswith(".py")]
    records = [each.parent for each in root.glob("*.dist-info/RECORD")]
    size = sum(each.size for each in files)
    print(
        f"{len(files)} files of at most 1 MiB, {size / 1e6:.0f} MB, {len(sources)} of them sources;"
        " milliseconds of processor time"
    )
    pieces: dict[str, Callable[[], object]] = {
        "walk and stat": lambda: [entry.stat() for _, entry in walk(root)],
        "read": lambda: [_read(each) for each in files],
        "hash": lambda: [hashlib.sha256(each.content).digest() for each in files],
        "search sources": lambda: [looks_of(root, each.path, each.content) for each in sources],
        "read RECORDs": lambda: [read_record(each) for each in records],
    }
    # As in the process that does it.
    gc.disable()
    taken = {name: _fastest(piece, options.rounds) for name, piece in pieces.items()}
    taken["start the process"] = _fastest(_start, options.rounds)
    rows = [(name, f"{seconds * 1000:.0f}") for name, seconds in taken.items()]
    rows.append(("together", f"{sum(taken.values()) * 1000:.0f}"))
    print(aligned(("piece", "processor"), rows))
    return 0


def _files(root: Path) -> Iterator[_File]:
    for path, entry in walk(root):
        size = entry.stat(follow_symlinks=False).st_size
        if entry.is_file(follow_symlinks=False) and size <= _LARGE_BYTES:
            yield _File(path, entry.path, size, Path(entry.path).read_bytes())


def _read(file: _File) -> bytes:
    opened = os.open(file.place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(opened, file.size + 1)
    finally:
        os.close(opened)


def _start() -> None:
    paths = (Path(each).parents[1] for each in (xinference_venv.__file__, packaging.__file__))
    command = (sys.executable, "-I", "-S", "-c", _START, *map(str, paths))
    subprocess.run(command, check=True)


def _fastest(piece: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = _processor_seconds()
        piece()
        taken.append(_processor_seconds() - began)
    return min(taken)


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
