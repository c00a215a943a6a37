"""Looks at this host without an actor: environments, packages, leases, logs, models, jobs.

Comes in: the variables of a process, selections. Comes out: what a supervisor answers of a cluster
of this host alone. A look changes nothing but the marks of what it finds broken. Each method
imports what it needs when it is called: a command that lists a few names must not wait for all that
a launch needs.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from xinference_venv._util.humanize import similar_names
from xinference_venv.errors import InvalidRecord, NotFound
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.selection import EVERY, Selection
from xinference_venv.service.places import Places, find_places
from xinference_venv.store.store import Store

if TYPE_CHECKING:
    from xinference_venv.inventory.environments import Environment, Environments
    from xinference_venv.inventory.inventory import EnvEntry
    from xinference_venv.inventory.job_list import ListedJob
    from xinference_venv.inventory.job_log import JobLog, LogPart, WholeLog
    from xinference_venv.inventory.lease import WorkerLease
    from xinference_venv.inventory.packages import EnvironmentPackages
    from xinference_venv.inventory.reports import (
        CollectionReport,
        EnvironmentLock,
        RemovalReport,
        VerifiedEnvironment,
    )
    from xinference_venv.planning.listed_model import ListedModel
    from xinference_venv.service.worker_service import WorkerService

_MOST_JOBS = 20
_BECOME = """
import os, sys
try:
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as error:
    print(f"error: {sys.argv[1]!r} can't be run: {error.strerror}", file=sys.stderr)
    sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
"""
ADDRESS = "127.0.0.1"
"""Stands for the worker's address in answers of this host, where no worker listens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThisHost:
    """The store of this host, as a process with certain variables finds it.

    Methods block that are no coroutines.
    """

    places: Places
    store: Store
    environ: Mapping[str, str]

    @classmethod
    def open(cls, environ: Mapping[str, str]) -> ThisHost:
        """Of a process with these variables; raises `InvalidInput` and `StoreError`."""
        places = find_places(environ)
        return cls(places=places, store=Store.open(places.root), environ=environ)

    def environments(self, wanted: Selection) -> Environments:
        """The matching environments, and what of the store could not be visited."""
        from xinference_venv.inventory.environments import Environments, WorkerSkippedItem
        from xinference_venv.store.sweep import look_over

        look_over(self.store)
        listed = tuple(map(_addressed, self._entries(wanted)))
        skipped = tuple(
            WorkerSkippedItem(item=each, worker_address=ADDRESS)
            for each in self.store.skipped.all()
        )
        return Environments(list=listed, skipped=skipped)

    def packages(self, wanted: Selection) -> Gathered[EnvironmentPackages]:
        """The matching environments, each with its packages."""
        from xinference_venv.store.shown import packages_in

        return Gathered(list=packages_in(self.store, self._entries(wanted), ADDRESS))

    def planned_removal(self, wanted: Selection, *, force: bool) -> Gathered[RemovalReport]:
        """What a removal of the matching environments would do."""
        from xinference_venv.inventory.inventory import plan_removal
        from xinference_venv.inventory.reports import RemovalReport
        from xinference_venv.store.listing import entries_of

        plan = plan_removal(entries_of(self.store, wanted), wanted.matches, force=force)
        report = RemovalReport(plan=plan, done=(), dry_run=True, worker_address=ADDRESS)
        return Gathered(list=(report,))

    async def planned_collection(
        self, *, max_bytes: int | None, older_than: float | None
    ) -> Gathered[CollectionReport]:
        """What a collection of garbage would delete."""
        collecting = self._worker().collect_garbage(
            max_bytes=max_bytes, older_than=older_than, dry_run=True
        )
        return Gathered(list=(await collecting,))

    async def verify(self, wanted: Selection, *, hashes: bool) -> Gathered[VerifiedEnvironment]:
        """Check the matching environments; those that are broken are marked as that."""
        return Gathered(list=await self._worker().verify_virtual_env(wanted, hashes=hashes))

    def _worker(self) -> WorkerService:
        """What a worker of this host does: one that is not started clears nothing away."""
        from xinference_venv.service.open_uv import open_uv
        from xinference_venv.service.worker_service import WorkerService

        return WorkerService(
            store=self.store,
            uv=open_uv(self.places, self.store, self.environ),
            settings=self.places.settings,
            environ=self.environ,
            address=ADDRESS,
        )

    def leases(self, wanted: Selection) -> Gathered[WorkerLease]:
        """Who uses the matching environments."""
        from xinference_venv.inventory.lease import WorkerLease
        from xinference_venv.store.lease_admin import lease_entries

        entries = lease_entries(self.store, wanted)
        return Gathered(
            list=tuple(WorkerLease(entry=each, worker_address=ADDRESS) for each in entries)
        )

    def logs(self, wanted: Selection, count: int) -> Gathered[WholeLog]:
        """The newest `count` logs of the jobs of matching environments, with their text."""
        from xinference_venv.inventory.job_log import WholeLog
        from xinference_venv.store.logs import logs_of, text_of

        newest = itertools.islice(logs_of(self.store.layout, wanted), count)
        return Gathered(
            list=tuple(
                WholeLog(log=each, text=text_of(each), worker_address=ADDRESS) for each in newest
            )
        )

    def read_log(self, log_id: str, offset: int) -> LogPart:
        """A log's text from `offset` (in bytes) on; raises `NotFound` when the log is gone."""
        from xinference_venv.store.logs import read_on

        return read_on(self.store.layout, log_id, offset)

    def jobs(self) -> Gathered[ListedJob]:
        """The newest jobs of all processes of this host that share the home, as their logs tell."""
        from xinference_venv.inventory.job_list import ListedJob
        from xinference_venv.store.logs import logs_of

        newest = itertools.islice(logs_of(self.store.layout, EVERY), _MOST_JOBS)
        return Gathered(
            list=tuple(
                ListedJob.of_log(each, ADDRESS, last_line=self._last_line(each)) for each in newest
            )
        )

    def _last_line(self, log: JobLog) -> str:
        from xinference_venv.store.logs import text_of

        if log.outcome.is_last:
            return ""
        return next((line for line in reversed(text_of(log).splitlines()) if line.strip()), "")

    def cancel(self, job_id: str) -> ListedJob:
        """Cancel a job of another process of this host, and wait until its log says its end.

        Raises `UnknownJob`; `InvalidInput` where the process does more than this job, or is not of
        this host; `DeadlineExceeded` where it goes on.
        """
        from xinference_venv.service.signal_job import cancel_job

        return cancel_job(self.store.layout, job_id)

    def one_ready(self, wanted: Selection) -> EnvEntry:
        """The one environment that is meant and ready; raises `NotFound` and `InvalidInput`."""
        from xinference_venv.inventory.env import EnvState
        from xinference_venv.inventory.inventory import check_has_lock

        found = self._entries(wanted)
        check_has_lock(found)
        ready = [each for each in found if each.state is EnvState.READY]
        return self._the_one(wanted, found, ready)

    def one_to_run_in(self, wanted: Selection) -> EnvEntry:
        """The same, or one that the drop-in for Xinference changes in its place."""
        from xinference_venv.inventory.env import EnvState

        runs = (EnvState.READY, EnvState.IN_PLACE)
        found = self._entries(wanted)
        return self._the_one(wanted, found, [each for each in found if each.state in runs])

    def _the_one(
        self, wanted: Selection, found: Sequence[EnvEntry], fitting: Sequence[EnvEntry]
    ) -> EnvEntry:
        """What alone fits of what was found."""
        from xinference_venv.inventory.diff import check_selected

        if not fitting:
            states = "".join(
                f"; {each.key} is {each.state}{f': {each.reason}' if each.reason else ''}"
                for each in found
            )
            raise NotFound(
                f"there is no environment of {wanted.model_name!r} that is ready{states}",
                {"hint": self._what_else(str(wanted.model_name))},
            )
        check_selected(
            str(wanted.model_name), [_addressed(each) for each in fitting], workers=False
        )
        return fitting[0]

    def _what_else(self, model: str) -> str:
        """What to do where a model has no environment that is ready."""
        from xinference_venv.service.local_names import local_environment_keys

        names = {key.model_name for key in local_environment_keys(self.places.settings)}
        similar = " or ".join(similar_names(model, names - {model}))
        question = f"did you mean {similar}? Or " if similar else ""
        return f"{question}make one: xinference-venv launch {model}"

    def lock_of(self, entry: EnvEntry) -> EnvironmentLock:
        """An environment with its lock."""
        from xinference_venv.inventory.reports import EnvironmentLock

        lock = None if entry.env_id is None else self.store.lock_of(entry.env_id)
        return EnvironmentLock(environment=_addressed(entry), lock=lock)

    def run_in(self, entry: EnvEntry, command: Sequence[str]) -> NoReturn:
        """Become a command that runs in an environment, which is in use as long as that lives.

        The lease is this process's, and the command is the same process. Raises `NotFound` where
        the environment was removed just now, and `OSError`.
        """
        if entry.env_id is None:
            self._run_in_place(Path(entry.real_path), command)
        from xinference_venv.store.envs.launcher import LAUNCHER_NAME
        from xinference_venv.store.process_identity import this_process
        from xinference_venv.uv.become import become_process

        try:
            self.store.take_lease(
                entry.env_id,
                model_name=entry.key.model_name,
                model_uid=None,
                process=this_process(),
            )
        except InvalidRecord as error:
            raise NotFound(f"{entry.key} is gone: {error}") from None
        launcher = f"{entry.real_path}/bin/{LAUNCHER_NAME}"
        # A Python that is replaced at once: the launcher sets the variables, for all that is run.
        become_process([launcher, "-I", "-c", _BECOME, *command])

    def _run_in_place(self, env: Path, command: Sequence[str]) -> NoReturn:
        from xinference_venv.store.use_lock import take_use_lock
        from xinference_venv.uv.become import become_process

        # Its users are known by this lock, which the command keeps open.
        os.set_inheritable(take_use_lock(self.store.disk, env), True)
        search_path = os.pathsep.join((str(env / "bin"), os.environ.get("PATH", os.defpath)))
        os.environ |= {"VIRTUAL_ENV": str(env), "PATH": search_path}
        os.environ.pop("PYTHONPATH", None)
        become_process([str(env / "bin" / "python"), "-I", "-c", _BECOME, *command])

    def models(self) -> tuple[ListedModel, ...]:
        """The models of the catalogue: built in, of an Xinference that is installed, one's own."""
        from xinference_venv.service.local_names import local_models

        return local_models(self.places, self.store, self.environ)

    def _entries(self, wanted: Selection) -> list[EnvEntry]:
        from xinference_venv.store.listing import entries_of

        return [each for each in entries_of(self.store, wanted) if wanted.matches(each.key)]


def _addressed(entry: EnvEntry) -> Environment:
    from xinference_venv.inventory.environments import Environment

    return Environment.at(ADDRESS, entry)
