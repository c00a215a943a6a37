"""A job's events as they come: bars on a terminal, else a line for each that says something new.

Comes in: `JobEvent`s. Goes out: what people see while they wait, on the given console.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from xinference_venv.jobs import JobEvent
from xinference_venv.units import counted, size_text


@contextmanager
def following(console: Console) -> Iterator[Callable[[JobEvent], None]]:
    """Show the events that the given function is called with; how the job ended is not shown."""
    if console.is_interactive:
        bars = _Bars(console)
        with bars:
            yield bars.show
    else:
        last = ""

        def show(event: JobEvent) -> None:
            nonlocal last
            line = event_line(event)
            if line != last and not event.phase.is_last:
                console.print(line)
                last = line

        yield show


def event_line(event: JobEvent) -> str:
    """An event in one line: its phase, its message, how far it is."""
    counts = counts_text(event)
    return f"{event.phase.value}: {event.message}" + (f" ({counts})" if counts else "")


def counts_text(event: JobEvent) -> str:
    """Packages and bytes that are done, of all; nothing where neither is known."""
    parts = []
    if event.total:
        parts.append(f"{event.done or 0} of {counted(event.total, 'package')}")
    if event.total_bytes:
        parts.append(f"{size_text(event.done_bytes or 0)} of {size_text(event.total_bytes)}")
    return ", ".join(parts)


class _Bars(Progress):
    """The phase, a bar, counts and the time, and below them the newest message."""

    def __init__(self, console: Console) -> None:
        self._message = ""
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[counts]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        # Without a total the bar only shows that something goes on.
        self._job = self.add_task("starting", total=None, counts="")

    def show(self, event: JobEvent) -> None:
        """Bring the display up to this event."""
        self._message = event.message
        self.update(
            self._job,
            description=event.phase.value,
            # Bytes say more than packages, which differ in size by a factor of a million.
            completed=(event.done_bytes if event.total_bytes else event.done) or 0,
            total=event.total_bytes or event.total or None,
            counts=counts_text(event),
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, and below it the message, cut to one line."""
        yield from super().get_renderables()
        yield Text(f"  {self._message}", no_wrap=True, overflow="ellipsis", style="dim")
