"""What a cluster of many workers costs: asking all of them, launching on them, resolving once.

    python -m benchmarks.cluster [--workers 1,8,32,100] [--dead 0,3] [--rounds N] [--json FILE]
                                 [--package REQUIREMENT]... [--index-url URL]
                                 [--link 1,4,8] [--link-rounds N] [--link-only]

Real workers with homes of their own, several in each of a few processes, on ports of the loopback
address. Of three dead ones the first refuses connections, the second answers none of them (its
packets are lost), the third accepts them and stands still; none sends heartbeats. The peer is a
supervisor as plain xoscar has it: a reference and a call for each worker, all at once, without
probe or deadline. The target: the dead delay nobody by more than one probe. Launches are of four
workers, with real packages from a real index. At last workers launch over one slow link to an
index: see `link`. Nothing fails because it took long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import xoscar as xo

from benchmarks.ambient import model_block, scrub_environment, uv_cache
from benchmarks.common import aligned
from benchmarks.link import (
    MEGABYTES,
    MEGABYTES_A_SECOND,
    WHEELS,
    WORKERS,
    link_table,
    measure_link,
)
from xinference_venv.actors.cluster import create_worker, supervisor_pool
from xinference_venv.actors.rpc import PROBE_SECONDS, WORKER_UID
from xinference_venv.actors.wire_key import ensure_key
from xinference_venv.client import Client
from xinference_venv.inventory.cluster_state import Registration
from xinference_venv.inventory.replicas import Replica
from xinference_venv.inventory.selection import EVERY
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.settings import ALLOWED_ROOTS_VARIABLE

PACKAGES = ("requests", "rich")
ROUNDS = 9
LAUNCHERS = 4
RELAUNCHES = 20
PROCESSES = 4
PLAIN_SECONDS = 10.0
_LOOPBACK = "127.0.0.1"
_MODEL = "benchmark"
# The dead were given up long ago: they should have sent so many of them.
_HEARTBEAT_SECONDS = 0.02
_HEAD = ("workers", "dead", "no-op", "list", "beyond a probe", "list, plain xoscar", "open files")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Asking all workers of a cluster: `plain` is the peer's listing, None if it never came back.

    In milliseconds; `files` are the open files of the supervisor's process afterwards.
    """

    workers: int
    dead: int
    no_op: float
    listing: float
    plain: float | None
    files: int

    @property
    def cells(self) -> tuple[str, ...]:
        """A line of the table."""
        beyond = self.listing - PROBE_SECONDS * 1000 if self.dead else None
        plain = f"> {PLAIN_SECONDS * 1000:.0f}" if self.plain is None else f"{self.plain:.1f}"
        return (
            *(str(self.workers), str(self.dead), f"{self.no_op:.1f}", f"{self.listing:.1f}"),
            *("" if beyond is None else f"{beyond:.1f}", plain, str(self.files)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched:
    """A way to launch: `value` in `unit`, and the uv processes that it took."""

    case: str
    value: float
    unit: str
    uv_calls: int


def main(arguments: Sequence[str]) -> int:
    """Run all cases and print the tables."""
    options = _parser().parse_args(arguments)
    if options.home:
        asyncio.run(_serve(options.home))
        return 0
    if options.link_only:
        ensure_key()
        _print_link(options.link, options.link_rounds)
        return 0
    sizes = [int(each) for each in options.workers.split(",")]
    dead = [int(each) for each in options.dead.split(",")]
    block = model_block(options.package or PACKAGES, options.index_url)
    cache = uv_cache()
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=cache.parent) as scratch:
        scrub_environment(cache)
        ensure_key()
        os.environ[ALLOWED_ROOTS_VARIABLE] = ",".join(
            place for place in block.find_links if place.startswith("/")
        )
        with tempfile.TemporaryDirectory() as sockets:
            os.environ["XOSCAR_DIR"] = sockets
            asked, launched = asyncio.run(
                _all_cases(Path(scratch), block, sizes, dead, options.rounds)
            )
    print(
        f"CPython {platform.python_version()}, {os.cpu_count()} processors, xoscar"
        f" {version('xoscar')}; median of {options.rounds} rounds in milliseconds\n"
    )
    print(aligned(_HEAD, [each.cells for each in asked]))
    print()
    lines = [(each.case, f"{each.value:.1f}", each.unit, str(each.uv_calls)) for each in launched]
    print(aligned(("launch", "value", "unit", "uv processes"), lines))
    print()
    _print_link(options.link, options.link_rounds)
    if options.json is not None:
        report = {"asked": [asdict(each) for each in asked]}
        report["launched"] = [asdict(each) for each in launched]
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 0


def _print_link(workers: str, rounds: int) -> None:
    """What crosses the link to the index, in a table."""
    sizes = [int(each) for each in workers.split(",")]
    rate = MEGABYTES_A_SECOND * 1e6
    with tempfile.TemporaryDirectory() as sockets:
        os.environ["XOSCAR_DIR"] = sockets
        rows = asyncio.run(measure_link(sizes, rate=rate, rounds=rounds))
    print(
        f"{WHEELS} wheels of {MEGABYTES} MB, a link of {MEGABYTES_A_SECOND} MB/s; median of"
        f" {rounds} rounds\n"
    )
    print(link_table(rows))


async def _all_cases(
    scratch: Path, block: ModelVirtualEnv, sizes: Sequence[int], dead: Sequence[int], rounds: int
) -> tuple[list[Asked], list[Launched]]:
    asyncio.get_running_loop().set_exception_handler(_complain)
    async with _workers(scratch, max(*sizes, LAUNCHERS)) as workers:
        print("launching", file=sys.stderr)
        launched = await _launching(workers[:LAUNCHERS], block, rounds)
        asked = []
        # What the peer leaves behind when it meets the dead must not meet ours.
        for with_dead in sorted(dead):
            for size in sizes:
                print(f"asking {size} workers, {with_dead} dead", file=sys.stderr)
                with _dead(with_dead) as silent:
                    asked.append(await _asking(workers[:size], silent, rounds))
        for place, each in enumerate(asked):
            if each.dead:
                with _dead(each.dead) as silent:
                    plain = await _plainly([*workers[: each.workers], *silent])
                asked[place] = replace(each, plain=plain)
        return asked, launched


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """That a worker closed its connections is no news, nor how xoscar trips over that."""
    if not isinstance(context.get("exception"), (xo.ServerClosed, asyncio.InvalidStateError)):
        loop.default_exception_handler(context)


# Asking


async def _asking(
    workers: Sequence[Registration], dead: Sequence[Registration], rounds: int
) -> Asked:
    """The listing of the living ones beside the dead, in turns with the peer if there are none."""
    members = [*workers, *dead]
    async with _supervisor(members) as supervisor:
        times: list[list[float]] = [[], [], []]
        for number in range(rounds + 1):
            no_op = await _milliseconds(supervisor.list_jobs)
            listing = await _milliseconds(lambda: supervisor.list_virtual_envs(EVERY))
            plain = 0.0 if dead else await _milliseconds(lambda: _listed_plainly(members))
            if number:
                for each, taken in zip(times, (no_op, listing, plain), strict=True):
                    each.append(taken)
        answer = await supervisor.list_virtual_envs(EVERY)
        named = sorted(each.status.worker_address for each in answer.unreachable)
        assert named == sorted(each.address for each in dead)
        no_op, listing, plain = map(median, times)
        return Asked(
            workers=len(workers),
            dead=len(dead),
            no_op=no_op,
            listing=listing,
            plain=None if dead else plain,
            files=psutil.Process().num_fds(),
        )


async def _plainly(members: Sequence[Registration]) -> float | None:
    """The peer's listing, once, in milliseconds; None when it did not come back in time."""
    start = time.perf_counter()
    task = asyncio.create_task(_listed_plainly(members))
    done, _ = await asyncio.wait([task], timeout=PLAIN_SECONDS)
    task.cancel()
    return (time.perf_counter() - start) * 1000 if done else None


async def _listed_plainly(members: Sequence[Registration]) -> list[Any]:
    async def ask(address: str) -> Any:
        worker = await xo.actor_ref(address=address, uid=WORKER_UID)
        return await worker.list_virtual_envs()

    return await asyncio.gather(*(ask(each.address) for each in members), return_exceptions=True)


async def _milliseconds(work: Callable[[], Awaitable[object]]) -> float:
    start = time.perf_counter()
    await work()
    return (time.perf_counter() - start) * 1000


# Launching


async def _launching(
    workers: Sequence[Registration], block: ModelVirtualEnv, rounds: int
) -> list[Launched]:
    request = LaunchRequest(model_name=_MODEL, virtualenv=block)
    anew = replace(request, refresh=True)
    addresses = [each.address for each in workers]
    async with _supervisor(workers) as supervisor:
        client = Client(supervisor=supervisor)

        async def launch(wanted: LaunchRequest, *where: str) -> int:
            replicas = await client.prepare_on(wanted, workers=where)
            await _release(supervisor, replicas)
            return sum(each.result.uv_calls for each in replicas if each.result is not None)

        async def apart(wanted: LaunchRequest) -> int:
            return sum(await asyncio.gather(*(launch(wanted, each) for each in addresses)))

        await launch(request, *addresses)
        times: dict[str, list[float]] = {}
        calls: dict[str, int] = {}
        ways: dict[str, Callable[[], Awaitable[int]]] = {
            "resolved once for four": lambda: launch(anew, *addresses),
            "each for itself": lambda: apart(anew),
            "ready, one after the other": lambda: _repeated(lambda: launch(request, addresses[0])),
            "ready, on four at once": lambda: apart(request),
        }
        for number in range(rounds + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                calls[name] = await way()
                if number:
                    times.setdefault(name, []).append(time.perf_counter() - start)
    seconds = {name: median(taken) for name, taken in times.items()}
    made = {"ready, one after the other": RELAUNCHES, "ready, on four at once": LAUNCHERS}
    return [
        Launched(
            case=name,
            value=made[name] / taken if name in made else taken * 1000,
            unit="launches/s" if name in made else "ms",
            uv_calls=calls[name],
        )
        for name, taken in seconds.items()
    ]


async def _repeated(launch: Callable[[], Awaitable[int]]) -> int:
    return sum([await launch() for _ in range(RELAUNCHES)])


async def _release(supervisor: Any, replicas: Sequence[Replica]) -> None:
    """Give the leases back, as ended models do."""
    for each in replicas:
        assert each.result is not None
        env_id, lease_id = each.result.env_id, each.result.lease_id
        await supervisor.release_lease(each.worker_address, env_id, lease_id)


# The cluster


@asynccontextmanager
async def _supervisor(members: Sequence[Registration]) -> AsyncIterator[Any]:
    """A supervisor in this process that knows these workers."""
    async with supervisor_pool(f"{_LOOPBACK}:0") as supervisor:
        for each in members:
            await supervisor.register_worker(each)
        await asyncio.sleep(20 * _HEARTBEAT_SECONDS)
        yield supervisor


@asynccontextmanager
async def _workers(scratch: Path, count: int) -> AsyncIterator[list[Registration]]:
    """So many workers in a few processes; they send no heartbeats, and are alive all the same."""
    homes = [scratch / f"home-{number}" for number in range(count)]
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(_process(homes[place::PROCESSES]))
            for place in range(min(PROCESSES, count))
        ]
        # Neighbours in the list live in different processes.
        lists = [await _registrations(each) for each in processes]
        yield [each[place] for place in range(len(lists[0])) for each in lists if place < len(each)]


@asynccontextmanager
async def _process(homes: Sequence[Path]) -> AsyncIterator[asyncio.subprocess.Process]:
    named = [word for home in homes for word in ("--home", str(home))]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.cluster", *named),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def _registrations(process: asyncio.subprocess.Process) -> list[Registration]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    return [Registration.from_dict(each) for each in json.loads(line)]


async def _serve(homes: Sequence[str]) -> None:
    """Run workers with these homes until standard input ends; prints how they register."""
    said = []
    pools = []
    for home in homes:
        pool = await xo.create_actor_pool(address=_LOOPBACK, n_process=0, auto_recover=False)
        environ = {**os.environ, "XINFERENCE_HOME": home}
        worker = await create_worker(pool.external_address, environ)
        pools.append((pool, worker))
        said.append(await worker.registration(heartbeat=None))
    print(json.dumps(said), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for pool, worker in pools:
        await worker.stop()
        await xo.destroy_actor(worker)
        await pool.stop()


@contextmanager
def _dead(count: int) -> Iterator[list[Registration]]:
    """So many workers that are gone, each in another way."""
    ways = (_refusing, _black_hole, _standing_still)
    with ExitStack() as stack:
        yield [
            Registration(
                address=f"{_LOOPBACK}:{stack.enter_context(ways[number % len(ways)]())}",
                incarnation="gone",
                started=0.0,
                protocol=1,
                release=version("xinference_venv"),
                host_name="gone",
                heartbeat=_HEARTBEAT_SECONDS,
            )
            for number in range(count)
        ]


@contextmanager
def _refusing() -> Iterator[int]:
    """A port that nobody listens at."""
    with socket.socket() as bound:
        bound.bind((_LOOPBACK, 0))
        yield bound.getsockname()[1]


@contextmanager
def _black_hole() -> Iterator[int]:
    """A port that no connection to is answered: its queue is full, and stays so."""
    with socket.socket() as listening, ExitStack() as stack:
        listening.bind((_LOOPBACK, 0))
        listening.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@contextmanager
def _standing_still() -> Iterator[int]:
    """A port whose process was stopped: the system accepts, nobody reads."""
    with socket.create_server((_LOOPBACK, 0), backlog=1000) as listening:
        yield listening.getsockname()[1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--workers", default="1,8,32,100", help="sizes, separated by commas")
    parser.add_argument("--dead", default="0,3", help="how many more are dead, likewise")
    parser.add_argument("--link", default=WORKERS, help="sizes that download over one link")
    parser.add_argument("--link-rounds", type=int, default=3, help="rounds of these downloads")
    parser.add_argument("--link-only", action="store_true", help="nothing but these downloads")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed rounds of each case")
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file")
    parser.add_argument("--package", action="append", help="instead of the default ones")
    parser.add_argument("--index-url", help="instead of the index of pip's configuration")
    parser.add_argument("--home", action="append", default=[], help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
