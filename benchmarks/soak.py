"""What grows in a server that works for a long time: memory, descriptors, threads, files.

    python -m benchmarks.soak [--minutes 60] [--clients 3]

It starts `xinference-venv web` over an index of its own, and clients that launch, relaunch, cancel,
follow, list, verify, remove and collect, badly now and then. The figures are those of the server
after a first minute, each minute, and at the end when all of its work has ended.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.common import aligned
from tests.index import Index
from tests.wheels import build_wheel

_PACKAGES = 30
_MODELS = 40
_LAST = ("ready", "failed", "cancelled")
_WARM_SECONDS = 60.0
_SAMPLE_SECONDS = 60.0
_HEAD = ("", "MiB", "descriptors", "threads", "children", "files in the home", "temporary files")


def main(arguments: Sequence[str]) -> int:
    """Soak a server and print what it holds in the course of time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long; an hour by default")
    parser.add_argument("--clients", type=int, default=3, help="how many ask at once")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, _server(Path(folder)) as server:
        table = _soak(server, 60.0 * options.minutes, options.clients)
        print(f"{aligned(_HEAD, table)}\n\n{server.counted()}")
        # What it logged at all is of interest: it shall be little.
        print(f"lines in the server's log: {len(server.log.read_text().splitlines())}")
    return 0


@dataclass(kw_only=True)
class _Server:
    """The server under test, and what its clients did."""

    process: psutil.Process
    url: str
    index: str
    home: Path
    temporary: Path
    log: Path
    done: Counter[str] = field(default_factory=Counter)

    def figures(self) -> tuple[str, ...]:
        """What it holds now."""
        process = self.process
        return (
            f"{process.memory_info().rss / 2**20:.1f}",
            str(process.num_fds()),
            str(process.num_threads()),
            str(len(process.children(recursive=True))),
            str(sum(len(names) for _, _, names in os.walk(self.home))),
            str(len(os.listdir(self.temporary))),
        )

    def counted(self) -> str:
        """What the clients did, and how often."""
        return ", ".join(f"{name} {count}" for name, count in sorted(self.done.items()))


@contextmanager
def _server(folder: Path) -> Iterator[_Server]:
    wheels, home, temporary = (folder / each for each in ("wheels", "home", "tmp"))
    for each in (wheels, home, temporary):
        each.mkdir()
    for number in range(_PACKAGES):
        build_wheel(
            wheels, f"part{number}", "1.0", requires=[f"part{number - 1}"] if number else []
        )
    log = folder / "log"
    variables = {
        **{name: each for name, each in os.environ.items() if not name.startswith(("PIP_", "UV_"))},
        "XINFERENCE_HOME": str(home),
        "UV_CACHE_DIR": str(folder / "cache"),
        "TMPDIR": str(temporary),
    }
    with Index(wheels) as index, log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "xinference_venv", "web", "--port", "0"],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split(" at ")[1].strip()
            yield _Server(
                process=psutil.Process(process.pid),
                url=url,
                index=index.url,
                home=home,
                temporary=temporary,
                log=log,
            )
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def _soak(server: _Server, seconds: float, clients: int) -> list[tuple[str, ...]]:
    stop = threading.Event()
    threads = [
        threading.Thread(target=_Client(server, random.Random(seed)).work, args=(stop,))
        for seed in range(clients)
    ]
    began = time.monotonic()
    for each in threads:
        each.start()
    table = []
    try:
        stop.wait(min(_WARM_SECONDS, seconds / 2))
        while time.monotonic() - began < seconds:
            table.append((f"{(time.monotonic() - began) / 60:.0f} min", *server.figures()))
            print(*table[-1], file=sys.stderr, flush=True)
            stop.wait(min(_SAMPLE_SECONDS, max(0.0, seconds - (time.monotonic() - began))))
    finally:
        stop.set()
        for each in threads:
            each.join()
    _end_all(server)
    table.append(("the end", *server.figures()))
    return table


def _end_all(server: _Server) -> None:
    """Wait for the launches that still run, and remove all that there is."""
    with httpx.Client(base_url=server.url, timeout=60) as ask:
        while any(job["phase"] not in _LAST for job in ask.get("/v1/jobs").json()["list"]):
            time.sleep(0.2)
        for number in range(_MODELS):
            ask.delete("/v1/virtualenvs", params={"model_name": f"model{number}"})
        ask.post("/v1/virtualenvs/gc", json={})


class _Client:
    """Asks for this and that, until it is to stop."""

    def __init__(self, server: _Server, chance: random.Random) -> None:
        self._server = server
        self._chance = chance
        self._ask = httpx.Client(base_url=server.url, timeout=60)
        self._acts = [
            *(6 * [self.launch]),
            *(2 * [self.launch_and_cancel]),
            *(4 * [self.look]),
            *(self.launch_what_is_not_there, self.remove, self.verify, self.collect),
            *(self.plan, self.follow_and_leave, self.ask_badly),
        ]

    def work(self, stop: threading.Event) -> None:
        """Act until the event is set."""
        with self._ask:
            while not stop.is_set():
                act = self._chance.choice(self._acts)
                with suppress(httpx.HTTPError):
                    act()
                    self._server.done[act.__name__] += 1

    def launch(self) -> None:
        """Launch a model that may be there, with packages that may differ, and wait for it."""
        self._wait(self._start(self._request()))

    def launch_and_cancel(self) -> None:
        """Launch, and cancel at once or after a moment."""
        job = self._start(self._request(refresh=True))
        time.sleep(self._chance.choice((0.0, 0.05, 0.3)))
        self._ask.delete(f"/v1/jobs/{job}")

    def launch_what_is_not_there(self) -> None:
        """Launch with a package that no index has."""
        self._wait(self._start(self._request(package="nothing-like-it")))

    def look(self) -> None:
        """Look at what there is."""
        for path in ("/v1/virtualenvs", "/v1/jobs", "/v1/workers", "/v1/leases", "/metrics", "/"):
            self._ask.get(path)
        self._ask.get("/v1/logs", params={"model_name": self._model()})
        self._ask.get("/v1/virtualenvs/packages", params={"model_name": self._model()})

    def remove(self) -> None:
        """Remove the environments of a model."""
        self._ask.delete("/v1/virtualenvs", params={"model_name": self._model()})

    def verify(self) -> None:
        """Verify the environments of a model."""
        self._ask.post("/v1/virtualenvs/verify", json={"model_name": self._model()})

    def collect(self) -> None:
        """Collect garbage."""
        self._ask.post("/v1/virtualenvs/gc", json={"max_bytes": 1 << 20})

    def plan(self) -> None:
        """Plan a launch."""
        self._ask.post("/v1/virtualenvs/plan", json=self._request())

    def follow_and_leave(self) -> None:
        """Follow a launch by its events, and leave before it has ended."""
        job = self._start(self._request(refresh=True))
        with self._ask.stream("GET", f"/v1/jobs/{job}/events") as events:
            next(events.iter_bytes(), None)

    def ask_badly(self) -> None:
        """Ask for what is no request."""
        self._ask.post("/v1/virtualenvs", content=b"{" * 1000)
        self._ask.get("/v1/jobs/" + "0" * 32)
        self._ask.get("/nothing")

    def _model(self) -> str:
        return f"model{self._chance.randrange(_MODELS)}"

    def _request(self, *, package: str | None = None, refresh: bool = False) -> dict[str, Any]:
        name = package or f"part{self._chance.randrange(_PACKAGES)}"
        block = {"packages": [name], "index_url": self._server.index, "inherit_pip_config": False}
        return {"model_name": self._model(), "virtualenv": block, "refresh": refresh}

    def _start(self, request: dict[str, Any]) -> str:
        answer = self._ask.post("/v1/virtualenvs", json=request)
        answer.raise_for_status()
        return str(answer.json()["job_id"])

    def _wait(self, job: str) -> None:
        since = 0
        while True:
            params: dict[str, float] = {"since": since, "wait": 10}
            answer = self._ask.get(f"/v1/jobs/{job}", params=params)
            answer.raise_for_status()
            found = answer.json()
            since = max([since, *(event["seq"] for event in found["events"])])
            if found["phase"] in _LAST:
                self._server.done[found["phase"]] += 1
                return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
