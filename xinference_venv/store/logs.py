"""The logs of jobs on disk: which there are, what they say, which make room for newer ones.

Comes in: filters and names of logs. Comes out: `JobLog` and text. `LogWriter` writes them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from xinference_venv._util.humanize import quoted
from xinference_venv.errors import InvalidName, InvalidRecord, NotFound, StoreError
from xinference_venv.inventory.job_log import JobLog, LogEnding, LogHeader, LogPart, Outcome
from xinference_venv.inventory.lease import judge
from xinference_venv.inventory.selection import Selection
from xinference_venv.sentences import sentence
from xinference_venv.store.atomic import Disk
from xinference_venv.store.keys import names_in
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.process_identity import process_start, this_process
from xinference_venv.store.visit import open_regular, read_regular

LOGS_KEPT = 500
LOGS_BYTES = 256 << 20
PART_BYTES = 64 << 10
# A log of another host that does not grow for so long is abandoned: no job takes longer.
ABANDONED_SECONDS = 7 * 86_400.0
_LINE_BYTES = 8 << 10
_LOG_ID = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}-[A-Za-z0-9_-]{1,64}")
_SUFFIX = ".log"


def new_log_id(job_id: str, now: float) -> str:
    """A name for the log of a job; by name they sort by age, also those of one second."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S.%f")
    return f"{stamp}-{job_id}"


def log_path(layout: StorePaths, log_id: str) -> Path:
    """Where a log lies; raises `InvalidName` for what can be no log's name."""
    if not _LOG_ID.fullmatch(log_id):
        raise InvalidName(
            sentence("Invalid name of a log {log_id}", log_id=quoted(log_id)),
            {"hint": sentence("`xinference-venv logs MODEL --json` names them as `log_id`")},
        )
    return layout.logs / f"{log_id}{_SUFFIX}"


def logs_of(layout: StorePaths, wanted: Selection) -> Iterator[JobLog]:
    """The logs of matching keys, the newest first; what can't be read as one is left out."""
    for log_id in reversed(_log_ids(layout)):
        with suppress(OSError, InvalidRecord):
            log = _described(log_path(layout, log_id), log_id)
            if wanted.matches(log.header.key):
                yield log


def text_of(log: JobLog) -> str:
    """The text of a log without its first line and its ending; empty when it is gone."""
    try:
        content = read_regular(log.path, follow=False).partition(b"\n")[2]
    except FileNotFoundError:
        return ""
    return _without_ending(content).decode("utf-8", "replace")


def read_on(layout: StorePaths, log_id: str, offset: int) -> LogPart:
    """The text from `offset` on, in bytes: `PART_BYTES` of whole lines at most.

    Raises `InvalidName`, and `NotFound` when the log is gone.
    """
    path = log_path(layout, log_id)
    try:
        log = _described(path, log_id)
        with open_regular(path, follow=False) as file:
            start = max(offset, len(file.readline(PART_BYTES)))
            file.seek(start)
            content = file.read(PART_BYTES)
            at_end = not file.read(1)
    except (FileNotFoundError, InvalidRecord):
        raise NotFound(
            sentence("there is no log {log_id}", log_id=repr(log_id)),
            {"hint": sentence("it may have been deleted in favour of newer ones")},
        ) from None
    if at_end:
        content = _without_ending(content)
    if not (at_end and log.outcome.is_last):
        # Half a line will be whole soon.
        whole = content.rfind(b"\n") + 1
        if whole or len(content) < PART_BYTES:
            content = content[:whole]
    return LogPart(
        log=log,
        text=content.decode("utf-8", "replace"),
        offset=start + len(content),
        ended=at_end and log.outcome.is_last,
    )


def delete_old_logs(layout: StorePaths, disk: Disk) -> None:
    """Delete the oldest logs beyond `LOGS_KEPT` and `LOGS_BYTES`, but none that is being written.

    Those that are written at the same time may grow beyond the bound until the next one is opened.
    """
    total = 0
    for number, log_id in enumerate(reversed(_log_ids(layout))):
        path = log_path(layout, log_id)
        # One that can't be deleted stays: that is no reason to fail whoever opens another.
        with suppress(OSError, StoreError):
            total += path.stat().st_size
            if (number >= LOGS_KEPT or total > LOGS_BYTES) and not _being_written(path, log_id):
                disk.unlink(path)


def _log_ids(layout: StorePaths) -> list[str]:
    """All logs, the oldest first."""
    names = (name.removesuffix(_SUFFIX) for name in names_in(str(layout.logs)))
    return [name for name in names if _LOG_ID.fullmatch(name)]


def _described(path: Path, log_id: str) -> JobLog:
    with open_regular(path, follow=False) as file:
        header = LogHeader.from_line(file.readline(_LINE_BYTES))
        # Judged first: what a dead writer has not written by now, it never will.
        writer = judge(header.owner, this_process(), process_start)
        ending = _ending_in(file)
    return JobLog.of(log_id, str(path), header, ending, writer)


def _ending_in(file: BinaryIO) -> LogEnding | None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LINE_BYTES))
    return LogEnding.from_line(_last_line(file.read()))


def _last_line(content: bytes) -> bytes:
    """The last line if it is whole."""
    *_, last, rest = [b"", b"", *content.split(b"\n")]
    return b"" if rest else last


def _without_ending(content: bytes) -> bytes:
    last = _last_line(content)
    if LogEnding.from_line(last) is None:
        return content
    return content[: -len(last) - 1]


def _being_written(path: Path, log_id: str) -> bool:
    try:
        log = _described(path, log_id)
    except InvalidRecord:
        return False
    if log.outcome is Outcome.UNKNOWN:
        return time.time() - path.stat().st_mtime < ABANDONED_SECONDS
    return not log.outcome.is_last
