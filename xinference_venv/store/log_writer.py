"""The writing of one log: bounded, redacted, a few times a second at most.

Comes in: lines, as a build says them, and how it ended. Comes out: a file in `StorePaths.logs`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xinference_venv._util.humanize import counted, size_text
from xinference_venv._util.redact import redact_text
from xinference_venv.errors import StoreError
from xinference_venv.inventory.job_log import LogEnding, LogHeader, spoken
from xinference_venv.planning.key import EnvKey
from xinference_venv.store.atomic import Disk
from xinference_venv.store.logs import delete_old_logs, log_path, new_log_id
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.process_identity import this_process

HEAD_BYTES = 3 << 20
TAIL_BYTES = 1 << 20
LINE_BYTES = 32 << 10


@dataclass(kw_only=True)
class LogWriter:
    """The log of one job, which this process alone writes.

    The first `HEAD_BYTES` are written as they come. Of what follows the last `TAIL_BYTES` are
    kept in memory and written when the job ends, so that what a failure says last is always
    there. A disk that takes no more fails no build: the lines that it did not take are counted.

    `add` only touches memory; `flush` and `end` may run in another thread.
    """

    layout: StorePaths
    disk: Disk
    key: EnvKey
    job_id: str
    asked_by: str | None = None
    log_id: str = field(default="", init=False)
    _pending: deque[bytes] = field(default_factory=deque, init=False)
    _room: int = field(default_factory=lambda: HEAD_BYTES, init=False)
    _tail: deque[bytes] = field(default_factory=deque, init=False)
    _tail_bytes: int = field(default=0, init=False)
    _dropped: int = field(default=0, init=False)
    _refused: int = field(default=0, init=False)
    _file: threading.Lock = field(default_factory=threading.Lock, init=False)

    def open(self) -> None:
        """Make the file, whose first line says what it is of; the oldest logs make room for it.

        Raises `StoreError`, and `InvalidName` for a job's name that can't be part of a file's.
        """
        now = time.time()
        header = LogHeader(
            key=self.key,
            job_id=self.job_id,
            started=now,
            owner=this_process(),
            asked_by=self.asked_by,
        )
        log_id = new_log_id(self.job_id, now)
        self.disk.write(log_path(self.layout, log_id), _bytes(header.line), durable=False)
        self.log_id = log_id
        delete_old_logs(self.layout, self.disk)

    def add(self, text: str) -> None:
        """Add lines, which are in the file after the next `flush` or at the end."""
        for line in redact_text(text).split("\n"):
            content = _bytes(spoken(line))
            if len(content) > LINE_BYTES:
                content = content[:LINE_BYTES] + _bytes(" (cut)")
            if not self._tail and len(content) <= self._room:
                self._room -= len(content)
                self._pending.append(content)
            else:
                self._add_to_tail(content)

    def flush(self) -> None:
        """Write what was added."""
        with self._file:
            lines = []
            while self._pending:
                lines.append(self._pending.popleft())
            if lines and not self._append(lines):
                self._refused += len(lines)

    def end(self, ending: LogEnding) -> None:
        """Write what is left and how the job ended; nothing is added after this.

        A log that could not be opened has no end.
        """
        if not self.log_id:
            return
        self.flush()
        missing = self._dropped + self._refused
        lines = [_bytes(f"({counted(missing, 'line')} left out)")] if missing else []
        with self._file:
            if not self._append([*lines, *self._tail, _bytes(ending.line)]):
                # A full disk may still take the one line that matters most.
                self._append([_bytes(ending.line)])

    @property
    def _path(self) -> Path:
        return log_path(self.layout, self.log_id)

    def _add_to_tail(self, content: bytes) -> None:
        if not self._tail:
            size = size_text(TAIL_BYTES)
            notice = f"(what follows is written when the job ends, the last {size} of it)"
            self._pending.append(_bytes(notice))
        self._tail.append(content)
        self._tail_bytes += len(content)
        while self._tail_bytes > TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())
            self._dropped += 1

    def _append(self, lines: Sequence[bytes]) -> bool:
        try:
            self.disk.append(self._path, b"".join(lines))
        except StoreError:
            return False
        return True


def _bytes(line: str) -> bytes:
    # The name of a file need not be text that UTF-8 can hold.
    return line.encode("utf-8", "backslashreplace") + b"\n"
