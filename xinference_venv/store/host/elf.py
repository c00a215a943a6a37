"""Which host distributions are bound to which others by their shared objects (ELF).

Comes in: the shared objects of each distribution. Comes out: for each the others whose libraries
its own load, as the dynamic linker would find them (``man 8 ld.so``). Files of other formats
bind nothing.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from xinference_venv.store.atomic import Stamp, stamp_of

# What a manylinux wheel may expect of every system (PEP 513, 571, 599 and 600): that some
# distribution ships a copy binds no other one to it.
_OF_THE_SYSTEM = frozenset(
    {
        *("libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0"),
        *("libutil.so.1", "libnsl.so.1", "libresolv.so.2", "libgcc_s.so.1", "libstdc++.so.6"),
        *("libatomic.so.1", "libz.so.1", "libexpat.so.1", "libX11.so.6", "libXext.so.6"),
        *("libXrender.so.1", "libICE.so.6", "libSM.so.6", "libGL.so.1"),
        *("libgobject-2.0.so.0", "libgthread-2.0.so.0", "libglib-2.0.so.0"),
    }
)
# A damaged file may seem to have millions of entries.
_DYNAMIC_ENTRIES = 10_000
_KEPT_ANSWERS = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Dynamic:
    """What a shared object asks of the dynamic linker: the libraries it needs by name, and the
    absolute directories of its RUNPATH, else RPATH, in which these are looked for first.
    """

    needed: tuple[str, ...]
    run_path: tuple[str, ...]


def read_dynamic(path: str) -> Dynamic | None:
    """What the ELF file at `path` asks for; None for what is no sound ELF file or asks nothing."""
    # A millisecond or two each, of thousands when one package of the host changed.
    return _read_dynamic(path, stamp_of(path)) if os.path.isfile(path) else None


def bound_distributions(objects: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    """By name of a distribution, the sorted names of others that its shared objects load from.

    `objects` gives the absolute paths of each one's shared objects. A needed library is the file
    that the run path leads to, else the one of that name when a single distribution has it.
    """
    owners: dict[str, str] = {}
    providers: dict[str, set[str]] = defaultdict(set)
    for name, paths in objects.items():
        for path in paths:
            owners.setdefault(path, name)
            providers[os.path.basename(path)].add(name)
    bound = {}
    for name, paths in objects.items():
        found = {
            _provider(library, dynamic, owners, providers)
            for dynamic in map(read_dynamic, paths)
            if dynamic is not None
            for library in dynamic.needed
        }
        bound[name] = tuple(sorted(each for each in found if each is not None and each != name))
    return bound


def _provider(
    library: str,
    dynamic: Dynamic,
    owners: Mapping[str, str],
    providers: Mapping[str, Collection[str]],
) -> str | None:
    folders = ("/",) if library.startswith("/") else dynamic.run_path
    for folder in folders:
        place = os.path.normpath(os.path.join(folder, library))
        if os.path.isfile(place):
            return owners.get(place) or owners.get(os.path.realpath(place))
    names = providers.get(library, ())
    return next(iter(names)) if len(names) == 1 and library not in _OF_THE_SYSTEM else None


@lru_cache(maxsize=_KEPT_ANSWERS)
def _read_dynamic(path: str, stamp: Stamp) -> Dynamic | None:
    try:
        with open(path, "rb") as stream:
            found = _entries(ELFFile(stream))
    # Besides its own errors, pyelftools raises these over damaged files.
    except (ELFError, OSError, ValueError, LookupError, OverflowError, AssertionError):
        return None
    run_path = found["DT_RUNPATH"] or found["DT_RPATH"]
    return Dynamic(
        needed=tuple(found["DT_NEEDED"]),
        run_path=tuple(_directories(run_path, os.path.dirname(path))),
    )


def _entries(file: ELFFile) -> Mapping[str, list[str]]:
    """The strings of the first dynamic segment by kind, as they stand there."""
    found: dict[str, list[str]] = defaultdict(list)
    segment = next(file.iter_segments("PT_DYNAMIC"), None)
    if isinstance(segment, DynamicSegment):
        for entry in islice(segment.iter_tags(), _DYNAMIC_ENTRIES):
            kind = entry.entry.d_tag
            if kind in ("DT_NEEDED", "DT_RPATH", "DT_RUNPATH"):
                found[kind].append(getattr(entry, kind.removeprefix("DT_").lower()))
    return found


def _directories(run_paths: Iterable[str], origin: str) -> Iterator[str]:
    """The absolute directories among colon-separated paths; `origin` stands for ``$ORIGIN``."""
    for folder in ":".join(run_paths).split(":"):
        expanded = folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
        if expanded.startswith("/") and "$" not in expanded:
            yield expanded
