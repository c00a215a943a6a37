"""What differs from a listing that was answered before, so that a large one is sent once.

Comes in: the environments of now, and the ETag of a listing that the asker has. Comes out: those
that are other than in it and the names of those that are gone, or nothing where it is not known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from xinference_venv._util.records import Record
from xinference_venv.inventory.environments import Environment

_KEPT = 8


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
class Changes(Record, name="changes of a listing"):
    """Since the listing with the ETag `since`: the list has only what differs from it.

    `dropped` are the environments that are not listed any more.
    """

    since: str
    dropped: tuple[EnvironmentName, ...]


@dataclass(kw_only=True)
class Listings:
    """The last listings that were answered, by ETag."""

    _known: OrderedDict[str, dict[EnvironmentName, Environment]] = field(
        default_factory=OrderedDict
    )

    def remember(self, etag: str, listed: Iterable[Environment]) -> None:
        """Keep a listing that is answered; what is as in the one before is kept once for both."""
        if etag in self._known:
            self._known.move_to_end(etag)
            return
        before = next(reversed(self._known.values()), {})
        rows = {}
        for each in listed:
            name = EnvironmentName.of(each)
            known = before.get(name)
            rows[name] = known if known == each else each
        self._known[etag] = rows
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def differing(
        self, etag: str, listed: Iterable[Environment]
    ) -> tuple[tuple[Environment, ...], Changes] | None:
        """What differs from the listing with an ETag; None where that is not kept."""
        known = self._known.get(etag)
        if known is None:
            return None
        rows = {EnvironmentName.of(each): each for each in listed}
        changed = tuple(each for name, each in rows.items() if known.get(name) != each)
        dropped = tuple(name for name in known if name not in rows)
        return changed, Changes(since=etag, dropped=dropped)
