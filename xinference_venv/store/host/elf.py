"""Which host distributions are bound to which others by their shared objects (ELF).

Comes in: the shared objects of each distribution. Comes out: for each the others whose libraries
its own load, as the dynamic linker would find them (``man 8 ld.so``). Files of other formats
bind nothing.
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from xinference_venv.store.stamp import Stamp, stamp_of

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
# Where the dynamic linker, or a package that has a library loaded, looks on most systems.
_SYSTEM_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_CUDA_VARIABLES = ("CUDA_HOME", "CUDA_PATH")
_CUDA_FOLDER = "/usr/local/cuda"
# A damaged file may seem to have millions of entries, or names without an end.
_DYNAMIC_ENTRIES = 10_000
_NAME_BYTES = 4096
_MOST_HEADER_BYTES = 1024
_KEPT_ANSWERS = 50_000

_MAGIC = b"\x7fELF"
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 14, 15, 29

ReadAt = Callable[[int, int], bytes]
"""The bytes of a file from an offset on, at most so many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dynamic:
    """What a shared object asks of the dynamic linker: the libraries it needs by name, and the
    absolute directories of its RUNPATH, else RPATH, in which these are looked for first. `name`
    is by what others need it (SONAME).
    """

    needed: tuple[str, ...]
    run_path: tuple[str, ...]
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Linkage:
    """The shared objects of one distribution: the libraries that it has, by their names, and
    those that its extension modules need, themselves or by its own libraries, and it has not.
    `linked` are all that any of its shared objects needs and it has not.
    """

    provided: tuple[str, ...]
    needed: tuple[str, ...]
    linked: tuple[str, ...]


def read_dynamic(path: str) -> Dynamic | None:
    """What the ELF file at `path` asks for; None for what is no sound ELF file or asks nothing."""
    # Of thousands when one package of the host changed.
    return _read_dynamic(path, stamp_of(path)) if os.path.isfile(path) else None


def is_of_the_system(library: str) -> bool:
    """Whether a manylinux wheel may expect a library of every system."""
    return library in _OF_THE_SYSTEM


def system_folders(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The folders of the system's libraries, and those that variables name."""
    named = environ.get("LD_LIBRARY_PATH", "").split(":")
    cuda = [*(environ.get(name, "") for name in _CUDA_VARIABLES), _CUDA_FOLDER]
    of_machine = (f"{folder}/{os.uname().machine}-linux-gnu" for folder in ("/lib", "/usr/lib"))
    folders = (*named, *(f"{each}/lib64" for each in cuda if each), *_SYSTEM_FOLDERS, *of_machine)
    return tuple(each for each in folders if each.startswith("/"))


def linkage_of(paths: Iterable[str]) -> Linkage:
    """What the shared objects at absolute paths provide and need; libraries of the system are
    left out of what they need.
    """
    provided: dict[str, str] = {}
    needs: dict[str, tuple[str, ...]] = {}
    modules: list[str] = []
    for path in paths:
        if (dynamic := read_dynamic(path)) is None:
            continue
        needs[path] = dynamic.needed
        name = os.path.basename(path)
        if _is_module(name):
            modules.append(path)
        else:
            provided |= dict.fromkeys(filter(None, (name, dynamic.name)), path)
    needed: set[str] = set()
    seen = set(modules)
    while modules:
        for library in needs[modules.pop()]:
            own = provided.get(library)
            if own is None:
                needed.add(library)
            elif own not in seen:
                seen.add(own)
                modules.append(own)
    linked = {library for each in needs.values() for library in each} - provided.keys()
    return Linkage(
        provided=tuple(sorted(provided)),
        needed=tuple(sorted(needed - _OF_THE_SYSTEM)),
        linked=tuple(sorted(linked - _OF_THE_SYSTEM)),
    )


def _is_module(name: str) -> bool:
    """Whether Python imports it; other libraries may be optional ones, for other versions."""
    return not name.startswith("lib") or ".cpython-" in name or ".abi3." in name


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


def _parse_dynamic(read: ReadAt, origin: str) -> Dynamic | None:
    """What the ELF file that is read asks for; it lies in the directory `origin`."""
    try:
        found = _entries(read)
    except (OSError, struct.error, ValueError, OverflowError):
        return None
    if found is None:
        return None
    run_path = found[_DT_RUNPATH] or found[_DT_RPATH]
    return Dynamic(
        needed=tuple(found[_DT_NEEDED]),
        run_path=tuple(_directories(run_path, origin)),
        name=next(iter(found[_DT_SONAME]), None),
    )


def read_section(path: str, name: str, *, most_bytes: int) -> bytes | None:
    """The content of a section of the ELF file at `path`, empty where it has none of this name.

    None for what is no sound ELF file, has no sections at all, or a section of more than
    `most_bytes`.
    """
    try:
        with _reading(path) as read:
            return _section(read, name.encode(), most_bytes)
    except (OSError, struct.error, ValueError, OverflowError):
        return None


@contextmanager
def _reading(path: str) -> Iterator[ReadAt]:
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield lambda offset, size: os.pread(opened, size, offset)
    finally:
        os.close(opened)


@lru_cache(maxsize=_KEPT_ANSWERS)
def _read_dynamic(path: str, stamp: Stamp) -> Dynamic | None:
    try:
        with _reading(path) as read:
            return _parse_dynamic(read, os.path.dirname(path))
    except OSError:
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """How the tables of a file are written: by its class (32 or 64 bits) and byte order.

    `segments` and `sections` say where the header names their tables: at the first offset the
    table's own, at the second the size of an entry and how many there are. Of a program header
    `segment_fields` are its type, offset, virtual address and size in the file.
    """

    header: struct.Struct
    counts: struct.Struct
    segments: tuple[int, int]
    sections: tuple[int, int]
    segment: struct.Struct
    segment_fields: tuple[int, int, int, int]
    section: struct.Struct
    entry: struct.Struct


def _layout(identity: bytes) -> _Layout | None:
    """The layout that the first bytes of an ELF file name."""
    order = {1: "<", 2: ">"}.get(identity[5])
    if identity[:4] != _MAGIC or order is None:
        return None
    if identity[4] == 2:
        return _Layout(
            header=struct.Struct(f"{order}Q"),
            counts=struct.Struct(f"{order}HHH"),
            segments=(0x20, 0x36),
            sections=(0x28, 0x3A),
            segment=struct.Struct(f"{order}IIQQQQQQ"),
            segment_fields=(0, 2, 3, 5),
            section=struct.Struct(f"{order}IIQQQQIIQQ"),
            entry=struct.Struct(f"{order}qQ"),
        )
    if identity[4] == 1:
        return _Layout(
            header=struct.Struct(f"{order}I"),
            counts=struct.Struct(f"{order}HHH"),
            segments=(0x1C, 0x2A),
            sections=(0x20, 0x2E),
            segment=struct.Struct(f"{order}IIIIIIII"),
            segment_fields=(0, 1, 2, 4),
            section=struct.Struct(f"{order}IIIIIIIIII"),
            entry=struct.Struct(f"{order}iI"),
        )
    return None


def _table(
    read: ReadAt, head: bytes, layout: _Layout, places: tuple[int, int], row: struct.Struct
) -> list[tuple[int, ...]]:
    """The rows of a table that the header of a file names."""
    (start,) = layout.header.unpack_from(head, places[0])
    size, count, _ = layout.counts.unpack_from(head, places[1])
    if not count:
        return []
    if not row.size <= size <= _MOST_HEADER_BYTES:
        raise ValueError("a table has rows of another size")
    content = read(start, size * count)
    return [row.unpack_from(content, at) for at in range(0, size * count, size)]


def _head(read: ReadAt) -> tuple[bytes, _Layout] | None:
    """The header of an ELF file and its layout; None for what is none."""
    head = read(0, 64)
    layout = _layout(head) if len(head) > 5 else None
    return None if layout is None else (head, layout)


def _section(read: ReadAt, name: bytes, most_bytes: int) -> bytes | None:
    if (found := _head(read)) is None:
        return None
    head, layout = found
    sections = _table(read, head, layout, layout.sections, layout.section)
    if not sections:
        return None
    _, _, index = layout.counts.unpack_from(head, layout.sections[1])
    names = sections[index] if index < len(sections) else None
    if names is None:
        return None
    for section in sections:
        if read(names[4] + section[0], len(name) + 1) == name + b"\0":
            _, _, _, _, offset, size, *_ = section
            return read(offset, size) if size <= most_bytes else None
    return b""


def _entries(read: ReadAt) -> Mapping[int, list[str]] | None:
    """The strings of the first dynamic segment by kind, as they stand there; None for no ELF."""
    if (head := _head(read)) is None:
        return None
    layout = head[1]
    loaded: list[tuple[int, int, int]] = []
    dynamic: tuple[int, int] | None = None
    for fields in _table(read, *head, layout.segments, layout.segment):
        kind, offset, address, length = (fields[each] for each in layout.segment_fields)
        if kind == _PT_LOAD:
            loaded.append((offset, address, length))
        elif kind == _PT_DYNAMIC and dynamic is None:
            dynamic = offset, length
    found: dict[int, list[str]] = defaultdict(list)
    if dynamic is None:
        return found
    places: list[tuple[int, int]] = []
    strings: int | None = None
    content = read(dynamic[0], min(dynamic[1], _DYNAMIC_ENTRIES * layout.entry.size))
    for start in range(0, len(content) - layout.entry.size + 1, layout.entry.size):
        tag, value = layout.entry.unpack_from(content, start)
        if tag == _DT_NULL:
            break
        if tag == _DT_STRTAB:
            strings = _offset_of(value, loaded)
        elif tag in (_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH):
            places.append((tag, value))
    if strings is not None:
        for tag, place in places:
            name = read(strings + place, _NAME_BYTES)
            found[tag].append(os.fsdecode(name.partition(b"\0")[0]))
    return found


def _offset_of(address: int, loaded: Iterable[tuple[int, int, int]]) -> int | None:
    """Where in the file an address of the loaded program is."""
    for offset, start, length in loaded:
        if start <= address < start + length:
            return offset + address - start
    return None


def _directories(run_paths: Iterable[str], origin: str) -> Iterator[str]:
    """The absolute directories among colon-separated paths; `origin` stands for ``$ORIGIN``."""
    for folder in ":".join(run_paths).split(":"):
        expanded = folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
        if expanded.startswith("/") and "$" not in expanded:
            yield expanded
