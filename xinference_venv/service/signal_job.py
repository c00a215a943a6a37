"""Cancels a job of another process of this host: by the signal that ends what launches it.

A command that launches has one job and takes SIGTERM as its cancellation. A server has many, so
it is left alone: its own door cancels them.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xinference_venv.errors import DeadlineExceeded, InvalidInput, UnknownJob
from xinference_venv.inventory.job_list import ListedJob
from xinference_venv.inventory.job_log import JobLog
from xinference_venv.inventory.lease import Holder, judge
from xinference_venv.inventory.selection import EVERY
from xinference_venv.store.logs import logs_of
from xinference_venv.store.process_identity import process_start, this_process
from xinference_venv.store.process_scan import command_of

if TYPE_CHECKING:
    from xinference_venv.store.paths import StorePaths

_PROGRAMS = ("xinference-venv", "xinference_venv")
_SERVERS = frozenset({"web", "supervisor", "worker"})
_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.05


def cancel_job(layout: StorePaths, job_id: str) -> ListedJob:
    """See `ThisHost.cancel`."""
    log = _log_of(layout, job_id)
    if not log.outcome.is_last:
        owner = log.header.owner
        if not is_single_command(command_of(owner.pid)):
            raise InvalidInput(
                f"the job {job_id} belongs to process {owner.pid} on {owner.host}, which is not the"
                " command of a launch",
                {
                    "hint": "cancel it there: on the page of a server, over REST, or with the"
                    " --supervisor of its cluster"
                },
            )
        # Asked again: the process of the log, and no other one that has its pid by now.
        if judge(owner, this_process(), process_start) is Holder.ALIVE:
            _end(owner.pid, job_id)
        until = time.monotonic() + _PATIENCE_SECONDS
        while not (log := _log_of(layout, job_id)).outcome.is_last:
            if time.monotonic() > until:
                raise DeadlineExceeded(
                    f"process {owner.pid} did not end the job {job_id} within"
                    f" {_PATIENCE_SECONDS:g} s after SIGTERM"
                )
            time.sleep(_POLL_SECONDS)
    return ListedJob.of_log(log, log.header.owner.host, last_line="")


def is_single_command(command: Sequence[str]) -> bool:
    """Whether a command line is of this program, and none that serves others."""
    for number, word in enumerate(command):
        if os.path.basename(word) in _PROGRAMS:
            return _SERVERS.isdisjoint(command[number + 1 :])
    return False


def _end(pid: int, job_id: str) -> None:
    """Let the process of a job end; one that has ended just now is fine."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise InvalidInput(
            f"process {pid}, which has the job {job_id}, is another user's",
            {"hint": "cancel it as that user, or as root"},
        ) from None


def _log_of(layout: StorePaths, job_id: str) -> JobLog:
    for log in logs_of(layout, EVERY):
        if log.header.job_id == job_id:
            return log
    raise UnknownJob(f"there is no job {job_id!r}", {"hint": "`xinference-venv jobs` lists them"})
