"""The crash matrix: processes killed after every operation on the disk, and in every file's midst.

Each point is followed by a fresh start, a listing and a launch, in a process of its own. What is
checked then is in `crash_checks`, what is run in `crash_scenarios`, how it is killed in
`crashes`. All points of all scenarios are run, always; their numbers are printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

from tests.index import Index
from tests.scenarios.crash_scenarios import SCENARIOS
from tests.scenarios.hosts import Host
from tests.wheels import build_sdist, build_wheel

pytestmark = [
    pytest.mark.uv,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

_ROOT = Path(__file__).parents[2]


@dataclass(kw_only=True)
class Matrix:
    """The process that runs scenarios, and the numbers of points that it has run."""

    asking: IO[str]
    answers: IO[str]
    points: list[int] = field(default_factory=list)

    def run(self, name: str) -> dict[str, Any]:
        """Run every point of a scenario."""
        print(name, file=self.asking, flush=True)
        line = self.answers.readline()
        assert line, "the process that runs the scenarios has ended, and has said why"
        answer: dict[str, Any] = json.loads(line)
        self.points.append(answer["points"] + answer["torn"])
        return answer


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index with all that the scenarios ask for."""
    folder = tmp_path_factory.mktemp("wheels")
    build_wheel(folder, "wick", "1.0")
    build_wheel(folder, "taper", "1.0")
    for version in ("1.0", "2.0"):
        build_wheel(folder, "lantern", version, requires=["wick"])
    build_sdist(folder, "ember", "1.0", requires=["wick"])
    with Index(folder) as running:
        yield running


@pytest.fixture(scope="module")
def matrix(
    index: Index, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Matrix]:
    """A process that can fork, on a host with a single distribution, with a warm cache of uv's."""
    folder = tmp_path_factory.mktemp("crashes")
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "UV_CACHE_DIR": str(folder / "uv-cache"),
        "PIP_CONFIG_FILE": os.devnull,
    }
    Host.make(folder / "host", variables).add("wick", "1.0")
    with (
        tempfile.TemporaryDirectory() as sockets,
        subprocess.Popen(
            [sys.executable, "-m", "tests.scenarios.crashes"],
            cwd=_ROOT,
            # Libraries for numbers would have threads, and what has threads should not fork.
            env={**os.environ, "XOSCAR_DIR": sockets, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        print(json.dumps([str(folder), index.url, variables]), file=process.stdin, flush=True)
        running = Matrix(asking=process.stdin, answers=process.stdout)
        yield running
    capturing = request.config.pluginmanager.getplugin("capturemanager")
    with capturing.global_and_fixture_disabled():
        print(f"\nkilled at {sum(running.points)} points in all")


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_process_may_be_killed_after_every_operation_of(
    name: str, matrix: Matrix, capsys: pytest.CaptureFixture[str]
) -> None:
    result = matrix.run(name)
    with capsys.disabled():
        print(
            f"\n{name}: killed at {result['points'] + result['torn']} points,"
            f" {result['torn']} of them in the middle of a file, {result['seconds']:.0f} s ",
            end="",
        )
    assert result["failed"] == []
