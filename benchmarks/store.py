"""How long a store of a thousand environments takes to list, to sweep, to weigh and to empty.

    python -m benchmarks.store [--environments N] [--files N] [--rounds N] [--json FILE]

Environments are made on disk as a build leaves them, but with small files instead of packages.
Listing is compared with two peers, in turns: what Xinference lists, which are names and paths
alone, and the same with a size for each environment, for which its tree has to be walked. The
system has all in memory; cold is a process that has not listed before. Nothing fails because it
took long.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import xoscar as xo

from benchmarks.common import aligned
from xinference_venv.actors.rpc import WORKER_UID
from xinference_venv.actors.wire_key import ensure_key
from xinference_venv.client import local_client
from xinference_venv.inventory.env import EnvRecord, KeyRecord
from xinference_venv.inventory.selection import EVERY, Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import EnvLock
from xinference_venv.settings import InheritMode
from xinference_venv.store.disk_usage import measure, usages_of
from xinference_venv.store.listing import entries_of
from xinference_venv.store.paths import LOCK_NAME, RECORD_NAME
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.stat_cache import SETTLED_NANOSECONDS
from xinference_venv.store.store import Store, interpreter_facts
from xinference_venv.store.sweep import sweep

ENVIRONMENTS = 1000
FILES = 40
ROUNDS = 20
LISTINGS = 100
REMOVALS = 10
LISTING_MILLISECONDS = 50.0
_FILE_BYTES = 500

Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What something took, in milliseconds a round; `limit` is what the median must not exceed."""

    case: str
    milliseconds: tuple[float, ...]
    limit: float | None = None

    @property
    def median(self) -> float:
        """The middle of the rounds, in milliseconds."""
        return median(self.milliseconds)

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        shown = f"{min(self.milliseconds):.1f}-{max(self.milliseconds):.1f}"
        if self.limit is None:
            return (self.case, f"{self.median:.1f}", shown, "", "no target")
        verdict = "met" if self.median < self.limit else "MISSED"
        return (self.case, f"{self.median:.1f}", shown, f"< {self.limit:g}", verdict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "case": self.case,
            "median_ms": self.median,
            "milliseconds": list(self.milliseconds),
            "limit": self.limit,
        }


def main(arguments: Sequence[str]) -> int:
    """Run all cases and print the table."""
    options = _parser().parse_args(arguments)
    if options.serve:
        asyncio.run(_serve())
        return 0
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        home = Path(scratch, "home")
        print(f"making {options.environments} environments", file=sys.stderr)
        store = Store.open(home / "virtualenv")
        fill(store, options.environments, options.files)
        # What has just changed is not remembered yet.
        time.sleep(SETTLED_NANOSECONDS / 1e9)
        ensure_key()
        environ = {**os.environ, "XINFERENCE_HOME": str(home), "XOSCAR_DIR": scratch}
        rows, memory = asyncio.run(_measure(store, environ, options.rounds))
    head = ("what", "median", "range", "target", "")
    print(
        f"CPython {platform.python_version()}, {os.cpu_count()} processors;"
        f" {options.environments} environments with {options.files} files each; milliseconds,"
        f" {options.rounds} rounds of listing\n\n{aligned(head, [row.cells for row in rows])}\n\n"
        + "\n".join(f"{name}: {kibibytes:.0f} KiB" for name, kibibytes in memory.items())
    )
    if options.json is not None:
        report = {
            "environments": options.environments,
            "files": options.files,
            "rows": [row.to_dict() for row in rows],
            "memory_kib": memory,
        }
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 0


def fill(store: Store, count: int, files: int) -> None:
    """Environments as a build leaves them, each with a key of its own and so many small files."""
    lock = EnvLock(
        packages=(),
        distributions=(),
        python_version=platform.python_version(),
        platform_digest="benchmark",
        inherit=InheritMode.NONE,
        host_digest=None,
        spec_digest="benchmark",
        uv_version="none",
    )
    python = os.path.realpath(sys.executable)
    record = EnvRecord.of(
        lock,
        size_bytes=files * _FILE_BYTES,
        files=files,
        created=time.time(),
        interpreter=interpreter_facts(python),
    )
    for number in range(count):
        env_id = f"{number:032x}"
        env = store.layout.env(env_id)
        packages = env / "lib" / "python3" / "site-packages"
        for folder in (env / "bin", packages):
            store.disk.make_directory(folder)
        (env / "bin" / "python").symlink_to(python)
        for file in range(files):
            (packages / f"module_{file}.py").write_bytes(b"#" * _FILE_BYTES)
        store.disk.write_json(env / LOCK_NAME, lock.to_dict(), durable=False)
        made = replace(record, env_id=env_id).to_dict()
        store.disk.write_json(env / RECORD_NAME, made, durable=False)
        key = EnvKey(model_name=f"model-{number}", model_engine="vllm", python_version="3.11")
        store.point_key(
            KeyRecord(
                key=key,
                env_id=env_id,
                spec_digest="benchmark",
                host_fingerprint="benchmark",
                created=time.time(),
                last_used=time.time(),
            )
        )


# The peers


def names_and_paths(root: Path) -> list[dict[str, str]]:
    """What Xinference lists: the folders of models, engines and versions, and where they lead."""
    found = []
    for model in os.scandir(root / "v4"):
        for engine in os.scandir(model.path):
            for version in os.scandir(engine.path):
                if version.is_dir():
                    found.append(
                        {
                            "model_name": model.name,
                            "model_engine": engine.name,
                            "python_version": version.name,
                            "path": version.path,
                            "real_path": os.path.realpath(version.path),
                        }
                    )
    return found


def with_sizes(root: Path) -> list[dict[str, Any]]:
    """The same with the size of each environment, summed over its tree."""
    return [{**each, "size": _tree_size(each["real_path"])} for each in names_and_paths(root)]


def _tree_size(root: str) -> int:
    return sum(
        os.lstat(os.path.join(folder, name)).st_size
        for folder, _, names in os.walk(root)
        for name in names
    )


# The cases


async def _measure(
    store: Store, environ: Mapping[str, str], rounds: int
) -> tuple[list[Row], dict[str, float]]:
    root = store.layout.root
    _, env_id = next(store.links())
    async with local_client(environ) as client:
        worker = client.worker
        print("listing", file=sys.stderr)
        async with _worker_elsewhere(environ) as elsewhere:
            rows = await _take_turns(
                {
                    "listing, warm": lambda: worker.list_virtual_envs(EVERY),
                    "listing, warm, worker in another process": lambda: elsewhere.list_virtual_envs(
                        EVERY
                    ),
                    "listing, cold": lambda: _listed_cold(root),
                    "peer: names and paths": lambda: asyncio.to_thread(names_and_paths, root),
                    "peer: with a size for each": lambda: asyncio.to_thread(with_sizes, root),
                },
                rounds,
                {"listing, warm": LISTING_MILLISECONDS},
            )
        memory = await _memory_of(lambda: worker.list_virtual_envs(EVERY))
        print("sweeping, weighing, removing", file=sys.stderr)
        rows += await _take_turns(
            {
                "start-up sweep": lambda: asyncio.to_thread(sweep, store),
                "sizes of all": lambda: asyncio.to_thread(
                    measure, store, usages_of(store, ()), lambda: False
                ),
                "a lease taken and given back": lambda: asyncio.to_thread(_lease, store, env_id),
            },
            max(1, rounds // 4),
            {},
        )
        models = [key.model_name for key, _ in store.links()][:REMOVALS]
        rows.append(await _removal("removal of one", worker, models))
        rows.append(await _removal("removal of all others at once", worker, [None]))
    return rows, memory


async def _take_turns(
    cases: Mapping[str, Work], rounds: int, limits: Mapping[str, float]
) -> list[Row]:
    """Do each once a round, in turns, after a round that warms all of them up."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, work in cases.items():
            elapsed = await _timed(work)
            if number:
                times[name].append(elapsed)
    return [
        Row(case=name, milliseconds=tuple(taken), limit=limits.get(name))
        for name, taken in times.items()
    ]


async def _timed(work: Work) -> float:
    gc.collect()
    start = time.perf_counter()
    await work()
    return (time.perf_counter() - start) * 1000


async def _listed_cold(root: Path) -> None:
    """What a new process does that lists for the first time, its start apart."""

    def listed() -> None:
        for entry in entries_of(Store.open(root)):
            entry.to_dict()

    await asyncio.to_thread(listed)


async def _removal(case: str, worker: Any, models: Sequence[str | None]) -> Row:
    wanted = [Selection(model_name=model) for model in models]
    taken = [await _timed(partial(worker.remove_virtual_env, each)) for each in wanted]
    return Row(case=case, milliseconds=tuple(taken))


def _lease(store: Store, env_id: str) -> None:
    lease = store.take_lease(env_id, model_name="benchmark", model_uid=None, process=this_process())
    store.leases.release(env_id, lease.lease_id)


async def _memory_of(listing: Work) -> dict[str, float]:
    """What listings leave behind, and what one of them takes at its peak, in KiB."""
    process = psutil.Process()
    for _ in range(10):
        await listing()
    gc.collect()
    resident = process.memory_info().rss
    for _ in range(LISTINGS):
        await listing()
    gc.collect()
    grown = process.memory_info().rss - resident
    tracemalloc.start()
    for _ in range(10):
        await listing()
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(LISTINGS):
        await listing()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    await listing()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        f"resident memory grown over {LISTINGS} listings": grown / 1024,
        f"Python objects grown over {LISTINGS} listings": (after - before) / 1024,
        "a listing at its peak": (peak - after) / 1024,
    }


@asynccontextmanager
async def _worker_elsewhere(environ: Mapping[str, str]) -> AsyncIterator[Any]:
    """A worker of the same home in another process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", __spec__.name, "--serve"),
        env=environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = (await process.stdout.readline()).decode().strip()
        yield await xo.actor_ref(address=address, uid=WORKER_UID)
    finally:
        process.stdin.close()
        await process.wait()


async def _serve() -> None:
    """Be the worker in another process, until standard input ends."""
    async with local_client() as client:
        print(client.worker.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--environments", type=int, default=ENVIRONMENTS)
    parser.add_argument("--files", type=int, default=FILES, help="small files in each")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed rounds of listing")
    parser.add_argument("--json", metavar="FILE", help="write every time to a file")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
