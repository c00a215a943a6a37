"""What differs from a listing that was answered before, so that a large one is sent once.

Comes in: the environments or jobs of now, and the ETag of a listing that the asker has. Comes out:
those that are other than in it and the names of those that are gone, or all where it is not known.
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
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.reports import JobSummary
from xinference_venv.rest.base import etag_of, gathered, known_etags, not_modified

_KEPT = 8

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
    """The last listings that were answered, by ETag; `name_of` names a row.

    To compare rows takes a tenth of what it takes to write them.
    """

    name_of: Callable[[T], N]
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
            answer = gathered(replace(listed, list=()))
        elif differing is not None:
            changed, since = differing
            answer = gathered(replace(listed, list=changed), since)
        else:
            answer = gathered(listed)
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
