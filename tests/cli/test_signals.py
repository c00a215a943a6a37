"""Ctrl-C, SIGTERM, SIGHUP and closed pipes: documented exit codes, nothing left behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import Start, specify, store_of
from tests.daemons import eventually
from tests.index import Index
from tests.wheels import build_wheel
from xinference_venv.cli.help import EXIT_CODES
from xinference_venv.errors import StoreError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def spec(index: Index, tmp_path: Path) -> Path:
    build_wheel(tmp_path / "wheels", "small", "1.0")
    return specify(tmp_path / "toy.json", index, "toy", "small")


def remains(environ: Mapping[str, str]) -> list[str]:
    """What a launch left: staged files, and processes that know the home."""
    home = environ["XINFERENCE_HOME"]
    staging = store_of(environ) / "staging"
    found = [str(each) for each in staging.iterdir()] if staging.exists() else []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("XINFERENCE_HOME") == home:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.mark.uv
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_launch_that_is_signalled_leaves_nothing(
    number: signal.Signals, start: Start, spec: Path, index: Index, environ: Mapping[str, str]
) -> None:
    index.hang("/files/small-*")
    launching = start("launch", "toy", "--spec", spec)
    index.wait_for_request("/files/small-*")
    launching.send_signal(number)
    out, err = launching.communicate(timeout=60)
    assert launching.returncode == 128 + number
    assert f"cancelled by {number.name}; nothing of it is left" in err
    assert out == ""
    eventually(lambda: remains(environ) == [])


# Gets a signal when it imports a module.
_SIGNALLED = """
import os, signal, sys
number, module, *words = sys.argv[1:]

class Importing:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Importing())
sys.argv = ["xinference-venv", *words]
from xinference_venv.__main__ import run
sys.exit(run())
"""


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("click", ["list"]),
        ("xinference_venv.cli.listing", ["list"]),
        ("asyncio", ["doctor"]),
        ("xoscar", ["gc"]),
        ("xinference_venv.actors.worker", ["gc"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_signalled_while_it_imports_ends_with_our_words(
    number: signal.Signals,
    module: str,
    words: list[str],
    environ: Mapping[str, str],
    tmp_path: Path,
) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", _SIGNALLED, str(int(number)), module, *words],
        env={**environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
    )
    expected = f"error: cancelled by {number.name}; nothing of it is left\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (128 + number, "", expected)
    assert list(temporary.iterdir()) == []


def test_with_json_a_signal_at_the_start_is_a_document(environ: Mapping[str, str]) -> None:
    number = signal.SIGTERM
    ran = subprocess.run(
        [sys.executable, "-c", _SIGNALLED, str(int(number)), "click", "list", "--json"],
        env=dict(environ),
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (128 + number, "")
    assert json.loads(ran.stdout)["error"]["code"] == "job_cancelled"


def test_what_is_ignored_from_the_start_stays_so(environ: Mapping[str, str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _SIGNALLED, str(int(signal.SIGHUP)), "click", "list"],
        env=dict(environ),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert ran.returncode == 0


@pytest.mark.uv
@pytest.mark.parametrize("command", ["launch", "prefetch"])
def test_a_launch_whose_progress_is_not_read_any_more_leaves_nothing(
    command: str, spec: Path, index: Index, environ: Mapping[str, str]
) -> None:
    reader, writer = os.pipe()
    program = [sys.executable, "-m", "xinference_venv", command, "toy", "--spec", str(spec)]
    index.hang("/files/small-*")
    launching = subprocess.Popen(
        program, env=dict(environ), stdout=writer, stderr=writer, text=True
    )
    os.close(writer)
    index.wait_for_request("/files/small-*")
    os.close(reader)
    index.release()
    assert launching.wait(60) == 128 + signal.SIGPIPE
    eventually(lambda: remains(environ) == [])


@pytest.mark.parametrize("words", [["models"], ["models", "--json"]], ids=" ".join)
def test_what_is_not_read_to_its_end_ends_as_by_sigpipe(
    words: list[str], environ: Mapping[str, str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", "xinference_venv", *words],
        env=dict(environ),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_output_that_is_cut_off_is_an_error(
    unbuffered: str, environ: Mapping[str, str], tmp_path: Path
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))

    with open(tmp_path / "models.json", "wb") as output:
        ran = subprocess.run(
            [sys.executable, "-m", "xinference_venv", "models", "--json"],
            env={**environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit,
        )
    assert ran.returncode == StoreError.exit_code
    assert "File too large" in ran.stderr
    assert "Exception ignored" not in ran.stderr


def test_a_wrong_command_has_its_exit_code_also_where_nothing_can_be_written(
    environ: Mapping[str, str],
) -> None:
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "xinference_venv", "lst"],
            env=dict(environ),
            stdout=full,
            stderr=full,
        )
    assert ran.returncode == 2


@pytest.mark.uv
def test_a_launch_whose_progress_finds_a_full_disk_goes_on(
    spec: Path, environ: Mapping[str, str]
) -> None:
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "xinference_venv", "launch", "toy", "--spec", str(spec)],
            env=dict(environ),
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
        )
    assert ran.returncode == 0
    assert ran.stdout.startswith("toy is ready\n")


def test_help_that_is_not_read_is_no_error_of_ours(environ: Mapping[str, str]) -> None:
    line = f"{sys.executable} -m xinference_venv --help | true; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(
        ["bash", "-c", line], env=dict(environ), capture_output=True, text=True, check=True
    )
    # What fits into the pipe may have been written before it was closed.
    assert ran.stdout.strip() in ("0", str(128 + signal.SIGPIPE))
    assert ran.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_following_a_log_ends_with_the_signal(
    number: signal.Signals, start: Start, environ: Mapping[str, str], spec: Path, index: Index
) -> None:
    index.hang("/files/small-*")
    launching = start("launch", "toy", "--spec", spec)
    index.wait_for_request("/files/small-*")
    following = start("logs", "toy", "--follow")
    assert following.stdout is not None
    assert following.stdout.readline().startswith("== toy")
    following.send_signal(number)
    assert following.wait(60) == 128 + number
    # To look is not to launch: that goes on.
    assert launching.poll() is None


def test_every_way_to_end_is_documented() -> None:
    codes = {code for code, _ in EXIT_CODES}
    assert {str(128 + number) for number in (*SIGNALS, signal.SIGPIPE)} <= codes
