"""What older versions left under the virtualenv directory: found, shown, removed, taken over.

v1 {model_name}                                  v3 v3/{model_name}/{python_version}
v2 v2/{model_name}                               v4 v4/{model_name}/{model_engine}/{python_version}

All of them are real directories, and nothing but a removal or a launch of the same key changes
them. A link that this program did not make is shown in its place and never followed: where it
leads is not ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.inventory import EnvEntry, users_error
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.sentences import sentence
from xinference_venv.store.atomic import Disk, check_no_link_above
from xinference_venv.store.envs.inspect import site_packages_of
from xinference_venv.store.keys import (
    CONFIGURATION_NAME,
    UNKNOWN,
    KeyPlace,
    env_of_link,
    is_directory,
)
from xinference_venv.store.legacy.sizes import sizes_of
from xinference_venv.store.paths import IN_PLACE_RECORD_NAME, StorePaths
from xinference_venv.store.process_scan import users_of
from xinference_venv.store.use_lock import USE_NAME, hold_unused
from xinference_venv.store.visit import read_text

_NO_MODELS = frozenset({"store", "models", "v2", "v3", "v4"})
_LIBRARIES = re.compile(r"python(\d+\.\d+)")
_MINOR = re.compile(r"\d+\.\d+")
_VERSION = re.compile(r"^version(?:_info)?\s*=\s*(\d+(?:\.\d+)*)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class OldDirectory:
    """A directory, or a link in its place, that an older version left.

    `key` is what it is filtered by, not what it is found by: v1 and v2 name no engine, and their
    Python version is the one that was detected.
    """

    key: EnvKey
    layout: str
    path: Path
    is_link: bool


def old_directories(layout: StorePaths, places: Iterable[KeyPlace]) -> Iterator[OldDirectory]:
    """All that is there; `places` are the key places of the same layout."""
    for key, path, env_id in places:
        if env_id is None and ((is_link := os.path.islink(path)) or os.path.isdir(path)):
            version = os.path.relpath(path, layout.root).partition("/")[0]
            # Engines compare without case, and older versions kept it.
            engine = None if key.model_engine is None else key.model_engine.lower()
            key = replace(key, model_engine=engine)
            yield OldDirectory(key=key, layout=version, path=Path(path), is_link=is_link)
    for entry in _entries(layout.root):
        if entry.name in _NO_MODELS:
            if entry.is_symlink() and entry.name != "models":
                yield _without_engine(entry.name, entry)
        elif os.path.exists(f"{entry.path}/{CONFIGURATION_NAME}"):
            yield _without_engine("v1", entry)
    if is_directory(f"{layout.root}/v2"):
        for entry in _entries(layout.root / "v2"):
            if entry.is_symlink() or entry.is_dir():
                yield _without_engine("v2", entry)


def old_entries(
    layout: StorePaths, disk: Disk, places: Iterable[KeyPlace], wanted: Selection
) -> list[EnvEntry]:
    """The entries of what a filter means, with their users; only then the system is asked.

    Sizes are measured for a second at most: what takes longer is unknown until a later listing.
    """
    found = [each for each in old_directories(layout, places) if wanted.matches(each.key)]
    survey = users_of([each.path for each in found if _may_be_used(each.path)])
    sizes = sizes_of(layout, disk, [each.path for each in found if not each.is_link])
    entries = []
    for old in found:
        entry = EnvEntry(
            key=old.key,
            path=str(old.path),
            real_path=os.path.realpath(old.path),
            state=EnvState.UNMANAGED,
            reason=f"a link to {os.path.realpath(old.path)}" if old.is_link else None,
            size_bytes=sizes.get(old.path),
            python=python_of(old.path),
            layout=old.layout,
            users=survey.users.get(old.path, ()),
            unknown_users=len(survey.unknown),
            created=_created(old.path),
        )
        entries.append(entry if old.is_link else _in_place(disk, old.path, entry))
    return entries


def is_in_place(path: Path) -> bool:
    """Whether the drop-in for Xinference made an environment."""
    return os.path.lexists(path / IN_PLACE_RECORD_NAME)


def _in_place(disk: Disk, path: Path, entry: EnvEntry) -> EnvEntry:
    """The entry of one that the drop-in for Xinference made; else as it is."""
    if not is_in_place(path):
        return entry
    # Looking at what is there needs the rules of packages only for these.
    from xinference_venv.planning.lock import Role
    from xinference_venv.store.in_place import read_in_place

    try:
        record = read_in_place(disk, path)
    except (InvalidRecord, StoreError):
        return entry
    if record is None:
        return entry
    return replace(
        entry,
        state=EnvState.IN_PLACE,
        lock_digest=record.lock.digest,
        python=record.interpreter.version,
        installed=len(record.contents),
        inherited=len(record.lock.with_role(Role.INHERITED)),
        last_used=_modified(path / USE_NAME),
    )


def python_of(env: Path) -> str | None:
    """The Python version that a virtual environment names, or else that of its libraries."""
    with suppress(OSError):
        text = read_text(env / CONFIGURATION_NAME, errors="replace")
        if found := _VERSION.search(text):
            return found[1]
    found = _LIBRARIES.fullmatch(site_packages_of(env).parent.name)
    return found[1] if found else None


def remove_old(layout: StorePaths, disk: Disk, path: Path) -> Path | None:
    """Remove what an older version left, of a link the link alone, and what is empty then.

    Returns where in the trash it lies, to be deleted when no lock is held any more.
    Raises `InUse` for one that a process has begun to use.
    """
    layout.inside(path)
    trashed = None
    if os.path.islink(path):
        disk.unlink(path)
    else:
        # No process starts in it meanwhile.
        with hold_unused(path) as alone:
            users = users_of([path], with_locks=not alone).users.get(path, ())
            if users:
                raise users_error(str(path), users, hint=sentence("end these processes first"))
            trashed = disk.move_to_trash(path, layout.trash)
    for parent in path.parents:
        if parent == layout.root or not disk.remove_empty(parent):
            break
    return trashed


def check_free(layout: StorePaths, key: EnvKey) -> None:
    """Raise `InUse` while a process uses what an older version left in the place of a key's link.

    The directory would have to be renamed, and that is never done under a process. `StoreError`
    says that a link stands in the place of the model or the engine.
    """
    path = layout.key_link(key)
    check_no_link_above(path)
    if env_of_link(str(path), str(layout.envs)) is not None or not _may_be_used(path):
        return
    users = users_of([path]).users.get(path, ())
    if users:
        raise users_error(
            sentence(
                "{path}, which an older version left in the place of the environment of {key},",
                path=path,
                key=key,
            ),
            users,
            hint=sentence("end these processes, or launch under another engine or Python version"),
        )


@contextmanager
def replacing_old(layout: StorePaths, disk: Disk, key: EnvKey) -> Iterator[None]:
    """Make the place of a key's link free for what is done meanwhile; the caller holds its lock.

    The old directory is put back when that fails, and else deleted. Raises
    `InUse` like `check_free`.
    """
    check_free(layout, key)
    path = layout.key_link(key)
    trashed = disk.move_to_trash(path, layout.trash) if is_directory(str(path)) else None
    taken_over = False
    try:
        yield
        taken_over = True
    finally:
        if trashed is not None and not taken_over:
            disk.rename(trashed, path)
    if trashed is not None:
        # What can't be deleted now stays in the trash, and is no reason not to launch.
        with suppress(StoreError):
            disk.delete(trashed)


def _may_be_used(path: Path) -> bool:
    """Whether a process may run from it: a link that leads to no environment is only a name."""
    return is_directory(str(path)) or os.path.exists(path / CONFIGURATION_NAME)


def _without_engine(version: str, entry: os.DirEntry[str]) -> OldDirectory:
    path = Path(entry.path)
    minor = _MINOR.match(python_of(path) or "")
    return OldDirectory(
        key=EnvKey(
            model_name=entry.name,
            model_engine=None,
            python_version=minor[0] if minor else UNKNOWN,
        ),
        layout=version,
        path=path,
        is_link=entry.is_symlink(),
    )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def _modified(path: Path) -> float | None:
    with suppress(OSError):
        return path.stat().st_mtime
    return None


def _created(path: Path) -> float | None:
    with suppress(FileNotFoundError):
        return path.lstat().st_ctime
    return None
