"""The record of a view: what an environment was composed of, as its file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.records import Record
from xinference_venv.planning.view import ViewPlan
from xinference_venv.store.atomic import Disk
from xinference_venv.store.envs.real_files import Placed
from xinference_venv.store.paths import VIEW_RECORD_NAME

NOTHING_PLACED = Placed(files=0, size_bytes=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewRecord(Record, name="record of a view", version=1):
    """What an environment was composed of: the plan, and its own files with their bytes.

    `library` is ``lib/pythonX.Y/site-packages``, below the virtual environment and the view.
    `placed` are the files in place of links; they are the model's, and not among `files`.
    """

    plan: ViewPlan
    library: str
    files: Mapping[str, int]
    placed: Placed = NOTHING_PLACED


def read_view(disk: Disk, env: Path) -> ViewRecord | None:
    """What an environment was composed of; None for one that has no view."""
    data = disk.read_json(env / VIEW_RECORD_NAME)
    return None if data is None else ViewRecord.from_dict(data)
