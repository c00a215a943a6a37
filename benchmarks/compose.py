"""How long an environment takes whose packages were unpacked before, against bare uv.

    python -m benchmarks.compose [--set small|middle|large]... [--rounds N] [--folder DIR]...
                                 [--json FILE] [--index-url URL]

Three sets of real packages: those of `benchmarks.create`, about 40,000 files and about 84,000.
For each, the first build in an empty home; new environments whose packages other environments
have, each without another one of the small packages, so that nothing of it was proved before;
the same with files of its own (`--view files`); verification and removal. Bare uv and
xoscar.virtualenv do the same with a warm cache and without network. Almost everything is made
before anything is removed: ext4 allocates slower after removals.

By default a folder next to uv's cache, and one on tmpfs with a cache of its own. Times are of the
clock and of the processors, since other work of a machine changes the former more.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from unittest import mock

from benchmarks.ambient import base_python, model_block, scrub_environment, uv_cache, uv_program
from benchmarks.common import (
    Contestant,
    Figure,
    counting_started_processes,
    figures,
    table,
    take_turns,
)
from benchmarks.create import BARE_UV, XOSCAR, Ours, Peers
from benchmarks.create import PACKAGES as SMALL
from benchmarks.parity import PACKAGES as MIDDLE
from xinference_venv._util.own_process import collect_cycles_seldom
from xinference_venv.client import Client, local_client
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.service.bytecode_compiler import BytecodeCompiler
from xinference_venv.settings import ALLOWED_ROOTS_VARIABLE, ViewKind
from xinference_venv.store.envs.inspect import inspect_env, site_packages_of

ROUNDS = 5
FIRST_ROUNDS = 3
_POPULAR = Path(__file__).with_name("popular.txt")
_LARGE = (
    *("torch==2.13.0", "sentence-transformers", "accelerate", "peft", "datasets", "onnxruntime"),
    *("ray[default]", "mlflow", "streamlit", "dask", "bokeh", "opencv-python-headless"),
    *("google-cloud-aiplatform", "azure-mgmt-compute", "azure-mgmt-network"),
)
_TMPFS = Path("/dev/shm")
_HOME = "XINFERENCE_HOME"


def _popular() -> list[str]:
    lines = _POPULAR.read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageSet:
    """What is installed, and what ours may take, in parts of what bare uv takes."""

    name: str
    packages: Sequence[str]
    composed: float
    first: float


SETS = (
    PackageSet(name="small", packages=SMALL, composed=1 / 2, first=1.1),
    PackageSet(name="middle", packages=MIDDLE, composed=1 / 5, first=1.1),
    PackageSet(name="large", packages=(*MIDDLE, *_popular(), *_LARGE), composed=0.1, first=1.3),
)


def main(arguments: Sequence[str]) -> int:
    """Run all sets in all folders and print the tables."""
    options = _parser().parse_args(arguments)
    # As a worker that has a process of its own.
    collect_cycles_seldom()
    gc.freeze()
    cache = uv_cache()
    folders = options.folder or [str(cache.parent), *([str(_TMPFS)] if _TMPFS.is_dir() else [])]
    report = {}
    print(
        f"CPython {platform.python_version()}, {os.cpu_count()} processors, uv {version('uv')},"
        f" xoscar {version('xoscar')}; medians in milliseconds; processor times are of a process"
        " and its children; packages, ranges and processor times are ours / peer's"
    )
    for folder in map(Path, folders):
        with ExitStack() as stack:
            made = tempfile.TemporaryDirectory(prefix="benchmark-", dir=folder)
            scratch = stack.enter_context(made)
            shared = cache.stat().st_dev == folder.stat().st_dev
            scrub_environment(cache if shared else Path(scratch, "cache"))
            stack.enter_context(counting_started_processes(Path(scratch)))
            for each in SETS:
                if each.name in (options.set or [one.name for one in SETS]):
                    measuring = _Measuring(
                        folder=Path(scratch, each.name),
                        contents=each,
                        index_url=options.index_url,
                        rounds=options.rounds,
                    )
                    rows = asyncio.run(measuring.run())
                    report[f"{folder}, {each.name}"] = [row.to_dict() for row in rows]
                    print(f"\n{folder}, {each.name}: {measuring.described}\n\n{table(rows)}")
                    sys.stdout.flush()
    if options.json is not None:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 0


@dataclass(kw_only=True)
class _Measuring:
    """One set in one folder; `described` says afterwards how large it is."""

    folder: Path
    contents: PackageSet
    index_url: str | None
    rounds: int
    described: str = ""
    _homes: int = 0
    _made: list[Path] = field(default_factory=list)

    async def run(self) -> list[Figure]:
        """The figures of all cases; the folder is removed afterwards by whoever made it."""
        self.folder.mkdir(parents=True)
        os.environ.pop("UV_OFFLINE", None)
        block = model_block(_pins(self.contents.packages, self.index_url, self.folder), None)
        block = replace(block, index_url=self.index_url or block.index_url)
        # Compiling in the background takes its turn when nothing else does.
        with mock.patch.object(BytecodeCompiler, "start"):
            async with AsyncExitStack() as stack:
                print(f"{self.contents.name}: filling uv's cache", file=sys.stderr)
                filling = _Home(folder=self.folder / "home-0", block=block)
                lock = await filling.lock()
                self._homes = 1
                peers = Peers(folder=self.folder, block=block, skip_installed=False)
                pins = [f"{name}=={version}" for name, version in lock.installed.items()]
                peers.by_bare_uv(self.folder / "filling", pins, "--no-deps")
                sizes = _file_sizes(self.folder / "filling")
                self.described = f"{len(pins)} packages, {len(sizes)} files"
                os.environ["UV_OFFLINE"] = "1"
                first = await self._first(peers, pins, lock)
                ours = await stack.enter_async_context(_Home(folder=self._home(), block=block))
                await ours.launch(lock, "filling")
                composed = await self._composed(ours, peers, pins, lock)
                rows = [*first, *composed]
                if self._has_room(sum(sizes)):
                    rows += await self._files(ours, peers, pins, lock)
                rows += await self._verified(ours)
                rows += await self._removed(ours)
        return rows

    def _has_room(self, size: int) -> bool:
        """Whether the disk takes the copies of `size` bytes that stay until all is measured."""
        copies = min(self.rounds, FIRST_ROUNDS) + 2
        free = shutil.disk_usage(self.folder).free
        if free > copies * size:
            return True
        print(
            f"{self.contents.name}: without files of its own, since {copies} copies of"
            f" {size >> 20} MiB do not fit into the {free >> 20} MiB that are free",
            file=sys.stderr,
        )
        return False

    def _home(self) -> Path:
        self._homes += 1
        return self.folder / f"home-{self._homes}"

    async def _first(self, peers: Peers, pins: Sequence[str], lock: EnvLock) -> list[Figure]:
        """Nothing is in the store, all is in uv's cache."""
        print(f"{self.contents.name}: first build", file=sys.stderr)
        open_home: list[tuple[AsyncExitStack, _Home]] = []

        async def renew() -> None:
            """Start a worker with an empty home."""
            await close()
            stack = AsyncExitStack()
            home = _Home(folder=self._home(), block=peers.block)
            open_home.append((stack, await stack.enter_async_context(home)))

        async def close() -> None:
            while open_home:
                stack, _ = open_home.pop()
                await stack.aclose()

        try:
            await renew()
            timings = await take_turns(
                [
                    Contestant(
                        name="ours", run=lambda: open_home[0][1].launch(lock, "first"), clear=renew
                    ),
                    _by_bare_uv(peers, pins),
                ],
                rounds=min(self.rounds, FIRST_ROUNDS),
            )
        finally:
            # A worker that is left to the loop's end ends with tracebacks of its generators.
            await close()
        return figures("first build", timings, {BARE_UV: self.contents.first})

    async def _composed(
        self, ours: _Home, peers: Peers, pins: Sequence[str], lock: EnvLock
    ) -> list[Figure]:
        """The packages are in the store."""
        print(f"{self.contents.name}: new environments", file=sys.stderr)
        locks = iter(_smaller_locks(lock, self.rounds + 1))

        async def launch() -> Path:
            env = await ours.launch(next(locks), uuid.uuid4().hex)
            self._made.append(env)
            return env

        place = peers.folder / "by-xoscar"
        timings = await take_turns(
            [
                Contestant(name="ours", run=launch, clear=_nothing),
                _by_bare_uv(peers, pins),
                Contestant(
                    name=XOSCAR,
                    run=lambda: asyncio.to_thread(
                        peers.by_xoscar, place / uuid.uuid4().hex, list(pins)
                    ),
                    clear=_nothing,
                ),
            ],
            rounds=self.rounds,
        )
        return figures("packages in the store", timings, {BARE_UV: self.contents.composed})

    async def _files(
        self, ours: _Home, peers: Peers, pins: Sequence[str], lock: EnvLock
    ) -> list[Figure]:
        """Packages in the store, and an environment with files of its own."""
        print(f"{self.contents.name}: files of its own", file=sys.stderr)
        timings = await take_turns(
            [
                Contestant(
                    name="ours",
                    run=lambda: ours.launch(lock, uuid.uuid4().hex, ViewKind.FILES),
                    clear=ours.remove_files,
                ),
                _by_bare_uv(peers, pins),
                _by_bare_uv(peers, pins, "--link-mode", "copy"),
            ],
            rounds=min(self.rounds, FIRST_ROUNDS),
        )
        return figures("files of its own", timings, {BARE_UV: 1.0})

    async def _verified(self, ours: _Home) -> list[Figure]:
        """All environments of a round, contents compared: ours share their trees."""
        print(f"{self.contents.name}: verification", file=sys.stderr)
        real = sorted((self.folder / "new").iterdir())[: self.rounds]

        async def by_us() -> Path:
            await ours.client.worker.verify_virtual_env(Selection(), hashes=True)
            return self._made[0]

        def hash_all() -> Path:
            for env in real:
                inspect_env(env, site_packages_of(env), hashes=True)
            return real[0]

        timings = await take_turns(
            [
                Contestant(name="ours", run=by_us, clear=_nothing),
                Contestant(
                    name="RECORDs of each", run=lambda: asyncio.to_thread(hash_all), clear=_nothing
                ),
            ],
            rounds=1,
        )
        return figures(f"verification of {len(real)}", timings, {})

    async def _removed(self, ours: _Home) -> list[Figure]:
        print(f"{self.contents.name}: removal", file=sys.stderr)
        await ours.release()
        models = iter([each.key.model_name for each in await ours.client.entries()])
        real = iter(sorted((self.folder / "new").iterdir()))
        anything = self.folder

        async def by_us() -> Path:
            await ours.client.worker.remove_virtual_env(Selection(model_name=next(models)))
            return anything

        def remove() -> Path:
            shutil.rmtree(next(real))
            return anything

        timings = await take_turns(
            [
                Contestant(name="ours", run=by_us, clear=_nothing),
                Contestant(name="rmtree", run=lambda: asyncio.to_thread(remove), clear=_nothing),
            ],
            rounds=self.rounds,
        )
        return figures("removal", timings, {})


@dataclass(kw_only=True)
class _Home:
    """A worker of ours with a home of its own, while it is entered."""

    folder: Path
    block: ModelVirtualEnv
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _client: Client | None = None

    async def __aenter__(self) -> _Home:
        environ = {
            **os.environ,
            _HOME: str(self.folder),
            "XINFERENCE_VIRTUAL_ENV_INHERIT": "none",
            ALLOWED_ROOTS_VARIABLE: "/",
        }
        self._client = await self._stack.enter_async_context(local_client(environ))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def client(self) -> Client:
        """The client of its actors."""
        assert self._client is not None
        return self._client

    async def lock(self) -> EnvLock:
        """The lock of the set; the home is entered for it."""
        async with self:
            return await self._ours("filling").lock()

    async def launch(self, lock: EnvLock, model: str, view: ViewKind = ViewKind.LINKS) -> Path:
        """Prepare an environment from a lock, as a launch pipeline does."""
        return await self._ours(model, view).launch(lock)

    async def remove_files(self) -> None:
        """Remove the environments with files of their own, whose lock gives but one."""
        for entry in await self.client.entries():
            record = self.folder / "virtualenv" / "store" / "envs" / str(entry.env_id)
            if not (record / "view").exists():
                for lease in entry.leases:
                    await self.client.worker.release_lease(lease.env_id, lease.lease_id)
                await self.client.worker.remove_virtual_env(
                    Selection(model_name=entry.key.model_name)
                )

    async def release(self) -> None:
        """Give back all leases, as ended models do."""
        for entry in await self.client.entries():
            for lease in entry.leases:
                await self.client.worker.release_lease(lease.env_id, lease.lease_id)

    def _ours(self, model: str, view: ViewKind = ViewKind.LINKS) -> Ours:
        request = LaunchRequest(model_name=model, virtualenv=self.block, view=view)
        return Ours(client=self.client, request=request)


def _file_sizes(folder: Path) -> list[int]:
    walk = os.walk(folder)
    return [Path(place, name).lstat().st_size for place, _, names in walk for name in names]


async def _nothing() -> None:
    """It stays until all is measured."""


def _by_bare_uv(peers: Peers, pins: Sequence[str], *more: str) -> Contestant:
    place = peers.folder / "new"
    flags = ("--offline", "--no-deps", *more)
    run: Callable[[], Awaitable[Path]] = lambda: asyncio.to_thread(  # noqa: E731
        peers.by_bare_uv, place / uuid.uuid4().hex, pins, *flags
    )
    return Contestant(name=" ".join((BARE_UV, *more)), run=run, clear=_nothing)


def _smaller_locks(lock: EnvLock, count: int) -> list[EnvLock]:
    """As many locks, each of which lacks another one of the smallest packages."""
    sizes = lock.sizes
    names = sorted(lock.installed, key=lambda name: (sizes.get(name, 0), name))
    return [
        replace(
            lock,
            packages=tuple(each for each in lock.packages if each["name"] != name),
            distributions=tuple(each for each in lock.distributions if each.name != name),
        )
        for name in names[:count]
    ]


def _pins(packages: Sequence[str], index_url: str | None, folder: Path) -> list[str]:
    """What uv resolves packages to, wheels only."""
    asked, locked = folder / "asked.txt", folder / "locked.txt"
    # Without it no model process starts, so ours would add it.
    asked.write_text("\n".join([*packages, f"xoscar=={version('xoscar')}"]), "utf-8")
    block = model_block((), index_url)
    links = [flag for place in block.find_links for flag in ("--find-links", place)]
    index = [] if index_url is None else ["--default-index", index_url]
    command = [uv_program(), "pip", "compile", "--quiet", "--only-binary", ":all:", *links, *index]
    plain = ["--no-header", "--no-annotate", "--python", str(base_python())]
    done = subprocess.run(
        [*command, *plain, str(asked), "--output-file", str(locked)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return [line for line in locked.read_text("utf-8").splitlines() if line.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compose", description=__doc__)
    names = [each.name for each in SETS]
    parser.add_argument("--set", action="append", choices=names, help="by default all of them")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed rounds of each case")
    parser.add_argument("--folder", action="append", help="where to make environments")
    parser.add_argument("--json", metavar="FILE", help="write every time to a file")
    parser.add_argument("--index-url", help="the only index, instead of pip's configuration")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
