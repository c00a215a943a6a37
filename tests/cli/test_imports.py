"""What a command that only looks at this host does not import: what takes long, and grows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import specify
from tests.daemons import eventually
from tests.index import Index
from tests.wheels import build_wheel

_HEAVY = {
    *("xoscar", "torch", "pandas", "numpy", "fastapi", "uvicorn", "pydantic", "prometheus_client"),
    *("asyncio", "rich", "psutil", "multiprocessing", "concurrent.futures", "ssl"),
    *("xinference_venv.client", "xinference_venv.actors", "xinference_venv.uv"),
    *("xinference_venv.planning.spec", "xinference_venv.service.worker_service"),
}
_PROGRAM = """
import json, sys
from xinference_venv.cli import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]))
"""
_PACKAGES = {"packaging", "packaging.utils"}


def imported(environ: Mapping[str, str], *words: str) -> tuple[int, set[str]]:
    """The exit code of a command line, and the modules that its process has at the end."""
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words], env=dict(environ), capture_output=True, text=True
    )
    code, modules = json.loads(ran.stdout.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--version"], 0),
        (["list"], 0),
        (["list", "--json"], 0),
        (["leases"], 0),
        (["models"], 0),
        (["packages", "toy"], 3),
        (["show", "toy"], 3),
        (["explain", "toy"], 3),
        (["diff", "toy", "toy2"], 3),
        (["logs", "toy"], 3),
        (["completion", "bash"], 0),
        (["lst"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_only_looks_imports_nothing_heavy(
    words: list[str], code: int, environ: Mapping[str, str]
) -> None:
    ended, modules = imported(environ, *words)
    assert ended == code
    assert not modules & _HEAVY


@pytest.mark.parametrize("words", [["list"], ["leases"], ["logs", "toy"]], ids=" ".join)
def test_what_lists_does_without_the_rules_of_packages(
    words: list[str], environ: Mapping[str, str]
) -> None:
    _, modules = imported(environ, *words)
    assert not modules & _PACKAGES


def test_a_shell_is_offered_models_without_anything_heavy(environ: Mapping[str, str]) -> None:
    asked = {
        "_XINFERENCE_VENV_COMPLETE": "bash_complete",
        "COMP_WORDS": "xinference-venv packages qwen",
        "COMP_CWORD": "2",
    }
    program = (
        "import sys\nfrom xinference_venv.cli import main\n"
        "try:\n    main([])\nfinally:\n    print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], env={**environ, **asked}, capture_output=True, text=True
    )
    assert "plain,qwen" in ran.stdout
    assert not set(ran.stderr.split()) & _HEAVY


@pytest.mark.uv
def test_an_environment_that_is_there_is_listed_without_anything_heavy(
    environ: Mapping[str, str], index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "small", "1.0")
    spec = specify(tmp_path / "toy.json", index, "toy", "small")
    launch = ["launch", "toy", "--spec", str(spec)]
    made = subprocess.run(
        [sys.executable, "-m", "xinference_venv", *launch],
        env=dict(environ),
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    trees = "xinference_venv.store.packages.package_store"
    diagnosis = (["doctor"], {"xoscar", "psutil", "xinference_venv.uv.subprocess", trees})
    eventually(lambda: not imported(environ, *diagnosis[0])[1] & diagnosis[1])
    for words in (["list"], ["packages", "toy"], ["show", "toy"], ["logs", "toy"], ["leases"]):
        code, modules = imported(environ, *words)
        assert code == 0
        assert not modules & _HEAVY, words
    planned, modules = imported(environ, "remove", "toy", "--dry-run")
    assert planned == 0
    assert modules & _HEAVY <= {"xinference_venv.planning.spec"}
    for words in (["verify"], ["gc", "--dry-run"]):
        code, modules = imported(environ, *words)
        assert code == 0
        assert not {"xoscar", "xinference_venv.client"} & modules
