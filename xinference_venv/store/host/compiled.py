"""Which distributions of the host have no bytecode: an image that uv built has none by itself.

Comes in: an interpreter and the host's distributions. Comes out: of each that lacks bytecode of
most of its modules, how many sources it has and their bytes. Nothing is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from xinference_venv.planning.host import HostDistribution, Interpreter
from xinference_venv.store.packages.record_file import read_file_list
from xinference_venv.store.paths import BYTECODE
from xinference_venv.store.visit import read_regular

_SOURCE = ".py"
# Bytecode is of all of a distribution or of nothing: installers compile it whole, or not at all.
_SAMPLES = 16
# A row of a source in a RECORD, with its size: an empty one costs nothing, scripts lie elsewhere.
_ROW = re.compile(rb"\n(?!\.\./|/)([^,\n]*)\.py,[^,\n]*,([1-9]\d*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncompiled:
    """A distribution without bytecode: how many sources it has, and their bytes."""

    name: str
    sources: int
    size_bytes: int


def uncompiled_distributions(
    interpreter: Interpreter, distributions: Iterable[HostDistribution]
) -> list[Uncompiled]:
    """Those that lack bytecode of more than half of their sources, the largest first.

    Of one with many sources some from all over its list are looked at.
    """
    tag = "cpython-" + interpreter.minor_version.replace(".", "")
    found = [
        uncompiled
        for each in distributions
        if (uncompiled := _uncompiled(each, f".{tag}.pyc")) is not None
    ]
    return sorted(found, key=lambda each: -each.size_bytes)


def _uncompiled(each: HostDistribution, ending: str) -> Uncompiled | None:
    try:
        record = b"\n" + read_regular(os.path.join(each.location, each.metadata, "RECORD"))
    except OSError:
        record = b""
    # To read all of it takes longer.
    sample = list(_sample(record))
    if sample and all(_is_compiled(each.location, path, ending) for path in sample):
        return None
    rows: list[tuple[bytes, bytes]] = _ROW.findall(record)
    sizes = [int(size) for _, size in rows]
    paths = [os.fsdecode(path) for path, _ in rows[:: len(rows) // _SAMPLES + 1]]
    if not rows and (not record or b".py,," in record):
        found = dict(_without_record(each))
        paths, sizes = list(found), list(found.values())
    lacking = [path for path in paths if not _is_compiled(each.location, path, ending)]
    # Images leave out tests, whatever a RECORD says.
    if 2 * sum(map(partial(_is_there, each.location), lacking)) <= len(paths):
        return None
    return Uncompiled(name=each.name, sources=len(sizes), size_bytes=sum(sizes))


def _sample(record: bytes) -> Iterator[str]:
    """Paths of sources from all over a RECORD, without their ending."""
    end = -1
    for number in range(_SAMPLES):
        last, end = end, record.find(b".py,", number * len(record) // _SAMPLES)
        path = record[record.rfind(b"\n", 0, end) + 1 : end]
        if end not in (-1, last) and not path.startswith((b"../", b"/", b'"')):
            yield os.fsdecode(path)


def _is_compiled(location: str, path: str, ending: str) -> bool:
    """Whether a source, given without its ending, has bytecode."""
    folder, slash, name = path.rpartition("/")
    return os.access(f"{location}/{folder}{slash}{BYTECODE}/{name}{ending}", os.F_OK)


def _is_there(location: str, path: str) -> bool:
    return os.access(f"{location}/{path}{_SOURCE}", os.F_OK)


def _without_record(each: HostDistribution) -> Iterator[tuple[str, int]]:
    """The sources that are there, without their ending, by an older kind of list or one without
    sizes, with these.
    """
    files = read_file_list(each.location, each.name, each.metadata)
    for path in files.inside if files.recorded else ():
        if path.endswith(_SOURCE):
            try:
                size = os.stat(os.path.join(each.location, path)).st_size
            except OSError:
                continue
            if size:
                yield path.removesuffix(_SOURCE), size
