"""What goes by real paths, which docs/concepts.md names as differences, and the way out of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.scenarios.hosts import Host
from tests.wheels import build_wheel
from xinference_venv.client import local_client
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.settings import ALLOWED_ROOTS_VARIABLE
from xinference_venv.uv.environment import scrubbed_environment

pytestmark = [pytest.mark.uv, pytest.mark.network]

BASE_PYTHON = os.path.realpath(sys.executable)
MODULE = "def branch(x):\n    if x:\n        return 1\n    return 2\n"
PROGRAM = "import crew, rigger\ncrew.branch(1)\nrigger.branch(0)\n"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What coverage says of the program in one environment."""

    python: str
    folder: Path

    def paths_of_crew(self) -> set[str]:
        """The path by which a module is imported, and its real one."""
        asks = "import crew; print(crew.__file__)"
        done = subprocess.run([self.python, "-c", asks], capture_output=True, text=True, check=True)
        path = done.stdout.strip()
        return {path, os.path.realpath(path)}

    def is_met(self, path: str, *, of_packages: bool) -> bool:
        """Whether debugpy stops at a breakpoint in the first function of a file, by the protocol
        of https://microsoft.github.io/debug-adapter-protocol.
        """
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            port = listening.getsockname()[1]
            command = [self.python, "-m", "debugpy", "--connect", f"127.0.0.1:{port}"]
            environ = {"PATH": os.environ["PATH"], "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
            process = subprocess.Popen(
                [*command, "--wait-for-client", "program.py"],
                cwd=self.folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                listening.settimeout(120)
                connection, _ = listening.accept()
                with connection:
                    connection.settimeout(120)
                    return _stops(connection, path, of_packages)
            finally:
                process.kill()
                process.wait()

    def report(self, *options: str) -> dict[str, tuple[int, int]]:
        """For each source, by its last two parts, how many statements it has and were missed."""
        environ = {"PATH": os.environ["PATH"]}
        for command in (["run", *options, "program.py"], ["report"]):
            done = subprocess.run(
                [self.python, "-m", "coverage", *command],
                cwd=self.folder, env=environ, capture_output=True, text=True, check=False,
            )  # fmt: skip
        rows = [line.split() for line in done.stdout.splitlines() if ".py " in line]
        return {
            "/".join(Path(path).parts[-2:]): (int(statements), int(missed))
            for path, statements, missed, _ in rows
        }


def _stops(connection: socket.socket, path: str, of_packages: bool) -> bool:
    with connection.makefile("rwb") as stream:

        def send(number: int, command: str, arguments: object) -> None:
            message = {"seq": number, "type": "request", "command": command, "arguments": arguments}
            content = json.dumps(message).encode()
            stream.write(b"Content-Length: %d\r\n\r\n%s" % (len(content), content))
            stream.flush()

        send(1, "initialize", {"adapterID": "tests", "pathFormat": "path"})
        send(2, "attach", {"justMyCode": not of_packages})
        while header := stream.readline():
            length = int(header.partition(b":")[2])
            stream.readline()
            message = json.loads(stream.read(length))
            if message.get("event") == "initialized":
                breakpoints = [{"line": 2}]
                arguments = {"source": {"path": path}, "breakpoints": breakpoints}
                send(3, "setBreakpoints", arguments)
                send(4, "configurationDone", {})
            if message.get("event") == "stopped":
                return True
            if message.get("event") == "terminated":
                return False
    return False


@pytest.fixture
async def measured(environ: dict[str, str], tmp_path: Path) -> Mapping[str, Measured]:
    """The program in a real environment, in one of links and in one of files."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    crew = build_wheel(wheels, "crew", "1.0", modules={"crew/__init__.py": MODULE})
    rigger = build_wheel(wheels, "rigger", "1.0", modules={"rigger/__init__.py": MODULE})
    (tmp_path / "program.py").write_text(PROGRAM)
    Host.make(tmp_path / "host", environ).add("rigger", "1.0", files={"rigger/__init__.py": MODULE})
    real = tmp_path / "real"
    _uv(environ, "venv", "--python", BASE_PYTHON, str(real))
    python = str(real / "bin" / "python")
    tools = ["coverage==7.6.10", "debugpy==1.8.22"]
    _uv(environ, "pip", "install", "--python", python, *tools, str(crew), str(rigger))
    pythons = {"real": python}
    block = {
        "packages": ["crew", "rigger", *tools],
        "find_links": [str(wheels)],
        "inherit_pip_config": False,
    }
    async with local_client(environ | {ALLOWED_ROOTS_VARIABLE: str(tmp_path)}) as client:
        for view in ("links", "files"):
            asks = {"model_name": f"model-{view}", "virtualenv": block, "view": view}
            made = await client.prepare(LaunchRequest.from_dict(asks))
            pythons[view] = made.python
    return {name: Measured(python=python, folder=tmp_path) for name, python in pythons.items()}


def _uv(environ: Mapping[str, str], *command: str) -> None:
    cleared = scrubbed_environment(os.environ, cache_dir=environ["UV_CACHE_DIR"])
    subprocess.run([find_uv_bin(), *command, "--no-config", "--quiet"], check=True, env=cleared)


async def test_coverage_of_named_packages_is_that_of_one_site_packages(
    measured: Mapping[str, Measured],
) -> None:
    wanted = {"crew/__init__.py": (4, 1), "rigger/__init__.py": (4, 1)}
    for name, each in measured.items():
        assert each.report("--source=crew,rigger") == wanted, name


async def test_what_coverage_tells_apart_by_folders_it_does_not_in_a_view_but_in_files(
    measured: Mapping[str, Measured],
) -> None:
    # It takes for packages what really lies in the folder of packages.
    assert measured["real"].report().keys() == {"program.py"}
    assert measured["files"].report().keys() == {"program.py"}
    assert measured["links"].report().keys() >= {"crew/__init__.py", "rigger/__init__.py"}
    installed = "--include=*/site-packages/crew/*"
    assert measured["links"].report(installed) == {}
    assert measured["files"].report(installed) == measured["real"].report(installed) != {}


async def test_debugpy_stops_in_packages_by_either_path_unless_it_shows_own_code_alone(
    measured: Mapping[str, Measured],
) -> None:
    for name, each in measured.items():
        for path in each.paths_of_crew():
            assert each.is_met(path, of_packages=True), (name, path)
            assert not each.is_met(path, of_packages=False), (name, path)
