"""`watch`: what goes on in a cluster, as it happens, until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import click
from rich.live import Live
from rich.text import Text

from xinference_venv._util.disk_threads import in_abandonable_thread
from xinference_venv._util.humanize import printable
from xinference_venv.cli import session, shell_complete
from xinference_venv.cli.common import cluster_option, echo, look, on_cluster
from xinference_venv.cli.render import environments
from xinference_venv.cli.render.cluster import unreachable, workers_of
from xinference_venv.cli.render.console import open_console
from xinference_venv.cli.render.documents import Watched
from xinference_venv.cli.render.text import Colour, Coloured, Column, Part, Table, lines_of
from xinference_venv.cli.stopped import Stopped
from xinference_venv.errors import DeadlineExceeded, NotFound, WorkerUnavailable
from xinference_venv.inventory.environments import Environments
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.selection import Selection
from xinference_venv.inventory.watch_state import Change, Kind, Snapshot, WatchState

if TYPE_CHECKING:
    from xinference_venv.client import Client
    from xinference_venv.service.this_host import ThisHost

# Who takes longer is shown as unreachable, and asked again.
_ANSWER_SECONDS = 10.0
_Shown = Callable[[WatchState, Sequence[Change]], None]


@click.command()
@click.argument("model", shell_complete=shell_complete.models, required=False)
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1, max=3600),
    default=1.0,
    show_default=True,
    help="Seconds between two updates.",
)
@cluster_option
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each change.")
def watch(model: str | None, interval: float, as_json: bool) -> int:
    """Show jobs, environments and who uses them as they change, of all or of MODEL, until Ctrl-C.

    On a terminal the screen is drawn again, elsewhere each change is a line, with --json a JSON
    document on a line. It goes on when a supervisor or a worker is lost, and shows when it is back.
    Without --supervisor the jobs of other processes are not shown: `xinference-venv jobs` has them.
    """
    if as_json:
        shown = _documents()
    elif open_console().is_interactive:
        shown = _view(workers=on_cluster())
    else:
        shown = _lines()
    watching = WatchState(model=model)
    try:
        with shown as show:
            look(
                lambda here: session.run(
                    _watch(partial(_look_here, here, model), watching, interval, show)
                ),
                lambda client: _watch(partial(_look, client, model), watching, interval, show),
            )
    except Stopped as stopped:
        # That is how one stops to look.
        return 128 + stopped.number
    return 0


async def _watch(
    ask: Callable[[], Awaitable[Snapshot]], watching: WatchState, interval: float, show: _Shown
) -> None:
    while True:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                changes = watching.saw(await ask())
        except TimeoutError:
            changes = watching.missed(f"no answer within {_ANSWER_SECONDS:g} s")
        except (WorkerUnavailable, DeadlineExceeded, NotFound) as error:
            # The last worker may have left in between, which the next look tells.
            changes = watching.missed(str(error))
        show(watching, changes)
        await asyncio.sleep(interval)


async def _look_here(here: ThisHost, model: str | None) -> Snapshot:
    listing = partial(here.environments, Selection(model_name=model))
    return _without_workers(await in_abandonable_thread(listing))


def _without_workers(environments: Environments) -> Snapshot:
    return Snapshot(workers=(), jobs=Gathered(list=()), environments=environments)


async def _look(client: Client, model: str | None) -> Snapshot:
    workers = await client.supervisor.list_workers()
    if not workers:
        return _without_workers(Environments(list=()))
    jobs, environments = await asyncio.gather(
        client.supervisor.list_jobs(),
        client.supervisor.list_virtual_envs(Selection(model_name=model)),
    )
    return Snapshot(workers=workers, jobs=jobs, environments=environments)


@contextmanager
def _documents() -> Iterator[_Shown]:
    def show(_: WatchState, changes: Sequence[Change]) -> None:
        for each in changes:
            echo(json.dumps(Watched(at=time.time(), change=each).to_dict()))

    yield show


@contextmanager
def _lines() -> Iterator[_Shown]:
    def show(_: WatchState, changes: Sequence[Change]) -> None:
        for each in changes:
            at = datetime.now().astimezone().isoformat(timespec="seconds")
            echo(f"{at} {printable(str(each))}")

    yield show


@contextmanager
def _view(*, workers: bool) -> Iterator[_Shown]:
    console = open_console()
    with Live(console=console, auto_refresh=False) as live:

        def show(watching: WatchState, _: Sequence[Change]) -> None:
            parts = _parts(watching, time.time(), workers)
            lines = lines_of(parts, console.width, coloured=True)
            live.update(Text.from_ansi("\n".join(lines)), refresh=True)

        yield show


def _parts(watching: WatchState, now: float, workers: bool) -> Sequence[Part]:
    parts: list[Part] = []
    if watching.why_unreachable is not None:
        parts += [Coloured(f"{watching.why_unreachable}; retrying", Colour.RED), ""]
    look = watching.look
    if look is None:
        return [*parts, "waiting for the first answer"]
    if workers:
        parts += [*workers_of(look.workers), ""]
    jobs = [each for each in watching.things.values() if each.kind is Kind.JOB]
    if jobs:
        where = [Column("Worker", 1)] if workers else []
        table = Table(*where, "Model", "Phase", Column("What", prose=True))
        for each in jobs:
            place = [each.worker_address or ""] if workers else []
            table.add_row(*place, each.label, each.state, each.text)
        parts += [table, ""]
    else:
        parts += ["No job runs.", ""]
    listed = environments.listed(look.environments, now, workers=workers)
    return [*parts, *listed, *unreachable(look.environments)]
