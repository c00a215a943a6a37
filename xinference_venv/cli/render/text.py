"""Tables and trees as people read them, in the columns that a terminal has.

Comes in: cells, labels, the width. Goes out: lines. A name is never broken: a table that is too
wide leaves out the columns that are needed least, and cuts what is prose. Importing it costs next
to nothing, so that a command that only looks starts at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from xinference_venv._util.humanize import printable, printable_lines
from xinference_venv.errors import VirtualEnvError

_GAP = "  "
_ELLIPSIS = "…"
# What a column of prose has at least, else it is left out.
_LEAST = 20
NOTHING = "-"
"""What a cell has that says nothing; a column of these alone is the first to be left out."""


class Colour(StrEnum):
    """How a terminal shows a text, by the number of ECMA-48 (SGR)."""

    GREEN = "32"
    YELLOW = "33"
    RED = "1;31"

    def paint(self, text: str) -> str:
        """The text with the codes that colour it."""
        return f"\x1b[{self.value}m{text}\x1b[0m"


@dataclass(frozen=True, slots=True)
class Coloured:
    """A text that has a colour where colours are shown."""

    text: str
    colour: Colour


Cell: TypeAlias = "str | Coloured"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Where there is no room, those with the highest `spare` are left out
    first, and those with 0 never; one of `prose` is cut before it is left out.
    """

    title: str
    spare: int = 0
    prose: bool = False


class Table:
    """Rows below titles, without lines; a title alone is a column that is always shown."""

    def __init__(self, *columns: str | Column, header: bool = True) -> None:
        self.columns = [each if isinstance(each, Column) else Column(each) for each in columns]
        self.rows: list[tuple[Cell, ...]] = []
        self._header = header

    def add_row(self, *cells: Cell) -> None:
        """Add a row of as many cells as there are columns."""
        self.rows.append(tuple(_one_line(each) for each in cells))

    def lines(self, width: int | None, *, coloured: bool = False) -> Iterator[str]:
        """The table in at most `width` columns if that can be, None: with all that it has."""
        titles: list[tuple[Cell, ...]] = []
        if self._header:
            titles.append(tuple(each.title for each in self.columns))
        widths = [
            max(map(_width, cells), default=0) for cells in zip(*titles, *self.rows, strict=True)
        ] or [0] * len(self.columns)
        shown = list(range(len(self.columns)))
        if width is not None:
            shown = self._fitting(widths, width)
            self._cut(widths, shown, width)
        for row in (*titles, *self.rows):
            cells = [_fitted(row[each], widths[each], coloured) for each in shown]
            yield _GAP.join(cells).rstrip()

    def _fitting(self, widths: Sequence[int], width: int) -> list[int]:
        """The columns that are shown, by number."""
        shown = list(range(len(self.columns)))
        spare = [each for each in shown if self.columns[each].spare]
        # A column that says nothing of any row is the first to go.
        spare.sort(key=lambda each: (self._is_empty(each), self.columns[each].spare))
        while spare and self._least(widths, shown) > width:
            shown.remove(spare.pop())
        return shown

    def _is_empty(self, column: int) -> bool:
        return all(row[column] in ("", NOTHING) for row in self.rows)

    def _least(self, widths: Sequence[int], shown: Sequence[int]) -> int:
        least = (
            min(widths[each], _LEAST) if self.columns[each].prose else widths[each]
            for each in shown
        )
        return sum(least) + len(_GAP) * (len(shown) - 1)

    def _cut(self, widths: list[int], shown: Sequence[int], width: int) -> None:
        """Divide what is left among the columns of prose, from left to right."""
        left = max(0, width - self._least(widths, shown))
        for each in shown:
            if self.columns[each].prose:
                least = min(widths[each], _LEAST)
                more = min(widths[each] - least, left)
                widths[each] = least + more
                left -= more


def _one_line(cell: Cell) -> Cell:
    if isinstance(cell, Coloured):
        return Coloured(printable(cell.text), cell.colour)
    return printable(cell)


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Coloured) else cell


def _width(cell: Cell) -> int:
    """How many columns of a terminal a text takes."""
    text = _text(cell)
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text
    )


def _fitted(cell: Cell, width: int, coloured: bool) -> str:
    text = _text(cell)
    if _width(text) > width:
        while text and _width(text) + 1 > width:
            text = text[:-1]
        text = text.rstrip() + _ELLIPSIS
    padded = text + " " * (width - _width(text))
    return cell.colour.paint(padded) if coloured and isinstance(cell, Coloured) else padded


@dataclass(slots=True)
class Tree:
    """A label, and what hangs below it; without a label its branches stand at the margin."""

    label: str | None
    branches: list[Tree] = field(default_factory=list)

    def add(self, branch: str | Tree) -> Tree:
        """Hang a branch below; returns it."""
        made = branch if isinstance(branch, Tree) else Tree(branch)
        self.branches.append(made)
        return made

    def lines(self) -> Iterator[str]:
        """The tree as it is drawn, a line for each label."""
        if self.label is None:
            for each in self.branches:
                yield from each.lines()
            return
        yield printable(self.label)
        for each in self.branches:
            last = each is self.branches[-1]
            first, other = ("└── ", "    ") if last else ("├── ", "│   ")
            for number, line in enumerate(each.lines()):
                yield (other if number else first) + line


Part: TypeAlias = "str | Coloured | Table | Tree"
"""What a command prints: a line or some, a table, a tree."""


def lines_of(parts: Iterable[Part], width: int | None, *, coloured: bool = False) -> Iterator[str]:
    """The lines of what a command prints, with what does not print as escapes."""
    for part in parts:
        match part:
            case Table():
                yield from part.lines(width, coloured=coloured)
            case Tree():
                yield from part.lines()
            case Coloured():
                text = printable(part.text)
                yield part.colour.paint(text) if coloured else text
            case _:
                yield from printable_lines(part).split("\n")


class OfWorker(Protocol):
    """A report of one worker."""

    @property
    def worker_address(self) -> str: ...


def where_of(report: OfWorker, workers: bool) -> str:
    """What a line begins with that is of one worker's report: its address if `workers` is set."""
    return f"{printable(report.worker_address)}: " if workers else ""


def warning_lines(warnings: Iterable[str]) -> list[str]:
    """Each warning as a line."""
    return [f"warning: {each}" for each in warnings]


def failed(error: VirtualEnvError) -> Sequence[Part]:
    """An error: what happened, in which phase, the output of a tool, what to do."""
    # uv's own words, where they are the message or a part of it, begin the same way.
    shown = [f"error: {error.message.removeprefix('error: ')}"]
    if error.phase is not None:
        shown.append(f"phase: {error.phase}")
    output = str(error.details.get("output") or "").strip()
    words = output.rpartition("error: ")[2]
    if output and words not in error.message and error.message not in output:
        shown.append(output)
    if error.hint is not None:
        shown.append(f"hint: {error.hint}")
    return shown
