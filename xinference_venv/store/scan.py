"""The host's distributions, read from its site directories, and whether they changed since.

Comes in: an `Interpreter` with its search path. Comes out: `HostDistribution` nouns, and stamps
of every file that decides them. A directory's own time misses an edited file, so each metadata
file, each ``.pth``, the customization modules and the interpreter are stamped one by one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PathDistribution
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from xinference_venv.host import HostDistribution, Interpreter
from xinference_venv.store.disk import Stamp, stamp_of

_METADATA_FILES = ("METADATA", "PKG-INFO", "requires.txt")
_CUSTOMIZATION = ("sitecustomize.py", "usercustomize.py")


def scan_distributions(
    search_path: Iterable[str],
) -> tuple[tuple[HostDistribution, ...], tuple[str, ...]]:
    """Every distribution in the order of the search path, the first of a name wins.

    Also what was skipped, each with the reason: metadata that can't be read, a version that is
    none (PEP 440), a requirement that is none (PEP 508).
    """
    found: dict[str, HostDistribution] = {}
    skipped: list[str] = []
    for location in search_path:
        for entry in _metadata_entries(location):
            read = _read(location, entry, skipped)
            if read is not None:
                found.setdefault(read.name, read)
    return tuple(found.values()), tuple(skipped)


def stamp_all(interpreter: Interpreter, extra: Iterable[str] = ()) -> dict[str, Stamp]:
    """A stamp of everything that decides what the interpreter sees; empty for what is absent."""
    paths = [interpreter.executable, interpreter.base_executable, *extra]
    paths.append(str(Path(interpreter.executable).parent.parent / "pyvenv.cfg"))
    for location in interpreter.search_path:
        paths.append(location)
        names = _names(location)
        paths += [os.path.join(location, name) for name in names if name.endswith(".pth")]
        paths += [os.path.join(location, name) for name in _CUSTOMIZATION]
        for entry in _metadata_entries(location):
            path = os.path.join(location, entry)
            paths += (
                [os.path.join(path, name) for name in _METADATA_FILES]
                if os.path.isdir(path)
                else [path]
            )
    return {path: stamp_of(path) for path in paths}


def unchanged(stamps: Mapping[str, Stamp]) -> bool:
    """Whether every stamp is as it was."""
    return all(stamp_of(path) == stamp for path, stamp in stamps.items())


def _names(location: str) -> list[str]:
    try:
        return sorted(os.listdir(location))
    except OSError:
        return []


def _metadata_entries(location: str) -> Iterator[str]:
    return (name for name in _names(location) if name.endswith((".dist-info", ".egg-info")))


def _read(location: str, entry: str, skipped: list[str]) -> HostDistribution | None:
    place = os.path.join(location, entry)
    distribution = PathDistribution(Path(place))
    try:
        metadata = distribution.metadata
        name = canonicalize_name((metadata.get_all("Name") or [""])[0], validate=True)
        version = Version((metadata.get_all("Version") or [""])[0])
    except (InvalidName, InvalidVersion):
        skipped.append(f"{place}: no valid name and version")
        return None
    except (OSError, UnicodeDecodeError) as error:
        skipped.append(f"{place}: {error}")
        return None
    requires = []
    for text in distribution.requires or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            skipped.append(f"{place}: requirement {text!r} is not valid")
            continue
        # A host's copy serves whatever URL it once came from.
        requirement.url = None
        requires.append(str(requirement))
    return HostDistribution(
        name=name,
        version=str(version),
        requires=tuple(requires),
        extras=tuple(metadata.get_all("Provides-Extra") or ()),
        location=location,
        metadata=entry,
    )
