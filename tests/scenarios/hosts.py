"""A host of a test's own, filled by hand, and what of it an environment shows."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.scenarios.steps import asking, says
from tests.wheels import fake_distribution
from xinference_venv.client import Client
from xinference_venv.errors import PythonNotFound
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.planning.lock import EnvLock, Role
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Host:
    """A virtual environment that stands for a host, at `prefix`."""

    prefix: Path

    @classmethod
    def make(cls, prefix: Path, environ: dict[str, str]) -> Host:
        """Make a bare one, and let it be the host of whoever starts with these variables."""
        venv.create(prefix, symlinks=True)
        host = cls(prefix=prefix)
        host.serve(environ)
        return host

    def serve(self, environ: dict[str, str]) -> None:
        """Be the host of whoever starts with these variables."""
        environ["XINFERENCE_VIRTUAL_ENV_HOST_PYTHON"] = self.python

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.prefix / "bin" / "python")

    @property
    def site(self) -> Path:
        """Its site-packages."""
        [site] = self.prefix.glob("lib/python3.*/site-packages")
        return site

    def add(
        self,
        name: str,
        version: str,
        *requires: str,
        files: Mapping[str, str] | None = None,
        entry_points: Mapping[str, str] | None = None,
        site: Path | None = None,
    ) -> Path:
        """Add a distribution, by default with one module that knows its ``__version__``.

        Returns its metadata folder.
        """
        module = name.replace("-", "_").lower()
        return fake_distribution(
            site or self.site,
            name,
            version,
            requires=requires,
            files={f"{module}.py": f"__version__ = {version!r}\n"} if files is None else files,
            entry_points=entry_points,
        )


def ran(*command: str | Path) -> tuple[int, str, str]:
    """Exit status, output and errors of a command."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def lock_of(layout: StorePaths, environment: PreparedEnvironment) -> EnvLock:
    """The lock that an environment was made from."""
    lock = Store.open(layout.root).lock_of(str(environment.env_id))
    assert lock is not None
    return lock


def of_role(lock: EnvLock, role: Role) -> dict[str, str | None]:
    """Version by name of what has a role."""
    return {each.name: each.version for each in lock.with_role(role)}


async def visible(environment: PreparedEnvironment) -> dict[str, str]:
    """Version by name of the distributions that a process in an environment finds."""
    listed: dict[str, str] = await says(
        environment.python,
        "{each.metadata['Name']: each.version for each in"
        " reversed(list(importlib.import_module('importlib.metadata').distributions()))}",
    )
    return listed


async def findable(environment: PreparedEnvironment, *modules: str) -> list[str]:
    """Those of the modules that a process in an environment could import."""
    found: Any = await says(
        environment.python,
        f"[name for name in {modules!r}"
        " if importlib.import_module('importlib.util').find_spec(name) is not None]",
    )
    return list(found)


async def another_python(client: Client, index: Index) -> str:
    """The newest minor version on this host that is not the running one, by the error's word."""
    with pytest.raises(PythonNotFound) as caught:
        await client.prepare(asking(index, "lantern", python_version="3.999"))
    running = sys.version_info.minor
    minors = {int(minor) for minor in re.findall(r"\b3\.(\d+)\.", caught.value.message)}
    others = [minor for minor in minors if minor != running and minor >= 9]
    if not others:
        pytest.skip(f"this host has no CPython beside {caught.value.message.partition(':')[2]}")
    return f"3.{max(others)}"
