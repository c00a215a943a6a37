"""A journal of the subprocesses that run, so that a crash's orphans can be ended.

A SIGKILL of the worker leaves its uv running. Each is noted by pid and start, and by the worker
that owns it; a sweep ends those whose owner is dead, and never another's. Notes of several hosts
may lie in one home, so a note's name says in which of them its pid means something.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from xinference_venv._util.records import Record, digest_of
from xinference_venv.errors import InvalidRecord
from xinference_venv.inventory.lease import Holder, ProcessIdentity, judge
from xinference_venv.store.atomic import Disk
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.process_identity import identify, process_start, this_process

_OWNER_VARIABLE = "XINFERENCE_VENV_OWNER"
_END_SECONDS = 5.0
_POLL_SECONDS = 0.005


@dataclass(frozen=True, kw_only=True, slots=True)
class _Note(Record, name="process note"):
    """A process that runs, and the worker that owns it."""

    process: ProcessIdentity
    owner: ProcessIdentity


@dataclass(frozen=True, kw_only=True)
class ProcessJournal:
    """The journal of one store."""

    layout: StorePaths
    disk: Disk

    @property
    def variables(self) -> dict[str, str]:
        """What tells of a process whose it is, from its start until it is noted."""
        return {_OWNER_VARIABLE: json.dumps([str(self.layout.root), this_process().to_dict()])}

    def started(self, pid: int) -> None:
        """Note a process that this one has started as the head of a group."""
        process = identify(pid)
        if process is not None:
            note = _Note(process=process, owner=this_process())
            self.disk.write_json(self._note(pid), note.to_dict(), durable=False)

    def ended(self, pid: int) -> None:
        """Forget a process that has ended."""
        self.disk.unlink(self._note(pid))

    def sweep(self) -> None:
        """End the groups whose owner is dead, and forget them; then none of them does anything."""
        for name in self.disk.skipped.names(self.layout.processes):
            if name.startswith(".") or not name.endswith(".json"):
                continue
            with self.disk.skipped.visiting(self.layout.processes / name):
                self._end_if_orphaned(self.layout.processes / name)
        until = time.monotonic() + _END_SECONDS
        while (orphans := self._orphans()) and time.monotonic() < until:
            for pid in orphans:
                with suppress(ProcessLookupError, PermissionError):
                    # Each was started in a group of its own.
                    os.killpg(os.getpgid(pid), signal.SIGKILL)
            time.sleep(_POLL_SECONDS)

    def _end_if_orphaned(self, path: Path) -> None:
        try:
            note = _Note.from_dict(self.disk.read_json(path))
        except InvalidRecord:
            self.disk.unlink(path)
            return
        if _judged(note.owner) is not Holder.GONE:
            return
        if _judged(note.process) is Holder.ALIVE:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(note.process.pid, signal.SIGKILL)
        self.disk.unlink(path)

    def _orphans(self) -> list[int]:
        """The processes of dead workers, by what they were started with.

        A worker may die before it notes what it has started. All that changes the disk is
        staged, so without anything staged there is nothing to look for.
        """
        if not os.listdir(self.layout.staging):
            return []
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ValueError, TypeError, InvalidRecord):
                root, owner = json.loads(process.environ().get(_OWNER_VARIABLE, "[]"))
                owned = ProcessIdentity.from_dict(owner)
                if root == str(self.layout.root) and _judged(owned) is Holder.GONE:
                    found.append(process.pid)
        return found

    def _note(self, pid: int) -> Path:
        here = this_process()
        return self.layout.processes / f"{digest_of([here.host, here.namespace])[:16]}-{pid}.json"


def _judged(process: ProcessIdentity) -> Holder:
    return judge(process, this_process(), process_start)
