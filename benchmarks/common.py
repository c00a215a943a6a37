"""Taking turns with the clock running, and the table of what came out.

In come contestants that do the same work, out go figures: ours beside each peer's, from one run,
so that whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import os
import resource
import shlex
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from xinference_venv.uv.reaped_process import ReapedProcess
from xinference_venv.uv.subprocess import ProcessRunner

_TIMES: list[Path] = []


@dataclass(frozen=True, kw_only=True, slots=True)
class Contestant:
    """One way to do the work: `run` is timed and returns the environment, `clear` is not timed."""

    name: str
    run: Callable[[], Awaitable[Path]]
    clear: Callable[[], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What one contestant took, in milliseconds a round, and the distributions it installed.

    `processor` is the processors' time of this process and of its children that ended; see
    `counting_started_processes`.
    """

    name: str
    milliseconds: tuple[float, ...]
    processor: tuple[float, ...]
    packages: int

    @property
    def median(self) -> float:
        """The middle of the rounds, in milliseconds."""
        return median(self.milliseconds)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "median_ms": self.median,
            "milliseconds": list(self.milliseconds),
            "processor_ms": list(self.processor),
            "packages": self.packages,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """Ours beside one peer's; `limit` is what the ratio of the medians must not exceed, if any."""

    case: str
    ours: Timing
    peer: Timing
    limit: float | None

    @property
    def ratio(self) -> float:
        """Our median in parts of the peer's."""
        return self.ours.median / self.peer.median

    @property
    def verdict(self) -> str:
        """Whether the target is met, in a word."""
        if self.limit is None:
            return "no target"
        return "met" if self.ratio <= self.limit else "MISSED"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "case": self.case,
            "ours": self.ours.to_dict(),
            "peer": self.peer.to_dict(),
            "ratio": self.ratio,
            "limit": self.limit,
            "verdict": self.verdict,
        }


async def take_turns(contestants: Sequence[Contestant], *, rounds: int) -> list[Timing]:
    """Let each contestant run once a round, in turns, after a round that warms all of them up."""
    times: dict[str, list[float]] = {each.name: [] for each in contestants}
    busy: dict[str, list[float]] = {each.name: [] for each in contestants}
    packages: dict[str, int] = {}
    for round_number in range(rounds + 1):
        for each in contestants:
            # What one leaves to be written must not be paid by the next.
            os.sync()
            began, start = processor_seconds(), time.perf_counter()
            env = await each.run()
            elapsed = time.perf_counter() - start
            worked = processor_seconds() - began
            packages[each.name] = _count_packages(env)
            await each.clear()
            if round_number:
                times[each.name].append(elapsed * 1000)
                busy[each.name].append(worked * 1000)
    return [
        Timing(
            name=name,
            milliseconds=tuple(taken),
            processor=tuple(busy[name]),
            packages=packages[name],
        )
        for name, taken in times.items()
    ]


def figures(case: str, timings: Sequence[Timing], limits: dict[str, float]) -> list[Figure]:
    """The first timing, which is ours, beside each other one; `limits` are by peer."""
    ours, *peers = timings
    return [Figure(case=case, ours=ours, peer=peer, limit=limits.get(peer.name)) for peer in peers]


def table(rows: Sequence[Figure]) -> str:
    """A Markdown table whose columns are aligned; times are in milliseconds."""
    lines = []
    for row in rows:
        target = "" if row.limit is None else f"<= {row.limit:g}"
        lines.append(
            (
                *(row.case, f"{row.ours.median:.1f}", row.peer.name, f"{row.peer.median:.1f}"),
                *(f"{row.ratio:.3f}", target, row.verdict),
                f"{row.ours.packages} / {row.peer.packages}",
                f"{_range(row.ours)} / {_range(row.peer)}",
                f"{median(row.ours.processor):.0f} / {median(row.peer.processor):.0f}",
            )
        )
    head = ("case", "ours", "peer", "peer's", "ratio", "target", "", "packages", "range")
    return aligned((*head, "processor"), lines)


def aligned(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in (head, ["-" * width for width in widths], *lines)
    )


def _range(timing: Timing) -> str:
    return f"{min(timing.milliseconds):.1f}-{max(timing.milliseconds):.1f}"


@contextmanager
def counting_started_processes(folder: Path) -> Iterator[None]:
    """Meanwhile processors' times have those of the processes that `ProcessRunner` starts, for
    which none of ours waits: a shell notes what each has taken.
    """
    file = folder / "times"
    shell = f'"$@"; status=$?; times >> {shlex.quote(str(file))}; exit $status'
    ask_for = ProcessRunner._ask_for

    def counted(runner: ProcessRunner, command: Sequence[str], *more: Any) -> ReapedProcess:
        return ask_for(runner, ["sh", "-c", shell, "sh", *command], *more)

    _TIMES.append(file)
    try:
        with mock.patch.object(ProcessRunner, "_ask_for", counted):
            yield
    finally:
        _TIMES.remove(file)


def processor_seconds() -> float:
    """What the processors did for this process and its children that ended, in seconds; see
    `counting_started_processes`.
    """
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    started = (word for file in _TIMES if file.exists() for word in file.read_text().split())
    return sum(each.ru_utime + each.ru_stime for each in used) + sum(map(_seconds, started))


def _seconds(word: str) -> float:
    """What ``times`` of a shell says: ``0m1.25s``."""
    minutes, _, seconds = word.rstrip("s").partition("m")
    return int(minutes) * 60 + float(seconds)


def _count_packages(env: Path) -> int:
    places = (env, env.parent / "view")
    folders = "lib/python3.*/site-packages/*.dist-info"
    return sum(len(list(each.glob(folders))) for each in places)
