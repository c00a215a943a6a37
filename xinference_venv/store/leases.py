"""Leases on disk, a file each, and the judgement of their holders by the system's word.

What is no lease that can be read in its place counts as one of a holder that can't be judged.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xinference_venv.errors import InvalidRecord, NotFound, StoreError
from xinference_venv.inventory.lease import Holder, Lease, ProcessIdentity, judge
from xinference_venv.sentences import sentence
from xinference_venv.store.atomic import Disk
from xinference_venv.store.keys import is_directory
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.process_identity import process_start, this_process


@dataclass(frozen=True, kw_only=True)
class Leases:
    """The leases of one store. A lease needs no flush: its holder dies with the machine.

    Who takes, binds or prunes leases holds the lock of their environment.
    """

    layout: StorePaths
    disk: Disk

    def take(
        self, env_id: str, *, model_name: str, model_uid: str | None, process: ProcessIdentity
    ) -> Lease:
        """A new lease."""
        lease = Lease(
            lease_id=uuid.uuid4().hex,
            env_id=env_id,
            model_name=model_name,
            model_uid=model_uid,
            process=process,
            created=time.time(),
        )
        path = self.layout.lease(env_id, lease.lease_id)
        self.disk.write_json(path, lease.to_dict(), durable=False)
        return lease

    def find(self, env_id: str, lease_id: str) -> Lease | None:
        """The lease as it stands, or None when it was given back; raises `InvalidRecord`."""
        path = self.layout.lease(env_id, lease_id)
        data = self.disk.read_json(path)
        if data is None:
            return None
        lease = Lease.from_dict(data)
        if (lease.env_id, lease.lease_id) != (env_id, lease_id):
            raise InvalidRecord(
                sentence(
                    "{path} is another lease, {lease_id}", path=path, lease_id=lease.lease_id[:64]
                )
            )
        return lease

    def bind(self, env_id: str, lease_id: str, process: ProcessIdentity) -> Lease:
        """Hand a lease to the process that uses the environment; raises `NotFound`."""
        lease = self.find(env_id, lease_id)
        if lease is None:
            raise NotFound(
                sentence("there is no lease {lease_id}", lease_id=lease_id),
                {"hint": sentence("it was released before")},
            )
        bound = lease.bound_to(process)
        path = self.layout.lease(env_id, lease_id)
        self.disk.rewrite_json(path, bound.to_dict(), durable=False)
        return bound

    def release(self, env_id: str, lease_id: str) -> None:
        """Give a lease back; one that is gone is fine."""
        path = self.layout.lease(env_id, lease_id)
        if _is_no_folder(path.parent):
            self.disk.unlink(path.parent)
        else:
            self.disk.unlink(path)
            self.disk.remove_empty(path.parent)

    def env_ids(self) -> list[str]:
        """The environments that have leases, whoever holds them."""
        return self.disk.skipped.names(self.layout.leases)

    def of(self, env_id: str) -> list[tuple[Lease, Holder]]:
        """The leases that count, whose holder is alive or unknown."""
        return [each for each in self._judged(env_id) if each[1].counts]

    def prune(self, env_id: str) -> list[tuple[Lease, Holder]]:
        """The leases that count; those of dead processes are dropped."""
        counting: list[tuple[Lease, Holder]] = []
        for lease, holder in self._judged(env_id):
            if holder.counts:
                counting.append((lease, holder))
            else:
                self.disk.unlink(self.layout.lease(env_id, lease.lease_id))
        if not counting:
            self.disk.remove_empty(self.layout.leases_of(env_id))
        return counting

    def _judged(self, env_id: str) -> Iterator[tuple[Lease, Holder]]:
        folder = self.layout.leases_of(env_id)
        if _is_no_folder(folder):
            yield _unreadable(env_id, env_id), Holder.UNKNOWN
            return
        here = this_process()
        try:
            lease_ids = _ids_in(folder)
        except StoreError as error:
            # Its holders are unknown, so it may be in use.
            self.disk.skipped.keep(folder, error)
            yield _unreadable(env_id, env_id), Holder.UNKNOWN
            return
        for lease_id in lease_ids:
            try:
                lease = self.find(env_id, lease_id)
            except (InvalidRecord, StoreError) as error:
                # Of a later version perhaps, or of another user: what can't be judged counts.
                self.disk.skipped.keep(self.layout.lease(env_id, lease_id), error)
                yield _unreadable(env_id, lease_id), Holder.UNKNOWN
                continue
            if lease is not None:
                yield lease, judge(lease.process, here, process_start)


def _is_no_folder(path: Path) -> bool:
    """Whether something stands in the place of a folder of leases; where it leads is not ours."""
    return os.path.lexists(path) and not is_directory(str(path))


def _ids_in(folder: Path) -> list[str]:
    """The ids of the leases in a folder; raises `StoreError` when it can't be read."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(
            sentence(
                "could not read {folder}: {error}",
                folder=folder,
                error=error.strerror or error,
            ),
            {"errno": error.errno},
        ) from error
    return sorted(
        name.removesuffix(".json")
        for name in names
        if name.endswith(".json") and not name.startswith(".")
    )


def _unreadable(env_id: str, lease_id: str) -> Lease:
    unknown = ProcessIdentity(host="unknown", boot="", pid=0, start="")
    return Lease(
        lease_id=lease_id,
        env_id=env_id,
        model_name="unreadable lease",
        model_uid=None,
        process=unknown,
        created=0.0,
    )
