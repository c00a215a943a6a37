"""What a worker logs and counts of its jobs: each as it begins, and as it ends.

Comes in: a job and the work that it is. Comes out: lines of the log that say whose they are, and
the worker's measures.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any

from xinference_venv import metrics
from xinference_venv.actors.board import Job
from xinference_venv.jobs import Phase
from xinference_venv.log_format import context_about
from xinference_venv.measures import Measures
from xinference_venv.metrics import Source

_log = logging.getLogger(__name__)
# Whoever waits for a launch is told how it ends: without logging, standard error is not the place.
_log.addHandler(logging.NullHandler())


def accounted(
    job: Job, work: Coroutine[Any, Any, None], measures: Measures, worker: str
) -> asyncio.Task[None]:
    """Run the work of a job as a task, whose lines in the log name job, model and worker."""
    context = context_about(job=job.job_id, model=job.request.model_name, worker=worker)
    context.run(_log.info, "the launch begins")
    task = asyncio.create_task(work, context=context)
    task.add_done_callback(partial(_end, job, measures), context=context)
    return task


def _end(job: Job, measures: Measures, _: asyncio.Task[None]) -> None:
    outcome = job.journal.phase
    if not outcome.is_last:
        # It was cancelled before its first step.
        outcome = Phase.CANCELLED
    source = "" if outcome is not Phase.READY else _source(job).value
    seconds = sum(job.journal.seconds.values())
    measures.observe(metrics.JOB_SECONDS, outcome.value, source, value=seconds)
    for phase, spent in job.journal.seconds.items():
        measures.observe(metrics.PHASE_SECONDS, phase.value, value=spent)
    told: dict[str, object] = {"outcome": outcome.value, "duration_seconds": round(seconds, 6)}
    if outcome is Phase.FAILED and job.error is not None:
        # One that this release does not know stands in the details.
        code = str(job.error.to_dict()["code"])
        measures.add(metrics.JOB_FAILURES, code)
        told["code"] = code
        text = "the launch failed after %.3f s: %s: %s"
        _log.warning(text, seconds, code, job.error, extra=told)
    elif outcome is Phase.READY:
        told["source"] = source
        _log.info("the launch is ready after %.3f s: %s", seconds, source, extra=told)
    else:
        _log.info("the launch was cancelled after %.3f s", seconds, extra=told)


def _source(job: Job) -> Source:
    if job.result is not None and not job.result.enabled:
        return Source.HOST
    return job.source or Source.RELAUNCH
