"""What an installed Xinference asks for, planned by `xoscar.virtualenv` and by the drop-in.

    python -m benchmarks.dropin --calls FILE [--only TEXT] [--every N] [--rounds N] [--install]
                                [--latency MS] [--index-url URL] [--json FILE]

Runs in the environment of Xinference, which is the host, with xinference_venv and uv installed
there. The calls are those that ``python scripts/xinference_specs.py --json FILE`` took down: each
list of packages once, for the first engine that has it. Both sides make an empty environment and
plan it in turns, with `--install` they install as well. The index is asked through a server on
127.0.0.1 that counts what is asked for and lets each answer wait. Each side has a cache of uv of
its own, which a round before the first one fills. Out comes a row for each call: packages,
requests of the index's pages and seconds of each side in the last round, and why it was refused.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import http.server
import json
import logging
import os
import shutil
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from xoscar.virtualenv.uv import UVVirtualEnvManager

from benchmarks.common import aligned
from xinference_venv.service.prepare import staging_folder
from xinference_venv.xinference import InPlaceEnvManager
from xinference_venv.xinference.engine import Engine, InstallOptions, Planner
from xinference_venv.xinference.rebuild import Change, CurrentEnvironment

_SENT_ON = ("Accept", "Accept-Encoding", "If-None-Match", "If-Modified-Since", "Range")
_SENT_BACK = ("Content-Type", "Content-Encoding", "Cache-Control", "ETag", "Last-Modified")


@dataclass(kw_only=True)
class SlowIndex:
    """A server before an index; `requests` counts the pages that were asked for."""

    upstream: str
    latency: float
    requests: int = 0
    url: str = ""

    @contextmanager
    def serving(self) -> Iterator[SlowIndex]:
        """Serve on a port of its own until the end."""
        index = self
        parts = urlsplit(self.upstream)
        trust = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                # One for each connection of uv, as if uv had it itself.
                self.upstream = http.client.HTTPSConnection(parts.netloc, context=trust)

            def finish(self) -> None:
                self.upstream.close()
                super().finish()

            def do_GET(self) -> None:
                index.requests += 1
                time.sleep(index.latency)
                names = {name: self.headers[name] for name in _SENT_ON if self.headers[name]}
                self.upstream.request("GET", f"{parts.path}{self.path}", headers=names)
                answer = self.upstream.getresponse()
                body = answer.read()
                self.send_response(answer.status)
                for name in _SENT_BACK:
                    if answer.headers[name]:
                        self.send_header(name, answer.headers[name])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one side came to."""

    packages: tuple[str, ...] = ()
    refused: str | None = None
    requests: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One call: ours and xoscar's."""

    models: tuple[str, ...]
    ours: Outcome
    xoscar: Outcome


@dataclass(kw_only=True)
class Contest:
    """Both sides over one index, each with its folder of environments and its cache."""

    folder: Path
    index: SlowIndex
    install: bool
    count: int = field(default=0, init=False)

    def row(self, call: Mapping[str, Any], rounds: int) -> Row:
        """Let both plan a call in turns, once more than counts."""
        for _ in range(rounds + 1):
            xoscar = self._measure("xoscar", lambda env: self._theirs(env, call))
            ours = self._measure("ours", lambda env: self._ours(env, call))
        return Row(models=tuple(call["models"]), ours=ours, xoscar=xoscar)

    def _measure(self, side: str, plan: Callable[[Path], list[str]]) -> Outcome:
        self.count += 1
        env = self.folder / side / "virtualenv" / "v4" / str(self.count) / "engine" / "3"
        os.environ["UV_CACHE_DIR"] = str(self.folder / f"{side}-cache")
        os.environ["XINFERENCE_HOME"] = str(self.folder / side)
        before, start = self.index.requests, time.perf_counter()
        try:
            packages, refused = tuple(sorted(plan(env))), None
        except Exception as error:  # noqa: BLE001
            # A side that fails is a result.
            packages, refused = (), str(getattr(error, "stderr", "") or error)
        seconds = time.perf_counter() - start
        shutil.rmtree(env, ignore_errors=True)
        return Outcome(
            packages=packages,
            refused=refused,
            requests=self.index.requests - before,
            seconds=seconds,
        )

    def _sources(self) -> dict[str, str]:
        return {"index_url": f"{self.index.url}/simple"}

    def _theirs(self, env: Path, call: Mapping[str, Any]) -> list[str]:
        manager = UVVirtualEnvManager(env)
        manager.create_env(python_path=Path(sys.executable))
        packages, variables = list(call["packages"]), call["variables"]
        skip = call["skip_installed"]
        if self.install:
            manager.install_packages(packages, skip_installed=skip, **self._sources(), **variables)
            return _installed(manager)
        lines = manager.process_packages(packages, **variables)
        if skip:
            return list(manager._filter_packages_not_installed(lines, **self._sources()))
        return list(manager._resolve_install_plan(lines, {}, **self._sources()))

    def _ours(self, env: Path, call: Mapping[str, Any]) -> list[str]:
        manager = InPlaceEnvManager(env)
        manager.create_env(python_path=Path(sys.executable))
        settings = {"skip_installed": call["skip_installed"], **self._sources()}
        if self.install:
            manager.install_packages(list(call["packages"]), **settings, **call["variables"])
            return _installed(manager)
        options = InstallOptions.of({**settings, **call["variables"]}, skip_installed=False)
        return asyncio.run(_plan(env, call["packages"], options))


def _installed(manager: UVVirtualEnvManager | InPlaceEnvManager) -> list[str]:
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


def table(rows: Sequence[Row]) -> str:
    """A Markdown table: ours / xoscar's."""
    head = ("model", "outcome", "packages", "torch", "pages asked for", "seconds")
    return aligned(head, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    def torch(side: Outcome) -> str:
        return "yes" if any(each.startswith("torch==") for each in side.packages) else "–"

    ours, theirs = row.ours, row.xoscar
    outcome = "both" if not ours.refused and not theirs.refused else "neither"
    if bool(ours.refused) is not bool(theirs.refused):
        outcome = "xoscar alone" if ours.refused else "ours alone"
    more = f" (+{len(row.models) - 1})" if len(row.models) > 1 else ""
    return (
        *(f"{row.models[0]}{more}", outcome),
        f"{len(ours.packages)} / {len(theirs.packages)}",
        f"{torch(ours)} / {torch(theirs)}",
        f"{ours.requests} / {theirs.requests}",
        f"{ours.seconds:.1f} / {theirs.seconds:.1f}",
    )


def summary(rows: Sequence[Row]) -> str:
    """What the table comes to."""
    both = [row for row in rows if not row.ours.refused and not row.xoscar.refused]
    lines = []
    for name in ("ours", "xoscar"):
        every = [getattr(row, name) for row in rows]
        sides = [getattr(row, name) for row in both]
        seconds = [each.seconds for each in sides] or [0.0]
        lines.append(
            (
                *(name, f"{sum(not each.refused for each in every)} of {len(rows)}"),
                str(sum(len(each.packages) for each in sides)),
                str(sum(any(p.startswith("torch==") for p in each.packages) for each in sides)),
                str(sum(each.requests for each in sides)),
                f"{median(seconds):.2f} / {max(seconds):.2f}",
            )
        )
    head = ("", "solved", "packages", "torch", "pages", "seconds, median / most")
    return aligned(head, lines)


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
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    rows = []
    index = SlowIndex(upstream=options.index_url, latency=options.latency / 1000)
    with tempfile.TemporaryDirectory(prefix="dropin-") as folder, index.serving():
        contest = Contest(folder=Path(folder).resolve(), index=index, install=options.install)
        for call in read_calls(options.calls, only=options.only, every=options.every):
            rows.append(contest.row(call, options.rounds))
            print(" | ".join(_cells(rows[-1])), file=sys.stderr, flush=True)
            if options.json is not None:
                report = json.dumps([asdict(each) for each in rows], indent=1)
                options.json.write_text(report, "utf-8")
    print(table(rows))
    print()
    print(summary(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
