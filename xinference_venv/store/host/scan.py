"""The host's distributions, read from its site directories, and whether they changed since.

Comes in: an `Interpreter` with its search path. Comes out: `HostDistribution` nouns, and stamps
of the files that decide them. A directory's own time misses an edited file, so metadata files,
each ``.pth``, the customization modules and the interpreter are stamped one by one.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypedDict

from xinference_venv.planning.host import HostDistribution, Interpreter
from xinference_venv.store.host.metadata import read_metadata
from xinference_venv.store.metadata_files import required_name
from xinference_venv.store.packages.record_file import FileList, read_file_list, shared_objects
from xinference_venv.store.stamp import Stamp, renew, stamp_with_content
from xinference_venv.store.visit import read_text

# Installers replace a metadata folder whole, which its parent's stamp tells. Of the files in it,
# those are stamped that people edit in place: two microseconds each, of hundreds.
_EGG_FILES = ("PKG-INFO", "requires.txt")
_CUSTOMIZATION = ("sitecustomize.py", "usercustomize.py")
_SCRIPT_FOLDERS = ("bin/", "Scripts/")
# A link of each is made in every environment that shows its distribution.
_DATA_FILES = 1000


# Wheels ship these by mistake; they are not imported, so sharing one splits no namespace.
_STRAY_PACKAGES = frozenset({"docs", "examples", "test", "tests"})


def scan_distributions(
    interpreter: Interpreter,
) -> tuple[tuple[HostDistribution, ...], tuple[str, ...]]:
    """As `read_distributions`, and what the files of each distribution tell."""
    found, skipped = read_distributions(interpreter)
    return tuple(_with_files(found, interpreter)), skipped


def read_distributions(
    interpreter: Interpreter,
) -> tuple[tuple[HostDistribution, ...], tuple[str, ...]]:
    """Every distribution by its metadata alone: those of its fields that files tell are empty.

    In the order of the search path, the first of a name wins. Also what was skipped, each with the
    reason: metadata that can't be read, a version that is none (PEP 440), a requirement that is
    none (PEP 508), a project that is linked and not found.
    """
    locations = tuple(dict.fromkeys(interpreter.search_path))
    found: dict[str, HostDistribution] = {}
    skipped: list[str] = []
    linked = _linked_projects(locations, skipped)
    for location in locations:
        project = os.path.realpath(location)
        for entry in _metadata_entries(location):
            read = read_metadata(location, entry, skipped)
            if read is None:
                continue
            if project in linked and read.direct_url is None:
                read = replace(read, direct_url=Path(project).as_uri())
            first = found.setdefault(read.name, read)
            if first is not read and first.location == location:
                skipped.append(f"{os.path.join(location, entry)}: {first.metadata} is there too")
    return tuple(found.values()), tuple(skipped)


def prefix_of(interpreter: Interpreter) -> str:
    """The directory that holds the interpreter's ``bin``, ``lib`` and data files."""
    return os.path.dirname(os.path.dirname(interpreter.executable))


def stamp_all(interpreter: Interpreter, extra: Iterable[str] = ()) -> dict[str, Stamp]:
    """A stamp of everything that decides what the interpreter sees; empty for what is absent."""
    paths = [interpreter.executable, interpreter.base_executable, *extra]
    paths.append(os.path.join(prefix_of(interpreter), "pyvenv.cfg"))
    base = os.path.dirname(os.path.dirname(interpreter.base_executable))
    standard_library = os.path.join(base, "lib", f"python{interpreter.minor_version}")
    paths += [os.path.join(standard_library, name) for name in _CUSTOMIZATION]
    for location in interpreter.search_path:
        paths.append(location)
        paths += [os.path.join(location, name) for name in _CUSTOMIZATION]
        for name in _names(location):
            path = os.path.join(location, name)
            if name.endswith(".pth"):
                paths += [path, *_absent_paths(location, name)]
            elif name.endswith(".egg-link"):
                paths.append(path)
        for entry in _metadata_entries(location):
            path = os.path.join(location, entry)
            if os.path.isdir(path):
                names = ("METADATA",) if entry.endswith(".dist-info") else _EGG_FILES
                paths += [os.path.join(path, name) for name in names]
            else:
                paths.append(path)
    return {path: stamp_with_content(path) for path in paths}


def renew_all(stamps: Mapping[str, Stamp]) -> dict[str, Stamp] | None:
    """The stamps as they are now if nothing has changed since these were taken, else None."""
    renewed = {}
    for path, stamp in stamps.items():
        now = renew(path, stamp)
        if now is None:
            return None
        renewed[path] = now
    return renewed


def _names(location: str) -> list[str]:
    try:
        return sorted(os.listdir(location))
    except OSError:
        return []


def _metadata_entries(location: str) -> Iterator[str]:
    """The metadata folders and files; in an egg, which is a location by itself, its only one."""
    in_egg = ("EGG-INFO",) if location.endswith(".egg") else ()
    kinds = (".dist-info", ".egg-info", *in_egg)
    return (name for name in _names(location) if name.endswith(kinds))


def _linked_projects(locations: Iterable[str], skipped: list[str]) -> set[str]:
    """The real paths of projects that an ``.egg-link`` names, installed for development."""
    real = {os.path.realpath(location) for location in locations}
    linked = set()
    for location in locations:
        for name in _names(location):
            if not name.endswith(".egg-link"):
                continue
            first, *_ = [*_lines(os.path.join(location, name)), ""]
            project = os.path.realpath(os.path.join(location, first))
            if first and project in real:
                linked.add(project)
            else:
                skipped.append(
                    f"{os.path.join(location, name)}: {project} is not on the search path"
                )
    return linked


def _absent_paths(location: str, pth: str) -> list[str]:
    """The directories that a ``.pth`` file names and that are not there: they may come."""
    paths = [
        os.path.join(location, line)
        for line in _lines(os.path.join(location, pth))
        if not line.startswith(("#", "import ", "import\t"))
    ]
    return [path for path in paths if not os.path.exists(path)]


def _lines(file: str) -> list[str]:
    try:
        text = read_text(file, errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def _with_files(
    distributions: Iterable[HostDistribution], interpreter: Interpreter
) -> Iterator[HostDistribution]:
    """The distributions with what their files tell, of each alone and of all together."""
    from xinference_venv.store.host.elf import bound_distributions

    found = {each.name: each for each in distributions}
    locations = tuple(dict.fromkeys(interpreter.search_path))
    prefix = prefix_of(interpreter)
    files = {
        name: read_file_list(each.location, name, each.metadata) for name, each in found.items()
    }
    objects = _objects(found, files)
    bound = bound_distributions(objects)
    shares = _shares(found, files)
    entries = {name: _entries(each.metadata, files[name]) for name, each in found.items()}
    for name, each in found.items():
        yield replace(
            each,
            recorded=files[name].recorded,
            entries=entries[name],
            data_files=tuple(islice(_data_files(files[name], locations, prefix), _DATA_FILES)),
            programs=tuple(_programs(each, files[name], prefix)),
            compiled=bool(objects[name]),
            bound_to=bound[name],
            shares=shares[name],
            **_built_for(each, objects, found, entries),
        )


class _BuiltFor(TypedDict):
    built_with: tuple[str, ...] | None
    numpy_range: str | None


def _built_for(
    each: HostDistribution,
    objects: Mapping[str, Sequence[str]],
    found: Mapping[str, HostDistribution],
    entries: Mapping[str, Sequence[str]],
) -> _BuiltFor:
    """With which of the compiled distributions that it requires it was built, and for which
    versions of NumPy; `entries` are what each distribution has at the top.
    """
    from xinference_venv.store.host.built_for import NUMPY, built_with, numpy_range

    if not objects[each.name]:
        return {"built_with": (), "numpy_range": None}
    required = {required_name(text) for text in each.requires}
    others: dict[str, set[str]] = {
        name: {entry.partition(".")[0] for entry in entries[name] if entry != found[name].metadata}
        for name in required & objects.keys() - {each.name}
        if objects[name]
    }
    if not others:
        return {"built_with": (), "numpy_range": None}
    partners = built_with(objects[each.name], others)
    versions = numpy_range(objects[each.name], found[NUMPY].version) if NUMPY in partners else None
    return {"built_with": partners, "numpy_range": versions}


def _objects(
    found: Mapping[str, HostDistribution], files: Mapping[str, FileList]
) -> dict[str, list[str]]:
    """The shared objects by distribution; one without list has what no other's list names."""
    objects = {name: shared_objects(each.location, files[name]) for name, each in found.items()}
    listed = {path for name, paths in objects.items() if files[name].recorded for path in paths}
    return {
        name: paths if files[name].recorded else [path for path in paths if path not in listed]
        for name, paths in objects.items()
    }


def _shares(
    found: Mapping[str, HostDistribution], files: Mapping[str, FileList]
) -> dict[str, tuple[str, ...]]:
    """By name of a distribution, those that own an ``__init__.py`` of a package of its."""
    owners: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, each in found.items():
        for path in files[name].inside:
            if path.endswith("/__init__.py") and path.partition("/")[0] not in _STRAY_PACKAGES:
                owners[each.location, path].add(name)
    shares: dict[str, set[str]] = defaultdict(set)
    for names in owners.values():
        if len(names) > 1:
            for name in names:
                shares[name] |= names - {name}
    return {name: tuple(sorted(shares[name])) for name in found}


def _entries(metadata: str, files: FileList) -> tuple[str, ...]:
    tops = {path.partition("/")[0] for path in files.inside}
    return tuple(sorted({*tops, metadata} - {"__pycache__"}))


def _data_files(files: FileList, locations: Iterable[str], prefix: str) -> Iterator[str]:
    """Recorded files outside of every location, relative to the prefix that they lie in."""
    prefix = os.path.join(prefix, "")
    places = tuple(os.path.join(location, "") for location in locations)
    for path in files.outside:
        relative = path.removeprefix(prefix)
        if path.startswith(prefix) and not (
            path.startswith(places) or relative.startswith(_SCRIPT_FOLDERS)
        ):
            yield relative


def _programs(each: HostDistribution, files: FileList, prefix: str) -> Iterator[str]:
    """Recorded files in ``bin`` that are no scripts of entry points, relative to the prefix."""
    scripts = {text.partition(" = ")[0] for text in each.scripts}
    folder = os.path.join(prefix, "bin", "")
    for path in files.outside:
        name = path.removeprefix(folder)
        if path.startswith(folder) and "/" not in name and name not in scripts:
            yield f"bin/{name}"
