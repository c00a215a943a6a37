"""Steps that scenarios are made of: ask for an environment, look at what is there, wait."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.index import Index
from tests.plain import plain
from xinference_venv.client import Client
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.process_identity import identify

MODEL = "glow"


def asking(index: Index, *packages: str, model: str = MODEL, **more: Any) -> LaunchRequest:
    """A launch of a model whose packages come from the index and from nowhere else."""
    block = {"packages": packages, "index_url": index.url, "inherit_pip_config": False}
    return LaunchRequest.from_dict({"model_name": model, "virtualenv": block, **more})


def files_of(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file and link below a folder: modification time in nanoseconds, content or target.

    Bytecode that a model wrote is left out.
    """
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if each not in ("pycache", "__pycache__")]
        for name in [*names, *(each for each in folders if Path(parent, each).is_symlink())]:
            path = Path(parent, name)
            content = (
                str(path.readlink())
                if path.is_symlink()
                else hashlib.sha256(path.read_bytes()).hexdigest()
            )
            found[str(path.relative_to(folder))] = (path.lstat().st_mtime_ns, content)
    return found


def real_path_of(environment: PreparedEnvironment) -> str:
    """Where the link of an environment's key leads now."""
    return str(Path(str(environment.path)).resolve())


def uv_processes(layout: StorePaths) -> list[int]:
    """The pids of the subprocesses that run, as the workers of this home noted them."""
    return sorted(int(path.stem.rpartition("-")[2]) for path in layout.processes.glob("*.json"))


def alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has reaped yet does not."""
    return identify(pid) is not None


def environments(layout: StorePaths) -> list[str]:
    """The ids of the environments on disk."""
    return sorted(path.name for path in layout.envs.iterdir())


def left_behind(layout: StorePaths) -> list[str]:
    """All of the store that a failed or cancelled launch must not leave."""
    places = (layout.envs, layout.staging, layout.trash, layout.leases, layout.processes)
    return [str(path) for place in places for path in place.iterdir()]


async def eventually(what: Callable[[], bool], seconds: float = 180.0) -> None:
    """Wait for what only the system can tell, like the end of somebody else's process."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, f"it did not happen within {seconds:g} s"
        await asyncio.sleep(0.01)


async def requested(index: Index, pattern: str) -> None:
    """Wait until the index was asked for a path that matches."""
    await asyncio.to_thread(index.wait_for_request, pattern)


async def outcome(client: Client, job: str) -> dict[str, Any]:
    """Wait for a job's end and return its last answer."""
    while True:
        answer: dict[str, Any] = plain(await client.supervisor.wait(job, 1 << 30, 10.0))
        if answer["result"] is not None or answer["error"] is not None:
            return answer


async def says(python: str, expression: str) -> Any:
    """What an interpreter says an expression is, as JSON; its modules are imported by name."""
    program = f"import importlib, json, sys; print(json.dumps({expression}))"
    process = await asyncio.create_subprocess_exec(
        python, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)


def version_of(module: str) -> str:
    """An expression for `says`: the version that a module of the index has."""
    return f"importlib.import_module({module!r}).__version__"


def uv_subcommands(vectors: Sequence[Sequence[str]]) -> list[str]:
    """Which of uv's commands were run: ``venv``, ``pip install`` ..."""
    found = []
    for program, *arguments in vectors:
        if Path(program).name == "uv":
            words = 2 if arguments[0] == "pip" else 1
            found.append(" ".join(arguments[:words]))
    return found
