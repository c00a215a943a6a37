"""How long a launch takes to get its environment, beside xoscar.virtualenv and bare uv.

    python -m benchmarks.create [--rounds N] [--quick] [--json FILE] [--online]
                                [--package REQUIREMENT]... [--index-url URL]

Real packages from a real index. Three cases, each with and without skip-installed: a relaunch
with nothing changed, a new environment from a known lock, a new environment that is resolved.
All contestants run the same uv in the same scrubbed environment, with the same cache, sources
and interpreter, on one file system, in turns. A first pass fills uv's cache; then uv is told to
stay offline, so that no figure depends on what the index lets a client keep, nor on the network.
Nothing fails because it took long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from xoscar.virtualenv import get_virtual_env_manager

from benchmarks.ambient import (
    base_python,
    model_block,
    scrub_environment,
    source_flags,
    uv_cache,
    uv_program,
)
from benchmarks.common import Contestant, Figure, figures, table, take_turns
from xinference_venv.client import Client, local_client
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.settings import ALLOWED_ROOTS_VARIABLE

PACKAGES = ("numpy", "pandas", "scipy", "scikit-learn", "transformers")
ROUNDS = 9
QUICK_ROUNDS = 3
XOSCAR = "xoscar.virtualenv"
BARE_UV = "bare uv"
_MODEL = "benchmark"


def main(arguments: Sequence[str]) -> int:
    """Run all cases and print the table."""
    options = _parser().parse_args(arguments)
    rounds = QUICK_ROUNDS if options.quick else options.rounds
    block = model_block(options.package or PACKAGES, options.index_url)
    cache = uv_cache()
    # Beside the cache, so that files are linked from it and not copied.
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=cache.parent) as scratch:
        scrub_environment(cache)
        if not options.online:
            print("filling uv's cache", file=sys.stderr)
            asyncio.run(_all_cases(Path(scratch, "filling"), block, 0))
            os.environ["UV_OFFLINE"] = "1"
        rows = asyncio.run(_all_cases(Path(scratch, "measuring"), block, rounds))
    print(
        f"CPython {platform.python_version()}, {os.cpu_count()} processors, uv {version('uv')},"
        f" xoscar {version('xoscar')}; median of {rounds} rounds in milliseconds; packages and"
        f" ranges are ours / peer's\n\n{table(rows)}"
    )
    if options.json is not None:
        report = {"rounds": rounds, "packages": block.packages, "uv": version("uv")}
        report["figures"] = [row.to_dict() for row in rows]
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ours:
    """This project, as a launch pipeline reaches it: by its actors."""

    client: Client
    request: LaunchRequest

    async def launch(self, lock: EnvLock | None = None) -> Path:
        """Prepare the environment, from a lock if there is one."""
        if lock is None:
            prepared = await self.client.prepare(self.request)
        else:
            prepared = await self._launch_with(lock)
        assert prepared.real_path is not None
        return Path(prepared.real_path)

    async def launch_unresolved(self) -> Path:
        """Prepare the environment from a request that was never resolved before."""
        never_asked = f"benchmark-{uuid.uuid4().hex}<1"
        request = replace(self.request, constraints=(*self.request.constraints, never_asked))
        return await replace(self, request=request).launch()

    async def release(self) -> None:
        """Give back all leases, as ended models do."""
        for entry in await self.client.entries(Selection(model_name=_MODEL)):
            for lease in entry.leases:
                await self.client.worker.release_lease(lease.env_id, lease.lease_id)

    async def remove(self) -> None:
        """Leave nothing of the model."""
        await self.release()
        await self.client.supervisor.remove_virtual_env(Selection(model_name=_MODEL))

    async def lock(self) -> EnvLock:
        """The lock of the request."""
        plan = await self.client.worker.plan(self.request)
        assert plan.lock is not None
        return plan.lock

    async def _launch_with(self, lock: EnvLock) -> PreparedEnvironment:
        worker = self.client.worker
        job = await worker.prepare(self.request, lock)
        seen = 0
        while True:
            answer = await worker.wait(job, seen)
            if answer.error is not None:
                raise answer.error.error()
            if answer.result is not None:
                return answer.result
            seen = answer.events[-1].seq if answer.events else seen


@dataclass(frozen=True, kw_only=True, slots=True)
class Peers:
    """What exists, in folders under `folder`; what it prints goes to a file there."""

    folder: Path
    block: ModelVirtualEnv
    skip_installed: bool

    def by_xoscar(self, env: Path, packages: Sequence[str]) -> Path:
        """Create if it is not there, then install: the same calls for launch and relaunch."""
        manager = get_virtual_env_manager("uv", env)
        with self._output_kept():
            manager.create_env(python_path=base_python())
            manager.install_packages(
                list(packages),
                skip_installed=self.skip_installed,
                index_url=self.block.index_url,
                extra_index_url=list(self.block.extra_index_url),
                find_links=list(self.block.find_links),
                trusted_host=list(self.block.trusted_host),
                index_strategy=self.block.index_strategy,
            )
        return env

    def by_bare_uv(self, env: Path, packages: Sequence[str], *flags: str) -> Path:
        """An empty environment and one install."""
        uv = uv_program()
        python = str(env / "bin" / "python")
        install = [uv, "pip", "install", "--python", python, *source_flags(self.block), *flags]
        with self._output_kept():
            subprocess.run([uv, "venv", str(env), "--python", str(base_python())], check=True)
            subprocess.run([*install, *packages], check=True)
        return env

    @contextmanager
    def _output_kept(self) -> Iterator[None]:
        """Send this process's output, which its children inherit, to a file; show it on failure."""
        log = self.folder / "output.log"
        kept = [os.dup(1), os.dup(2)]
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for each in kept:
                os.close(each)
            if failed:
                print(log.read_text("utf-8", "replace"), file=sys.stderr)


async def _all_cases(scratch: Path, block: ModelVirtualEnv, rounds: int) -> list[Figure]:
    rows = []
    for skip_installed in (True, False):
        folder = scratch / ("with" if skip_installed else "without")
        folder.mkdir(parents=True)
        environ = {
            **os.environ,
            "XINFERENCE_HOME": str(folder / "home"),
            "XINFERENCE_VIRTUAL_ENV_SKIP_INSTALLED": "1" if skip_installed else "0",
            ALLOWED_ROOTS_VARIABLE: ",".join(
                place for place in block.find_links if place.startswith("/")
            ),
        }
        peers = Peers(folder=folder, block=block, skip_installed=skip_installed)
        mode = "" if skip_installed else ", no skip-installed"
        async with local_client(environ) as client:
            request = LaunchRequest(model_name=_MODEL, virtualenv=block)
            ours = Ours(client=client, request=request)
            for name, measure in _CASES.items():
                print(f"{name}{mode}", file=sys.stderr)
                rows += await measure(f"{name}{mode}", ours, peers, rounds)
    return rows


async def _relaunch(case: str, ours: Ours, peers: Peers, rounds: int) -> list[Figure]:
    """The environment is there: the warm-up makes it, and the rounds find it."""

    async def nothing() -> None:
        """It stays for the next round."""

    env = peers.folder / "relaunch"
    timings = await take_turns(
        [
            Contestant(name="ours", run=ours.launch, clear=ours.release),
            Contestant(
                name=XOSCAR,
                run=lambda: asyncio.to_thread(peers.by_xoscar, env, peers.block.packages),
                clear=nothing,
            ),
        ],
        rounds=rounds,
    )
    await ours.remove()
    return figures(case, timings, {XOSCAR: 1 / 20})


async def _known_lock(case: str, ours: Ours, peers: Peers, rounds: int) -> list[Figure]:
    """What to install is known to the last pin: all install what our lock installs."""
    lock = await ours.lock()
    pins = [f"{name}=={version}" for name, version in lock.installed.items()]
    offline = ("--offline", "--no-deps")
    timings = await take_turns(
        [
            Contestant(name="ours", run=lambda: ours.launch(lock), clear=ours.remove),
            *_new_environments(peers, pins, offline),
        ],
        rounds=rounds,
    )
    return figures(case, timings, {BARE_UV: 0.5})


async def _resolved(case: str, ours: Ours, peers: Peers, rounds: int) -> list[Figure]:
    """Only the request is known; the index may be asked by all."""
    timings = await take_turns(
        [
            Contestant(name="ours", run=ours.launch_unresolved, clear=ours.remove),
            *_new_environments(peers, peers.block.packages, ()),
        ],
        rounds=rounds,
    )
    return figures(case, timings, {XOSCAR: 1.0})


def _new_environments(
    peers: Peers, packages: Sequence[str], flags: Sequence[str]
) -> list[Contestant]:
    place = peers.folder / "new"

    def new() -> Path:
        """A path never used before: uv remembers what it learned of an interpreter by its path."""
        return place / uuid.uuid4().hex

    async def remove() -> None:
        await asyncio.to_thread(shutil.rmtree, place)

    return [
        Contestant(
            name=BARE_UV,
            run=lambda: asyncio.to_thread(peers.by_bare_uv, new(), packages, *flags),
            clear=remove,
        ),
        Contestant(
            name=XOSCAR,
            run=lambda: asyncio.to_thread(peers.by_xoscar, new(), packages),
            clear=remove,
        ),
    ]


_CASES = {"relaunch": _relaunch, "known lock": _known_lock, "resolving": _resolved}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.create", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed rounds of each case")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds")
    parser.add_argument("--json", metavar="FILE", help="write every time to a file")
    parser.add_argument("--online", action="store_true", help="let uv ask the index while measured")
    parser.add_argument("--package", action="append", help="instead of the default ones")
    parser.add_argument("--index-url", help="the only index, instead of pip's configuration")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
