"""The launcher of an environment, run by the system as a model process would be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import interpreter
from tests.store.conftest import make_venv
from xinference_venv.store.atomic import Disk
from xinference_venv.store.envs.launcher import (
    LAUNCHER_NAME,
    UNSET_VARIABLE,
    launcher_script,
    write_launcher,
)

pytestmark = pytest.mark.uv

LOOK = """
import json, os, sys
print(json.dumps({
    "environ": dict(os.environ), "path": sys.path, "prefix": sys.prefix, "arguments": sys.argv[1:],
    "safe": sys.flags.safe_path, "cache": sys.pycache_prefix, "pid": os.getpid(),
    "working_directory": os.getcwd(),
}))
"""


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """An environment with a launcher; its path has a blank and what shells mind."""
    place = tmp_path / "an env's $(place)"
    make_venv(place)
    write_launcher(Disk(), place, interpreter(".".join(map(str, sys.version_info[:3]))))
    return place


@pytest.fixture
def strays(tmp_path: Path) -> Path:
    """A folder with modules that must never be found."""
    folder = tmp_path / "strays"
    folder.mkdir()
    for name in ("six", "json", "model"):
        (folder / f"{name}.py").write_text("raise SystemExit('a stray module was imported')")
    return folder


def run(
    env: Path,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [env / "bin" / LAUNCHER_NAME, *arguments],
        env={"PATH": os.environ["PATH"], **(environ or {})},
        cwd=folder or env,
        capture_output=True,
        text=True,
        check=False,
    )


def look(env: Path, *arguments: str, **how: Any) -> Any:
    done = run(env, "-c", LOOK, *arguments, **how)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_the_interpreter_of_the_environment_is_started_with_its_variables(env: Path) -> None:
    found = look(env)
    assert found["prefix"] == str(env)
    assert found["safe"]
    assert found["environ"]["VIRTUAL_ENV"] == str(env)
    assert found["environ"]["PATH"] == f"{env / 'bin'}:{os.environ['PATH']}"
    assert found["cache"] is None
    assert found["environ"]["NUMBA_CACHE_DIR"] == str(env / "cache" / "numba")


def test_by_a_relative_path_it_names_absolute_ones(env: Path) -> None:
    done = subprocess.run(
        [f"{env.name}/bin/{LAUNCHER_NAME}", "-c", LOOK],
        cwd=env.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)["environ"]
    assert (found["VIRTUAL_ENV"], found["PATH"].partition(":")[0]) == (str(env), str(env / "bin"))
    assert found["NUMBA_CACHE_DIR"] == str(env / "cache" / "numba")


def test_a_cache_of_ones_own_stays(env: Path) -> None:
    assert look(env, environ={"NUMBA_CACHE_DIR": "/mine"})["environ"]["NUMBA_CACHE_DIR"] == "/mine"


def test_what_leads_python_elsewhere_is_unset(env: Path, strays: Path) -> None:
    names = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__")
    environ = {**dict.fromkeys(names, str(strays)), "PYTHONHOME": "/nowhere"}
    found = look(env, environ=environ)
    assert not environ.keys() & found["environ"].keys()
    assert str(strays) not in found["path"]


def test_the_variables_that_the_starter_names_are_unset_and_all_others_stay(env: Path) -> None:
    environ = {
        UNSET_VARIABLE: "UV_INDEX PIP_INDEX_URL NOT_SET",
        "UV_INDEX": "secret",
        "PIP_INDEX_URL": "secret",
        "HF_TOKEN": "kept",
        "UV_INDEX_ALIKE": "kept",
        "PYTHONUNBUFFERED": "1",
    }
    found = look(env, environ=environ)["environ"]
    assert "secret" not in found.values()
    assert UNSET_VARIABLE not in found
    assert (found["HF_TOKEN"], found["UV_INDEX_ALIKE"]) == ("kept", "kept")
    assert found["PYTHONUNBUFFERED"] == "1"


def test_nothing_has_to_be_named_to_be_unset(env: Path) -> None:
    for environ in ({}, {UNSET_VARIABLE: ""}):
        assert UNSET_VARIABLE not in look(env, environ=environ)["environ"]


def test_arguments_pass_as_they_are(env: Path) -> None:
    arguments = ["a b", "", "$HOME", "`id`", "*", "-x", "--", "'\"", "é\n"]
    assert look(env, *arguments)["arguments"] == arguments


@pytest.mark.parametrize("how", ["working directory", "PYTHONPATH", "both"])
def test_a_loose_module_does_not_win(env: Path, strays: Path, how: str) -> None:
    [site] = env.glob("lib/python3*/site-packages")
    (site / "six.py").write_text("print('of the environment')")
    (site / "model.py").write_text("import six, json")
    environ = {} if how == "working directory" else {"PYTHONPATH": f"{strays}:"}
    folder = None if how == "PYTHONPATH" else strays
    # As xoscar starts its sub pools: with -m.
    for arguments in (["-m", "model"], ["-c", "import model"]):
        done = run(env, *arguments, environ=environ, folder=folder)
        assert (done.stdout, done.stderr) == ("of the environment\n", "")


def test_the_working_directory_is_kept_and_is_not_on_the_search_path(
    env: Path, strays: Path
) -> None:
    found = look(env, folder=strays)
    assert found["working_directory"] == str(strays)
    assert not {"", str(strays)} & set(found["path"])


def test_children_are_as_safe_as_the_process_itself(env: Path, strays: Path) -> None:
    script = """
import multiprocessing, sys

def child():
    import six
    print(sys.flags.safe_path, sys.prefix, flush=True)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""
    [site] = env.glob("lib/python3*/site-packages")
    (site / "six.py").write_text("")
    (site / "starter.py").write_text(script)
    done = run(env, "-m", "starter", folder=strays, environ={"PYTHONPATH": str(strays)})
    assert (done.stdout, done.stderr) == (f"True {env}\n", "")


def test_the_launcher_becomes_the_interpreter(env: Path) -> None:
    """The pid that the starter knows is the model's own, which the lease is bound to."""
    with subprocess.Popen(
        [env / "bin" / LAUNCHER_NAME, "-c", LOOK], stdout=subprocess.PIPE, text=True
    ) as started:
        output, _ = started.communicate()
    assert json.loads(output)["pid"] == started.pid
    assert run(env, "-c", "import os; os._exit(7)").returncode == 7


def test_it_still_works_where_the_environment_was_moved_to(env: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    env.rename(moved)
    found = look(moved)
    assert found["prefix"] == found["environ"]["VIRTUAL_ENV"] == str(moved)


def test_an_old_interpreter_is_started_where_no_module_lies() -> None:
    old = launcher_script(interpreter("3.10.13"))
    assert 'cd "$here" && exec "$here/python" "$@"' in old
    assert " -P " not in old
    assert 'exec "$here/python" -P "$@"' in launcher_script(interpreter("3.11.0"))
