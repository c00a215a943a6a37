"""How long a launch takes to the first answer of its model, in parts, beside Ray's runtime_env.

    python -m benchmarks.first_answer [--rounds N] [--torch] [--json FILE] [--index-url URL]
                                      [--without-ray]

A small model over a bare host; with `--torch` also one that needs torch, over a host that has it
(a build for CPUs, found where pip's configuration says). *New*: nothing of the environment is
there but what others left, its packages and uv's cache. *Again*: the environment is there, the
process is new. In turns with Ray in a virtual environment of its own, which the benchmark makes.

With `--torch` it is also measured what importing torch and transformers takes, in processor time:
by the host's own interpreter, which has both, and in a second environment that inherits the one and
shows the other, as others do, before and after its packages were compiled; and with
PYTHONDONTWRITEBYTECODE=1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from unittest import mock

import xoscar as xo

from benchmarks import answering
from benchmarks.ambient import (
    base_python,
    model_block,
    scrub_environment,
    source_flags,
    uv_cache,
    uv_program,
)
from benchmarks.common import aligned
from xinference_venv.client import Client, local_client
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.runtime.actor_spec import ActorClass
from xinference_venv.service.bytecode_compiler import BytecodeCompiler
from xinference_venv.settings import ALLOWED_ROOTS_VARIABLE
from xinference_venv.store.paths import StorePaths

ROUNDS = 5
_SMALL = ("rich==14.1.0", "markdown-it-py==4.0.0", "mdurl==0.1.2", "pygments==2.19.2")
_TORCH = "torch==2.13.0"
_TRANSFORMERS = "transformers==4.57.1"
_IMPORT = "import torch, transformers; transformers.AutoModel"
_MODEL = "first"
_PARTS = ("environment", "process", "actor", "answer")


def main(arguments: Sequence[str]) -> int:
    """Run all cases and print the tables."""
    options = _parser().parse_args(arguments)
    cache = uv_cache()
    scrub_environment(cache)
    report: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=cache.parent) as scratch:
        cases: list[tuple[str, str, Sequence[str]]] = [("small, bare host", "Rendering", ())]
        if options.torch:
            cases.append(("torch on the host", "Multiplying", (_TORCH,)))
        print(
            f"CPython {platform.python_version()}, {os.cpu_count()} processors,"
            f" xoscar {version('xoscar')}; medians of {options.rounds} rounds in milliseconds\n"
        )
        for name, actor, on_host in cases:
            case = _Case(
                folder=Path(scratch, actor),
                actor=actor,
                block=model_block(_SMALL, options.index_url),
                on_host=on_host,
                with_ray=not options.without_ray,
            )
            rows = asyncio.run(case.run(options.rounds))
            report[name] = rows
            print(f"{name}\n\n{_table(rows)}\n", flush=True)
        if options.torch:
            block = model_block((_TRANSFORMERS,), options.index_url)
            place = Path(scratch, "imports")
            place.mkdir()
            imports = asyncio.run(_imports(place, block, options.rounds))
            report["imports"] = imports
            head = ("import torch, transformers", "processor", "ratio")
            host = imports["the host itself"]
            lines = [(each, f"{took:.0f}", f"{took / host:.2f}") for each, took in imports.items()]
            print(aligned(head, lines))
    if options.json is not None:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 0


Rows = dict[str, dict[str, list[float]]]


@dataclass(kw_only=True)
class _Case:
    """One model over one host."""

    folder: Path
    actor: str
    block: ModelVirtualEnv
    on_host: Sequence[str]
    with_ray: bool
    rows: Rows = field(default_factory=dict)

    async def run(self, rounds: int) -> Rows:
        """Milliseconds of each round, by contestant and part; the first round warms up."""
        self.folder.mkdir()
        host = _make_venv(self.folder / "host", self.block, ["xoscar", *self.on_host])
        with ExitStack() as stack, mock.patch.object(BytecodeCompiler, "start", _start_soon):
            ray = stack.enter_context(self._ray()) if self.with_ray else None
            environ = _environ(self.folder / "home", host)
            async with local_client(environ) as client:
                await self._by_us(client, "ours, new", warms_up=True)
                await _compiled(self.folder / "home")
                for round_number in range(rounds + 1):
                    await self._by_us(client, "ours, new", warms_up=not round_number)
                    await self._by_us(client, "ours, again", warms_up=not round_number)
                    await client.supervisor.remove_virtual_env(Selection(model_name=_MODEL))
                    if ray is not None:
                        # Ray knows an environment by the list of its packages.
                        turned = [*self.block.packages]
                        turned = [*turned[1:], turned[0]] if round_number % 2 else turned
                        packages = [*turned, f"colorama==0.4.{round_number % 6 + 1}"]
                        for name in ("Ray, new", "Ray, again"):
                            self._by_ray(ray, packages, name, warms_up=not round_number)
        return self.rows

    async def _by_us(self, client: Client, name: str, *, warms_up: bool) -> None:
        request = LaunchRequest(model_name=_MODEL, virtualenv=self.block)
        times = [time.perf_counter()]
        made = await client.prepare(request)
        times.append(time.perf_counter())
        process = await client.start(made, label=_MODEL)
        times.append(time.perf_counter())
        folder = str(Path(answering.__file__).parent)
        actor = ActorClass(module="answering", name=self.actor, paths=(folder,))
        await client.create_actor(process, actor, uid=_MODEL)
        times.append(time.perf_counter())
        reference = await xo.actor_ref(process.address, _MODEL)
        assert await reference.answer()
        times.append(time.perf_counter())
        await process.stop()
        if not warms_up:
            self._note(name, zip(_PARTS, pairwise(times), strict=True))

    def _note(self, name: str, parts: zip[tuple[str, tuple[float, float]]]) -> None:
        row = self.rows.setdefault(name, {})
        for part, (began, ended) in parts:
            row.setdefault(part, []).append((ended - began) * 1000)

    def _by_ray(
        self, ray: subprocess.Popen[str], packages: list[str], name: str, *, warms_up: bool
    ) -> None:
        assert ray.stdin is not None and ray.stdout is not None
        ray.stdin.write(json.dumps({"actor": self.actor, "packages": packages}) + "\n")
        ray.stdin.flush()
        told = json.loads(ray.stdout.readline() or '{"error": "it ended"}')
        if "error" in told:
            raise SystemExit(f"Ray: {told['error']}")
        if not warms_up:
            up, answered = told["seconds"]
            row = self.rows.setdefault(name, {})
            row.setdefault("environment, process, actor", []).append(up * 1000)
            row.setdefault("answer", []).append(answered * 1000)

    @contextmanager
    def _ray(self) -> Iterator[subprocess.Popen[str]]:
        python = _make_venv(self.folder / "ray", self.block, ["ray[default]", *self.on_host])
        log = self.folder / "ray.log"
        pipe = subprocess.PIPE
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [python, "-P", str(Path(__file__).with_name("ray_peer.py"))],
                stdin=pipe,
                stdout=pipe,
                stderr=output,
                text=True,
                env={**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"},
            ) as process,
        ):
            yield process


def _start_soon(self: BytecodeCompiler, after_seconds: float = 0.0) -> None:
    self._task = asyncio.create_task(self._keep_compiled(0.1))


async def _compiled(home: Path) -> None:
    """Wait until every package in the store is compiled."""
    layout = StorePaths(home / "virtualenv")

    def wait() -> None:
        while not all(
            list(tree.glob("xinference-venv.compiled.*"))
            for place in (layout.packages, layout.joined)
            for tree in (place.iterdir() if place.is_dir() else ())
        ):
            time.sleep(0.2)

    await asyncio.to_thread(wait)


async def _imports(folder: Path, block: ModelVirtualEnv, rounds: int) -> dict[str, float]:
    """Milliseconds of processor time that the imports take, by whose interpreter it is."""
    both = _make_venv(folder / "both", block, ["xoscar", _TORCH, _TRANSFORMERS])
    host = _make_venv(folder / "host", block, ["xoscar", _TORCH])
    environ = _environ(folder / "home", host)
    found: dict[str, float] = {}
    found["the host itself"] = _import_time(both, rounds)
    with mock.patch.object(BytecodeCompiler, "start"):
        async with local_client(environ) as client:
            first = await client.prepare(LaunchRequest(model_name="one", virtualenv=block))
            _time_of([first.python, "-B", "-c", _IMPORT])
            found["before it is compiled"] = _import_time(Path(first.python), rounds, "-B")
    with mock.patch.object(BytecodeCompiler, "start", _start_soon):
        async with local_client(environ) as client:
            await _compiled(folder / "home")
            more = replace(block, packages=(*block.packages, _SMALL[-1]))
            second = await client.prepare(LaunchRequest(model_name="two", virtualenv=more))
            python = Path(second.python)
            found["a second environment"] = _import_time(python, rounds)
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            found["the same, PYTHONDONTWRITEBYTECODE=1"] = _import_time(python, rounds)
            del os.environ["PYTHONDONTWRITEBYTECODE"]
    found["the host itself, once more"] = _import_time(both, rounds)
    return found


def _import_time(python: Path, rounds: int, *flags: str) -> float:
    command = [str(python), *flags, "-c", _IMPORT]
    _time_of(command)
    return median(_time_of(command) for _ in range(rounds))


def _time_of(command: Sequence[str]) -> float:
    """The processor time of a process, in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def _make_venv(place: Path, block: ModelVirtualEnv, packages: Sequence[str]) -> Path:
    """A virtual environment with bytecode, as pip makes one; its interpreter."""
    python = place / "bin" / "python"
    install = ("pip", "install", "--compile-bytecode", "--python", str(python))
    for command in (
        ("venv", "--seed", "--python", str(base_python()), str(place)),
        (*install, *source_flags(block), *packages),
    ):
        done = subprocess.run([uv_program(), *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
    return python


def _environ(home: Path, host: Path) -> dict[str, str]:
    return {
        **os.environ,
        "XINFERENCE_HOME": str(home),
        ALLOWED_ROOTS_VARIABLE: "/",
        "XINFERENCE_VIRTUAL_ENV_HOST_PYTHON": str(host),
    }


def _table(rows: Rows) -> str:
    """A line for each contestant, with the range of all of it."""
    lines = []
    for name, parts in rows.items():
        whole = [sum(each) for each in zip(*parts.values(), strict=True)]
        shown = "; ".join(f"{part} {median(took):.0f}" for part, took in parts.items())
        lines.append((name, f"{median(whole):.0f}", f"{min(whole):.0f}-{max(whole):.0f}", shown))
    return aligned(("launch to first answer", "all", "range", "parts"), lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_answer", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--torch", action="store_true", help="also over a host with torch")
    parser.add_argument("--without-ray", action="store_true", help="ours alone")
    parser.add_argument("--json", metavar="FILE", help="write every time to a file")
    parser.add_argument("--index-url", help="the only index, instead of pip's configuration")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
