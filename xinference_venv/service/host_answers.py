"""What interpreters and uv answered when they were asked, kept on disk with stamps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xinference_venv._util.records import Record, digest_of
from xinference_venv.errors import InvalidRecord
from xinference_venv.planning.host import HostFacts
from xinference_venv.store.atomic import Disk
from xinference_venv.store.host.scan import renew_all
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.stamp import Stamp

# Raised when the answers kept on disk tell more, or are found out in another way.
_FORMAT = 4


def remembered_facts(layout: StorePaths, python: str) -> HostFacts | None:
    """What a launch found out of an interpreter as the host, None if anything has changed since.

    Blocks on the disk, and raises `StoreError`.
    """
    stamps, answer = load_answer(Disk(), answer_path(layout, host_question(python)), HostFacts)
    if isinstance(answer, HostFacts) and renew_all(stamps) is not None:
        return answer
    return None


def host_question(python: str) -> str:
    """What is asked of an interpreter as the host."""
    return f"host {python}"


def answer_path(layout: StorePaths, what: str) -> Path:
    """Where the answer to a question lies."""
    return layout.hosts / f"probe-{digest_of(what)[:32]}.json"


def load_answer(disk: Disk, path: Path, kind: Any) -> tuple[dict[str, Stamp], Any]:
    """An answer that is kept, with its stamps; None where there is none, or one of another format.

    Raises `StoreError`.
    """
    try:
        saved = disk.read_json(path)
        if saved is None or saved.get("format") != _FORMAT:
            return {}, None
        return {name: tuple(stamp) for name, stamp in saved["stamps"].items()}, kind.from_dict(
            saved["answer"]
        )
    except (InvalidRecord, KeyError, TypeError, AttributeError):
        return {}, None


def save_answer(disk: Disk, path: Path, stamps: Mapping[str, Stamp], answer: Record) -> None:
    """Keep an answer where `load_answer` finds it; raises `StoreError`."""
    saved = {"format": _FORMAT, "stamps": stamps, "answer": answer.to_dict()}
    disk.write_json(path, saved, durable=False)
