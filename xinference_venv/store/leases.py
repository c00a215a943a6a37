"""Leases on disk, a file each, and the judgement of their holders by the system's word."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from xinference_venv.errors import InvalidRecord, NotFound
from xinference_venv.lease import Holder, Lease, ProcessIdentity, judge
from xinference_venv.store.disk import Disk
from xinference_venv.store.identity import process_start, this_process
from xinference_venv.store.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Leases:
    """The leases of one store. A lease needs no flush: its holder dies with the machine."""

    layout: Layout
    disk: Disk

    def take(
        self, env_id: str, *, model_name: str, model_uid: str | None, process: ProcessIdentity
    ) -> Lease:
        """A new lease; the caller holds the environment's lock, so it can't go meanwhile."""
        lease = Lease(
            lease_id=uuid.uuid4().hex,
            env_id=env_id,
            model_name=model_name,
            model_uid=model_uid,
            process=process,
            created=time.time(),
        )
        self._write(lease)
        return lease

    def find(self, env_id: str, lease_id: str) -> Lease | None:
        """The lease as it stands, or None when it was given back."""
        data = self.disk.read_json(self._path(env_id, lease_id))
        return None if data is None else Lease.from_dict(data)

    def bind(self, env_id: str, lease_id: str, process: ProcessIdentity) -> Lease:
        """Hand a lease to the process that uses the environment; raises `NotFound`."""
        lease = self.find(env_id, lease_id)
        if lease is None:
            raise NotFound(f"there is no lease {lease_id}", {"hint": "it was released before"})
        self._write(bound := lease.bound_to(process))
        return bound

    def release(self, env_id: str, lease_id: str) -> None:
        """Give a lease back; one that is gone is fine."""
        self.disk.unlink(self._path(env_id, lease_id))
        self.disk.remove_empty(self.layout.leases_of(env_id))

    def of(self, env_id: str) -> list[tuple[Lease, Holder]]:
        """The leases that count, alive or unknown; those of dead processes are dropped."""
        counting: list[tuple[Lease, Holder]] = []
        here = this_process()
        folder = self.layout.leases_of(env_id)
        for path in sorted(folder.glob("*.json")):
            try:
                data = self.disk.read_json(path)
                lease = None if data is None else Lease.from_dict(data)
            except InvalidRecord:
                # Of a later version perhaps: what can't be judged counts.
                counting.append((_unreadable(env_id, path.stem), Holder.UNKNOWN))
                continue
            if lease is None:
                continue
            holder = judge(lease.process, here, process_start)
            if holder is Holder.GONE:
                self.disk.unlink(path)
            else:
                counting.append((lease, holder))
        if not counting:
            self.disk.remove_empty(folder)
        return counting

    def _path(self, env_id: str, lease_id: str) -> Path:
        return self.layout.inside(self.layout.leases_of(env_id) / f"{lease_id}.json")

    def _write(self, lease: Lease) -> None:
        self.disk.write_json(
            self._path(lease.env_id, lease.lease_id), lease.to_dict(), durable=False
        )


def _unreadable(env_id: str, lease_id: str) -> Lease:
    nobody = ProcessIdentity(host="unknown", boot="", pid=0, start="")
    return Lease(
        lease_id=lease_id,
        env_id=env_id,
        model_name="unreadable lease",
        model_uid=None,
        process=nobody,
        created=0.0,
    )
