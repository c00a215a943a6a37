"""What an environment has of its own, and how that gets into the one that replaces it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from packaging.utils import canonicalize_name

from xinference_venv.errors import StoreError
from xinference_venv.planning.host import HostDistribution, Interpreter
from xinference_venv.store.atomic import details_of
from xinference_venv.store.copies import copy_file
from xinference_venv.store.envs.inspect import site_packages_of
from xinference_venv.store.envs.real_files import is_never_written
from xinference_venv.store.host.scan import scan_distributions
from xinference_venv.store.packages.record_file import read_file_list
from xinference_venv.store.paths import IN_PLACE_RECORD_NAME, LAYER_NAME
from xinference_venv.store.use_lock import HOOK_NAMES
from xinference_venv.xinference.path_guard import GUARD_NAMES
from xinference_venv.xinference.swap import UNFINISHED

# By which Xinference knows that an environment needs no further step. After a change it does.
SETUP_MARK = ".xinference_setup_done"
_NOT_CARRIED = frozenset(
    {LAYER_NAME, IN_PLACE_RECORD_NAME, SETUP_MARK, "__pycache__", *GUARD_NAMES, *HOOK_NAMES}
)


def contents_of(env: Path) -> tuple[str, ...]:
    """The names of the metadata folders in its site-packages."""
    try:
        names = os.listdir(site_packages_of(env))
    except FileNotFoundError:
        return ()
    return tuple(sorted(name for name in names if name.endswith((".dist-info", ".egg-info"))))


def own_names(env: Path) -> dict[str, str]:
    """The metadata folders in its site-packages, each with the name that it begins with.

    The folder's name tells it (``name-version.dist-info``): no file is read.
    """
    return {
        folder: canonicalize_name(folder.rpartition(".")[0].partition("-")[0])
        for folder in contents_of(env)
    }


def own_distributions(env: Path, interpreter: Interpreter) -> tuple[HostDistribution, ...]:
    """The distributions that an environment has itself, in the form of facts of a host."""
    site = str(site_packages_of(env))
    there = replace(interpreter, executable=str(env / "bin" / "python"), search_path=(site,))
    found, _ = scan_distributions(there)
    return tuple(each for each in found if each.location == site)


def carry_over(
    old: Path,
    new: Path,
    *,
    kept: Iterable[HostDistribution],
    gone: Iterable[HostDistribution],
    host: Iterable[HostDistribution],
    with_setup: bool,
) -> None:
    """Put into `new` what `old` has beyond it, packages and files of its users: the same files
    where they are its own, else copies.

    `with_setup` is that Xinference has set up the old one. Left behind are the files of the
    distributions `gone`, what was made for the `host`'s (scripts, data files), and what belongs
    to the state of `old` alone. What `new` has stays.
    """
    made_for_host = {
        *(
            str(old / "bin" / script.partition(" = ")[0])
            for each in host
            for script in each.scripts
        ),
        *(str(old / path) for each in host for path in each.data_files),
    }
    behind = (made_for_host | _files_of(gone)) - _files_of(kept)
    try:
        _carry(str(old), str(new), behind)
        if with_setup and (old / SETUP_MARK).exists():
            copy_file(old / SETUP_MARK, new / SETUP_MARK)
    except OSError as error:
        message = f"could not keep what is in {old}: {error}"
        raise StoreError(message, details_of(error, old)) from error


def _files_of(distributions: Iterable[HostDistribution]) -> set[str]:
    files = set()
    for each in distributions:
        listed = read_file_list(each.location, each.name, each.metadata)
        files |= {os.path.join(each.location, path) for path in listed.inside}
        files |= {*listed.outside, os.path.join(each.location, each.metadata)}
    return files


def _carry(old: str, new: str, behind: Collection[str]) -> None:
    with os.scandir(old) as entries:
        for entry in entries:
            target = f"{new}/{entry.name}"
            if entry.name in _NOT_CARRIED or entry.path in behind:
                continue
            if entry.name.endswith(UNFINISHED):
                # A crash left it.
                continue
            if entry.is_dir(follow_symlinks=False):
                _carry(entry.path, target, behind)
            elif not os.path.lexists(target):
                # Only now: a folder of which nothing stays would be a package of its own.
                os.makedirs(new, exist_ok=True)
                _link(entry, target)


def _link(entry: os.DirEntry[str], target: str) -> None:
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), target)
        return
    if _is_shared(entry):
        copy_file(entry.path, target)
        return
    try:
        os.link(entry.path, target)
    except OSError:
        # The file system has no hard links, or no more of this file.
        copy_file(entry.path, target)


def _is_shared(entry: os.DirEntry[str]) -> bool:
    """Whether a file is one with that of another place, and may be written into.

    An environment that another program made shares its files with uv's cache: what is written
    into one in place would be in every environment.
    """
    found = entry.stat(follow_symlinks=False)
    return found.st_nlink > 1 and not is_never_written(entry.name, found.st_size)
