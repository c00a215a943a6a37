"""What every job's uv said: a file for each, bounded in number."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xinference_venv.env import EnvKey
from xinference_venv.errors import InvalidRecord
from xinference_venv.inventory import EnvFilter
from xinference_venv.store.disk import Disk
from xinference_venv.store.layout import Layout

LOGS_KEPT = 500


def open_log(layout: Layout, disk: Disk, key: EnvKey, job_id: str) -> Path:
    """A new log file, whose first line says what it is of; the oldest make room for it."""
    now = time.time()
    # By name they sort by age, also those of one second.
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S.%f")
    path = layout.logs / f"{stamp}-{job_id}.log"
    header = {"key": key.to_dict(), "job_id": job_id, "started": now}
    disk.write(path, (json.dumps(header) + "\n").encode(), durable=False)
    for old in sorted(layout.logs.glob("*.log"))[:-LOGS_KEPT]:
        disk.unlink(old)
    return path


def logs_of(layout: Layout, wanted: EnvFilter) -> Iterator[tuple[dict[str, Any], Path]]:
    """The logs of matching keys with their headers, the newest first."""
    for path in sorted(layout.logs.glob("*.log"), reverse=True):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                header = json.loads(file.readline())
            key = EnvKey.from_dict(header["key"])
        except (OSError, ValueError, KeyError, TypeError, InvalidRecord):
            continue
        if wanted.matches(key):
            yield header, path


def read_log(path: Path) -> str:
    """A log's text without its header."""
    return path.read_text("utf-8", "replace").partition("\n")[2]
