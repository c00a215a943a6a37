"""The store of one home: what is there, and how it changes, one whole step at a time.

An environment is found by its key's link alone. What changes a key's link holds the lock of the
key; what publishes, leases or deletes an environment holds the lock of the environment.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xinference_venv.env import EnvKey, EnvRecord, KeyRecord
from xinference_venv.errors import InvalidRecord
from xinference_venv.host import HostFacts
from xinference_venv.lease import Lease, ProcessIdentity
from xinference_venv.lock import EnvLock
from xinference_venv.source_builds import built_hashes
from xinference_venv.store.disk import Disk, Stamp, stamp_of
from xinference_venv.store.identity import identify, this_process
from xinference_venv.store.layout import LOCK_NAME, RECORD_NAME, Layout
from xinference_venv.store.leases import Leases
from xinference_venv.store.locks import held_briefly
from xinference_venv.store.wheels import BuiltWheels


@dataclass(frozen=True, kw_only=True)
class Store:
    """All that is under one ``virtualenv`` directory; every method blocks on the disk."""

    layout: Layout
    disk: Disk
    leases: Leases
    wheels: BuiltWheels
    _records: dict[str, tuple[Stamp, EnvRecord]] = field(default_factory=dict, init=False)

    @classmethod
    def open(cls, root: Path, disk: Disk | None = None) -> Store:
        """The store at `root`, made if it is not there; raises `StoreError`."""
        disk = disk or Disk()
        disk.make_directory(root)
        layout = Layout(root.resolve())
        for folder in layout.folders:
            disk.make_directory(folder)
        return cls(
            layout=layout,
            disk=disk,
            leases=Leases(layout=layout, disk=disk),
            wheels=BuiltWheels(layout=layout, disk=disk),
        )

    # Looking

    def env_of(self, key: EnvKey) -> str | None:
        """The id of the environment that the key's link names, or None."""
        return self._env_of_link(self.layout.key_link(key))

    def key_record(self, key: EnvKey) -> KeyRecord | None:
        """What the key last meant, while its link still means it."""
        path = self._key_path(key)
        try:
            data = self.disk.read_json(path)
            used = path.stat().st_mtime
            record = None if data is None else KeyRecord.from_dict({**data, "last_used": used})
        except (InvalidRecord, FileNotFoundError, TypeError):
            # It only annotates the link; the next launch writes it anew.
            return None
        return record if record is not None and record.env_id == self.env_of(key) else None

    def links(self) -> Iterator[tuple[EnvKey, str]]:
        """Every key that means an environment, with the environment's id."""
        for key, path in self._key_paths():
            env_id = self._env_of_link(path)
            if env_id is not None:
                yield key, env_id

    def env_record(self, env_id: str) -> EnvRecord:
        """An environment's own record; `InvalidRecord` says why it is broken."""
        path = self.layout.env(env_id) / RECORD_NAME
        stamp = stamp_of(path)
        kept = self._records.get(env_id)
        if kept is not None and kept[0] == stamp:
            record = kept[1]
        else:
            data = self.disk.read_json(path)
            if data is None:
                raise InvalidRecord(f"the environment {path.parent} is gone or has no record")
            record = EnvRecord.from_dict(data)
            if record.env_id != env_id:
                raise InvalidRecord(f"{path} is of another environment, {record.env_id[:64]}")
            self._records[env_id] = (stamp, record)
        found = interpreter_facts(str(record.interpreter.get("path")))
        if not found or found != record.interpreter:
            raise InvalidRecord(
                f"the interpreter {record.interpreter.get('path')} was removed or replaced"
            )
        return record

    def lock_of(self, env_id: str) -> EnvLock | None:
        """The lock of an environment, however broken that is, or None when it can't be read."""
        try:
            data = self.disk.read_json(self.layout.env(env_id) / LOCK_NAME)
            return None if data is None else EnvLock.from_dict(data)
        except InvalidRecord:
            return None

    def foreign_directories(self) -> Iterator[tuple[EnvKey, Path]]:
        """Environments under v3 and v4 that are real directories, not links of ours."""
        for key, path in self._key_paths():
            if path.is_dir() and not path.is_symlink():
                yield key, path

    # Changing

    def stage(self, job_id: str) -> Path:
        """A private folder for one build, owned by this process."""
        folder = self.layout.staging / job_id
        # The owner is known before there is anything to sweep.
        self.disk.write_json(_owner_path(folder), this_process().to_dict(), durable=False)
        self.disk.make_directory(folder, mode=0o700)
        return folder

    def unstage(self, job_id: str) -> None:
        """Delete what is left of a build."""
        folder = self.layout.staging / job_id
        self.disk.discard(folder, self.layout.trash)
        self.disk.unlink(_owner_path(folder))

    def publish(
        self,
        staged: Path,
        record: EnvRecord,
        lock: EnvLock,
        *,
        model_name: str,
        process: ProcessIdentity,
    ) -> Lease:
        """Give a built environment its final place, record included, in one step.

        An environment of this id that is whole stays, and the staged one is not needed. A broken
        one makes way, but not while somebody runs in it: then the new one gets an id beside it.
        The lease keeps it until a key means it.
        """
        for number in itertools.count():
            env_id = f"{record.env_id}x{number}" if number else record.env_id
            with held_briefly(self.env_lock(env_id)):
                try:
                    self.env_record(env_id)
                except InvalidRecord:
                    if self.leases.of(env_id):
                        continue
                    self.disk.write_json(staged / LOCK_NAME, lock.to_dict(), durable=True)
                    named = replace(record, env_id=env_id).to_dict()
                    self.disk.write_json(staged / RECORD_NAME, named, durable=True)
                    self.disk.discard(self.layout.env(env_id), self.layout.trash)
                    self.disk.rename(staged, self.layout.env(env_id))
                return self.leases.take(
                    env_id, model_name=model_name, model_uid=None, process=process
                )
        raise AssertionError("there is always a next number")

    def attach(self, record: KeyRecord) -> None:
        """Make a key mean an environment; the caller holds the key's lock."""
        self.disk.write_json(self._key_path(record.key), record.to_dict(), durable=True)
        link = self.layout.key_link(record.key)
        target = self.layout.env(record.env_id)
        self.disk.swap_link(link, Path(os.path.relpath(target, link.parent)))

    def touch(self, record: KeyRecord, *, host_fingerprint: str) -> None:
        """Note that a key was used now, over a host in this state.

        The time of a record's file is when its key was last used.
        """
        if record.host_fingerprint == host_fingerprint:
            self.disk.touch(self._key_path(record.key))
        else:
            used = replace(record, host_fingerprint=host_fingerprint)
            self.disk.write_json(self._key_path(record.key), used.to_dict(), durable=False)

    def lease(
        self, env_id: str, *, model_name: str, model_uid: str | None, process: ProcessIdentity
    ) -> Lease:
        """A lease on an environment that is whole; `InvalidRecord` says when it is not."""
        with held_briefly(self.env_lock(env_id)):
            self.env_record(env_id)
            return self.leases.take(
                env_id, model_name=model_name, model_uid=model_uid, process=process
            )

    def detach(self, key: EnvKey) -> None:
        """Make a key mean nothing; the caller holds the key's lock."""
        link = self.layout.key_link(key)
        self.disk.unlink(link)
        self.disk.unlink(self._key_path(key))
        for parent in link.parents:
            if parent == self.layout.root or not self.disk.remove_empty(parent):
                break

    def remove_foreign(self, path: Path) -> None:
        """Delete a directory that an older version left."""
        # A link among its parents could lead anywhere.
        real = self.layout.inside(path).parent.resolve() / path.name
        self.disk.discard(self.layout.inside(real), self.layout.trash)

    def delete_if_unused(self, env_id: str) -> bool:
        """Delete an environment that no key and no lease needs; tells whether it is gone."""
        env = self.layout.env(env_id)
        with held_briefly(self.env_lock(env_id)):
            if any(named == env_id for _, named in self.links()):
                return False
            if self.leases.of(env_id):
                return False
            self.disk.discard(env, self.layout.trash)
            self._records.pop(env_id, None)
        return True

    def sweep(self) -> None:
        """Delete what crashes left: staging of dead owners, trash, environments without use."""
        for grave in self.layout.trash.iterdir():
            self.disk.delete(grave)
        for path in self.layout.staging.iterdir():
            folder = path if path.is_dir() else path.with_suffix("")
            if not self._owned(folder):
                self.disk.discard(folder, self.layout.trash)
                self.disk.unlink(_owner_path(folder))
        named = {env_id for _, env_id in self.links()}
        for env in self.layout.envs.iterdir():
            if env.name not in named:
                self.delete_if_unused(env.name)
        self._sweep_wheels()

    # Locks and small files

    def key_lock(self, key: EnvKey) -> Path:
        """The lock that who changes a key's link holds."""
        return self.layout.locks / f"key-{key.digest}.lock"

    def env_lock(self, env_id: str) -> Path:
        """The lock that who publishes, leases or deletes an environment holds, briefly."""
        return self.layout.locks / f"env-{env_id}.lock"

    def saved_host(self, fingerprint: str) -> HostFacts | None:
        """The facts of a host state that an environment was locked over, if still known."""
        try:
            data = self.disk.read_json(self.layout.hosts / f"{fingerprint}.json")
            return None if data is None else HostFacts.from_dict(data)
        except InvalidRecord:
            return None

    def save_host(self, facts: HostFacts) -> None:
        """Keep the facts of a host state."""
        path = self.layout.hosts / f"{facts.fingerprint}.json"
        if not path.exists():
            self.disk.write_json(path, facts.to_dict(), durable=False)

    def _sweep_wheels(self) -> None:
        """Delete the built wheels that no lock of an environment needs.

        While anybody builds, all stay: a lock that is not published yet may need them.
        """
        if any(self.layout.staging.iterdir()) or not any(self.layout.wheels.iterdir()):
            return
        needed: set[str] = set()
        for env in self.layout.envs.iterdir():
            lock = self.lock_of(env.name)
            needed.update([] if lock is None else built_hashes(lock).values())
        self.wheels.sweep(needed)

    def _key_path(self, key: EnvKey) -> Path:
        return self.layout.keys / f"{key.digest}.json"

    def _env_of_link(self, link: Path) -> str | None:
        try:
            target = link.parent / link.readlink()
        except OSError:
            return None
        normal = Path(os.path.normpath(target))
        return normal.name if normal.parent == self.layout.envs else None

    def _key_paths(self) -> Iterator[tuple[EnvKey, Path]]:
        for model in _entries(self.layout.root / "v4"):
            for engine in _entries(model):
                for python in _versions(engine):
                    yield _key(model.name, engine.name, python.name), python
        for model in _entries(self.layout.root / "v3"):
            for python in _versions(model):
                yield _key(model.name, None, python.name), python

    def _owned(self, folder: Path) -> bool:
        """Whether the process that stages here may still live: gone only when proved gone."""
        try:
            data = self.disk.read_json(_owner_path(folder))
            owner = None if data is None else ProcessIdentity.from_dict(data)
        except InvalidRecord:
            owner = None
        if owner is None:
            return False
        if owner.host != this_process().host:
            return True
        return identify(owner.pid) == owner


def _key(model: str, engine: str | None, python: str) -> EnvKey:
    return EnvKey(model_name=model, model_engine=engine, python_version=python)


def _entries(folder: Path) -> list[Path]:
    """The entries of a directory by name; what is none has no entries."""
    try:
        return sorted(folder / name for name in os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _versions(folder: Path) -> list[Path]:
    """The entries of a directory of Python versions, without links that are being made beside.

    The names of models and engines may begin with a dot; no version does.
    """
    return [each for each in _entries(folder) if not each.name.startswith(".")]


def _owner_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.owner")


def interpreter_facts(path: str) -> dict[str, Any]:
    """By what an interpreter that was replaced in place is noticed; empty when it is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return {}
    return {"path": path, "size": found.st_size, "modified": found.st_mtime_ns}
