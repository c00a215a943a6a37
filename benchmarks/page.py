"""What the web page takes to paint a change, in Chromium over a simulated cluster of many hosts.

    python -m benchmarks.page [--sizes 500x50,20000x1000] [--rounds N]

The server is the real one; its supervisor answers from memory, and changes one environment for each
listing. Measured is from the event (a key, a click, an answer that was read) until the frame after
it is painted: a filter typed, the order of a column, a group opened, a scroll, all rows without
groups, one environment changed in a new answer. The time that passes, and the processor time of the
page's thread, which other programs do not lengthen. The target: under 100 ms each. In milliseconds;
nothing fails because it took long.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, cast

import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from benchmarks.common import aligned
from xinference_venv.actors.protocols import SupervisorProtocol
from xinference_venv.client import Client
from xinference_venv.inventory.cluster_state import WorkerSnapshot, WorkerState, WorkerStatus
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.environments import Environment, Environments
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.reports import JobSummary
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.listed_model import ListedModel
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.rest.app import create_app

SIZES = ((500, 50), (20_000, 1_000))
ROUNDS = 7
_ENGINES = ("vllm", "transformers", "sglang", None)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE_SECONDS = 120.0
_HEAD = ("environments", "workers", "what", "processor", "elapsed", "best", "worst")
# The time until the frame after an action is painted; `act` says what is done.
_TIMED = """
const done = arguments[arguments.length - 1];
const began = performance.now();
{act}
requestAnimationFrame(() => {{
  const channel = new MessageChannel();
  channel.port1.onmessage = () => done(performance.now() - began);
  channel.port2.postMessage(0);
}});
"""
_TYPED = """
const field = document.querySelector("#filter-text");
field.value = "{text}";
field.dispatchEvent(new Event("input"));
"""
_ACTIONS = {
    "filter typed": (_TYPED.format(text="model-1"), _TYPED.format(text="")),
    "order of a column": (
        "document.querySelectorAll('.sorter')[5].click();",
        "document.querySelectorAll('.sorter')[0].click();",
    ),
    "group opened": (
        "document.querySelector('.opener').click();",
        "document.querySelector('.opener').click();",
    ),
    "scroll": (
        "document.querySelector('.sheet').scrollTop += 3000;",
        "document.querySelector('.sheet').scrollTop = 0;",
    ),
    "all rows": (
        "document.querySelector('#group-models').click();",
        "document.querySelector('#group-models').click();",
    ),
}
# What the page does with an answer, without the network: it is read already when it begins.
_CHANGED = """
const done = arguments[arguments.length - 1];
const read = Response.prototype.json;
Response.prototype.json = async function () {
  const value = await read.call(this);
  if (!value.differing) return value;
  Response.prototype.json = read;
  const began = performance.now();
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => done(performance.now() - began);
    channel.port2.postMessage(0);
  });
  return value;
};
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Took:
    """What one action took, in milliseconds."""

    elapsed: float
    processor: float


class SimulatedSupervisor:
    """As many environments, workers and jobs as wanted.

    One environment, or job, changes with each listing, while it is `changing`.
    """

    def __init__(
        self, environments: int, workers: int, *, jobs: int = 0, changing: bool = True
    ) -> None:
        self._workers = tuple(f"10.{each // 250}.{each % 250}.1:9796" for each in range(workers))
        self._list = [self._environment(each) for each in range(environments)]
        self._jobs = [self._job(each) for each in range(jobs)]
        self._asked = 0
        self._changing = changing

    def _environment(self, number: int) -> Environment:
        model = number // 40
        key = EnvKey(
            model_name=f"model-{model}-instruct-with-a-long-name",
            model_engine=_ENGINES[model % len(_ENGINES)],
            python_version="3.12",
        )
        path = f"/srv/xinference/virtualenv/v4/{key.model_name}/{key.model_engine}/3.12"
        entry = EnvEntry(
            key=key,
            path=path,
            real_path=f"/srv/xinference/virtualenv/store/envs/{number:064x}",
            state=EnvState.READY,
            env_id=f"{number:064x}",
            lock_digest=f"{model:064x}",
            size_bytes=number * 1_000_003,
            shared_bytes=number * 7,
            python="3.12.4",
            installed=80,
            inherited=40,
            created=1_750_000_000.0 + number,
            last_used=1_750_000_000.0 + number,
        )
        return Environment.at(self._workers[number % len(self._workers)], entry)

    def _job(self, number: int) -> JobSummary:
        model = f"model-{number}-instruct-with-a-long-name"
        launch = {"model_name": model, "virtualenv": {"packages": ["transformers>=4.53", "torch"]}}
        return JobSummary(
            job_id=f"{number:032x}",
            worker_address=self._workers[number % len(self._workers)],
            model_name=model,
            model_engine="vllm",
            phase=Phase.READY,
            message="ready",
            started=1_750_000_000.0 + number,
            changed=1_750_000_009.0 + number,
            error=None,
            launch=LaunchRequest.from_dict(launch),
            asked_by="token alice",
        )

    async def list_virtual_envs(self, _: Selection) -> Environments:
        """All of them."""
        if self._changing:
            self._asked += 1
            place = self._asked % len(self._list)
            changed = self._list[place]
            state = EnvState.BROKEN if changed.entry.state is EnvState.READY else EnvState.READY
            self._list[place] = replace(changed, entry=replace(changed.entry, state=state))
        return Environments(list=tuple(self._list), unreachable=(), complete=True, gone=())

    async def list_workers(self) -> tuple[WorkerStatus, ...]:
        """All alive."""
        return tuple(
            WorkerStatus(
                worker_address=address,
                state=WorkerState.ALIVE,
                host_name=f"host-{number}",
                release="0.1.0",
                incarnation="first",
                snapshot=WorkerSnapshot(jobs=number % 3, free_bytes=number * 10**9),
                snapshot_age=1.0,
            )
            for number, address in enumerate(self._workers)
        )

    async def list_models(self, _: str | None = None) -> tuple[ListedModel, ...]:
        """None: the form is not measured."""
        return ()

    async def list_jobs(self, _: str | None = None) -> Gathered[JobSummary]:
        """All of them."""
        if self._changing and self._jobs:
            self._asked += 1
            place = self._asked % len(self._jobs)
            changed = self._jobs[place]
            phase = Phase.FAILED if changed.phase is Phase.READY else Phase.READY
            self._jobs[place] = replace(changed, phase=phase)
        return Gathered(list=tuple(self._jobs))


@contextmanager
def served(supervisor: object) -> Iterator[str]:
    """The page over a supervisor, at a URL of this host."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        # Who comes before the server is up waits, rather than being refused.
        listening.listen()
        app = create_app(Client(supervisor=cast(SupervisorProtocol, supervisor)), tokens=None)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A browser with a profile of its own."""
    binary = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        raise SystemExit("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = binary
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1360,900"):
        options.add_argument(flag)
    with tempfile.TemporaryDirectory() as profile:
        options.add_argument(f"--user-data-dir={profile}")
        running = webdriver.Chrome(options=options, service=Service(executable_path=driver))
        running.set_script_timeout(_PATIENCE_SECONDS)
        try:
            yield running
        finally:
            running.quit()


def measure(page: webdriver.Chrome, url: str, rounds: int) -> dict[str, list[Took]]:
    """The times of each action."""
    page.get(f"{url}#/environments")
    until = time.monotonic() + _PATIENCE_SECONDS
    while not page.execute_script("return document.querySelector('tbody .opener')"):
        if time.monotonic() > until:
            raise SystemExit("the page shows nothing")
        time.sleep(0.1)
    page.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    times: dict[str, list[Took]] = {}
    for _ in range(rounds):
        for name, (act, back) in _ACTIONS.items():
            times.setdefault(name, []).append(_timed(page, _TIMED.format(act=act)))
            _timed(page, _TIMED.format(act=back))
        times.setdefault("one changed", []).append(_timed(page, _CHANGED))
    return times


def _timed(page: webdriver.Chrome, script: str) -> Took:
    before = _processor(page)
    elapsed: Any = page.execute_async_script(script)
    return Took(elapsed=float(elapsed), processor=_processor(page) - before)


def _processor(page: webdriver.Chrome) -> float:
    """The processor time of the page's thread up to now."""
    metrics = page.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    [seconds] = [each["value"] for each in metrics if each["name"] == "TaskDuration"]
    return float(seconds) * 1000


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=",".join(f"{each}x{of}" for each, of in SIZES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    lines: list[tuple[str, ...]] = []
    with browser() as page:
        for size in given.sizes.split(","):
            environments, workers = map(int, size.split("x"))
            with served(SimulatedSupervisor(environments, workers)) as url:
                for name, times in measure(page, url, given.rounds).items():
                    elapsed = [each.elapsed for each in times]
                    processor = median(each.processor for each in times)
                    shown = (processor, median(elapsed), min(elapsed), max(elapsed))
                    figures = tuple(f"{each:.0f}" for each in shown)
                    lines.append((f"{environments}", f"{workers}", name, *figures))
    print(aligned(_HEAD, lines))


if __name__ == "__main__":
    main()
