"""What a supervisor's answer, joined from many workers, allows to say: all of it, or not yet.

Comes in: what the workers answered, and who did not. Comes out: a `Gathered` answer, whether any
worker is missing in it, and the error that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from xinference_venv._util.records import Record, inline
from xinference_venv.errors import NotFound, WorkerUnavailable
from xinference_venv.inventory.cluster_state import WorkerStatus
from xinference_venv.inventory.failure import Failure
from xinference_venv.sentences import sentence

T = TypeVar("T")
U = TypeVar("U")
_NOT_BACK = "those that have not registered with the new supervisor yet"


@dataclass(frozen=True, kw_only=True, slots=True)
class UnreachableWorker(Record, name="unreachable worker"):
    """A worker that did not answer, and why."""

    status: WorkerStatus = field(metadata=inline())
    error: Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered(Record, Generic[T], name="answer of a cluster"):
    """What was asked of several workers, and those of them that did not answer.

    `complete` is false while workers may not have registered again with a new supervisor. Those
    that are `gone` for longer than a minute were not asked, and are not waited for.
    """

    list: tuple[T, ...]
    unreachable: tuple[UnreachableWorker, ...] = ()
    complete: bool = True
    gone: tuple[WorkerStatus, ...] = ()

    def of(self, things: Iterable[U]) -> Gathered[U]:
        """The same answer with other things in its list, made of those that are there."""
        return Gathered(
            list=tuple(things),
            unreachable=self.unreachable,
            complete=self.complete,
            gone=self.gone,
        )

    @property
    def is_whole(self) -> bool:
        """Whether all workers that live have answered, as far as anybody knows."""
        return not self.unreachable and self.complete

    @property
    def missing(self) -> str:
        """Who did not answer, in words; only of an answer that is not whole."""
        named = ", ".join(each.status.worker_address for each in self.unreachable)
        return named or _NOT_BACK


def check_found(
    answer: Gathered[T], found: Sequence[object], what: str, *, hint: str | None = None
) -> None:
    """Raises `NotFound`, or `WorkerUnavailable` while workers that did not answer may have it."""
    if found:
        return
    if not answer.is_whole:
        raise WorkerUnavailable(
            sentence(
                "no worker that answered has a matching {what}; these did not answer: {missing}",
                what=what,
                missing=answer.missing,
            ),
            {
                "unreachable": [each.to_dict() for each in answer.unreachable],
                "complete": answer.complete,
            },
        )
    raise NotFound(
        sentence("there is no {what} that matches", what=what),
        {} if hint is None else {"hint": hint},
    )
