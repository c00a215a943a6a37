"""Processes that are killed after a chosen operation on the disk, at every one in turn.

``python -m tests.scenarios.crashes`` reads a `World` from its first line of input, then names of
scenarios, and answers each with a line of JSON. It has everything imported and no thread or loop
of its own, so that it can fork: a fork takes a millisecond, a new process most of a second.

An operation is what the interpreter announces to an audit hook before it does it: a file opened
for writing, a rename, a removal, a directory or a link made, times set, a subprocess started.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from tests.scenarios.crash_checks import check
from tests.scenarios.crash_scenarios import SCENARIOS, TEMPLATES, Scenario, World
from xinference_venv.client import local_client

_AT_ONCE = 2
_POINT_SECONDS = 120
# Less than any record has.
_TORN_BYTES = 32
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where to kill: when `done` operations are done, or with `torn` in the last one's writing."""

    done: int
    torn: bool = False

    def __str__(self) -> str:
        return f"{'torn-' if self.torn else ''}{self.done}"


@dataclass(kw_only=True)
class Killer:
    """An audit hook that ends its own process at a point; without one it lists the operations.

    They are those below `root`, and the starts of subprocesses.
    """

    root: str
    point: Point | None
    armed: bool = False
    seen: list[tuple[str, str]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hear of an operation that is about to be done, in any thread."""
        if not self.armed:
            return
        path = self.root if event == "subprocess.Popen" else _changed(event, arguments)
        if path is None or not f"{path}/".startswith(self.root):
            return
        self.seen.append((event, path))
        done = next(self._numbers)
        if self.point is None:
            return
        if done >= self.point.done:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.point.torn and done == self.point.done - 1:
            # From here on the system ends whoever writes more into a file than so much of it.
            resource.setrlimit(resource.RLIMIT_FSIZE, (_TORN_BYTES, _TORN_BYTES))


def _changed(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The path that an operation changes, None when it changes nothing."""
    match event:
        case "open" if not isinstance(arguments[0], int) and arguments[2] & _WRITING:
            path = os.fspath(arguments[0])
            # What is there of a lock never changes.
            return None if path.endswith(".lock") and os.path.exists(path) else str(path)
        case "os.rename" | "os.link":
            return _absolute(arguments[1], arguments[3])
        case "os.symlink":
            return _absolute(arguments[1], arguments[2])
        case "os.mkdir":
            path = _absolute(arguments[0], arguments[2])
            return None if os.path.lexists(path) else path
        case "os.remove" | "os.rmdir":
            path = _absolute(arguments[0], arguments[1])
            return path if os.path.lexists(path) else None
        case "os.utime" | "os.chmod" | "os.truncate":
            return _absolute(arguments[0], -1)
        case _:
            return None


def _absolute(path: Any, directory: int) -> str:
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    name = os.fsdecode(path)
    return name if directory < 0 else os.path.join(os.readlink(f"/proc/self/fd/{directory}"), name)


def act(scenario: Scenario, world: World, home: Path, point: Point | None, listing: Path) -> None:
    """Do what the scenario does and end without any cleaning up; for a process of its own.

    Without a point, the operations are listed in a file.
    """
    killer = Killer(root=f"{home}/{scenario.below}", point=point)
    # Python lets the system's signal pass and sees an error; a process that dies sees nothing.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(killer)

    async def run() -> None:
        killer.armed = scenario.from_start
        async with local_client(world.environ(home)) as client:
            killer.armed = True
            await scenario.act(client, world)
            killer.armed = False
            if point is None:
                _write(listing, killer.seen)
            os._exit(0)

    asyncio.run(run())


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def forked(work: Callable[[], object], report: Path) -> int:
    """The pid of a process that does the work; what it raises is told in the report."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.alarm(_POINT_SECONDS)
        work()
        status = 0
    except BaseException:
        report.write_text(traceback.format_exc())
        raise
    finally:
        os._exit(status)


def _finish(work: Callable[[], object], report: Path) -> None:
    """Do the work in a process of its own; raises what that has reported."""
    pid = forked(work, report)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, -signal.SIGKILL, -signal.SIGXFSZ):
        raise AssertionError(_words(report, status))


def _words(report: Path, status: int) -> str:
    return report.read_text() if report.exists() else f"it ended with {status}"


def run_point(scenario: Scenario, world: World, point: Point | None) -> None:
    """Kill a process at one point, and look at what it left; raises what is found wrong."""
    home = world.folder / f"{scenario.template}-{point}"
    template = world.template(scenario.template)
    shutil.copytree(template, home, symlinks=True)
    try:
        listing = world.folder / "operations.json"
        report = world.folder / f"acting-{point}"
        _finish(partial(act, scenario, world, home, point, listing), report)
        asyncio.run(check(scenario, world, home))
    finally:
        shutil.rmtree(home)


def run_scenario(scenario: Scenario, world: World) -> dict[str, Any]:
    """Run every point of a scenario, some at once; tells how many there were, and what failed."""
    began = time.monotonic()
    _finish(partial(run_point, scenario, world, None), world.folder / "report")
    operations = json.loads((world.folder / "operations.json").read_text())
    points = [Point(done=done) for done in range(len(operations) + 1)]
    torn = [
        Point(done=done + 1, torn=True)
        for done, (event, path) in enumerate(operations)
        if event == "open" and not path.endswith(".lock")
    ]
    waiting = [*points, *torn]
    failed: list[str] = []
    running: dict[int, tuple[Point, Path]] = {}
    while waiting or running:
        if waiting and len(running) < _AT_ONCE:
            point = waiting.pop(0)
            report = world.folder / f"report-{scenario.name}-{point}"
            running[forked(partial(run_point, scenario, world, point), report)] = point, report
            continue
        pid, status = os.waitpid(-1, 0)
        point, report = running.pop(pid)
        if status:
            last = " ".join(operations[point.done - 1]) if point.done else "the start"
            when = "in" if point.torn else "after"
            failed.append(f"killed {when} {point.done}, {last}:\n{_words(report, status)}")
    return {
        "points": len(points),
        "torn": len(torn),
        "failed": failed,
        "seconds": time.monotonic() - began,
    }


def main() -> None:
    """Make the templates, then run what the input names until it ends."""
    folder, index_url, variables = json.loads(sys.stdin.readline())
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as holder:
        world = World(
            folder=Path(folder), index_url=index_url, variables=variables, holder=holder.pid
        )
        for name, make in TEMPLATES.items():
            _finish(partial(make, world, world.template(name)), world.folder / f"making {name}")
        for line in sys.stdin:
            print(json.dumps(run_scenario(SCENARIOS[line.strip()], world)), flush=True)


if __name__ == "__main__":
    main()
