"""What the tests of the drop-in share: a host, an environment's place, what is seen there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import xoscar.virtualenv
from xoscar.virtualenv import get_virtual_env_manager

from tests.index import Index
from tests.scenarios.hosts import Host
from tests.wheels import build_wheel
from xinference_venv.xinference import InPlaceEnvManager, install

_VISIBLE = (
    "import importlib.metadata as m, json;"
    "print(json.dumps({d.metadata['Name']: d.version for d in reversed(list(m.distributions()))}))"
)

OVERLAY = """
set -e
mount -t tmpfs none {scratch}
mkdir {scratch}/upper {scratch}/work
mount -t overlay none -o lowerdir={lower},upperdir={scratch}/upper,workdir={scratch}/work {over}
cd /
"""
"""The beginning of a script: ``over`` shows what ``lower`` has, and keeps what is written."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """An environment's place, as a worker of Xinference uses it over a host and an index."""

    path: Path
    host: Host
    index: Index
    wheels: Path

    def beside(self, name: str) -> Place:
        """The place of another environment beside this one."""
        return replace(self, path=self.path.with_name(name))

    @property
    def manager(self) -> InPlaceEnvManager:
        """A new manager of it."""
        manager = get_virtual_env_manager("uv", self.path)
        assert isinstance(manager, InPlaceEnvManager)
        return manager

    def launch(self, *packages: str, **conf: Any) -> InPlaceEnvManager:
        """What a worker of Xinference 4.1 calls for a launch, in its order."""
        manager = self.manager
        manager.create_env(python_path=Path(sys.executable))
        self.write_pth(manager)
        assert os.path.exists(str(manager.get_python_path()))
        self.install(manager, *packages, **conf)
        return manager

    def install(self, manager: InPlaceEnvManager, *packages: str, **conf: Any) -> None:
        """Install as its worker does."""
        settings = {
            **dict.fromkeys(("extra_index_url", "find_links", "trusted_host", "index_strategy")),
            "index_url": self.index.url,
            "no_build_isolation": None,
            "skip_installed": True,
        }
        variables = {"engine": "vllm", "model_engine": "vllm"}
        manager.install_packages(list(packages), **{**settings, **conf}, **variables)

    def write_pth(self, manager: InPlaceEnvManager) -> None:
        """The file by which its worker adds the host's packages whole."""
        text = f"import site; site.addsitedir({str(self.host.site)!r})\n"
        Path(manager.get_lib_path(), "_xinference_parent.pth").write_text(text)

    def says(self, code: str) -> str:
        """What a process in the environment prints."""
        python = self.manager.get_python_path()
        done = subprocess.run(
            [str(python), "-c", code], capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def visible(self) -> dict[str, str]:
        """Version by name of the distributions that a process in the environment finds."""
        found: dict[str, str] = json.loads(self.says(_VISIBLE))
        return found


@pytest.fixture
def place(
    tmp_path: Path, index: Index, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A place over a host with some distributions, and an index with others; ours is installed."""
    host = Host.make(tmp_path / "host", environ)
    host.add("wick", "1.0")
    host.add("stand", "1.0", "wick<2")
    for name in set(os.environ) - set(environ):
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    wheels = tmp_path / "wheels"
    build_wheel(wheels, "wick", "1.0")
    build_wheel(wheels, "wick", "2.0")
    build_wheel(wheels, "lantern", "1.0", requires=["wick>=1"])
    build_wheel(wheels, "lantern", "2.0", requires=["wick>=2"])
    build_wheel(wheels, "oil", "1.0")
    before = dict(xoscar.virtualenv._name_to_managers)
    install()
    home = Path(environ["XINFERENCE_HOME"])
    path = home / "virtualenv" / "v4" / "a model" / "vllm" / "3.11.7"
    yield Place(path=path, host=host, index=index, wheels=wheels)
    xoscar.virtualenv._name_to_managers.update(before)
