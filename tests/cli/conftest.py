"""What tests of commands share: running one here or as a process, a model, a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import Daemons, daemons
from tests.index import Index
from tests.wheels import build_wheel
from xinference_venv.cli import main

ACTORS = """\
import asyncio, os
import xoscar as xo

class Toy(xo.Actor):
    def __init__(self, mark, words=()):
        print("made")
        with open(mark, "w") as file:
            file.write(" ".join(words))

class Fails(xo.Actor):
    def __init__(self):
        raise OSError("no weights")

class Exits(xo.Actor):
    def __init__(self):
        os._exit(3)

class ExitsLater(xo.Actor):
    async def __post_create__(self):
        asyncio.get_running_loop().call_later(0.5, os._exit, 4)

class Other:
    pass
"""


@dataclass(frozen=True, kw_only=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(
    environ: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command line in this process."""
    for name in os.environ.keys() - environ.keys():
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    def run(*words: str | Path) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Ran(code=code, out=captured.out, err=captured.err)

    return run


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(environ: Mapping[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start a command line as a process."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "xinference_venv", *words],
            env=dict(environ),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def spec(index: Index, tmp_path: Path) -> Path:
    """A specification of the model ``toy``, whose package has a dependency and actors."""
    build_wheel(
        tmp_path / "wheels",
        "toy-model",
        "1.0",
        requires=["toy-dependency"],
        modules={"toy_model/__init__.py": "", "toy_model/actors.py": ACTORS},
    )
    build_wheel(tmp_path / "wheels", "toy-dependency", "2.0")
    return specify(tmp_path / "toy.json", index, "toy", "toy-model", "xoscar")


def specify(path: Path, index: Index, name: str, *packages: str) -> Path:
    block = {"packages": packages, "index_url": index.url}
    path.write_text(json.dumps({"model_name": name, "virtualenv": block}))
    return path


def store_of(environ: Mapping[str, str]) -> Path:
    return Path(environ["XINFERENCE_HOME"], "virtualenv", "store")


def document_of(process: subprocess.Popen[str]) -> Any:
    """The JSON document that a running process printed."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            break
    return json.loads("".join(lines))


@pytest.fixture
def serving(tmp_path: Path, environ: Mapping[str, str]) -> Iterator[Daemons]:
    with daemons(tmp_path / "daemons", environ) as running:
        yield running
