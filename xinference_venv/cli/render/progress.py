"""A job's events as they come: bars on a terminal, else a line for each that says something new.

Comes in: `JobEvent`s, of one worker or of several, of one model or of several. Goes out: what
people see while they wait, on the given console.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from xinference_venv._util.humanize import counted, duration_text, printable, size_text
from xinference_venv.cli.render.console import open_console
from xinference_venv.cli.verbosity import is_quiet
from xinference_venv.inventory.jobs import JobEvent, Phase


class ShowEvent(Protocol):
    """Shows an event; with several jobs at once, each of another `model`."""

    def __call__(self, event: JobEvent, model: str = "") -> None: ...


def watching(*, as_json: bool) -> AbstractContextManager[ShowEvent]:
    """How a job goes, on stderr; nothing of it with ``--json`` or ``--quiet``."""
    if as_json or is_quiet():
        return nullcontext(_show_nothing)
    return following(open_console(stderr=True))


def _show_nothing(event: JobEvent, model: str = "") -> None:
    """With a document, or in quiet."""


@contextmanager
def following(console: Console) -> Iterator[ShowEvent]:
    """Show the events that the given function is called with; how the job ended is not shown.

    How it ended on one of several workers, or for one of several models, is.
    """
    if console.is_interactive:
        bars = _Bars(console)
        with bars:
            yield bars.show
    else:
        last: dict[str, str] = {}

        def show(event: JobEvent, model: str = "") -> None:
            whose = _whose(event, model)
            line = event_line(event, whose)
            ends_all = event.phase.is_last and not whose
            if line != last.get(whose) and not ends_all:
                last[whose] = line
                _say(line, console)

        yield show


def _say(line: str, console: Console) -> None:
    try:
        click.echo(printable(line), file=console.file)
    except OSError as error:
        # That the disk of a log is full is no reason to give a launch up.
        if isinstance(error, BrokenPipeError):
            raise


def _whose(event: JobEvent, model: str) -> str:
    """The model and the worker of an event, where there are several."""
    return " on ".join(filter(None, (model, event.worker_address)))


def event_line(event: JobEvent, whose: str = "") -> str:
    """An event in one line: whose it is if there are several, what happens, how far it is."""
    counts = counts_text(event)
    whose = f"{whose}: " if whose else ""
    return f"{whose}{event.text}" + (f" ({counts})" if counts else "")


def counts_text(event: JobEvent) -> str:
    """Packages and bytes that are done, of all, the rate and the time left, where known."""
    parts = []
    if event.total:
        parts.append(f"{event.done or 0} of {counted(event.total, 'package')}")
    if event.total_bytes:
        parts.append(f"{size_text(event.done_bytes or 0)} of {size_text(event.total_bytes)}")
    if event.bytes_per_second is not None:
        parts.append(f"{size_text(event.bytes_per_second)}/s")
    if event.seconds_left is not None:
        parts.append(f"{duration_text(event.seconds_left)} left")
    return ", ".join(parts)


class _Bars(Progress):
    """Of each model and worker the phase, a bar, counts and the time; below them the newest
    message.
    """

    def __init__(self, console: Console) -> None:
        self._message = ""
        self._bars: dict[str, TaskID] = {}
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[counts]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        # Who it is of, the first event tells. Without a total it shows that something goes on.
        self._first = self.add_task("starting", total=None, counts="")

    def show(self, event: JobEvent, model: str = "") -> None:
        """Bring the display up to this event."""
        where = _whose(event, model)
        if where not in self._bars:
            new = self.add_task("", total=None, counts="") if self._bars else self._first
            self._bars[where] = new
        self._message = f"{where}: {event.message}" if where else event.message
        # Bytes say more than packages, which differ in size by a factor of a million.
        completed = (event.done_bytes if event.total_bytes else event.done) or 0
        total = event.total_bytes or event.total or None
        if event.phase is Phase.READY:
            completed, total = 1, 1
        self.update(
            self._bars[where],
            description=f"{where}  {event.phase.value}" if where else event.phase.value,
            completed=completed,
            total=total,
            counts=counts_text(event),
        )
        if event.phase.is_last:
            self.stop_task(self._bars[where])

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bars, and below them the message, cut to one line."""
        yield from super().get_renderables()
        yield Text(f"  {self._message}", no_wrap=True, overflow="ellipsis", style="dim")
