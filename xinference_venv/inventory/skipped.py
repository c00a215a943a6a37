"""What of a store could not be visited, while all else was.

Comes in: paths and reasons. Comes out: a noun that listings and `doctor` show.
"""

from __future__ import annotations

from dataclasses import dataclass

from xinference_venv._util.records import Record


@dataclass(frozen=True, kw_only=True, slots=True)
class SkippedItem(Record, name="skipped item"):
    """A file or folder that could not be read, judged or deleted, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.path in self.reason else f"{self.path}: {self.reason}"
