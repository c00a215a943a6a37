"""A journal of the subprocesses that run, so that a crash's orphans can be ended.

A SIGKILL of the worker leaves its uv running. Each is noted by pid and start, and by the worker
that owns it; a sweep ends those whose owner is dead, and never another's.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass

from xinference_venv.canonical import Fields
from xinference_venv.errors import InvalidRecord
from xinference_venv.lease import ProcessIdentity
from xinference_venv.store.disk import Disk
from xinference_venv.store.identity import identify, this_process
from xinference_venv.store.layout import Layout


@dataclass(frozen=True, kw_only=True)
class ProcessJournal:
    """The journal of one store."""

    layout: Layout
    disk: Disk

    def started(self, pid: int) -> None:
        """Note a process that this one has started as the head of a group."""
        process = identify(pid)
        if process is not None:
            note = {"process": process.to_dict(), "owner": this_process().to_dict()}
            self.disk.write_json(self.layout.processes / f"{pid}.json", note, durable=False)

    def ended(self, pid: int) -> None:
        """Forget a process that has ended."""
        self.disk.unlink(self.layout.processes / f"{pid}.json")

    def sweep(self) -> None:
        """End the groups whose owner is dead, and forget them."""
        here = this_process()
        for path in self.layout.processes.glob("*.json"):
            try:
                fields = Fields("process note", self.disk.read_json(path))
                process = ProcessIdentity.from_dict(fields.mapping("process"))
                owner = ProcessIdentity.from_dict(fields.mapping("owner"))
            except InvalidRecord:
                self.disk.unlink(path)
                continue
            if owner.host != here.host or identify(owner.pid) == owner:
                continue
            if identify(process.pid) == process:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            self.disk.unlink(path)
