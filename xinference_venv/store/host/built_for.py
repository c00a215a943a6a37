"""What the extension modules of the host's distributions were built for, beyond their metadata.

Comes in: the shared objects of a distribution, and the import names of the compiled ones that it
requires. Comes out: with which of these they work closely, and which versions of NumPy serve.
A wheel's metadata tells neither. But whoever uses the C interface of another module imports that
by its name, which therefore stands among the constants of the shared object (or, for C++, in the
names of its symbols). And NumPy's headers since 2.0 compile into a module which NumPy is the
oldest one that serves it:
https://numpy.org/doc/stable/dev/depending_on_numpy.html#build-time-dependency
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from packaging.version import Version

from xinference_venv.store.host.elf import read_section
from xinference_venv.store.stamp import Stamp, stamp_of

NUMPY = "numpy"
# Of numpy/__multiarray_api.h since 2.0, and before.
_LOWEST_NUMPY = re.compile(
    rb"module was compiled against NumPy C-API version 0x%x \(NumPy (\d+\.\d+)\)"
)
_EARLIER_NUMPY = b"module compiled against API version 0x%x but this version of numpy"
_CONSTANTS = (".rodata", ".dynstr")
# Larger constants are of programs for accelerators.
_READ_BYTES = 64_000_000
_KEPT_ANSWERS = 50_000


def built_with(objects: Iterable[str], others: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """The names of those `others` whose modules a distribution's shared objects may use directly.

    `others` gives the import names of each, `objects` are absolute paths. What can't be read may
    use all of them.
    """
    words = {name: [each.encode() for each in modules] for name, modules in others.items()}
    every = tuple(sorted({word for each in words.values() for word in each}))
    named: set[bytes] = set()
    for path in objects:
        found = _named_in(path, stamp_of(path), every)
        if found is None:
            return tuple(sorted(others))
        named |= found
    return tuple(sorted(name for name, each in words.items() if not named.isdisjoint(each)))


def numpy_range(objects: Iterable[str], version: str) -> str | None:
    """The versions of NumPy that serve a distribution's shared objects, as a specifier.

    `version` is the one that is there. None where they don't tell: built for a NumPy before 2.0,
    or not readable.
    """
    major = Version(version).major
    lowest = Version(str(major))
    for path in objects:
        found = _lowest_numpy(path, stamp_of(path))
        if found is None:
            return None
        lowest = max([lowest, *map(Version, found)])
    # Modules that find NumPy's functions by themselves serve one major version at least.
    return f">={lowest},<{major + 1}"


@lru_cache(maxsize=_KEPT_ANSWERS)
def _named_in(path: str, stamp: Stamp, words: Sequence[bytes]) -> frozenset[bytes] | None:
    constants = _constants(path)
    if constants is None:
        return None
    return frozenset(word for word in words if word in constants)


@lru_cache(maxsize=_KEPT_ANSWERS)
def _lowest_numpy(path: str, stamp: Stamp) -> tuple[str, ...] | None:
    constants = _constants(path)
    if constants is None or _EARLIER_NUMPY in constants:
        return None
    return tuple(found.decode() for found in _LOWEST_NUMPY.findall(constants))


def _constants(path: str) -> bytes | None:
    """The read-only data and the symbols' names of an ELF file; None where these can't be read."""
    sections = [read_section(path, name, most_bytes=_READ_BYTES) for name in _CONSTANTS]
    return None if None in sections else b"\n".join(each for each in sections if each is not None)
