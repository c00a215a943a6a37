"""The jobs of one worker: who waits for what, and the builds that several may share.

A job belongs to one caller and has its own events, result and lease. A build belongs to all the
jobs that ask for the same thing at the same time; it is cancelled when the last of them is.
How a job ended, and how long its phases took, goes to the log and to the metrics.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from xinference_venv._util.humanize import quoted
from xinference_venv._util.tasks import ignore
from xinference_venv.errors import InvalidInput, JobCancelled, UnknownJob, VirtualEnvError
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.job_state import GiveBack, JobState
from xinference_venv.inventory.jobs import JobJournal, Phase, PreparedEnvironment
from xinference_venv.inventory.lease import Lease
from xinference_venv.inventory.reports import JobReport, JobSummary, Participants
from xinference_venv.observability import metrics
from xinference_venv.observability.logging import context_about
from xinference_venv.observability.metrics import Source
from xinference_venv.observability.registry import MetricRegistry
from xinference_venv.planning.bundle import Bundle
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.sentences import sentence
from xinference_venv.service.build_log import BuildLog
from xinference_venv.uv.subprocess import Priority

_log = logging.getLogger(__name__)
# How a launch ends is reported to its caller: without a logging configuration, Python's handler of
# last resort must not print it to standard error as well.
_log.addHandler(logging.NullHandler())

ENDED_JOBS_KEPT = 200
# So long the lock of a job that did not succeed is kept for other workers of the launch: it takes
# megabytes for hundreds of packages.
_LOCK_SECONDS = 60.0
# So long who follows a job may take to read the events that it ended with.
_FOLLOWED_SECONDS = 600.0
# It becomes the name of a folder.
_JOB_ID = re.compile("[0-9a-f]{32}")


AskLock = Callable[[Callable[[str], None]], Awaitable[EnvLock | None]]
"""Asks other workers for a lock; is given what to report progress with."""


async def no_lock_elsewhere(_: Callable[[str], None]) -> EnvLock | None:
    """The source of locks of a worker that has no cluster to ask."""
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleFiles:
    """A bundle that came to this host; `paths` are those of its wheels, by package."""

    bundle: Bundle
    paths: Mapping[str, str]


@dataclass(kw_only=True, eq=False)
class Job:
    """One caller's job; `logged` when it is part of a build, whose log is its log.

    `source` says where its environment came from, as far as a build tells. `carry_out` is given
    what is to be done with its lease.
    """

    job_id: str
    request: LaunchRequest
    carry_out: Callable[[Iterable[GiveBack]], None] = ignore
    state: JobState = field(default_factory=JobState)
    result: PreparedEnvironment | None = None
    error: VirtualEnvError | None = None
    logged: bool = False
    source: Source | None = None
    task: asyncio.Task[None] | None = None
    lock: EnvLock | None = None
    ask: AskLock = no_lock_elsewhere
    participants: Participants = field(default_factory=Participants)
    asked_by: str | None = None
    """Who wants it, by name."""
    background: bool = False
    """Whether it comes after all others: its caller brings something ahead of need."""
    bundle: BundleFiles | None = None
    """What it is made of when it is an import."""
    of_cluster: bool = False
    """Whether its id was given, for the jobs of one launch on other workers have it too."""
    cleared: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when no lease is left of a job that was given up."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def journal(self) -> JobJournal:
        """Its phases and events."""
        return self.state.journal

    @property
    def lease(self) -> Lease | None:
        """The lease that it has now."""
        return self.state.lease

    def say(self, phase: Phase, message: str, **progress: int | None) -> None:
        """Add an event and wake whoever waits."""
        self.carry_out(self.state.happened(time.time(), phase, message, **progress))
        self._changed.set()
        self._changed = asyncio.Event()

    def take_back(self, error: VirtualEnvError) -> None:
        """Let a job that is ready have no result but `error`; any other is left as it is."""
        if (done := self.state.taken_back(time.time(), error.message)) is not None:
            self.result, self.error = None, error
            self.carry_out(done)

    def know(self, lock: EnvLock) -> None:
        """Note the job's lock for whoever asks for it."""
        self.lock = lock
        self._changed.set()
        self._changed = asyncio.Event()

    def forget_lock(self) -> None:
        """Keep the lock no longer; nothing else of the job changes."""
        self.lock = None

    async def change(self, timeout: float) -> None:
        """Wait for something to happen, for `timeout` seconds at most."""
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            pass

    def describe(self, worker_address: str) -> JobSummary:
        """What is launched, how far it is, how it ended.

        Its id is what the supervisor calls it: with the worker's address when it is the only one
        of the cluster.
        """
        events = self.journal.events
        return JobSummary(
            job_id=self.job_id if self.of_cluster else f"{self.job_id}@{worker_address}",
            worker_address=worker_address,
            model_name=self.request.model_name,
            model_engine=self.request.model_engine,
            phase=self.journal.phase,
            message=events[-1].message if events else "",
            started=events[0].at if events else None,
            changed=events[-1].at if events else None,
            error=None if self.error is None else Failure.of(self.error),
            launch=self.request.to_show(),
            asked_by=self.asked_by,
            background=self.background,
            require=self.participants.require,
        )

    async def report(self, since: int, timeout: float) -> JobReport:
        """The events after number `since`; waits at most `timeout` seconds for the first one.

        That a job was queued is no news to who queued it, and not worth an answer of its own.
        """
        if not self.journal.since(max(since, 1)) and not self.journal.phase.is_last:
            await self.change(timeout)
        return JobReport(
            job_id=self.job_id,
            phase=self.journal.phase,
            events=tuple(self.journal.since(since)),
            result=self.result,
            error=None if self.error is None else Failure.of(self.error),
            asked_by=self.asked_by,
        )


@dataclass(kw_only=True, eq=False)
class Build:
    """What several jobs wait for; `log` gets every line that uv says.

    `request` is the launch that began it.
    """

    spec: EnvSpec
    request: LaunchRequest | None = None
    log: BuildLog
    jobs: list[Job] = field(default_factory=list)
    task: asyncio.Task[Any] | None = None
    priority: Priority = field(default_factory=Priority)
    files: Mapping[str, str] = field(default_factory=dict)
    """The paths of wheels that are here, by package: nothing of them is fetched."""
    env_id: str | None = None
    """What its lock makes, once that is known: equal ones of other keys wait for each other."""
    on_lock: Callable[[EnvLock], None] = ignore
    _said: str = ""

    def say(self, phase: Phase, message: str, **progress: int | None) -> None:
        """Tell every job that waits, and the log, which has what repeats itself once."""
        if message != self._said:
            self.log.note(message)
            self._said = message
        for job in self.jobs:
            job.say(phase, message, **progress)

    def note(self, line: str) -> None:
        """Write a line to the log."""
        self.log.note(line)

    def know(self, lock: EnvLock) -> None:
        """Note the lock with every job that waits."""
        self.env_id = lock.env_id
        for job in self.jobs:
            job.know(lock)
        self.on_lock(lock)

    def came_from(self, source: Source) -> None:
        """Note with the job that began it where the environment came from."""
        for job in self.jobs:
            job.source = job.source or source

    def join(self, job: Job) -> None:
        """Let another job wait too; it gets the events so far, what is waited for included."""
        if self.jobs:
            job.source = Source.JOINED
            for event in self.jobs[0].journal.events:
                # Its first one is of that job alone.
                if event.seq > 1:
                    job.say(
                        event.phase,
                        event.message,
                        done=event.done,
                        total=event.total,
                        done_bytes=event.done_bytes,
                        total_bytes=event.total_bytes,
                    )
        self.jobs.append(job)
        job.logged = True


@dataclass(kw_only=True)
class JobRegistry:
    """All jobs of a worker, the ended ones up to a bound."""

    jobs: dict[str, Job] = field(default_factory=dict)

    def open(self, request: LaunchRequest, job_id: str | None = None) -> Job:
        """A new job, of this id if one is given; raises `InvalidInput` for one that is taken."""
        if job_id is not None and not _JOB_ID.fullmatch(job_id):
            raise InvalidInput(
                sentence("invalid job id {job_id}", job_id=quoted(job_id)),
                {"hint": sentence("allowed are 32 hexadecimal digits")},
            )
        if job_id is not None and job_id in self.jobs:
            raise InvalidInput(sentence("there is a job {job_id} already", job_id=repr(job_id)))
        ended = [each for each, job in self.jobs.items() if job.journal.phase.is_last]
        for each in ended[: max(0, len(ended) - ENDED_JOBS_KEPT)]:
            del self.jobs[each]
        job = Job(job_id=job_id or uuid.uuid4().hex, request=request, of_cluster=job_id is not None)
        self.jobs[job.job_id] = job
        return job

    def find(self, job_id: str) -> Job:
        """The job; raises `UnknownJob`."""
        if job_id not in self.jobs:
            raise UnknownJob(
                sentence("there is no job {job_id}", job_id=repr(job_id)),
                {"hint": sentence("it ended long ago, or the worker was restarted")},
            )
        return self.jobs[job_id]

    def running(self) -> list[Job]:
        """The jobs that have not ended."""
        return [job for job in self.jobs.values() if not job.journal.phase.is_last]


def start_job_task(
    job: Job, work: Coroutine[Any, Any, None], measures: MetricRegistry, worker: str
) -> asyncio.Task[None]:
    """Run the work of a job as a task, whose lines in the log name job, model and worker."""
    context = context_about(job=job.job_id, model=job.request.model_name, worker=worker)
    context.run(_log.info, "the launch begins")
    task = asyncio.create_task(work, context=context)
    task.add_done_callback(partial(_end, job, measures), context=context)
    return task


def _end(job: Job, measures: MetricRegistry, task: asyncio.Task[None]) -> None:
    if not job.journal.phase.is_last:
        # It was cancelled before its first step, so it could not say so itself.
        job.error = JobCancelled(
            sentence("the job for {model_name} was cancelled", model_name=job.request.model_name)
        )
        job.say(Phase.CANCELLED, str(job.error))
    outcome = job.journal.phase
    # That of a ready one is in the store; a worker that waits for another one's asks soon.
    after = 0.0 if outcome is Phase.READY else _LOCK_SECONDS
    loop = asyncio.get_running_loop()
    loop.call_later(after, job.forget_lock)
    loop.call_later(_FOLLOWED_SECONDS, job.journal.shorten)
    source = "" if outcome is not Phase.READY else _source(job).value
    seconds = sum(job.journal.seconds.values())
    measures.observe(metrics.JOB_SECONDS, outcome.value, source, value=seconds)
    for phase, spent in job.journal.seconds.items():
        measures.observe(metrics.PHASE_SECONDS, phase.value, value=spent)
    fields: dict[str, object] = {"outcome": outcome.value, "duration_seconds": round(seconds, 6)}
    if outcome is Phase.FAILED and job.error is not None:
        # One that this release does not know stands in the details.
        code = str(job.error.to_dict()["code"])
        measures.add(metrics.JOB_FAILURES, code)
        fields["code"] = code
        text = "the launch failed after %.3f s: %s: %s"
        # Only a defect ends the task with an error.
        defect = None if task.cancelled() else task.exception()
        _log.warning(text, seconds, code, job.error, extra=fields, exc_info=defect)
    elif outcome is Phase.READY:
        fields["source"] = source
        _log.info("the launch is ready after %.3f s: %s", seconds, source, extra=fields)
    else:
        _log.info("the launch was cancelled after %.3f s", seconds, extra=fields)


def _source(job: Job) -> Source:
    if job.result is not None and not job.result.enabled:
        return Source.HOST
    return job.source or Source.RELAUNCH
