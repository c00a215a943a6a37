"""`exec` and `lock`: a command in an environment that is ready, and its lock as a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Start, specify
from tests.index import Index
from tests.wheels import build_wheel

pytestmark = pytest.mark.uv


@pytest.fixture
def ready(run: Run, index: Index, tmp_path: Path) -> Path:
    """The specification of a model ``toy`` whose environment is ready."""
    build_wheel(tmp_path / "wheels", "small", "1.0", modules={"small.py": "VALUE = 42\n"})
    spec = specify(tmp_path / "toy.json", index, "toy", "small")
    made = run("launch", "toy", "--spec", spec)
    assert made.code == 0, made.err
    return spec


def execute(environ: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "xinference_venv", "exec", *words]
    return subprocess.run(program, env=dict(environ), capture_output=True, text=True)


def test_a_command_sees_the_packages_of_the_environment(
    ready: Path, environ: Mapping[str, str]
) -> None:
    ran = execute(environ, "toy", "--", "python", "-c", "import small; print(small.VALUE)")
    assert (ran.returncode, ran.stdout) == (0, "42\n"), ran.stderr


def test_its_exit_code_is_passed_on(ready: Path, environ: Mapping[str, str]) -> None:
    assert execute(environ, "toy", "sh", "-c", "exit 7").returncode == 7


def test_options_of_the_command_are_its_own(ready: Path, environ: Mapping[str, str]) -> None:
    ran = execute(environ, "--python-version", "3", "toy", "python", "--version")
    assert ran.returncode == 2
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    ran = execute(environ, "--python-version", minor, "toy", "python", "--version")
    assert ran.stdout.startswith(f"Python {minor}.")


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/etc/passwd", 126)])
def test_what_can_not_be_run_ends_as_a_shell_says_it(
    ready: Path, environ: Mapping[str, str], command: str, code: int
) -> None:
    ran = execute(environ, "toy", "--", command)
    assert ran.returncode == code
    assert f"error: {command!r} can't be run" in ran.stderr


def test_the_environment_is_in_use_as_long_as_the_command_runs(
    ready: Path, run: Run, start: Start
) -> None:
    command = "import small, signal; print(small.VALUE, flush=True); signal.pause()"
    process = start("exec", "toy", "--", "python", "-c", command)
    assert process.stdout is not None
    assert process.stdout.readline() == "42\n"
    [lease] = run("leases", "--json").json["list"]
    assert lease["process"]["pid"] == process.pid
    refused = run("remove", "toy")
    assert refused.code == 4
    # A signal reaches the command itself, which has taken the place of the program.
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM
    assert run("leases", "--json").json["list"] == []
    assert run("remove", "toy").code == 0


def test_without_an_environment_that_is_ready_the_way_to_one_is_named(run: Run) -> None:
    for words in (("exec", "toy", "--", "true"), ("lock", "toy")):
        ran = run(*words)
        assert ran.code == 3
        assert "hint: make one: xinference-venv launch toy" in ran.err


def test_an_option_of_the_command_does_not_make_a_document_of_an_error(run: Run) -> None:
    ran = run("exec", "toy", "--", "tool", "--json")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("error: there is no environment of 'toy' that is ready\n")


@pytest.mark.parametrize(
    "words", [("toy",), ("toy", "--"), ("toy", "--engine", "vllm", "--", "true")], ids=" ".join
)
def test_a_command_that_is_none_is_refused(run: Run, words: tuple[str, ...]) -> None:
    ran = run("exec", *words)
    assert ran.code == 2
    assert "COMMAND" in ran.err


def test_of_several_environments_of_a_model_options_name_one(
    ready: Path, run: Run, environ: Mapping[str, str]
) -> None:
    assert run("launch", "toy", "--spec", ready, "--engine", "other", "--any-engine").code == 0
    ran = execute(environ, "toy", "--", "true")
    assert ran.returncode == 2
    assert "'toy' matches 2 environments\nhint: choose one: --engine '' --python-v" in ran.stderr
    assert execute(environ, "--engine", "", "toy", "--", "true").returncode == 0
    assert execute(environ, "--engine", "other", "toy", "--", "true").returncode == 0


def test_the_lock_is_a_file_that_uv_installs_from(
    ready: Path, run: Run, environ: Mapping[str, str], tmp_path: Path
) -> None:
    printed = run("lock", "toy")
    assert printed.code == 0
    [package] = tomllib.loads(printed.out)["packages"]
    assert (package["name"], package["version"]) == ("small", "1.0")
    assert package["wheels"][0]["hashes"]["sha256"]
    lock = tmp_path / "pylock.toml"
    lock.write_text(printed.out)
    for words in (["venv", "fresh"], ["pip", "sync", "--python", "fresh", str(lock)]):
        subprocess.run(["uv", *words], cwd=tmp_path, env=dict(environ), check=True)
    found = subprocess.run(
        [tmp_path / "fresh" / "bin" / "python", "-c", "import small; print(small.VALUE)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "42\n"


def test_what_is_inherited_stands_in_the_comments_of_the_lock(
    run: Run, index: Index, tmp_path: Path
) -> None:
    spec = specify(tmp_path / "toy.json", index, "toy", "xoscar")
    assert run("launch", "toy", "--spec", spec).code == 0
    printed = run("lock", "toy").out
    assert "# Inherited from the host, and no part of this lock:\n" in printed
    assert "#   xoscar==" in printed
    assert tomllib.loads(printed)["packages"] == []


def test_variables_of_the_caller_reach_the_command(ready: Path, environ: Mapping[str, str]) -> None:
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    ran = execute(
        {**environ, "MINE": "yes", "PYTHONPATH": "/nowhere"}, "toy", "--", "python", "-c", code
    )
    variables = json.loads(ran.stdout)
    assert variables["MINE"] == "yes"
    assert "PYTHONPATH" not in variables
    assert variables["PATH"].startswith(f"{variables['VIRTUAL_ENV']}{os.sep}bin:")
