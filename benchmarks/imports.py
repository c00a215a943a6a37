"""Which of the modules that an interpreter can find can't be imported, each tried by itself.

In comes an interpreter, out goes what it finds at the top level of its search path, and what of
that fails in a fresh process, with the last line of what it said.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

_TIMEOUT_SECONDS = 120.0
_PROCESSES = os.cpu_count() or 1

_FIND = """
import json, os, pkgutil, sys, sysconfig
library = [os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
library += [os.path.join(each, "lib-dynload") for each in library]
found = {}
for place in sys.path:
    if os.path.isdir(place) and os.path.realpath(place) not in library:
        for module in pkgutil.iter_modules([place]):
            found.setdefault(module.name, place)
print(json.dumps(found))
"""
_IMPORT = "import importlib, sys; importlib.import_module(sys.argv[1])"


@dataclass(frozen=True, kw_only=True, slots=True)
class Imports:
    """What an interpreter finds: the entry of the search path by module; and what fails, why."""

    places: dict[str, str]
    failed: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """Of an environment's modules: how many there are, which are broken, which always were.

    Broken is what fails though the host imports it, or though it was installed into the
    environment. What fails on the host just as well (something optional is not there) is
    counted apart.
    """

    found: int
    broken: dict[str, str] = field(default_factory=dict)
    broken_on_host: dict[str, str] = field(default_factory=dict)


def try_imports(python: str) -> Imports:
    """Import every top-level module that an interpreter finds, each in a process of its own.

    Those of the standard library are left out, and namespace packages, which hold no code.
    """
    with tempfile.TemporaryDirectory() as empty, ThreadPoolExecutor(_PROCESSES) as threads:
        # Nothing is written beside the modules, which may lie on the host, or in uv's cache.
        environ = {**os.environ, "PYTHONPYCACHEPREFIX": f"{empty}/bytecode"}
        folder = Path(empty, "working-directory")
        folder.mkdir()

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [python, "-P", "-W", "ignore", "-c", *arguments],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
            )

        def failure(name: str) -> str | None:
            try:
                done = run(_IMPORT, name)
            except subprocess.TimeoutExpired:
                return f"not done after {_TIMEOUT_SECONDS:g} s"
            if done.returncode == 0:
                return None
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            return said[-1]

        places: dict[str, str] = json.loads(run(_FIND).stdout)
        failures = threads.map(failure, places)
        failed = {name: why for name, why in zip(places, failures, strict=True) if why is not None}
    return Imports(places=places, failed=failed)


def judge(env: Path, seen: Imports, host: Imports) -> Judged:
    """Tell what an environment broke from what the host breaks by itself."""
    own = str(env / "lib")
    broken = {
        name: why
        for name, why in seen.failed.items()
        if seen.places[name].startswith(own) or name not in host.failed
    }
    others = {name: why for name, why in seen.failed.items() if name not in broken}
    return Judged(found=len(seen.places), broken=broken, broken_on_host=others)
