"""What a launch on a host full of popular packages installs, by three rules.

In come a host and requests, out goes how many packages and bytes are installed: by us, by uv
with the host's versions as preferences and nothing else, and by xoscar.virtualenv's rule, which
compares what the request names with the host and resolves the rest without it. Nothing is
installed; bytes are those of the wheels.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tomli_w

from benchmarks.ambient import uv_program
from benchmarks.common import aligned
from benchmarks.hosts import planned
from benchmarks.peer import XoscarPeer, xoscar_peer_of
from xinference_venv.client import Client, local_client
from xinference_venv.errors import VirtualEnvError
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.lock import Role
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.service.host_facts import HostFactsReader
from xinference_venv.settings import ALLOWED_ROOTS_VARIABLE, Settings
from xinference_venv.store.store import Store
from xinference_venv.uv.stub_wheels import STUB_BUILD_TAG, stub_file_name, write_stubs
from xinference_venv.uv.subprocess import ProcessRunner, Uv

REQUESTS: tuple[tuple[str, ...], ...] = (
    ("requests",),
    ("flask",),
    ("flask>=3.1",),
    ("fastapi>=0.115", "uvicorn"),
    ("pydantic>=2.11",),
    ("openai>=1.60",),
    ("langchain-openai",),
    ("httpx>=0.28",),
    ("urllib3<2",),
    ("boto3>=1.36",),
    ("pandas>=2.3",),
    ("numpy>=2",),
    ("numpy>=2", "scikit-learn", "pandas"),
    ("numba>=0.61",),
    ("librosa",),
    ("opencv-python-headless",),
    ("einops", "safetensors", "sentencepiece"),
    ("tiktoken", "accelerate"),
    ("accelerate>=1.3", "peft"),
    ("diffusers",),
    ("sentence-transformers",),
    ("transformers==4.51.3",),
    ("transformers==4.51.3", "sentence-transformers==3.4.1"),
    ("transformers==4.37.2", "tiktoken==0.6.0", "accelerate"),
    ("gradio>=5",),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """What one rule installs: packages, bytes, whether torch is among them; or why it can't."""

    packages: int = 0
    size: int = 0
    torch: bool = False
    failure: str = ""

    def __str__(self) -> str:
        if self.failure:
            return self.failure
        text = f"{self.packages}, {self.size / 1e6:.1f} MB"
        return f"{text}, torch" if self.torch else text


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One request by three rules; `hidden` is what ours does not show of the host."""

    request: tuple[str, ...]
    ours: Count
    hidden: int
    preferences: Count
    xoscar: Count


def table(rows: Sequence[Compared]) -> str:
    """A Markdown table, with the sums in the last line."""
    head = ("request", "ours", "hidden by ours", "preferences alone", "xoscar.virtualenv's rule")
    lines = [
        (
            *(" ".join(row.request), str(row.ours), str(row.hidden)),
            *(str(row.preferences), str(row.xoscar)),
        )
        for row in rows
    ]
    sums = [
        _sum([getattr(row, rule) for row in rows]) for rule in ("ours", "preferences", "xoscar")
    ]
    return aligned(head, [*lines, ("all", sums[0], "", *sums[1:])])


async def compare(
    python: Path, folder: Path, block: ModelVirtualEnv, requests: Sequence[Sequence[str]]
) -> tuple[list[Compared], int]:
    """Plan each request by each rule on the host of this interpreter.

    Returns what came of it, and how many distributions the host has.
    """
    environ = {
        **os.environ,
        "XINFERENCE_HOME": str(folder / "home"),
        "XINFERENCE_VIRTUAL_ENV_HOST_PYTHON": str(python),
        ALLOWED_ROOTS_VARIABLE: ",".join(p for p in block.find_links if p.startswith("/")),
    }
    rows = []
    with xoscar_peer_of(python, block, folder / "xoscar.log") as peer:
        async with local_client(environ) as client:
            alone = await _preferences_alone(environ, folder)
            for packages in requests:
                print(" ".join(packages), file=sys.stderr)
                request = LaunchRequest(
                    model_name="benchmark", virtualenv=replace(block, packages=tuple(packages))
                )
                ours, hidden = await _ours(client, request)
                rows.append(
                    Compared(
                        request=tuple(packages),
                        ours=ours,
                        hidden=hidden,
                        preferences=await asyncio.to_thread(alone.count, packages, block),
                        xoscar=await asyncio.to_thread(_by_xoscar, peer, folder, packages, block),
                    )
                )
    return rows, len(alone.host.distributions)


async def _ours(client: Client, request: LaunchRequest) -> tuple[Count, int]:
    try:
        told = await client.worker.plan(request)
    except VirtualEnvError as error:
        print(error, file=sys.stderr)
        return Count(failure="no solution"), 0
    assert told.lock is not None
    lock = told.lock
    count = Count(
        packages=len(lock.installed),
        size=sum(lock.sizes.values()),
        torch="torch" in lock.installed,
    )
    return count, len(lock.with_role(Role.HIDDEN))


def _by_xoscar(
    peer: XoscarPeer, folder: Path, packages: Sequence[str], block: ModelVirtualEnv
) -> Count:
    try:
        pins = peer.plan(folder / "xoscar-env", packages, skip_installed=True)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return Count(failure="no solution")
    plan = planned(pins, block, "--no-deps")
    return Count(packages=len(plan.versions), size=plan.total, torch="torch" in plan.versions)


@dataclass(frozen=True, kw_only=True, slots=True)
class _PreferencesAlone:
    """uv with the host's versions as preferences, nothing else, and nothing judged after it."""

    host: HostFacts
    stubs: Path

    def count(self, packages: Sequence[str], block: ModelVirtualEnv) -> Count:
        lock = self.stubs.with_name("pylock.preferences.toml")
        lock.write_text(tomli_w.dumps(self._seed()), "utf-8")
        flags = ("--find-links", str(self.stubs), "--output-file", str(lock))
        try:
            plan = planned(packages, block, *flags)
        except subprocess.CalledProcessError as error:
            print(error.stderr, file=sys.stderr)
            return Count(failure="no solution")
        document = tomllib.loads(lock.read_text("utf-8"))
        own = {each["name"] for each in document["packages"] if STUB_BUILD_TAG not in str(each)}
        sizes = [plan.sizes[name] or 0 for name in own]
        return Count(packages=len(own), size=sum(sizes), torch="torch" in own)

    def _seed(self) -> dict[str, object]:
        tag = self.host.interpreter.best_tag
        return {
            "lock-version": "1.0",
            "created-by": "xinference_venv",
            "packages": [
                {
                    "name": each.name,
                    "version": each.version,
                    "wheels": [
                        {
                            "url": (self.stubs / stub_file_name(each, tag)).as_uri(),
                            # Preferences are read by name and version alone.
                            "hashes": {"sha256": "0" * 64},
                        }
                    ],
                }
                for each in self.host.distributions
            ],
        }


async def _preferences_alone(environ: dict[str, str], folder: Path) -> _PreferencesAlone:
    settings = Settings.from_environ(environ, home_directory=str(Path.home()))
    uv = Uv(program=uv_program(), door=ProcessRunner(environment=environ, slots=1))
    store = Store.open(Path(settings.virtualenv_dir))
    host = await HostFactsReader(store=store, uv=uv, settings=settings, environ=environ).facts()
    stubs = folder / "stubs"
    stubs.mkdir()
    write_stubs(host, stubs)
    return _PreferencesAlone(host=host, stubs=stubs)


def _sum(counts: Sequence[Count]) -> str:
    packages = sum(each.packages for each in counts)
    return str(Count(packages=packages, size=sum(each.size for each in counts)))
