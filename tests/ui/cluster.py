"""A cluster as an operator sees it: a supervisor, two workers, and the server of the page."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.daemons import Daemon, Daemons, daemons, eventually
from tests.index import Index
from tests.plain import result_of
from tests.ui.browser import Browser
from tests.wheels import build_wheel
from xinference_venv.client import connect
from xinference_venv.planning.request import LaunchRequest


@dataclass(kw_only=True, eq=False)
class Cluster:
    """What runs; `ask` is a client of the API, `index` serves the folder `wheels`."""

    running: Daemons
    index: Index
    wheels: Path
    supervisor: Daemon
    workers: list[Daemon]
    web: Daemon
    ask: httpx.Client
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"{self.web.address}/"

    def launch(self, model: str, *packages: str, **more: Any) -> str:
        """Launch a model through the API and wait until it is ready; returns the job's id."""
        body = {"model_name": model, "virtualenv": {"packages": packages}, **more}
        answer = self.ask.post("/v1/virtualenvs", json=body)
        assert answer.status_code == 202, answer.text
        job: str = answer.json()["job_id"]
        path = f"/v1/jobs/{job}"
        eventually(lambda: self.ask.get(path).json()["phase"] == "ready", lambda: job)
        return job

    def environments(self, model: str) -> list[dict[str, Any]]:
        """What the API lists of a model."""
        found: list[dict[str, Any]] = self.ask.get(
            "/v1/virtualenvs", params={"model_name": model}
        ).json()["list"]
        return found

    def add_worker(self, host: str) -> Daemon:
        """Start another worker, on a loopback address of its own."""
        worker = self.running.worker(self.supervisor, host, **self.variables)
        self.workers.append(worker)
        return worker


@contextmanager
def cluster(
    folder: Path,
    environ: Mapping[str, str],
    *,
    hosts: Sequence[str] = ("127.0.0.2", "127.0.0.3"),
    web_options: Sequence[str] = (),
) -> Iterator[Cluster]:
    """Start a cluster whose workers install from an index of its own."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    build_wheel(wheels, "wick", "1.0", data={"wick.bin": os.urandom(300_000)})
    build_wheel(wheels, "lantern", "1.0", requires=["wick", "click"])
    build_wheel(wheels, "lantern", "2.0", requires=["wick", "click"])
    # The host has another version of it, which gives way.
    build_wheel(wheels, "tomli-w", "0.1")
    with Index(wheels) as index, daemons(folder / "d", environ) as running:
        variables = {
            "PIP_INDEX_URL": index.url,
            "XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS": str(wheels),
        }
        supervisor = running.supervisor()
        to = ("--supervisor", supervisor.address)
        # They come up at the same time.
        workers = [running.start("worker", *to, "--host", host, **variables) for host in hosts]
        web = running.start("web", *to, "--port", "0", *web_options)
        for each in (*workers, web):
            each.ready()
        with httpx.Client(base_url=web.address, timeout=60.0) as ask:
            yield Cluster(
                running=running,
                index=index,
                wheels=wheels,
                supervisor=supervisor,
                workers=workers,
                web=web,
                ask=ask,
                variables=variables,
            )


def hold(running: Cluster, model: str, *workers: str) -> None:
    """Let this process use the environment of a model, on any worker or on one of these."""

    async def take() -> None:
        async with connect(running.supervisor.address) as client:
            body = {"model_name": model, "virtualenv": {"packages": ["lantern==1.0"]}}
            [replica] = await client.prepare_on(LaunchRequest.from_dict(body), workers=workers)
            taken = result_of(replica)
            await client.supervisor.bind_lease(
                replica.worker_address, taken["env_id"], taken["lease_id"], os.getpid()
            )

    asyncio.run(take())


def killed_worker(page: Browser, running: Cluster) -> str:
    """The address of a worker that was killed when the page had shown it among the others."""
    victim = running.add_worker("127.0.0.5")
    running.workers.remove(victim)
    page.open("workers")
    page.wait(lambda: victim.address in page.text("tbody"))
    victim.end(signal.SIGKILL)
    return victim.address
