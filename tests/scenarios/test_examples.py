"""The examples where something stands in the way: the reason and what to do, no traceback."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.uv

_ROOT = Path(__file__).parents[2]
# Nothing listens at the port of the discard service.
_DEAD = "http://127.0.0.1:9/simple/"


@pytest.mark.parametrize("name", ["minilm", "serving_cluster"])
def test_an_example_without_an_index_ends_with_the_reason_and_what_to_do(
    name: str, tmp_path: Path, environ: dict[str, str]
) -> None:
    # The path of a socket has to be short.
    with tempfile.TemporaryDirectory() as sockets:
        ended = _run(name, tmp_path, {**environ, "PIP_INDEX_URL": _DEAD, "XOSCAR_DIR": sockets})
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("error: ")
    assert "127.0.0.1:9" in ended.stderr


def test_an_example_whose_sockets_have_no_place_names_the_variable_that_gives_one(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    ended = _run("minilm", tmp_path, {**environ, "XOSCAR_DIR": str(tmp_path / ("a" * 100))})
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "XOSCAR_DIR" in ended.stderr


def _run(name: str, folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(_ROOT / "examples" / f"{name}.py")],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
