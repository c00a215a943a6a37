"""`jobs`, `cancel`: what is being made, or was not long ago, and ending it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from xinference_venv._util.humanize import age_text, duration_text
from xinference_venv.cli.common import (
    cluster_option,
    json_option,
    look,
    on_cluster,
    on_workers,
    show,
    wide_option,
)
from xinference_venv.cli.render.text import Column, Part, Table
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.job_list import ListedJob, find_job
from xinference_venv.inventory.job_log import Outcome

if TYPE_CHECKING:
    from xinference_venv.client import Client
    from xinference_venv.service.this_host import ThisHost


@click.command()
@click.option("--running", is_flag=True, help="Only those that run.")
@on_workers
@wide_option
@json_option
def jobs(running: bool, worker_ip: str | None, as_json: bool) -> int:
    """List the jobs that make environments: those that run, and the last that ended.

    On this host they are those of every process that makes environments here. A launch on several
    workers of a cluster has a line for each of them.
    """
    answer = look(lambda here: here.jobs(), lambda client: _of_cluster(client, worker_ip))
    if running:
        answer = answer.of(each for each in answer.list if each.state is Outcome.RUNNING)
    return show(answer, lambda: _listed(answer, time.time(), on_cluster()), as_json)


@click.command()
@click.argument("job")
@cluster_option
@json_option
def cancel(job: str, as_json: bool) -> int:
    """Cancel a job, by its id or the beginning of that; nothing of it is left.

    `xinference-venv jobs` lists the ids. A job that has ended is left as it is. On this host the
    process of a command that launches gets SIGTERM; a job of a server is cancelled there: on its
    page, over REST, or with the --supervisor of its cluster.
    """
    answer = look(lambda here: _cancel_here(here, job), lambda client: _cancel(client, job))
    return show(answer, lambda: [_cancelled(each) for each in answer.list], as_json)


async def _of_cluster(client: Client, worker: str | None) -> Gathered[ListedJob]:
    answer = await client.supervisor.list_jobs(worker)
    return answer.of(map(ListedJob.of_summary, answer.list))


async def _cancel(client: Client, named: str) -> Gathered[ListedJob]:
    found = find_job((await _of_cluster(client, None)).list, named)
    if found.state is Outcome.RUNNING:
        await client.supervisor.cancel(found.job_id)
        listed = (await _of_cluster(client, None)).list
        parts = [each for each in listed if each.job_id == found.job_id]
        if parts and all(each.state is not Outcome.CANCELLED for each in parts):
            # It has ended by itself just before.
            return Gathered(list=tuple(parts[:1]))
        found = replace(found, state=Outcome.CANCELLED)
    return Gathered(list=(found,))


def _cancel_here(here: ThisHost, named: str) -> Gathered[ListedJob]:
    found = find_job(here.jobs().list, named)
    if found.state is Outcome.RUNNING:
        found = here.cancel(found.job_id)
    return Gathered(list=(found,))


def _cancelled(job: ListedJob) -> Part:
    named = f"{job.short_id} of {job.model_name}"
    if job.state is Outcome.CANCELLED:
        return f"cancelled: {named}"
    return f"it had ended already: {named}, {job.state}"


def _listed(answer: Gathered[ListedJob], now: float, workers: bool) -> Sequence[Part]:
    if not answer.list:
        return ["No jobs."]
    table = Table(
        "Job",
        *([Column("Worker", 1)] if workers else []),
        *("Model", Column("Engine", 4), "State"),
        *(
            Column("Started", 5),
            Column("Took", 3),
            Column("Asked by", 6),
            Column("What", 2, prose=True),
        ),
    )
    for each in answer.list:
        until = now if each.state is Outcome.RUNNING else each.changed
        took = None if each.started is None or until is None else until - each.started
        table.add_row(
            each.short_id,
            *([each.worker_address] if workers else []),
            each.model_name,
            each.model_engine or "-",
            each.phase or each.state.value,
            age_text(each.started, now),
            "-" if took is None else duration_text(took),
            each.asked_by or "-",
            each.message,
        )
    return [table]
