"""The store of one home: what is there, and how it changes, one whole step at a time.

An environment is found by its key's link alone. What changes a key's link holds the lock of the
key; what publishes, leases or deletes an environment holds the lock of the environment.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xinference_venv._util.clock import Clock
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.inventory.env import EnvRecord, KeyRecord
from xinference_venv.inventory.lease import Holder, Lease, ProcessIdentity, judge
from xinference_venv.planning.key import EnvKey
from xinference_venv.sentences import joined, sentence
from xinference_venv.store.atomic import Disk, check_no_link_above, is_real
from xinference_venv.store.envs.broken_marker import fault_at_a_glance
from xinference_venv.store.file_system import FileSystem, known_file_system
from xinference_venv.store.first_seen import first_seen
from xinference_venv.store.keys import (
    KeyFolders,
    KeyPlace,
    env_of_link,
    key_places,
    names_in,
)
from xinference_venv.store.leases import Leases
from xinference_venv.store.locks import LOCK_HINT, hold_lock_briefly
from xinference_venv.store.paths import LOCK_NAME, RECORD_NAME, StorePaths
from xinference_venv.store.process_identity import process_start, this_process
from xinference_venv.store.stat_cache import StatCache
from xinference_venv.store.visit import SkippedItems

# What lists environments must not wait for what only launches them: such is imported in methods.
if TYPE_CHECKING:
    from xinference_venv.planning.host import HostFacts
    from xinference_venv.planning.lock import EnvLock
    from xinference_venv.store.built_wheels import BuiltWheels
    from xinference_venv.store.packages.joined_tree import JoinedTrees
    from xinference_venv.store.packages.package_store import PackageStore
    from xinference_venv.store.resolutions import Resolutions

_STAGING_SECONDS = 7 * 86_400.0

_FINGERPRINT = re.compile("[0-9a-f]{1,128}")


@dataclass(frozen=True, kw_only=True, slots=True)
class HostMark:
    """A distribution of the host by the path and the inode of its metadata."""

    name: str
    path: str
    inode: int


@dataclass(frozen=True, kw_only=True)
class Store:
    """All that is under one ``virtualenv`` directory; every method blocks on the disk."""

    layout: StorePaths
    disk: Disk
    leases: Leases
    seen_since: float
    """Since when the home has been where it is: no age counts from before."""
    clock: Clock

    @classmethod
    def open(cls, root: Path, disk: Disk | None = None, clock: Clock = time) -> Store:
        """The store at `root`, made if it is not there; raises `StoreError`."""
        disk = disk or Disk()
        disk.make_directory(root)
        layout = StorePaths(root.resolve())
        for folder in layout.folders:
            check_no_link_above(folder / "any")
            disk.make_directory(folder)
        tried = known_file_system(layout.store, disk)
        if tried is not None and tried.locks is not None:
            raise StoreError(
                sentence(
                    "the file system of {store} has no working locks: {locks}",
                    store=layout.store,
                    locks=tried.locks,
                ),
                {"hint": LOCK_HINT},
            )
        return cls(
            layout=layout,
            disk=disk,
            leases=Leases(layout=layout, disk=disk),
            seen_since=first_seen(layout, disk),
            clock=clock,
        )

    @cached_property
    def _env_records(self) -> StatCache[str, EnvRecord]:
        return StatCache(clock=self.clock)

    @cached_property
    def _key_records(self) -> StatCache[EnvKey, KeyRecord]:
        return StatCache(clock=self.clock)

    @cached_property
    def _host_marks(self) -> StatCache[str, tuple[HostMark, ...]]:
        return StatCache(clock=self.clock)

    @cached_property
    def _key_folders(self) -> KeyFolders:
        return StatCache(clock=self.clock)

    @cached_property
    def packages(self) -> PackageStore:
        """The trees of packages."""
        from xinference_venv.store.packages.package_store import Looks, PackageStore

        return PackageStore(layout=self.layout, disk=self.disk, looks=Looks(disk=self.disk))

    @cached_property
    def joined(self) -> JoinedTrees:
        """The trees that packages share."""
        from xinference_venv.store.packages.joined_tree import JoinedTrees

        return JoinedTrees(layout=self.layout, disk=self.disk, packages=self.packages)

    @cached_property
    def wheels(self) -> BuiltWheels:
        """The wheels that were built here."""
        from xinference_venv.store.built_wheels import BuiltWheels

        return BuiltWheels(layout=self.layout, disk=self.disk)

    @cached_property
    def resolutions(self) -> Resolutions:
        """The locks that equal requests got not long ago."""
        from xinference_venv.store.resolutions import Resolutions

        return Resolutions(layout=self.layout, disk=self.disk)

    # Looking

    def file_system(self) -> FileSystem | None:
        """What the file system of the home can do as it is mounted now; None where that can't be
        tried. Raises `StoreError` where no environment can be made, so that nothing is built for
        nothing.
        """
        tried = known_file_system(self.layout.store, self.disk)
        if tried is not None and tried.faults:
            raise StoreError(
                sentence(
                    "no environment can be made on the file system of {store}: {faults}",
                    store=self.layout.store,
                    faults=joined(tried.faults),
                ),
                {
                    "hint": sentence(
                        "put XINFERENCE_HOME on a file system with locks, symbolic links and modes"
                        " that is mounted without noexec, best a local one"
                    )
                },
            )
        return tried

    @property
    def skipped(self) -> SkippedItems:
        """What could not be visited."""
        return self.disk.skipped

    def env_of(self, key: EnvKey) -> str | None:
        """The id of the environment that the key's link names, or None."""
        link = str(self.layout.key_link(key))
        folder = os.path.dirname(link)
        return env_of_link(link, str(self.layout.envs)) if is_real(folder) else None

    def key_record(self, key: EnvKey) -> KeyRecord | None:
        """What the key last referred to, while its link still does."""
        env_id = self.env_of(key)
        return None if env_id is None else self.key_record_of(key, env_id)

    def key_record_of(self, key: EnvKey, env_id: str) -> KeyRecord | None:
        """The record of a key, if it is of the environment that its link is known to lead to."""
        try:
            record = self._key_records.get(key, self._key_path, self._read_key_record)
        except (InvalidRecord, StoreError, OSError):
            # It only annotates the link; the next launch writes it again.
            return None
        return record if record.env_id == env_id else None

    def key_places(self) -> Iterator[KeyPlace]:
        """Every key that has a place, and what stands there."""
        return key_places(self.layout, self._key_folders, self.skipped)

    def links(self) -> Iterator[tuple[EnvKey, str]]:
        """Every key that refers to an environment, with the environment's id."""
        for key, _, env_id in self.key_places():
            if env_id is not None:
                yield key, env_id

    def env_record(self, env_id: str, *, broken: Collection[str] | None = None) -> EnvRecord:
        """The record of an environment that is whole; `InvalidRecord` says why it is broken.

        As far as a glance and the marks of closer looks tell. `broken` are the trees that are
        marked, where the caller knows: who looks at many environments does not look for each tree.
        """
        record = self.record_of(env_id)
        if (fault := fault_at_a_glance(self.disk, f"{self.layout.envs}/{env_id}")) is not None:
            raise InvalidRecord(fault)
        if broken is None and (gone := self._missing_tree(record)) is not None:
            raise InvalidRecord(sentence("{gone}, which it shows, is missing", gone=gone))
        if marked := self.broken_trees() if broken is None else broken:
            for folder in (*record.trees, *record.joined):
                if folder in marked:
                    raise InvalidRecord(self.packages.fault(folder))
        return record

    def broken_trees(self) -> frozenset[str]:
        """The names of the trees and joined trees that are marked as broken."""
        # Where none is, which is nearly always, what knows packages is not imported.
        return self.packages.broken() if names_in(str(self.layout.broken)) else frozenset()

    def _missing_tree(self, record: EnvRecord) -> str | None:
        """A tree that an environment shows and that is not there, as one deleted by hand."""
        shown = ((self.layout.packages, record.trees), (self.layout.joined, record.joined))
        paths = (f"{parent}/{folder}" for parent, folders in shown for folder in folders)
        return next((path for path in paths if not os.access(path, os.F_OK)), None)

    def record_of(self, env_id: str) -> EnvRecord:
        """An environment's own record, whatever else is broken; raises `InvalidRecord`."""
        record = self._env_records.get(env_id, self._env_record_path, self._read_env_record)
        found = interpreter_facts(str(record.interpreter.get("path")))
        if not is_same_interpreter(found, record.interpreter):
            raise InvalidRecord(_interpreter_fault(str(record.interpreter.get("path"))))
        return record

    def venv_of(self, env_id: str) -> Path:
        """The virtual environment of an environment; what an older release made is one itself."""
        venv = self.layout.venv(env_id)
        return venv if os.path.isdir(venv) else self.layout.env(env_id)

    def trees_of(self, env_id: str) -> tuple[str, ...]:
        """The folders' names of the trees that an environment shows, however broken it is, packages
        before joined trees; `InvalidRecord` when its record can't be read.
        """
        record = self._env_records.get(env_id, self._env_record_path, self._read_env_record)
        return (*record.trees, *record.joined)

    def lock_of(self, env_id: str) -> EnvLock | None:
        """The lock of an environment, however broken that is, or None when it can't be read."""
        from xinference_venv.planning.lock import EnvLock

        try:
            data = self.disk.read_json(self.layout.env(env_id) / LOCK_NAME)
            return None if data is None else EnvLock.from_dict(data)
        except InvalidRecord:
            return None

    def cache_only(self, env_ids: Collection[str], keys: Collection[EnvKey]) -> None:
        """Forget what was read of all others."""
        self._env_records.keep_only(env_ids)
        self._key_records.keep_only(keys)

    # Changing

    def make_staging_folder(self, name: str) -> Path:
        """A private folder for one build, owned by this process: of this name, or of one that
        begins with it where another build has that.
        """
        # A sweep of built wheels has ended before this build looks for one, or sees that it builds.
        with hold_lock_briefly(self._staging_lock):
            taken = set(names_in(str(self.layout.staging)))
            numbered = (f"{name}-{number}" for number in itertools.count(2))
            free = next(
                each
                for each in itertools.chain([name], numbered)
                if taken.isdisjoint({each, f"{each}.owner"})
            )
            folder = self.layout.staging / free
            # The owner is known before there is anything to sweep.
            self.disk.write_json(_owner_path(folder), this_process().to_dict(), durable=False)
            try:
                self.disk.make_directory(folder, mode=0o700)
            except StoreError:
                self.disk.unlink(_owner_path(folder))
                raise
        return folder

    def trash_staging_folder(self, name: str) -> Path | None:
        """Move what is left of a build, by its folder's name, to the trash; where it is then."""
        folder = self.layout.staging / name
        trashed = self.disk.move_to_trash(folder, self.layout.trash)
        self.disk.unlink(_owner_path(folder))
        return trashed

    def delete_trashed(self, *paths: Path | None) -> None:
        """Delete what was moved to the trash; of a large tree that takes long, and holds no lock.

        What can't be deleted stays there, and is kept in `skipped`.
        """
        for path in filter(None, paths):
            with self.skipped.visiting(path):
                self.disk.delete(path)

    def delete_unowned_staging(self) -> None:
        """Delete what builds staged whose processes are gone."""
        for entry in self.skipped.entries(self.layout.staging):
            path = Path(entry.path)
            with self.skipped.visiting(path):
                folder = path if path.is_dir() else path.with_suffix("")
                if not self._owned(folder):
                    self.disk.discard(folder, self.layout.trash)
                    self.disk.unlink(_owner_path(folder))

    def describe(self, staged: Path, record: EnvRecord, lock: EnvLock) -> None:
        """Write what an environment is and what it is built from into it, while it is staged."""
        self.disk.write_json(staged / LOCK_NAME, lock.to_dict(), durable=True)
        self.disk.write_json(staged / RECORD_NAME, record.to_dict(), durable=True)

    def publish(
        self, staged: Path, record: EnvRecord, *, model_name: str, process: ProcessIdentity
    ) -> Lease:
        """Give an environment that is built and described its final place in one step.

        An environment of this id that is whole and has the same contents stays, and the staged
        one is not needed. A broken one makes way, but not while a process runs in it: then the new
        one gets another id, as it does where one of other contents is. The lease keeps it until a
        key refers to it.
        """
        for number in itertools.count():
            env_id = self.layout.alternative_id(record.env_id, number)
            trashed: Path | None = None
            try:
                with hold_lock_briefly(self.env_lock(env_id)):
                    there = self.contents_of(env_id)
                    if there != record.contents:
                        if there is not None or self.leases.prune(env_id):
                            continue
                        if env_id != record.env_id:
                            named = replace(record, env_id=env_id).to_dict()
                            self.disk.write_json(staged / RECORD_NAME, named, durable=True)
                        try:
                            env = self.layout.env(env_id)
                            trashed = self.disk.move_to_trash(env, self.layout.trash)
                        except StoreError as error:
                            if error.details.get("errno") in (errno.EACCES, errno.EPERM):
                                # Another user's: it stays, and the new one gets another id.
                                continue
                            raise
                        # Private while it was staged; who shares the home sees it from now on.
                        staged.chmod(0o755)
                        self.disk.rename(staged, self.layout.env(env_id))
                    return self.leases.take(
                        env_id, model_name=model_name, model_uid=None, process=process
                    )
            except StoreError:
                # What got its place and no lease is not needed.
                self.delete_if_unused(env_id)
                raise
            finally:
                self.delete_trashed(trashed)
        raise AssertionError("there is always a next number")

    def contents_of(self, env_id: str) -> str | None:
        """What an environment shows (`EnvRecord.contents`), None for one that is not whole."""
        try:
            return self.env_record(env_id).contents
        except (InvalidRecord, StoreError):
            return None

    def point_key(self, record: KeyRecord) -> None:
        """Point the key's link at an environment; the caller holds the key's lock.

        What an older version left in its place goes; `InUse` while a process uses that.
        """
        from xinference_venv.store.legacy.layouts import replacing_old

        link = self.layout.key_link(record.key)
        target = self.venv_of(record.env_id)
        with replacing_old(self.layout, self.disk, record.key):
            self.disk.rewrite_json(self._key_path(record.key), record.to_dict(), durable=True)
            self.disk.swap_link(link, Path(os.path.relpath(target, link.parent)))
        self.disk.flush(link.parent)

    def touch(self, record: KeyRecord, *, host_fingerprint: str) -> None:
        """Note that a key was used now, over a host in this state.

        The time of a record's file is when its key was last used.
        """
        if record.host_fingerprint == host_fingerprint:
            self.disk.touch(self._key_path(record.key))
        else:
            used = replace(record, host_fingerprint=host_fingerprint)
            self.disk.rewrite_json(self._key_path(record.key), used.to_dict(), durable=False)

    def take_lease(
        self, env_id: str, *, model_name: str, model_uid: str | None, process: ProcessIdentity
    ) -> Lease:
        """A lease on an environment that is whole; `InvalidRecord` says when it is not."""
        with hold_lock_briefly(self.env_lock(env_id)):
            self.env_record(env_id)
            self.leases.prune(env_id)
            return self.leases.take(
                env_id, model_name=model_name, model_uid=model_uid, process=process
            )

    def release_lease(self, env_id: str, lease_id: str) -> None:
        """Give a lease back, and delete its environment if neither key nor lease needs it then.

        A lease that is gone is fine.
        """
        self.leases.release(env_id, lease_id)
        self.delete_if_unused(env_id)

    def unlink_key(self, key: EnvKey) -> None:
        """Unlink a key from its environment; the caller holds the key's lock."""
        link = self.layout.key_link(key)
        self.disk.unlink(link)
        self.disk.unlink(self._key_path(key))
        for parent in link.parents:
            if parent == self.layout.root or not self.disk.remove_empty(parent):
                break

    def delete_if_unused(self, env_id: str) -> bool:
        """Delete an environment that no key and no lease needs; tells whether it is gone."""
        gone, trashed = self.trash_if_unused(env_id)
        self.delete_trashed(trashed)
        return gone

    def trash_if_unused(self, env_id: str) -> tuple[bool, Path | None]:
        """Move an environment that no key and no lease needs to the trash.

        Tells whether it is gone, and where it lies, to be deleted when no lock is held any more.
        """
        with self.env_locks([env_id]):
            if any(named == env_id for _, named in self.links()) or self.leases.prune(env_id):
                return False, None
            return True, self.disk.move_to_trash(self.layout.env(env_id), self.layout.trash)

    @contextmanager
    def env_locks(self, env_ids: Iterable[str]) -> Iterator[None]:
        """Hold the locks of several environments, of which the caller holds none, briefly."""
        with ExitStack() as locks:
            for path in sorted({self.env_lock(each) for each in env_ids}):
                locks.enter_context(hold_lock_briefly(path))
            yield

    # Locks and small files

    def key_lock(self, key: EnvKey) -> Path:
        """The lock that who changes a key's link holds."""
        return self.layout.locks / f"key-{key.digest}.lock"

    def build_lock(self, env_id: str) -> Path:
        """The lock that who builds an environment holds from the first file to the last."""
        return self.layout.locks / f"build-{env_id}.lock"

    def env_lock(self, env_id: str) -> Path:
        """The lock that who publishes, leases or deletes an environment holds, briefly."""
        return self.layout.locks / f"env-{self.layout.env(env_id).name}.lock"

    def saved_host(self, fingerprint: str) -> HostFacts | None:
        """The facts of a host state that an environment was locked over, if still known."""
        from xinference_venv.planning.host import HostFacts

        if not _FINGERPRINT.fullmatch(fingerprint):
            # Of a damaged record.
            return None
        try:
            data = self.disk.read_json(self.layout.hosts / f"{fingerprint}.json")
            return None if data is None else HostFacts.from_dict(data)
        except InvalidRecord:
            return None

    def host_marks(self, fingerprint: str) -> tuple[HostMark, ...]:
        """How each distribution of a host state can be known again; none where that can't be read.

        A damaged file is no reason to list nothing, and the next launch over that host writes it.
        """
        if not _FINGERPRINT.fullmatch(fingerprint):
            # Of a damaged record.
            return ()

        def read(_: str, path: Path) -> tuple[HostMark, ...]:
            try:
                return _marks_in(self.disk.read_json(path))
            except InvalidRecord:
                return ()

        return self._host_marks.get(
            fingerprint, lambda name: self.layout.hosts / f"{name}.json", read
        )

    def save_host(self, facts: HostFacts) -> None:
        """Keep the facts of a host state, in place of a file that can't be read."""
        if not self.host_marks(facts.fingerprint):
            path = self.layout.hosts / f"{facts.fingerprint}.json"
            self.disk.write_json(path, facts.to_dict(), durable=False)

    def unneeded_wheels(self) -> list[str]:
        """The sha256 of each built wheel that no lock of an environment needs."""
        there = set(self.skipped.names(self.layout.wheels))
        return sorted(there - self._built_wheels_of(self._env_ids())) if there else []

    def sweep_wheels(self) -> None:
        """Delete the built wheels that no lock of an environment needs.

        While anybody builds, all stay: a lock that is not published yet may need them.
        """
        known = self._env_ids()
        unneeded = set(self.unneeded_wheels())
        if not unneeded:
            return
        with hold_lock_briefly(self._staging_lock):
            if not os.listdir(self.layout.staging):
                # What was being built meanwhile is published by now.
                unneeded -= self._built_wheels_of(self._env_ids() - known)
                self.wheels.delete(unneeded)

    def _built_wheels_of(self, env_ids: Iterable[str]) -> set[str]:
        from xinference_venv.planning.source_builds import built_hashes

        locks = map(self.lock_of, env_ids)
        return {sha for lock in locks if lock is not None for sha in built_hashes(lock).values()}

    def _env_ids(self) -> set[str]:
        return set(self.skipped.names(self.layout.envs))

    @property
    def _staging_lock(self) -> Path:
        """The lock that who begins a build holds, and who sweeps what builds need."""
        return self.layout.locks / "staging.lock"

    def _key_path(self, key: EnvKey) -> Path:
        return self.layout.keys / f"{key.digest}.json"

    def _read_key_record(self, key: EnvKey, path: Path) -> KeyRecord:
        used = path.stat().st_mtime
        data = self.disk.read_json(path)
        if not isinstance(data, dict):
            raise InvalidRecord(sentence("{path} is not a key record", path=path))
        return KeyRecord.from_dict({**data, "last_used": used})

    def _env_record_path(self, env_id: str) -> Path:
        return self.layout.env(env_id) / RECORD_NAME

    def _read_env_record(self, env_id: str, path: Path) -> EnvRecord:
        data = self.disk.read_json(path)
        if data is None:
            raise InvalidRecord(
                sentence("the environment {parent} is gone or has no record", parent=path.parent)
            )
        record = EnvRecord.from_dict(data)
        if record.env_id != env_id:
            raise InvalidRecord(
                sentence(
                    "{path} is of another environment, {env_id}",
                    path=path,
                    env_id=record.env_id[:64],
                )
            )
        try:
            for folder in (*record.trees, *record.joined):
                self.layout.package(folder)
        except StoreError as error:
            raise InvalidRecord(
                sentence("{path} is damaged: {error}", path=path, error=error)
            ) from None
        return record

    def _owned(self, folder: Path) -> bool:
        """Whether the process that stages here may still live: gone only when proved gone.

        One that can't be judged, of another host or container, is believed for some days.
        """
        path = _owner_path(folder)
        try:
            noted = path.stat().st_mtime
            owner = ProcessIdentity.from_dict(self.disk.read_json(path))
        except (InvalidRecord, FileNotFoundError):
            return False
        holder = judge(owner, this_process(), process_start)
        if holder is Holder.UNKNOWN:
            # A build that takes longer only fails; it looks the same as one that is gone.
            return noted > self.clock.time() - _STAGING_SECONDS
        return holder is Holder.ALIVE


def _marks_in(data: object) -> tuple[HostMark, ...]:
    """The marks of the distributions in saved facts; none where they are damaged.

    Of hundreds of distributions three values each: read as `HostFacts` they take a listing ten
    times as long.
    """
    listed = data.get("distributions") if isinstance(data, dict) else None
    marks = []
    for each in listed if isinstance(listed, list) else ():
        try:
            path = os.path.join(each["location"], each["metadata"])
            marks.append(HostMark(name=each["name"], path=path, inode=each.get("inode", 0)))
        except (AttributeError, KeyError, TypeError):
            return ()
    return tuple(marks)


def _owner_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.owner")


def interpreter_facts(path: str) -> dict[str, Any]:
    """By what an interpreter that was replaced in place is noticed; empty when it is gone."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return {}
    return {"path": path, "size": found.st_size, "modified": found.st_mtime_ns}


def is_same_interpreter(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two facts are of one interpreter, as far as they tell.

    Whole seconds count: the layers of a container's image keep no more of a file's time.
    """
    if not one or not other:
        return False
    times = [each.get("modified") for each in (one, other)]
    seconds = [each // 10**9 if isinstance(each, int) else each for each in times]
    return seconds[0] == seconds[1] and {**one, "modified": 0} == {**other, "modified": 0}


def _interpreter_fault(path: str) -> str:
    """Why an environment's interpreter is not the one that its record has."""
    try:
        os.stat(path)
    except PermissionError:
        # It may be another user's, as a Python below another home is.
        return sentence("this user may not reach the interpreter {interpreter}", interpreter=path)
    except (OSError, ValueError):
        pass
    return sentence("the interpreter {interpreter} was removed or replaced", interpreter=path)
