"""What differs from a listing that was answered before, so that a large one is sent once.

Comes in: the environments, jobs, leases or workers of now, and the ETag of a listing that the
asker has. Comes out: those that are other than in it and the names of those that are gone, or all
where it is not known.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Generic, Self, TypeVar

from fastapi import Request
from starlette.responses import Response

from xinference_venv._util.records import Record
from xinference_venv.inventory.cluster_state import WorkerState, WorkerStatus
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.lease import WorkerLease
from xinference_venv.inventory.reports import JobSummary
from xinference_venv.rest.base import Json, etag_of, gathered, known_etags, not_modified

_KEPT = 8
_FREE_BITS = 10
_AGE_STEPS = {WorkerState.SUSPECT: 1.0, WorkerState.GONE: 30.0}

N = TypeVar("N", bound=Record)
T = TypeVar("T", bound=Record)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentName(Record, name="name of an environment"):
    """What no two environments of a cluster have in common."""

    worker_address: str
    path: str

    @classmethod
    def of(cls, environment: Environment) -> Self:
        """The name of one."""
        return cls(worker_address=environment.worker_address, path=environment.entry.path)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobName(Record, name="name of a worker's job"):
    """What no two listed jobs have in common: those of one launch have one id."""

    worker_address: str
    job_id: str

    @classmethod
    def of(cls, job: JobSummary) -> Self:
        """The name of one."""
        return cls(worker_address=job.worker_address, job_id=job.job_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseName(Record, name="name of a worker's lease"):
    """What no two listed leases have in common: workers may share a home."""

    worker_address: str
    lease_id: str

    @classmethod
    def of(cls, lease: WorkerLease) -> Self:
        """The name of one."""
        return cls(worker_address=lease.worker_address, lease_id=lease.entry.lease.lease_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerName(Record, name="name of a worker"):
    """What no two workers have in common."""

    worker_address: str

    @classmethod
    def of(cls, worker: WorkerStatus) -> Self:
        """The name of one."""
        return cls(worker_address=worker.worker_address)


def without_heartbeat(worker: WorkerStatus) -> WorkerStatus:
    """A worker without what is other with each heartbeat: it differs when it fares otherwise.

    One that is alive has no age; that of another is in whole seconds, and in half minutes once it
    is gone. Free bytes are rounded down to ten binary digits.
    """
    age = worker.snapshot_age
    if age is not None:
        step = _AGE_STEPS.get(worker.state)
        age = None if step is None else age // step * step
    snapshot = worker.snapshot
    if snapshot is not None and snapshot.free_bytes is not None:
        spare = max(0, snapshot.free_bytes.bit_length() - _FREE_BITS)
        snapshot = replace(snapshot, free_bytes=snapshot.free_bytes >> spare << spare)
    return replace(worker, snapshot=snapshot, snapshot_age=age)


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes(Record, Generic[N], name="changes of a listing"):
    """Since the listing with the ETag `since`: the list has only what differs from it.

    `dropped` are those that are not listed any more.
    """

    since: str
    dropped: tuple[N, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Listing(Generic[N, T]):
    """A listing that was answered: its rows by name, and all else that it says."""

    rows: dict[N, T]
    rest: Gathered[T]

    def says(self, listed: Gathered[T]) -> bool:
        """Whether another one would be answered alike."""
        return self.rest == replace(listed, list=()) and tuple(self.rows.values()) == listed.list


@dataclass(kw_only=True)
class Listings(Generic[N, T]):
    """The last listings that were answered, by ETag; `name_of` names a row, `write` answers.

    To compare rows takes a tenth of what it takes to write them.
    """

    name_of: Callable[[T], N]
    write: Callable[..., Json] = gathered
    _known: OrderedDict[str, _Listing[N, T]] = field(default_factory=OrderedDict)
    _numbers: count[int] = field(default_factory=count)
    _id: str = field(default_factory=lambda: secrets.token_hex(8))

    def answer(self, request: Request, listed: Gathered[T], *, changes: bool) -> Response:
        """A listing; 304 to who has it; with `changes` what differs from one that they have."""
        known = known_etags(request)
        etag = self.etag_of(listed)
        before = next((each for each in known if each in self._known), None) if changes else None
        differing = None if before in (None, etag) else self.differing(before, listed)
        if etag is None and changes:
            etag = self.remember(listed)
        if etag in known:
            answer = self.write(replace(listed, list=()))
        elif differing is not None:
            changed, since = differing
            answer = self.write(replace(listed, list=changed), since)
        else:
            answer = self.write(listed)
        answer.headers["ETag"] = etag or etag_of(answer)
        return not_modified(answer.headers) if answer.headers["ETag"] in known else answer

    def etag_of(self, listed: Gathered[T]) -> str | None:
        """The ETag of a kept listing that says the same."""
        for etag, each in reversed(self._known.items()):
            if each.says(listed):
                self._known.move_to_end(etag)
                return etag
        return None

    def remember(self, listed: Gathered[T]) -> str:
        """Keep a listing that is answered; what is as in the one before is kept once for both."""
        before = next(reversed(self._known.values())).rows if self._known else {}
        rows = {}
        for each in listed.list:
            name = self.name_of(each)
            known = before.get(name)
            rows[name] = known if known is not None and known == each else each
        etag = f'"{self._id}-{next(self._numbers)}"'
        self._known[etag] = _Listing(rows=rows, rest=replace(listed, list=()))
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return etag

    def differing(self, etag: str, listed: Gathered[T]) -> tuple[tuple[T, ...], Changes[N]] | None:
        """What differs from the listing with an ETag; None where that is not kept."""
        known = self._known.get(etag)
        if known is None:
            return None
        rows = {self.name_of(each): each for each in listed.list}
        changed = tuple(each for name, each in rows.items() if known.rows.get(name) != each)
        dropped = tuple(name for name in known.rows if name not in rows)
        return changed, Changes(since=etag, dropped=dropped)
