"""`logs`: uv's output while environments were made, how each job ended, and what goes on now."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import click

from xinference_venv._util.humanize import age_text, duration_text
from xinference_venv.cli import shell_complete
from xinference_venv.cli.common import (
    check_found,
    echo,
    json_option,
    look,
    on_cluster,
    selection,
    show,
)
from xinference_venv.cli.render.text import Part, where_of
from xinference_venv.cli.stopped import Stopped
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.job_log import JobLog, LogPart, Outcome, WholeLog
from xinference_venv.inventory.selection import Selection

if TYPE_CHECKING:
    from xinference_venv.service.this_host import ThisHost

_POLL_SECONDS = 0.2
_LISTING = "`xinference-venv jobs` lists the newest jobs"


@click.command()
@click.argument("model", shell_complete=shell_complete.models)
@selection
@click.option(
    "--count",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many logs, newest first.",
)
@click.option(
    "--follow",
    "-f",
    is_flag=True,
    help="Print the newest job's log as it grows, until the job ends.",
)
@json_option
def logs(wanted: Selection, count: int, follow: bool, as_json: bool) -> int:
    """Show uv's output while MODEL's environments were made, and how the jobs ended."""
    if follow and (as_json or count > 1):
        raise click.UsageError("--follow can't be combined with --json and --count.")
    try:
        answer = look(
            lambda here: here.logs(wanted, count),
            lambda client: client.supervisor.logs(wanted, count),
        )
        model = wanted.model_name
        check_found(answer, answer.list, f"log of {model!r}", model, listing=_LISTING)
        if follow:
            newest = max(answer.list, key=lambda each: each.log.header.started)
            look(
                lambda here: _follow_here(here, newest),
                lambda client: _follow(client.supervisor.read_log, newest),
            )
            return 0
    except Stopped as stopped:
        if not follow:
            raise
        # That is how one stops to look; the job goes on.
        return 128 + stopped.number
    return show(answer, lambda: _render_logs(answer, time.time(), on_cluster()), as_json)


def _follow_here(here: ThisHost, newest: WholeLog) -> None:
    from xinference_venv.cli import session

    async def read(_: str, log_id: str, offset: int) -> LogPart:
        return here.read_log(log_id, offset)

    session.run(_follow(read, newest))


async def _follow(read: Callable[[str, str, int], Awaitable[LogPart]], newest: WholeLog) -> None:
    """Print a log as it grows, until its job has ended or the process of it died."""
    import asyncio

    log, offset, ended = newest.log, 0, False
    echo(f"== {where_of(newest, on_cluster())}{log.header.key}: {log.path}")
    while not ended:
        part = await read(newest.worker_address, log.log_id, offset)
        echo(part.text, nl=False)
        log, ended = part.log, part.ended
        if part.offset == offset and not ended:
            await asyncio.sleep(_POLL_SECONDS)
        offset = part.offset
    echo(f"== {_state(log, time.time())}")


def _render_logs(answer: Gathered[WholeLog], now: float, workers: bool) -> Sequence[Part]:
    shown: list[Part] = []
    for each in answer.list:
        log = each.log
        began = age_text(log.header.started, now)
        where = where_of(each, workers)
        shown.append(f"== {where}{log.header.key}, {began}: {_state(log, now)}: {log.path}")
        shown.append(each.text.removesuffix("\n"))
    return shown


def _state(log: JobLog, now: float) -> str:
    """How the job ended and what it took, as far as its log tells."""
    writer = log.header.owner
    match log.outcome:
        case Outcome.RUNNING:
            return f"running for {duration_text(now - log.header.started)}"
        case Outcome.DIED:
            return f"died: process {writer.pid} ended and left the job unfinished"
        case Outcome.UNKNOWN:
            return f"not ended as far as its log shows: process {writer.pid} on {writer.host}"
    ended = log.header.started if log.ended is None else log.ended
    why = "" if log.error is None else f" ({log.error.get('code')})"
    return f"{log.outcome} after {duration_text(ended - log.header.started)}{why}"
