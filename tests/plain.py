"""Answers as tests look at them: their plain JSON values, which are those of the wire."""

from __future__ import annotations

from typing import Any

from xinference_venv._util.records import Record, from_plain
from xinference_venv.inventory.replicas import Replica
from xinference_venv.inventory.selection import Selection


def plain(answer: Record) -> dict[str, Any]:
    """The plain JSON values of an answer."""
    return answer.to_dict()


def selected(
    model_name: str | None = None,
    model_engine: str | None = None,
    python_version: str | None = None,
    worker: str | None = None,
) -> Selection:
    """A selection of names in their order."""
    return Selection(
        model_name=model_name,
        model_engine=model_engine,
        python_version=python_version,
        worker=worker,
    )


def result_of(replica: Replica) -> dict[str, Any]:
    """What a launch gave on a worker, as plain JSON values; nothing where it failed."""
    return {} if replica.result is None else replica.result.to_dict()


def lock_of(replica: Replica) -> str | None:
    """The digest of the lock that a worker's environment was built from."""
    return None if replica.result is None else replica.result.lock_digest


def of_json(hint: object, data: object) -> Any:
    """The value of a type that JSON values describe, as they come over the wire."""
    return from_plain(hint, data, "answer")
