"""The id of a worker, which its home keeps: a worker that comes back elsewhere is known by it."""

from __future__ import annotations

import platform
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.records import Record
from xinference_venv.errors import InvalidRecord
from xinference_venv.store.atomic import Disk
from xinference_venv.store.locks import hold_lock_if_free
from xinference_venv.store.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerIdNote(Record, name="id of a worker"):
    """A worker's id, and the name of the host that it is good for.

    A home that is part of an image is on many hosts, which must not have one id.
    """

    worker_id: str
    host: str


def take_worker_id(store: Store, kept: ExitStack) -> str:
    """An id that no other worker of this home has, for as long as `kept` is open.

    Workers that share a home have one each: the first that is free, else a new one.
    """
    number = 1
    while not kept.enter_context(hold_lock_if_free(store.layout.worker_id_lock(number))):
        number += 1
    path = store.layout.worker_id(number)
    note = _noted(store.disk, path)
    if note is None or note.host != platform.node():
        note = WorkerIdNote(worker_id=uuid.uuid4().hex[:12], host=platform.node())
        store.disk.write_json(path, note.to_dict(), durable=True)
    return note.worker_id


def _noted(disk: Disk, path: Path) -> WorkerIdNote | None:
    try:
        kept = disk.read_json(path)
        return None if kept is None else WorkerIdNote.from_dict(kept)
    except InvalidRecord:
        # One that is damaged is as good as none: the worker is a new one then.
        return None
