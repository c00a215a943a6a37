"""Which distributions of the host have no bytecode: an image that uv built has none by itself.

Comes in: an interpreter and the host's distributions. Comes out: of each that lacks bytecode of
most of its modules, how many sources it has and their bytes. Nothing is imported.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from xinference_venv.planning.host import HostDistribution, Interpreter
from xinference_venv.store.packages.record_file import read_file_list
from xinference_venv.store.paths import BYTECODE
from xinference_venv.store.visit import read_regular

_SOURCE = ".py"
# Bytecode is of all of a distribution or of nothing: installers compile it whole, or not at all.
_SAMPLES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncompiled:
    """A distribution without bytecode: how many sources it has, and their bytes."""

    name: str
    sources: int
    size_bytes: int


def uncompiled_distributions(
    interpreter: Interpreter, distributions: Iterable[HostDistribution]
) -> list[Uncompiled]:
    """Those that lack bytecode of more than half of their sources, the largest first."""
    tag = "cpython-" + interpreter.minor_version.replace(".", "")
    found = [
        uncompiled
        for each in distributions
        if (uncompiled := _uncompiled(each, f".{tag}.pyc")) is not None
    ]
    return sorted(found, key=lambda each: -each.size_bytes)


def _uncompiled(each: HostDistribution, ending: str) -> Uncompiled | None:
    if _sample_is_compiled(each, ending):
        return None
    files = read_file_list(each.location, each.name, each.metadata)
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in files.inside if files.recorded else ():
        if path.endswith(_SOURCE):
            folder, _, name = path.rpartition("/")
            by_folder[os.path.join(each.location, folder)].append(name)
    sources = compiled = size = 0
    for folder, names in by_folder.items():
        there = _names(os.path.join(folder, BYTECODE))
        for name in names:
            try:
                bytes_of_source = os.stat(os.path.join(folder, name)).st_size
            except OSError:
                continue
            # An empty one costs nothing.
            if bytes_of_source:
                sources += 1
                size += bytes_of_source
                compiled += name.removesuffix(_SOURCE) + ending in there
    if compiled * 2 >= sources:
        return None
    return Uncompiled(name=each.name, sources=sources, size_bytes=size)


def _sample_is_compiled(each: HostDistribution, ending: str) -> bool:
    """Whether sources from all over the RECORD have bytecode: reading all of it takes long."""
    try:
        record = read_regular(os.path.join(each.location, each.metadata, "RECORD"))
    except OSError:
        return False
    sampled = 0
    for number in range(_SAMPLES):
        end = record.find(b".py,", number * len(record) // _SAMPLES)
        line = record[record.rfind(b"\n", 0, end) + 1 : end]
        folder, _, name = line.decode("utf-8", "surrogateescape").rpartition("/")
        if end == -1 or not name or name.startswith('"'):
            continue
        if not os.path.exists(os.path.join(each.location, folder, BYTECODE, name + ending)):
            return False
        sampled += 1
    return sampled > 0


def _names(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()
