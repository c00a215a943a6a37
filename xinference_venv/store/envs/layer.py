"""The layer of links, ``inherited/``, through which an environment shows a part of the host.

Each entry of the host's search path has a folder in the layer. An entry of it that belongs to
shown distributions alone becomes one link, one that belongs to hidden ones alone is left out,
and a directory that belongs to both a real directory whose entries are decided each. Where nothing
is left out of a folder, it is one link itself. The layer lies apart from the environment's own
site-packages, since installers write through links that they meet there.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from packaging.utils import canonicalize_name

from xinference_venv.errors import StoreError
from xinference_venv.planning.host import HostDistribution, HostFacts, Interpreter
from xinference_venv.planning.view import ADDS_SITE, Script
from xinference_venv.sentences import sentence
from xinference_venv.store.atomic import Disk, details_of
from xinference_venv.store.envs.compose import script_text
from xinference_venv.store.packages.record_file import recorded_files
from xinference_venv.store.paths import LAYER_NAME
from xinference_venv.store.visit import read_text

# Sorts after the .pth files of packages, so that the environment's own come first.
PTH_NAME = "zzzz-xinference-venv-inherited.pth"


@dataclass(frozen=True, kw_only=True)
class _Owner:
    """A distribution with files in a location, and whether these are to be shown."""

    distribution: HostDistribution
    shown: bool

    @cached_property
    def files(self) -> list[str]:
        """Its files inside its location, as far as they are known."""
        return recorded_files(self.distribution.location, self.distribution)

    @property
    def entries(self) -> set[str]:
        """The names in its location that it has files under."""
        known = self.distribution.entries or {path.partition("/")[0] for path in self.files}
        return {*known, self.distribution.metadata}


_Owners = Mapping[str, Sequence[_Owner]]


def make_layer(
    disk: Disk, env: Path, host: HostFacts, shown: Collection[str], *, unowned: bool
) -> None:
    """Make the layer of an environment; nothing shows it before `show_layer`.

    `shown` names the host distributions to show; `unowned` says whether what belongs to no
    distribution is shown too.
    """
    locations = host.interpreter.search_path
    try:
        owners = {location: _owners_in(location, host, shown) for location in locations}
        left_out = _only_added_by_hidden(owners) if unowned else set()
        for number, location in enumerate(locations):
            folder = env / LAYER_NAME / str(number)
            is_left_out = os.path.realpath(location) in left_out
            if unowned and not is_left_out and _is_shown_whole(location, owners[location]):
                disk.make_directory(folder.parent)
                os.symlink(location, folder)
                continue
            disk.make_directory(folder)
            if not is_left_out:
                _link_entries(location, str(folder), owners[location], "", unowned=unowned)
    except OSError as error:
        message = sentence("could not link the host's packages: {error}", error=error)
        raise StoreError(message, details_of(error, env)) from error


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


def _is_shown_whole(location: str, owners: _Owners) -> bool:
    """Whether a layer that shows what nothing owns leaves nothing out of a location."""
    if not all(owner.shown for own in owners.values() for owner in own):
        return False
    with os.scandir(location) as entries:
        return not any(entry.name == PTH_NAME or _added_paths(entry) for entry in entries)


def _link_entries(source: str, target: str, owners: _Owners, prefix: str, *, unowned: bool) -> None:
    """Link the entries of a directory that are to be shown; without any, `target` is not made.

    `prefix` is the path of `source` below its location, with a slash at its end.
    """
    made = not prefix
    with os.scandir(source) as entries:
        for entry in entries:
            name = entry.name
            if name == "__pycache__":
                # What no RECORD names, bytecode of other Pythons, must not keep a hidden package's
                # folder: it could be imported.
                continue
            if name == PTH_NAME:
                # Of a host that is an environment of ours: here it would show this very layer.
                continue
            own = owners.get(name, ())
            kinds = {owner.shown for owner in own}
            if len(kinds) == 2 and entry.is_dir():
                path = f"{prefix}{name}/"
                below = _owners_below(own, path)
                rest = _shows_rest(own, unowned)
                _link_entries(entry.path, f"{target}/{name}", below, path, unowned=rest)
            elif (True in kinds if own else unowned) and not (
                # The paths that it adds are entries of the search path themselves.
                unowned and not prefix and _added_paths(entry)
            ):
                if not made:
                    # It may be there, made with a directory below it.
                    os.makedirs(target, exist_ok=True)
                    made = True
                os.symlink(entry.path, f"{target}/{name}")


def _shows_rest(owners: Iterable[_Owner], unowned: bool) -> bool:
    """Whether files that no list names are shown in a directory of shown and hidden owners.

    One without a list of its files may own them: a shown one is given the benefit, a hidden
    one makes hiding them sure.
    """
    without_list = [owner.shown for owner in owners if not owner.distribution.recorded]
    return True in without_list or (unowned and False not in without_list)


def _owners_below(owners: Iterable[_Owner], prefix: str) -> _Owners:
    below: dict[str, list[_Owner]] = defaultdict(list)
    for owner in owners:
        names = {
            path[len(prefix) :].partition("/")[0] for path in owner.files if path.startswith(prefix)
        }
        for name in names:
            below[name].append(owner)
    return below


def _owners_in(location: str, host: HostFacts, shown: Collection[str]) -> _Owners:
    """Who owns each entry of a location.

    A later copy of a distribution, which the host's first one covers, belongs to it: where the
    first is hidden it would come to light.
    """
    here = {each.metadata: each for each in host.distributions if each.location == location}
    for entry in os.listdir(location):
        stem, kind = os.path.splitext(entry)
        if kind not in (".dist-info", ".egg-info") or entry in here:
            continue
        first = host.by_name.get(canonicalize_name(stem.partition("-")[0]))
        if first is not None:
            here[entry] = replace(first, location=location, metadata=entry, entries=())
    owners: dict[str, list[_Owner]] = defaultdict(list)
    for each in here.values():
        owner = _Owner(distribution=each, shown=each.name in shown)
        for name in owner.entries:
            owners[name].append(owner)
    return owners


def _only_added_by_hidden(owners: Mapping[str, _Owners]) -> set[str]:
    """The real paths of locations that only ``.pth`` files of hidden distributions add."""
    added: dict[bool, set[str]] = {True: set(), False: set()}
    for location, own in owners.items():
        with os.scandir(location) as entries:
            for entry in entries:
                hidden = any(not owner.shown for owner in own.get(entry.name, ()))
                for path in _added_paths(entry):
                    added[hidden].add(os.path.realpath(os.path.join(location, path)))
    return added[True] - added[False]


def _added_paths(entry: os.DirEntry[str]) -> list[str]:
    """The paths that a ``.pth`` file adds, when it does nothing else."""
    if not entry.name.endswith(".pth"):
        return []
    try:
        lines = read_text(entry.path, errors="replace").splitlines()
    except OSError:
        return []
    paths = []
    for line in lines:
        if (added := ADDS_SITE.fullmatch(line)) is not None:
            paths.append(added["path"])
        elif line.startswith(("import ", "import\t")):
            return []
        elif line.strip() and not line.startswith("#"):
            paths.append(line.strip())
    return paths


def add_scripts(env: Path, shown: Iterable[HostDistribution]) -> None:
    """Generate the console scripts of inherited distributions, in a folder that is private yet."""
    for each in shown:
        for script in each.scripts:
            name, _, place = script.partition(" = ")
            module, _, attribute = place.partition(":")
            if "/" in name or not attribute:
                continue
            text = script_text(Script(name=name, module=module, attribute=attribute))
            path = f"{env}/bin/{name}"
            try:
                # What is installed has its own.
                with suppress(FileExistsError):
                    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
                    with os.fdopen(opened, "wb") as file:
                        file.write(text.encode())
            except OSError as error:
                message = sentence("could not write {path}: {error}", path=path, error=error)
                raise StoreError(message, details_of(error, Path(path))) from error


def link_data_files(
    disk: Disk, env: Path, host: Interpreter, shown: Iterable[HostDistribution]
) -> None:
    """Link the data files of inherited distributions at their places."""
    prefix = Path(host.executable).parent.parent
    for each in shown:
        for name in each.data_files:
            path, source = env / name, prefix / name
            if not path.is_symlink() and not path.exists() and source.is_file():
                disk.swap_link(path, source)
