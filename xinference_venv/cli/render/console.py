"""The console for what changes while people look: bars, a view that is redrawn.

Comes in: which of the standard streams. Goes out: a console of rich, which takes a while to
import: what only prints does without.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.control import Control
from rich.segment import Segment

from xinference_venv._util.humanize import printable_lines

# Nothing that goes to a file or a pipe is folded or cut.
_UNBOUNDED = 100_000


@dataclass(frozen=True, slots=True)
class _Printable:
    """What it holds, with all text printable; rich's own control codes stay."""

    held: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.held, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)


class _OnlyPrintable(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [each if isinstance(each, Control) else _Printable(each) for each in renderables]


def open_console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: no markup, no emoji, no folding in files and pipes.

    What of it would move the cursor, colour the terminal or change its title is shown as escapes:
    names, logs and errors come from packages, indexes and other hosts.
    """
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    console.push_render_hook(_OnlyPrintable())
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console
