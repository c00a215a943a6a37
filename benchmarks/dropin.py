"""What an installed Xinference asks for, planned by `xoscar.virtualenv` and by the drop-in.

    python -m benchmarks.dropin --calls FILE [--only TEXT] [--every N] [--rounds N] [--install]
                                [--latency MS] [--index-url URL] [--as-pypi]
                                [--find-links PLACE] [--json FILE]

Runs in the environment of Xinference, which is the host, with xinference_venv and uv installed
there. The calls are those that ``python scripts/xinference_specs.py --json FILE`` took down: each
list of packages once, for the first engine that has it. Both sides make an empty environment and
plan it in turns, in this one process, as a worker does. With `--install` they install as well, once
for each `Request`: what the drop-in has of earlier ones makes a difference, to `xoscar.virtualenv`
all are alike. The index is asked through a server on 127.0.0.1, a process of its own that counts
what is asked for and lets each answer wait. Each side has a cache of uv of its own, which a round
before the first one fills. Out comes a row for each request of a call: who resolves it, and of each
side packages, a torch next to the host's, requests of the index's pages, processes of uv, processor
time (of this process and of all that it starts) and seconds, both the median of the rounds. The
rows go into the file of `--json` as they come, with why a side refused; a later run goes on from
there. The exit status is 1 where `xoscar.virtualenv` alone resolves something.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import xoscar.virtualenv.uv
from uv import find_uv_bin
from xinference.core.virtual_env_manager import resolve_dependency_install_plan
from xoscar.virtualenv.uv import UVVirtualEnvManager

from benchmarks.common import aligned, counting_started_processes, processor_seconds
from benchmarks.slow_index import SlowIndex
from xinference_venv._util.records import digest_of
from xinference_venv.service.prepare import staging_folder
from xinference_venv.xinference import InPlaceEnvManager
from xinference_venv.xinference.engine import Engine, InstallOptions, Planner
from xinference_venv.xinference.rebuild import Change, CurrentEnvironment

XOSCAR_ALONE = "xoscar alone"
_MAX_AGE = "XINFERENCE_VIRTUAL_ENV_RESOLUTION_MAX_AGE"


class Request(Enum):
    """What the drop-in has when it is asked; uv's cache has all packages each time."""

    PLAN = "plan"
    NEW_HOME = "in a new home"
    NEW_PACKAGES = "of new packages"
    LAUNCH = "of new packages, planned before"
    EQUAL = "equal"
    RESOLVED_AGAIN = "resolved again"

    @property
    def has_new_home(self) -> bool:
        """Whether no package was installed below the home before."""
        return self in (Request.NEW_HOME, Request.NEW_PACKAGES, Request.LAUNCH)


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedUv:
    """A program that runs uv, and leaves a file for each run."""

    folder: Path

    @property
    def program(self) -> Path:
        """What both sides call in place of uv."""
        return self.folder / "uv"

    def make(self) -> None:
        """Write it, and have both sides call it."""
        (self.folder / "runs").mkdir(parents=True)
        # Which version it is ours asks once for all calls.
        self.program.write_text(
            f"#!/bin/sh\n[ \"$1\" = --version ] || : > '{self.folder}/runs/'$$\n"
            f"exec '{find_uv_bin()}' \"$@\"\n"
        )
        self.program.chmod(0o755)
        os.environ["XOSCAR_UV_PATH"] = str(self.program)
        # Read when the module was imported.
        xoscar.virtualenv.uv.UV_PATH = str(self.program)

    def take(self) -> int:
        """How many processes there were since this was asked last."""
        runs = list((self.folder / "runs").iterdir())
        for file in runs:
            file.unlink()
        return len(runs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one side came to; `processor` is in seconds, too."""

    packages: tuple[str, ...] = ()
    refused: str | None = None
    requests: int = 0
    processes: int = 0
    processor: float = 0.0
    seconds: float = 0.0

    @property
    def has_torch(self) -> bool:
        """Whether torch is installed, although the host has one."""
        return any(each.startswith("torch==") for each in self.packages)

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Outcome:
        """From what `asdict` gives, by way of JSON."""
        return cls(**{**plain, "packages": tuple(plain["packages"])})

    @classmethod
    def middle(cls, rounds: Sequence[Outcome]) -> Outcome:
        """The last of some rounds, with the medians of their times."""
        return replace(
            rounds[-1],
            processor=median(each.processor for each in rounds),
            seconds=median(each.seconds for each in rounds),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One request of a call, which `call` tells from all others: ours and xoscar's."""

    call: str
    models: tuple[str, ...]
    request: Request
    ours: Outcome
    xoscar: Outcome

    @property
    def solved_by(self) -> str:
        """Who resolves it, as the table has it."""
        if bool(self.ours.refused) is bool(self.xoscar.refused):
            return "neither" if self.ours.refused else "both"
        return XOSCAR_ALONE if self.ours.refused else "ours alone"

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "request": self.request.value}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Row:
        """From what `to_plain` gives, by way of JSON."""
        return cls(
            call=plain["call"],
            models=tuple(plain["models"]),
            request=Request(plain["request"]),
            ours=Outcome.read(plain["ours"]),
            xoscar=Outcome.read(plain["xoscar"]),
        )


@dataclass(kw_only=True)
class Contest:
    """Both sides over one index, each with its folder of environments and its cache."""

    folder: Path
    index: SlowIndex
    uv: CountedUv
    install: bool
    find_links: Sequence[str]
    _numbers: Iterator[int] = field(default_factory=count, init=False)
    _made: list[Path] = field(default_factory=list, init=False)

    def rows(self, call: Mapping[str, Any], rounds: int) -> Iterator[Row]:
        """Let both plan or install a call in turns, once more than counts."""
        requests = [each for each in Request if (each is not Request.PLAN) is self.install]
        found: dict[Request, list[tuple[Outcome, Outcome]]] = {each: [] for each in requests}
        for _ in range(rounds + 1):
            home = self.folder / "ours"
            for request in requests:
                if request.has_new_home:
                    home = self._home(request)
                os.environ[_MAX_AGE] = "0s" if request is Request.RESOLVED_AGAIN else "600s"
                planned = request is Request.LAUNCH
                theirs = self._measure(
                    "xoscar", self.folder / "xoscar", partial(self._theirs, call, planned)
                )
                ours = self._measure("ours", home, partial(self._ours, call, planned))
                found[request].append((ours, theirs))
        for request, outcomes in found.items():
            ours, theirs = (Outcome.middle(side[1:]) for side in zip(*outcomes, strict=True))
            yield Row(
                call=key_of(call),
                models=tuple(call["models"]),
                request=request,
                ours=ours,
                xoscar=theirs,
            )
        # Only now: ext4 without a journal makes files at a fifth of its speed for a while after
        # others were deleted, whose inodes it passes over (recently_deleted in fs/ext4/ialloc.c).
        for env in self._made:
            shutil.rmtree(env, ignore_errors=True)
        self._made.clear()

    def _home(self, request: Request) -> Path:
        """A home for the drop-in, where it knows the host unless that is asked for."""
        home = self.folder / f"home-{next(self._numbers)}"
        if request is not Request.NEW_HOME:
            os.environ["XINFERENCE_HOME"] = str(home)
            env = home / "virtualenv" / "v4" / "another" / "engine" / "3"
            InPlaceEnvManager(env).create_env(python_path=Path(sys.executable))
        return home

    def _measure(self, side: str, home: Path, plan: Callable[[Path], list[str]]) -> Outcome:
        env = home / "virtualenv" / "v4" / str(next(self._numbers)) / "engine" / "3"
        os.environ["UV_CACHE_DIR"] = str(self.folder / f"{side}-cache")
        os.environ["XINFERENCE_HOME"] = str(home)
        self.uv.take()
        before = self.index.requests
        start, used = time.perf_counter(), processor_seconds()
        try:
            packages, refused = tuple(sorted(plan(env))), None
        except Exception as error:  # noqa: BLE001
            # A side that fails is a result.
            packages, refused = (), str(getattr(error, "stderr", "") or error)
        seconds, used = time.perf_counter() - start, processor_seconds() - used
        self._made.append(env)
        return Outcome(
            packages=packages,
            refused=refused,
            requests=self.index.requests - before,
            processes=self.uv.take(),
            processor=used,
            seconds=seconds,
        )

    def _sources(self) -> dict[str, Any]:
        links = {"find_links": list(self.find_links)} if self.find_links else {}
        return {"index_url": f"{self.index.url}/simple", **links}

    def _theirs(self, call: Mapping[str, Any], planned: bool, env: Path) -> list[str]:
        manager = UVVirtualEnvManager(env)
        manager.create_env(python_path=Path(sys.executable))
        packages, variables = list(call["packages"]), call["variables"]
        skip = call["skip_installed"]
        if self.install:
            return self._installed(manager, call, planned)
        lines = manager.process_packages(packages, **variables)
        if skip:
            return list(manager._filter_packages_not_installed(lines, **self._sources()))
        return list(manager._resolve_install_plan(lines, {}, **self._sources()))

    def _ours(self, call: Mapping[str, Any], planned: bool, env: Path) -> list[str]:
        manager = InPlaceEnvManager(env)
        manager.create_env(python_path=Path(sys.executable))
        if self.install:
            return self._installed(manager, call, planned)
        settings = {"skip_installed": call["skip_installed"], **self._sources()}
        options = InstallOptions.of({**settings, **call["variables"]}, skip_installed=False)
        return asyncio.run(_plan(env, call["packages"], options))

    def _installed(
        self,
        manager: UVVirtualEnvManager | InPlaceEnvManager,
        call: Mapping[str, Any],
        planned: bool,
    ) -> list[str]:
        """Install, `planned` before as by Xinference's worker for the progress that it shows."""
        packages, variables = list(call["packages"]), call["variables"]
        settings = {"skip_installed": call["skip_installed"], **self._sources()}
        if planned:
            resolve_dependency_install_plan(manager, packages, settings, variables)
        manager.install_packages(packages, **settings, **variables)
        found = Path(manager.get_lib_path()).glob("*.dist-info")
        return [each.name.removesuffix(".dist-info").replace("-", "==") for each in found]


async def _plan(env: Path, packages: Sequence[str], options: InstallOptions) -> list[str]:
    """What the drop-in would install into an empty environment."""
    engine = await Engine.open(os.environ)
    host = await engine.hosts.facts()
    planner = Planner(engine=engine, options=options, host=host, interpreter=host.interpreter)
    spec = planner.spec(packages)
    if spec is None:
        return []
    current = CurrentEnvironment(path=env, record=None, own=())
    change = Change(engine=engine, spec=spec, host=host, current=current)
    async with staging_folder(engine.store, spec.interpreter, []) as folder:
        plan = await change.plan(folder, None)
    return [f"{name}=={version}" for name, version in plan.lock.installed.items()]


def read_calls(file: Path, *, only: str, every: int) -> list[dict[str, Any]]:
    """Each list of packages once, for the first engine that has it."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for call in json.loads(file.read_text("utf-8")):
        kept = [each for each in call["models"] if only in each]
        if kept:
            first = found.setdefault(tuple(call["packages"]), {**call, "models": []})
            first["models"] += kept
    return list(found.values())[::every]


def read_rows(file: Path | None) -> list[Row]:
    """The rows of an earlier run; none where there was none."""
    if file is None or not file.exists():
        return []
    return [Row.read(each) for each in json.loads(file.read_text("utf-8"))]


def key_of(call: Mapping[str, Any]) -> str:
    """Equal for calls that ask for the same: a model may have several."""
    asked = (call["packages"], sorted(call["variables"].items()), call["skip_installed"])
    return digest_of(list(asked))


def table(rows: Sequence[Row]) -> str:
    """A Markdown table: ours / xoscar's."""
    head = (
        *("model", "request", "solved by", "packages", "second torch"),
        *("pages", "uv", "processor", "seconds"),
    )
    return aligned(head, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    sides = (row.ours, row.xoscar)
    more = f" (+{len(row.models) - 1})" if len(row.models) > 1 else ""
    columns = (
        [str(len(each.packages)) for each in sides],
        ["yes" if each.has_torch else "–" for each in sides],
        [str(each.requests) for each in sides],
        [str(each.processes) for each in sides],
        [f"{each.processor:.2f}" for each in sides],
        [f"{each.seconds:.2f}" for each in sides],
    )
    return (f"{row.models[0]}{more}", row.request.value, row.solved_by, *map(" / ".join, columns))


def summary(rows: Sequence[Row]) -> str:
    """What the tables come to: who resolves how many, and what those take that both resolve."""
    both = [row for row in rows if row.solved_by == "both"]
    found = Counter(row.solved_by for row in rows)
    counts = aligned(
        ("requests", *(names := ("both", XOSCAR_ALONE, "ours alone", "neither"))),
        [(str(len(rows)), *(str(found[name]) for name in names))],
    )
    lines = []
    for name, sides in (
        ("ours", [row.ours for row in both]),
        ("xoscar", [row.xoscar for row in both]),
    ):
        lines.append(
            (
                name,
                str(sum(len(each.packages) for each in sides)),
                str(sum(each.has_torch for each in sides)),
                str(sum(each.requests for each in sides)),
                _median_and_most([each.processes for each in sides], "g"),
                _median_and_most([each.processor for each in sides], ".2f"),
                _median_and_most([each.seconds for each in sides], ".2f"),
            )
        )
    head = (
        *("of those by both", "packages", "second torch", "pages"),
        *("uv, median / most", "processor, median / most", "seconds, median / most"),
    )
    return f"{counts}\n\n{aligned(head, lines)}"


def _median_and_most(figures: Sequence[float], form: str) -> str:
    return f"{median(figures or [0]):{form}} / {max(figures, default=0):{form}}"


def main(arguments: Sequence[str]) -> int:
    """Let both sides plan all calls; print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dropin")
    parser.add_argument("--calls", type=Path, required=True, metavar="FILE")
    parser.add_argument("--only", default="", metavar="TEXT", help="models with this in their name")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="a sample: each N-th")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--latency", type=float, default=0.0, metavar="MS")
    parser.add_argument("--index-url", default="https://pypi.org", metavar="URL")
    parser.add_argument(
        "--as-pypi",
        action="store_true",
        help="let what a mirror of PyPI sends hold as long as what PyPI sends",
    )
    parser.add_argument(
        *("--find-links", "-f"),
        action="append",
        default=[],
        metavar="PLACE",
        help="for both sides, as pip's: where a build is that the index has not, such as torch's",
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    rows = read_rows(options.json)
    planned = {row.call for row in rows}
    index = SlowIndex(
        upstream=options.index_url, latency=options.latency / 1000, as_pypi=options.as_pypi
    )
    with (
        tempfile.TemporaryDirectory(prefix="dropin-") as folder,
        index.serving(),
        counting_started_processes(Path(folder).resolve()),
    ):
        uv = CountedUv(folder=Path(folder).resolve() / "counted")
        uv.make()
        contest = Contest(
            folder=Path(folder).resolve(),
            index=index,
            uv=uv,
            install=options.install,
            find_links=options.find_links,
        )
        for call in read_calls(options.calls, only=options.only, every=options.every):
            if key_of(call) in planned:
                continue
            for row in contest.rows(call, options.rounds):
                rows.append(row)
                print(" | ".join(_cells(row)), file=sys.stderr, flush=True)
            if options.json is not None:
                report = json.dumps([each.to_plain() for each in rows], indent=1)
                options.json.write_text(report, "utf-8")
    print(table(rows))
    print()
    print(summary(rows))
    return 1 if any(row.solved_by == XOSCAR_ALONE for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
