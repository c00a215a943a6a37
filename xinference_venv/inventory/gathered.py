"""What a supervisor's answer, joined from many workers, allows to say: all of it, or not yet.

Comes in: ``{"list": ..., "unreachable": ..., "complete": ...}``. Comes out: whether anybody is
missing in it, and the error that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xinference_venv.errors import NotFound, WorkerUnavailable

_NOT_BACK = "those that have not registered with the new supervisor yet"


def is_whole(answer: Mapping[str, Any]) -> bool:
    """Whether all workers have answered, as far as anybody knows."""
    return not answer["unreachable"] and bool(answer.get("complete", True))


def silent_workers(answer: Mapping[str, Any]) -> str:
    """Who did not answer, in words; only of an answer that is not whole."""
    return ", ".join(each["worker_address"] for each in answer["unreachable"]) or _NOT_BACK


def check_found(
    answer: Mapping[str, Any], found: Sequence[object], what: str, *, hint: str | None = None
) -> None:
    """Raises `NotFound`, or `WorkerUnavailable` while workers that did not answer may have it."""
    if found:
        return
    if not is_whole(answer):
        raise WorkerUnavailable(
            f"no worker that answered has a matching {what};"
            f" these did not answer: {silent_workers(answer)}",
            {"unreachable": answer["unreachable"]},
        )
    raise NotFound(f"there is no {what} that matches", {} if hint is None else {"hint": hint})
