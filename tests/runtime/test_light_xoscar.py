"""A process of this project loads xoscar without pandas, scipy's matrices and torch."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

_HEAVY = ("pandas.core", "scipy.sparse", "torch", "cupy", "cudf")
_IMPORT = """
from xinference_venv.runtime.light_xoscar import import_xoscar_lightly
import_xoscar_lightly()
"""
_POOL = """
import asyncio, sys
import xoscar as xo

class Echo(xo.Actor):
    def say(self, what):
        return what

async def main():
    pool = await xo.create_actor_pool("127.0.0.1:0", n_process=0)
    echo = await xo.create_actor(Echo, address=pool.external_address, uid="echo")
    assert await echo.say({"records": [1, "two", None]}) == {"records": [1, "two", None]}
    await pool.stop()

asyncio.run(main())
print(*(name for name in sys.argv[1:] if name in sys.modules))
"""


def run(program: str, path: Path) -> str:
    """What a program prints whose packages are ours and those of a folder."""
    done = subprocess.run(
        [sys.executable, "-c", program, *_HEAVY],
        env={**os.environ, "PYTHONPATH": f"{path}:{os.getcwd()}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if program.startswith(_IMPORT):
        # On Python 3.12.0 to 3.12.2 xoscar by itself ends with a traceback.
        assert not done.stderr
    return done.stdout


@pytest.fixture
def torch(tmp_path: Path) -> Path:
    """A folder with a torch."""
    (tmp_path / "torch.py").write_text("class Tensor: pass\n")
    return tmp_path


def test_a_pool_without_them_and_with_them(torch: Path) -> None:
    assert run(_IMPORT + _POOL, torch) == "\n"
    # What xoscar loads by itself; should it load less one day, this module is not needed.
    assert run(_POOL, torch).split() == ["pandas.core", "scipy.sparse", "torch"]


def test_who_wants_them_has_them_all_the_same(torch: Path) -> None:
    program = (
        "import pandas; print(pandas.DataFrame.__name__);"
        "import pandas.core.frame; from pandas import Series;"
        "import scipy.sparse; print(scipy.sparse.csr_matrix.__name__);"
        "import torch; print(torch.Tensor.__name__)"
    )
    for first in (_IMPORT + "import pandas.core\n", _IMPORT):
        assert run(first + program, torch).split() == ["DataFrame", "csr_matrix", "Tensor"]


def test_where_xoscar_was_imported_nothing_changes(torch: Path) -> None:
    assert "torch" in run("import xoscar\n" + _IMPORT + _POOL, torch).split()


def test_it_has_the_version_of_its_package_and_asks_no_git_for_it(
    torch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = torch / "git"
    git.write_text(f"#!/bin/sh\n: > {torch / 'asked'}\nexit 1\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{torch}{os.pathsep}{os.environ['PATH']}")
    version = "import xoscar; print(xoscar.__version__)"
    assert run(_IMPORT + version, torch).strip() == metadata.version("xoscar")
    assert not (torch / "asked").exists()
    # Should xoscar ask no git one day, this is not needed.
    run(version, torch)
    assert (torch / "asked").exists()
