"""A close look at the environments of a store, and what follows from it.

Comes in: the id of an environment. Comes out: what is wrong with it, which a mark inside it says
from then on, until it is rebuilt or an equally close check finds nothing. The time of its
directory is when it was last looked at like this, or built.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from xinference_venv._util.records import Record
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.inventory.env import EnvRecord
from xinference_venv.inventory.lease import Lease, ProcessIdentity
from xinference_venv.sentences import sentence
from xinference_venv.store.atomic import Disk
from xinference_venv.store.envs.broken_marker import (
    BrokenMarker,
    bounded,
    missing_part,
    read_broken_marker,
)
from xinference_venv.store.envs.inspect import Inspection, inspect_env, site_packages_of
from xinference_venv.store.keys import names_in
from xinference_venv.store.locks import hold_lock_briefly
from xinference_venv.store.paths import BROKEN_NAME, LAYER_NAME, LOCK_NAME, OWN_FILES_NAME
from xinference_venv.store.stamp import directory_identity
from xinference_venv.store.store import Store

if TYPE_CHECKING:
    from xinference_venv.planning.lock import EnvLock

# How long a check is as good as a new one.
CHECKED_SECONDS = 24 * 3600.0
# Folders of an environment without links to the host's files.
_WITHOUT_LINKS = frozenset({"bin", "lib", "lib64", "pycache"})


def broken_at_a_glance(store: Store) -> dict[str, str]:
    """Every environment that its record or a few looks show to be broken, by id, and why."""
    broken = {}
    for env_id in store.skipped.names(store.layout.envs):
        try:
            store.env_record(env_id)
        except (InvalidRecord, StoreError) as error:
            # It may have been removed meanwhile.
            if os.path.lexists(store.layout.env(env_id)):
                broken[env_id] = str(error)
    return broken


def due_envs(store: Store, now: float) -> list[str]:
    """The ids of the environments that were not checked or built within `CHECKED_SECONDS`.

    `now` is in seconds since the epoch. The one that waits longest comes first.
    """
    times = {}
    for env_id in names_in(str(store.layout.envs)):
        with suppress(OSError):
            times[env_id] = store.layout.env(env_id).stat().st_mtime
    due = [env_id for env_id, at in times.items() if not 0 <= now - at < CHECKED_SECONDS]
    return sorted(due, key=lambda env_id: times[env_id])


def check_env(
    store: Store,
    env_id: str,
    *,
    hashes: bool,
    pause: Callable[[], None],
    since: float = math.inf,
) -> tuple[str, ...] | None:
    """What is wrong with an environment, a bounded number of faults; None when there is none.

    It is marked accordingly. With `hashes`, or when only that can take a mark back, contents are
    compared. `pause` is called again and again, as `inspect_env` says. Faults of one that was
    removed or rebuilt meanwhile are dropped. Of a tree of the store, which many environments may
    show, a look as close at or after `since`, in seconds since the epoch, is enough.
    """
    env = store.layout.env(env_id)
    if env.is_symlink():
        # Where it leads nothing is ours, to be read or to be marked.
        return (f"{env} is a link",)
    while (looked_at := directory_identity(env)) is not None:
        mark = read_broken_marker(store.disk, env)
        hashes = hashes or (mark is not None and mark.hashes)
        faults = bounded(list(_faults(store, env_id, hashes, pause)))
        # Trees have marks of their own, which count for all environments that show them.
        of_trees = bounded(list(_faults_of_trees(store, env_id, hashes, pause, since)))
        with hold_lock_briefly(store.env_lock(env_id)):
            if directory_identity(env) == looked_at:
                return (*_noted(store, env, faults, hashes), *of_trees)
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class _OwnFiles(Record, name=OWN_FILES_NAME, version=1):
    """The bytes of each file that no package brought, by its path in the environment.

    Environments of older releases have this record.
    """

    sizes: Mapping[str, int]


def lease_of_lock(
    store: Store, env_id: str, *, contents: str, model_name: str, process: ProcessIdentity
) -> Lease:
    """A lease on a whole environment of the lock that gives this id and that has these contents.

    It is the lock's own, or one that was made next to that while it was in use. Raises
    `InvalidRecord` where there is none.
    """
    for each in _ids_of(store, env_id):
        if store.contents_of(each) == contents:
            return store.take_lease(each, model_name=model_name, model_uid=None, process=process)
    raise InvalidRecord(sentence("no environment of {env_id} has these contents", env_id=env_id))


def _ids_of(store: Store, env_id: str) -> list[str]:
    """The id that a lock gives, and its alternatives that exist, in order."""
    prefix = store.layout.alternative_id(env_id, 1)[:-1]
    others = [name for name in names_in(str(store.layout.envs)) if name.startswith(prefix)]
    return [env_id, *sorted(others, key=lambda name: (len(name), name))]


def _noted(store: Store, env: Path, faults: tuple[str, ...], hashes: bool) -> tuple[str, ...]:
    """Mark an environment whose lock the caller holds, and note that it was looked at."""
    disk, path = store.disk, env / BROKEN_NAME
    try:
        if faults:
            mark = BrokenMarker(found=time.time(), faults=faults, hashes=hashes)
            disk.write_json(path, mark.to_dict(), durable=True)
        else:
            disk.unlink(path)
        disk.touch(env)
    except StoreError as error:
        # On a read-only disk what was found is worth knowing all the more.
        return (*faults, f"it can't be marked: {error}") if faults else ()
    return faults


def _faults(store: Store, env_id: str, hashes: bool, pause: Callable[[], None]) -> Iterator[str]:
    """What is wrong with an environment by itself."""
    # A glance reads no lock.
    from xinference_venv.planning.lock import EnvLock

    env = store.layout.env(env_id)
    record: EnvRecord | None = None
    try:
        record = store.record_of(env_id)
    except (InvalidRecord, StoreError) as error:
        yield str(error)
    if (missing := missing_part(str(env))) is not None:
        yield missing
    lock: EnvLock | None = None
    try:
        if (data := store.disk.read_json(env / LOCK_NAME)) is not None:
            lock = EnvLock.from_dict(data)
    except (InvalidRecord, StoreError) as error:
        yield str(error)
    if lock is not None and (
        lock.env_id != store.layout.own_id(env_id)
        or (record is not None and record.lock_digest != lock.digest)
    ):
        yield f"{env / LOCK_NAME} is not the lock that it was built from"
        lock = None
    if record is not None and record.contents:
        # A glance must not wait for what composes environments.
        from xinference_venv.store.envs.compose import view_faults

        yield from view_faults(store.disk, store.layout, env)
        return
    try:
        inspection = inspect_env(env, site_packages_of(env), hashes=hashes, pause=pause)
    except OSError as error:
        yield f"its packages can't be looked at: {error}"
    else:
        yield from inspection.faults
        if record is not None:
            yield from _other_files(store.disk, env, inspection, record.files)
        if lock is not None:
            yield from _other_packages(inspection, lock)
    if lock is not None and lock.host_digest is not None and not (env / LAYER_NAME).is_dir():
        yield f"{LAYER_NAME}, the folder of links to the host's packages, is missing"
    pause()
    yield from _dangling_links(env)


def _faults_of_trees(
    store: Store, env_id: str, hashes: bool, pause: Callable[[], None], since: float
) -> Iterator[str]:
    """What is wrong with the trees that a view leads into."""
    try:
        record = store.record_of(env_id)
    except (InvalidRecord, StoreError):
        return
    for folder in record.trees:
        yield from store.packages.verify(folder, hashes=hashes, since=since, pause=pause).faults
    for folder in record.joined:
        yield from store.joined.verify(folder, since=since, pause=pause).faults


def _other_files(disk: Disk, env: Path, inspection: Inspection, built: int) -> Iterator[str]:
    """What is not as it was built, with `built` files: of those that no package brought, and of
    the packages' own lists.
    """
    path = env / OWN_FILES_NAME
    try:
        if (data := disk.read_json(path)) is None:
            yield f"{path} is missing"
            return
        sizes = _OwnFiles.from_dict(data).sizes
    except (InvalidRecord, StoreError) as error:
        yield str(error)
        return
    for name, size in sizes.items():
        found = inspection.own_files.get(name)
        if found is None:
            yield f"{name} is missing"
        elif found != size:
            yield f"{name} has {found} bytes, it was built with {size}"
    listed = inspection.files - len(inspection.own_files)
    if listed != built - len(sizes) and not inspection.faults:
        # A RECORD that was cut short names fewer files, and all that it names are there.
        yield f"the packages' RECORDs name {listed} files, not {built - len(sizes)} as built"


def _other_packages(inspection: Inspection, lock: EnvLock) -> Iterator[str]:
    """Where the installed distributions are not those of the lock."""
    wanted, found = lock.installed, inspection.installed
    for name in sorted(wanted.keys() - found.keys()):
        yield f"{name} is in the lock and not installed"
    for name in sorted(found.keys() - wanted.keys()):
        yield f"{name} is installed and not in the lock"
    for name in sorted(wanted.keys() & found.keys()):
        version = wanted[name]
        if version is not None and not _same_version(version, found[name]):
            yield f"{name} {found[name]} is installed, the lock says {version}"


def _same_version(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def _dangling_links(env: Path) -> Iterator[str]:
    """The links to the host whose files are gone.

    A link of the host's own that leads nowhere is as it was.
    """
    for folder, folders, names in os.walk(env):
        if folder == str(env):
            folders[:] = [name for name in folders if name not in _WITHOUT_LINKS]
        for name in (*folders, *names):
            link = f"{folder}/{name}"
            with suppress(OSError):
                target = os.readlink(link)
                if not os.path.lexists(os.path.join(folder, target)):
                    shown = os.path.relpath(link, env)
                    yield f"{shown} leads nowhere: {target} was removed from the host"
