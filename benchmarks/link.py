"""What crosses the link to the index when workers launch the same: with the relay and without.

Comes in: numbers of workers, and the link's rate. Comes out: the bytes that crossed it and the
time, beside bare uv that installs for each worker by itself. The index is one of this process,
behind a link that lets so many bytes a second through, for all together.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import xoscar as xo

from benchmarks.common import aligned
from tests.index import Index
from tests.wheels import build_wheel
from xinference_venv.actors.cluster import create_worker, supervisor_pool
from xinference_venv.client import Client
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.uv.program import find_uv

WORKERS = "1,4,8"
MEGABYTES_A_SECOND = 2
WHEELS = 4
MEGABYTES = 5
_PROCESSES = 4
_BLOCK = 1 << 16
_LOOPBACK = "127.0.0.1"
_WAYS = ("relay on", "relay off", "bare uv")
_HEAD = ("workers", *(f"{way}, MB" for way in _WAYS), *(f"{way}, s" for way in _WAYS))


@dataclass(kw_only=True)
class Link:
    """Forwards connections to an index, at `rate` bytes a second for all; counts what it gave."""

    index: str
    rate: float
    carried: int = 0
    _free: float = 0.0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        """The URL of the index behind the link."""
        server = await asyncio.start_server(self._serve, _LOOPBACK, 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://{_LOOPBACK}:{port}{urlsplit(self.index).path}"
        finally:
            server.close()
            for each in list(self._tasks):
                each.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        parts = urlsplit(self.index)
        there, answering = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            # The streams of CPython 3.11 report a handler that was cancelled.
            with suppress(asyncio.CancelledError):
                await asyncio.gather(
                    _copy(reader, answering), self._give(there, writer), return_exceptions=True
                )
        finally:
            writer.close()
            answering.close()

    async def _give(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await there.read(_BLOCK):
            now = time.monotonic()
            self._free = max(now, self._free) + len(block) / self.rate
            await asyncio.sleep(self._free - now)
            self.carried += len(block)
            writer.write(block)
            await writer.drain()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(_BLOCK):
        writer.write(block)
        await writer.drain()
    writer.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Carried:
    """One number of workers: for each way, the bytes over the link and the seconds, medians."""

    workers: int
    carried: dict[str, float]
    seconds: dict[str, float]

    @property
    def cells(self) -> tuple[str, ...]:
        """A line of the table."""
        megabytes = (f"{self.carried[way] / 1e6:.1f}" for way in _WAYS)
        return (str(self.workers), *megabytes, *(f"{self.seconds[way]:.1f}" for way in _WAYS))


def link_table(rows: Sequence[Carried]) -> str:
    """A Markdown table."""
    return aligned(_HEAD, [each.cells for each in rows])


async def measure_link(sizes: Sequence[int], *, rate: float, rounds: int) -> list[Carried]:
    """Let each way install the same for so many workers, in turns, each with empty caches."""
    with tempfile.TemporaryDirectory() as scratch:
        names = [f"large{number}" for number in range(WHEELS)]
        for name in names:
            data = {f"{name}.bin": os.urandom(MEGABYTES * 1_000_000)}
            build_wheel(Path(scratch), name, "1.0", data=data)
        with Index(Path(scratch)) as index:
            link = Link(index=index.url, rate=rate)
            async with link.opened() as url:
                return [await _measured(link, url, names, size, rounds) for size in sizes]


async def _measured(link: Link, url: str, names: Sequence[str], size: int, rounds: int) -> Carried:
    carried: dict[str, list[int]] = {way: [] for way in _WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in _WAYS}
    for _ in range(rounds):
        for way in _WAYS:
            print(f"{size} workers, {way}", file=sys.stderr)
            with tempfile.TemporaryDirectory() as scratch:
                before = link.carried
                if way == "bare uv":
                    took = await _bare(Path(scratch), url, names, size)
                else:
                    mode = way.rpartition(" ")[2]
                    took = await _launched(Path(scratch), url, names, size, mode)
                carried[way].append(link.carried - before)
                seconds[way].append(took)
    return Carried(
        workers=size,
        carried={way: median(each) for way, each in carried.items()},
        seconds={way: median(each) for way, each in seconds.items()},
    )


async def _bare(scratch: Path, url: str, names: Sequence[str], size: int) -> float:
    """Uv as each host would run it, all at once."""
    uv = find_uv(None)

    async def install(number: int) -> None:
        place = scratch / str(number)
        flags = ("--no-config", "--quiet", "--cache-dir", str(place / "cache"))
        for words in (
            ("venv", str(place / "venv"), "--python", sys.executable),
            ("pip", "install", "--python", str(place / "venv"), "--default-index", url, *names),
        ):
            process = await asyncio.create_subprocess_exec(uv, *words, *flags)
            assert await process.wait() == 0

    start = time.perf_counter()
    await asyncio.gather(*map(install, range(size)))
    return time.perf_counter() - start


async def _launched(scratch: Path, url: str, names: Sequence[str], size: int, mode: str) -> float:
    """A launch on workers with empty homes and caches."""
    block = {"packages": list(names), "index_strategy": "first-index"}
    request = LaunchRequest.from_dict({"model_name": "benchmark", "virtualenv": block})
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(supervisor_pool(f"{_LOOPBACK}:0"))
        homes = [str(scratch / f"home-{number}") for number in range(size)]
        variables = {"XINFERENCE_VIRTUAL_ENV_RELAY": mode, "PIP_INDEX_URL": url}
        for place in range(min(_PROCESSES, size)):
            await stack.enter_async_context(
                _process(supervisor.address, homes[place::_PROCESSES], variables)
            )
        client = Client(supervisor=supervisor)
        start = time.perf_counter()
        replicas = await client.prepare_on(request, everywhere=True)
        took = time.perf_counter() - start
        assert len(replicas) == size
        return took


@asynccontextmanager
async def _process(
    supervisor: str, homes: Sequence[str], variables: dict[str, str]
) -> AsyncIterator[None]:
    """Several workers in one process, once they have joined."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.link", supervisor, *homes),
        env={**os.environ, **variables, "PIP_CONFIG_FILE": os.devnull},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        assert json.loads(await process.stdout.readline()) == len(homes)
        yield
    finally:
        process.stdin.close()
        await process.wait()


async def _serve(supervisor: str, homes: Sequence[str]) -> None:
    """Run workers with these homes until standard input ends."""
    running = []
    for home in homes:
        pool = await xo.create_actor_pool(address=_LOOPBACK, n_process=0, auto_recover=False)
        environ = {**os.environ, "XINFERENCE_HOME": home, "UV_CACHE_DIR": f"{home}-cache"}
        worker = await create_worker(pool.external_address, environ, supervisor=supervisor)
        running.append((pool, worker))
    print(len(homes), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for pool, worker in running:
        await worker.stop()
        await xo.destroy_actor(worker)
        await pool.stop()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2:]))
