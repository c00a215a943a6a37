"""What real model specs are planned to, on three hosts, next to bare uv.

    python -m benchmarks.plans --specs FILE [--hosts NAME...] [--only TEXT] [--every N]
                               [--engines first|all] [--skip-engine NAME...] [--rounds N]
                               [--index-url URL] [--torch REQUIREMENT] [--json FILE]

In come specifications in Xinference's model format. Specs with the same packages are planned
once, for the first engine that they name, or with `--engines all` for each. Nothing is
installed but the hosts: `bare` has nothing, `torch` has xoscar and a torch for CPUs, `newest`
the newest numpy, transformers and more as well. Out comes a row for each spec and host: whether
it is solved, what would be installed, how many days what is asked for is older than bare
``uv pip compile`` takes it in the same round, whether torch is installed although the host has
one, how many uv processes it took, and the time next to bare uv's. Bare uv resolves once before,
so that what it needs is in the cache; of several rounds the last one counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from statistics import median

from packaging.version import Version

from benchmarks.ambient import base_python, model_block, source_flags, uv_cache, uv_program
from benchmarks.common import aligned
from benchmarks.hosts import copy_installation, install
from xinference_venv.errors import VirtualEnvError
from xinference_venv.planning.catalog import parse_model_spec
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.planning.requirements import RequirementLine, engines_named
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.service.host_facts import HostFactsReader
from xinference_venv.service.launch_service import LaunchService
from xinference_venv.service.open_uv import open_uv
from xinference_venv.service.places import find_places
from xinference_venv.service.prepare import staging_folder
from xinference_venv.store.store import Store

NEWEST = (
    *("numpy", "pandas", "scipy", "scikit-learn", "pillow", "setuptools", "wheel"),
    *("transformers", "accelerate", "huggingface-hub"),
)
HOSTS = ("bare", "torch", "newest")
ROUNDS = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Packages to plan for an engine, and the models that have them."""

    block: ModelVirtualEnv
    engine: str | None
    models: tuple[str, ...]

    @property
    def name(self) -> str:
        """By what a reader knows it."""
        more = f" (+{len(self.models) - 1})" if len(self.models) > 1 else ""
        return f"{self.models[0]}{more}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Solved:
    """A solution: versions by name, bytes to download, and how long it took."""

    versions: Mapping[str, str]
    size: int
    seconds: float
    processes: int
    uploaded: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One spec on one host; `older` is the days that `oldest` is older than with bare uv."""

    case: str
    engine: str | None
    host: str
    refused: str | None = None
    hint: str | None = None
    bare_refused: bool = False
    packages: int | None = None
    bare_packages: int | None = None
    size: int | None = None
    bare_size: int | None = None
    oldest: str | None = None
    older: int = 0
    second_torch: bool = False
    processes: int | None = None
    seconds: float | None = None
    bare_seconds: float | None = None

    @property
    def ratio(self) -> float | None:
        """Our time in parts of bare uv's."""
        return self.seconds / self.bare_seconds if self.seconds and self.bare_seconds else None


def main(arguments: Sequence[str]) -> int:
    """Make the hosts, plan every case on each, print the table."""
    options = _parser().parse_args(arguments)
    skipped = {each.lower() for each in options.skip_engine}
    cases = [
        each
        for each in read_cases(options.specs, every_engine=options.engines == "all")
        if (each.engine or "").lower() not in skipped and options.only in each.name
    ][:: options.every]
    rows: list[Row] = []
    cache = uv_cache()
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=cache.parent) as scratch:
        for name in options.hosts:
            folder = Path(scratch).resolve() / name
            python = make_host(name, folder / "host", torch=options.torch)
            environ = {
                **os.environ,
                "XINFERENCE_HOME": str(folder / "home"),
                "XINFERENCE_VIRTUAL_ENV_HOST_PYTHON": str(python),
                "UV_CACHE_DIR": str(cache),
            }
            planner = Planner(
                host=name, environ=environ, index_url=options.index_url, rounds=options.rounds
            )
            for row in planner.plan_all(cases):
                rows.append(row)
                if options.json is not None:
                    # As they come: a whole run takes long.
                    report = json.dumps([asdict(each) for each in rows], indent=2)
                    options.json.write_text(report, "utf-8")
            shutil.rmtree(folder)
    print(table(rows))
    print()
    print(summary(rows))
    return 0


def read_cases(file: Path, *, every_engine: bool) -> list[Case]:
    """What to plan for the specs of a file: each block once for an engine."""
    models: dict[tuple[ModelVirtualEnv, str | None], list[str]] = {}
    for entry in parse_model_spec(file.read_text("utf-8"), str(file)):
        for variant in entry.variants:
            engines: Sequence[str | None] = engines_named(variant.virtualenv.packages)
            if variant.engine is not None:
                engines = (variant.engine,)
            for engine in engines[: None if every_engine else 1] or (None,):
                key = (variant.virtualenv, engine and engine.lower())
                models.setdefault(key, []).append(entry.model_name)
    return [
        Case(block=block, engine=engine, models=tuple(dict.fromkeys(names)))
        for (block, engine), names in models.items()
    ]


def make_host(name: str, folder: Path, *, torch: str) -> Path:
    """Make the host of a name, with packages from where pip's configuration says."""
    python = copy_installation(folder)
    sources = model_block((), None)
    if name != "bare":
        # Together: what requires torch must not bring another one.
        more = NEWEST if name == "newest" else ()
        install(python, ["xoscar", torch, *more], sources)
    return python


@dataclass(kw_only=True)
class Planner:
    """Plans on one host, in an own home."""

    host: str
    environ: Mapping[str, str]
    index_url: str
    rounds: int

    def plan_all(self, cases: Iterable[Case]) -> Iterator[Row]:
        """A row for each case, as it is done."""
        places = find_places(self.environ)
        store = Store.open(places.root)
        uv = open_uv(places, store, self.environ)
        hosts = HostFactsReader(store=store, uv=uv, settings=places.settings, environ=self.environ)
        launches = LaunchService(store=store, uv=uv, settings=places.settings, hosts=hosts)
        asyncio.run(uv.version())  # asked once, and of no plan
        for case in cases:
            row = asyncio.run(self._row(case, launches))
            outcome = row.refused or f"{row.packages} packages, {row.processes} processes"
            shown = f"{self.host}: {case.name}, {case.engine}: {outcome}"
            print(shown, file=sys.stderr, flush=True)
            yield row

    async def _row(self, case: Case, launches: LaunchService) -> Row:
        block = replace(case.block, inherit_pip_config=False, index_url=self.index_url)
        request = LaunchRequest.from_dict(
            {
                "model_name": "benchmark",
                "model_engine": case.engine,
                "any_engine": True,
                "virtualenv": block.to_dict(),
            }
        )
        row = Row(case=case.name, engine=case.engine, host=self.host)
        try:
            facts, spec = await launches.specify(request, download=False)
        except VirtualEnvError as error:
            return replace(row, refused=error.message, hint=error.hint)
        if spec is None:
            return replace(row, refused="nothing to install")
        # Untimed: it fills uv's cache. What only ours looks at, ours has to fetch.
        self._bare(spec)
        for _ in range(self.rounds):
            bare = self._bare(spec)
            ours = await self._plan(spec, facts, launches)
        if bare is not None:
            row = replace(
                row,
                bare_packages=len(bare.versions),
                bare_size=bare.size,
                bare_seconds=bare.seconds,
            )
        else:
            row = replace(row, bare_refused=True)
        if isinstance(ours, VirtualEnvError):
            return replace(row, refused=ours.message, hint=ours.hint)
        oldest, older = self._oldest(spec, ours, bare)
        return replace(
            row,
            packages=len(ours.versions),
            size=ours.size,
            oldest=oldest,
            older=older,
            second_torch="torch" in ours.versions and "torch" in facts.by_name,
            processes=ours.processes,
            seconds=ours.seconds,
        )

    async def _plan(
        self, spec: EnvSpec, facts: HostFacts, launches: LaunchService
    ) -> Solved | VirtualEnvError:
        """What a launch would resolve to on the host, or why it would fail."""
        start = time.perf_counter()
        preparation = launches.preparation(spec, facts, None)
        try:
            async with staging_folder(launches.store, spec.interpreter, []) as folder:
                lock = await preparation.resolve(folder)
        except VirtualEnvError as error:
            return error
        return Solved(
            versions={name: version or "" for name, version in lock.installed.items()},
            size=sum(lock.sizes.values()),
            seconds=time.perf_counter() - start,
            processes=preparation.uv.calls,
        )

    def _bare(self, spec: EnvSpec) -> Solved | None:
        """What bare uv takes for the same lines, without the host; None where nothing."""
        return self._compile(
            [_without_host(line) for line in spec.requirements],
            *(flag for url in spec.sources.extra_index_urls for flag in ("--index", url)),
            *(("--index-strategy", s) if (s := spec.sources.index_strategy) else ()),
        )

    def _oldest(self, spec: EnvSpec, ours: Solved, bare: Solved | None) -> tuple[str | None, int]:
        """What is asked for and most older than with bare uv, and the days."""
        older = []
        for line in spec.requirements:
            name = line.name or ""
            version, newest = ours.versions.get(name), bare and bare.versions.get(name)
            if not version or not newest or Version(version) >= Version(newest):
                continue
            found = self._compile([f"{name}=={version}"], "--no-deps")
            then = found.uploaded.get(name) if found else None
            now = bare.uploaded.get(name) if bare else None
            if then is not None and now is not None:
                older.append(((now - then).days, f"{name} {version}"))
        return (None, 0) if not older else (max(older)[1], max(older)[0])

    def _compile(self, lines: Sequence[str], *flags: str) -> Solved | None:
        command = [uv_program(), "pip", "compile", "-", "--quiet", "--no-config", "--no-header"]
        command += ["--format", "pylock.toml", "--python", str(base_python())]
        command += [*source_flags(ModelVirtualEnv(index_url=self.index_url)), *flags]
        start = time.perf_counter()
        answer = subprocess.run(
            command, input="\n".join(lines), capture_output=True, text=True, env=dict(self.environ)
        )
        seconds = time.perf_counter() - start
        if answer.returncode != 0:
            return None
        versions, uploaded, size = {}, {}, 0
        for each in tomllib.loads(answer.stdout)["packages"]:
            files = [*each.get("wheels", []), *filter(None, [each.get("sdist")])]
            versions[each["name"]] = each.get("version", "")
            size += next((file.get("size") or 0 for file in files), 0)
            times = [file["upload-time"] for file in files if "upload-time" in file]
            if times:
                uploaded[each["name"]] = min(times)
        return Solved(versions=versions, size=size, seconds=seconds, processes=1, uploaded=uploaded)


def _without_host(line: RequirementLine) -> str:
    """A line as somebody writes it who has no host: a pin to the host's version is none."""
    return line.name if line.is_system_pin and line.name is not None else line.text


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, with a line for each spec and host; sizes are in MB, ours / bare uv's."""
    head = (
        *("spec", "engine", "host", "outcome", "packages", "MB", "oldest asked for"),
        *("second torch", "uv processes", "seconds", "ratio"),
    )
    return aligned(head, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    def pair(ours: object, bare: object) -> str:
        return f"{'–' if ours is None else ours} / {'–' if bare is None else bare}"

    def megabytes(size: int | None) -> str | None:
        return None if size is None else f"{size / 1e6:,.0f}"

    def short(seconds: float | None) -> str | None:
        return None if seconds is None else f"{seconds:.1f}"

    outcome = "solved"
    if row.refused is not None:
        outcome = "refused, bare uv too" if row.bare_refused else "refused"
    return (
        *(row.case, row.engine or "–", row.host, outcome),
        pair(row.packages, row.bare_packages),
        pair(megabytes(row.size), megabytes(row.bare_size)),
        f"{row.oldest}, {row.older} days" if row.oldest else "–",
        "yes" if row.second_torch else "–",
        "–" if row.processes is None else str(row.processes),
        pair(short(row.seconds), short(row.bare_seconds)),
        "–" if row.ratio is None else f"{row.ratio:.2f}",
    )


def summary(rows: Sequence[Row]) -> str:
    """What the table comes to, by host, as a Markdown table."""
    lines = []
    for host in dict.fromkeys(row.host for row in rows):
        of_host = [row for row in rows if row.host == host]
        solved = [row for row in of_host if row.refused is None]
        processes = [row.processes or 0 for row in solved] or [0]
        ratios = [row.ratio for row in solved if row.ratio is not None] or [0.0]
        lines.append(
            (
                *(host, str(len(of_host)), str(len(solved))),
                str(sum(row.refused is not None and not row.bare_refused for row in of_host)),
                str(sum(row.second_torch for row in solved)),
                str(max((row.older for row in solved), default=0)),
                f"{median(processes):g} / {max(processes)}",
                f"{median(ratios):.2f} / {max(ratios):.2f}",
                f"{sum(row.size or 0 for row in solved) / 1e9:.1f}"
                f" / {sum(row.bare_size or 0 for row in solved) / 1e9:.1f}",
            )
        )
    head = (
        *("host", "specs", "solved", "refused, bare uv not", "second torch", "most days older"),
        *("uv processes, median / most", "time in parts of bare uv's, median / most", "GB"),
    )
    return aligned(head, lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plans")
    parser.add_argument("--specs", type=Path, required=True, metavar="FILE")
    parser.add_argument("--hosts", nargs="+", choices=HOSTS, default=HOSTS)
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="a sample: each N-th")
    parser.add_argument("--engines", choices=("first", "all"), default="first")
    parser.add_argument("--skip-engine", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--index-url", default="https://pypi.org/simple", metavar="URL")
    parser.add_argument("--torch", default="torch", metavar="REQUIREMENT")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
