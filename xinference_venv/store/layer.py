"""The layer of links, ``inherited/``, through which an environment shows a part of the host.

Each entry of the host's search path has a folder in the layer. What belongs to hidden
distributions is left out: a host directory without any of it becomes one link, one with some of
it a real directory whose entries are decided each. The layer lies apart from the environment's
own site-packages, since installers write through links that they meet there.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from packaging.utils import canonicalize_name

from xinference_venv.errors import StoreError
from xinference_venv.host import HostDistribution
from xinference_venv.store.disk import Disk
from xinference_venv.store.layout import LAYER_NAME

# Sorts after the .pth files of packages, so that the environment's own come first.
PTH_NAME = "zzzz-xinference-venv-inherited.pth"

# A folder's entries that hold something hidden; None for a file that is hidden itself.
_Hidden: TypeAlias = "dict[str, _Hidden | None]"


def make_layer(
    disk: Disk,
    env: Path,
    search_path: Sequence[str],
    hidden: Collection[HostDistribution],
) -> None:
    """Make the layer of an environment; nothing shows it before `show_layer`."""
    for number, location in enumerate(search_path):
        folder = env / LAYER_NAME / str(number)
        disk.make_directory(folder)
        try:
            tree = _hidden_tree(location, _hidden_in(location, hidden))
            _link_entries(location, str(folder), tree, top=True)
        except OSError as error:
            raise StoreError(f"could not link what is in {location}: {error}") from error


def show_layer(disk: Disk, site_packages: Path, search_path: Sequence[str]) -> None:
    """Let the environment's interpreter see its layer.

    Only once the environment is complete: uv asks its interpreter, which would run whatever
    the host's own ``.pth`` files run.
    """
    lines = [
        "import os, site, sys; "
        f"site.addsitedir(os.path.join(sys.prefix, {LAYER_NAME!r}, {str(number)!r}))\n"
        for number in range(len(search_path))
    ]
    disk.write(site_packages / PTH_NAME, "".join(lines).encode(), durable=False)


def _link_entries(source: str, target: str, hidden: _Hidden, *, top: bool = False) -> None:
    """Link a directory's entries, but what is hidden; without any, `target` is not made."""
    made = top
    with os.scandir(source) as entries:
        for entry in entries:
            name = entry.name
            if name == "__pycache__":
                # Bytecode is kept apart for model processes. That of other versions, which no
                # RECORD names, must not keep a hidden package's folder: it could be imported.
                continue
            if name in hidden:
                inner = hidden[name]
                if inner is not None and entry.is_dir():
                    _link_entries(entry.path, f"{target}/{name}", inner)
            elif top and _only_adds_paths(entry):
                # The paths that it adds are entries of the search path themselves.
                continue
            else:
                if not made:
                    # It may be there, made with a directory below it.
                    os.makedirs(target, exist_ok=True)
                    made = True
                os.symlink(entry.path, f"{target}/{name}")


def _only_adds_paths(entry: os.DirEntry[str]) -> bool:
    if not entry.name.endswith(".pth"):
        return False
    lines = Path(entry.path).read_text("utf-8", "replace").splitlines()
    return not any(line.startswith(("import ", "import\t")) for line in lines)


def _hidden_in(location: str, hidden: Iterable[HostDistribution]) -> list[HostDistribution]:
    """The hidden distributions of a location, and copies of theirs that the host itself covers.

    Where the first of a name on the search path is hidden, a later one would come to light.
    """
    by_name = {each.name: each for each in hidden}
    here = {each.metadata: each for each in by_name.values() if each.location == location}
    for entry in os.listdir(location):
        stem, kind = os.path.splitext(entry)
        covered = by_name.get(canonicalize_name(stem.partition("-")[0]))
        if covered is not None and kind in (".dist-info", ".egg-info"):
            here.setdefault(entry, replace(covered, location=location, metadata=entry))
    return list(here.values())


def _hidden_tree(location: str, distributions: Iterable[HostDistribution]) -> _Hidden:
    tree: _Hidden = {}
    for each in distributions:
        for path in recorded_files(location, each):
            parts = path.split("/")
            node = tree
            for part in parts[:-1]:
                inner = node.setdefault(part, {})
                if inner is None:
                    break
                node = inner
            else:
                node[parts[-1]] = None
        tree[each.metadata] = None
    return tree


def recorded_files(location: str, distribution: HostDistribution) -> list[str]:
    """A distribution's files inside its location, from its RECORD or older kinds of lists.

    Without any list the files can't be known; then its import names are taken from
    ``top_level.txt``, else its own name, each as a module and as a package.
    """
    metadata = Path(location, distribution.metadata)
    record = [row[0] for row in csv.reader(_lines(metadata / "RECORD")) if row]
    if record:
        return _inside(record)
    installed = _lines(metadata / "installed-files.txt")
    if installed:
        return _inside(os.path.join(distribution.metadata, line) for line in installed)
    names = _lines(metadata / "top_level.txt") or [distribution.name.replace("-", "_")]
    return [entry for name in names for entry in (name, f"{name}.py")]


def _lines(file: Path) -> list[str]:
    """The lines of a file list that are not blank; none where there is no such list."""
    try:
        lines = file.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()]


def _inside(names: Iterable[str]) -> list[str]:
    normal = (os.path.normpath(name) if "./" in name else name for name in names)
    return [name for name in normal if not name.startswith(("..", "/"))]
