"""The ways in: the call, the extension, and the command in front of Xinference's own."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wheels import fake_distribution
from xinference_venv.errors import InvalidRequirement, ResolutionFailed
from xinference_venv.planning.displacement import Older, kept_warning
from xinference_venv.store.drop_in import EXTENSION
from xinference_venv.xinference import extension
from xinference_venv.xinference.builtin_errors import built_in_errors, without_ours
from xinference_venv.xinference.compiling import COMPILING
from xinference_venv.xinference.extension import with_extension

# A console script that starts a process, in which Xinference's own loading is done by hand.
_APPLICATION = """
import subprocess, sys
def main():
    from xoscar.virtualenv import get_virtual_env_manager
    print(sys.argv, type(get_virtual_env_manager("uv", "/nowhere")).__name__)
    child = (
        "import importlib, os\\n"
        "module, _, factory = os.environ['XINFERENCE_EXTENSIONS'].partition(':')\\n"
        "print(getattr(importlib.import_module(module), factory)().name)\\n"
        "from xoscar.virtualenv import get_virtual_env_manager\\n"
        "print(type(get_virtual_env_manager('uv', '/nowhere')).__name__)"
    )
    sys.stdout.flush()
    return subprocess.run([sys.executable, "-c", child]).returncode
"""


def test_the_command_and_what_it_starts_have_our_managers(tmp_path: Path) -> None:
    fake_distribution(
        tmp_path,
        "application",
        "1.0",
        files={"application.py": _APPLICATION},
        entry_points={"application-local": "application:main"},
    )
    done = subprocess.run(
        [sys.executable, "-m", "xinference_venv.xinference", "application-local", "--port", "1"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "['application-local', '--port', '1'] InPlaceEnvManager",
        "xinference_venv",
        "InPlaceEnvManager",
    ], done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("arguments", [[], ["no-such-script"]])
def test_without_a_command_of_a_distribution_the_use_is_shown(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xinference_venv.xinference", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "usage: python -m xinference_venv.xinference COMMAND" in done.stderr


def test_the_extension_is_named_once_among_others() -> None:
    assert with_extension("") == EXTENSION
    assert with_extension("mine:factory, ") == f"mine:factory,{EXTENSION}"
    assert with_extension(f"{EXTENSION},mine:factory") == f"{EXTENSION},mine:factory"


def test_the_extension_says_what_it_is_and_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XINFERENCE_HOME", str(tmp_path))
    monkeypatch.setenv("XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT", "600")
    caplog.set_level(logging.INFO)
    started: list[object] = []
    monkeypatch.setattr(COMPILING, "start", started.append)
    made = extension()
    settings = {"XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT": "600"}
    assert made.worker_metadata()["settings"].items() >= settings.items()
    assert f"makes the virtual environments of models, below {tmp_path}/virtualenv" in caplog.text
    assert "XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT=600" in caplog.text
    assert [each.name for each in caplog.records] == ["xinference.xinference_venv"]
    assert started == [os.environ]
    assert made.lock is not None
    os.close(made.lock)
    assert made.filter_worker_resources({"gpu_devices": [0, 1]}, []) == [0, 1]
    with pytest.raises(ValueError, match="no operation"):
        made.control_operation("anything", {})


def test_a_warning_names_no_way_out_that_a_user_of_xinference_does_not_have() -> None:
    older = Older(name="app", version="2.1", newest="2.9", by=None)
    assert without_ours(kept_warning(older)).endswith("; ask for app>=2.9 to have it")


def test_errors_leave_as_built_in_ones_that_every_process_can_read() -> None:
    with pytest.raises(RuntimeError) as failed, built_in_errors("It failed"):
        raise ResolutionFailed("no solution", {"hint": "ask for others"})
    assert str(failed.value) == "It failed: no solution\nHint: ask for others"
    for hint in ("ask for others; or launch with --inherit none", "ask for others"):
        with pytest.raises(RuntimeError, match=r"Hint: ask for others$"), built_in_errors("Failed"):
            raise ResolutionFailed("no solution", {"hint": hint})
    assert type(pickle.loads(pickle.dumps(failed.value))) is RuntimeError
    assert failed.value.__cause__ is None
    with (
        pytest.raises(ValueError, match="It failed: not a requirement"),
        built_in_errors("It failed"),
    ):
        raise InvalidRequirement("not a requirement")
