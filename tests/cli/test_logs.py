"""`logs`, as a user sees it: how jobs ended, and a log followed while another process writes it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Start
from tests.fakes import key
from tests.index import Index
from tests.store.conftest import ended_process
from tests.wheels import build_wheel
from xinference_venv.inventory.job_log import LogEnding, LogHeader, Outcome
from xinference_venv.store.logs import log_path
from xinference_venv.store.process_identity import this_process
from xinference_venv.store.store import Store

ENDINGS = {
    "ready": LogEnding(outcome=Outcome.READY, ended=103.25),
    "failed": LogEnding.failed("uv_failed", "no such package", ended=103.25),
    "cancelled": LogEnding(outcome=Outcome.CANCELLED, ended=160.0),
}


@pytest.fixture
def store(environ: Mapping[str, str]) -> Store:
    return Store.open(Path(environ["XINFERENCE_HOME"], "virtualenv"))


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def write(store: Store, number: int, *lines: str, died: bool = False) -> Path:
    """A log of ``a-model`` that this process began at second 100, or one that is dead."""
    header = LogHeader(
        key=key(),
        job_id=f"job{number}",
        started=100.0,
        owner=ended_process() if died else this_process(),
    )
    path = log_path(store.layout, f"20260101T000000.{number:06d}-job{number}")
    path.write_text("".join(f"{line}\n" for line in (header.line, *lines)), "utf-8")
    return path


def specify(path: Path, index: Index, *packages: str) -> Path:
    block = {"packages": packages, "index_url": index.url, "inherit_pip_config": False}
    path.write_text(json.dumps({"model_name": "toy", "virtualenv": block}))
    return path


def line_of(process: subprocess.Popen[str], pattern: str) -> str:
    """The first line that a running process prints and that matches."""
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(pattern, line):
            return line
    raise AssertionError(f"it ended without a line like {pattern!r}")


def test_logs_say_how_their_jobs_ended(run: Run, store: Store) -> None:
    for number, ending in enumerate(ENDINGS.values()):
        write(store, number, f"uv said {number}", ending.line)
    write(store, 3, "uv said 3")
    write(store, 4, "uv said 4", died=True)
    ran = run("logs", "a-model", "--count", "9")
    assert (ran.code, ran.err) == (0, "")
    headings = [line for line in ran.out.splitlines() if line.startswith("== a-model (Python 3.11")]
    for heading, words in zip(
        headings,
        (
            "died: process ",
            "running for ",
            "cancelled after 1 min 0 s: ",
            "failed after 3.2 s (uv_failed): ",
            "ready after 3.2 s: ",
        ),
        strict=True,
    ):
        assert words in heading
    assert re.findall("uv said .", ran.out) == [f"uv said {number}" for number in (4, 3, 2, 1, 0)]
    assert "#ended" not in ran.out


def test_logs_in_json_name_state_and_times(run: Run, store: Store) -> None:
    path = write(store, 1, "uv said", ENDINGS["failed"].line)
    ran = run("logs", "a-model", "--json")
    [log] = json.loads(ran.out)["list"]
    assert log["key"] == key().to_dict()
    assert {name: log[name] for name in ("job_id", "started", "ended", "outcome", "text")} == {
        "job_id": "job1",
        "started": 100.0,
        "ended": 103.25,
        "outcome": "failed",
        "text": "uv said\n",
    }
    assert log["error"] == {"code": "uv_failed", "message": "no such package"}
    assert (log["log_id"], log["path"]) == (path.stem, str(path))


def test_what_a_build_printed_does_not_reach_the_terminal_as_commands(
    run: Run, store: Store
) -> None:
    write(store, 1, "\x1b[2Jcleared\x07\x9btail", ENDINGS["ready"].line)
    for words in ([], ["--follow"]):
        ran = run("logs", "a-model", *words)
        assert "\\x1b[2Jcleared" in ran.out
        assert {"\x1b", "\x07", "\x9b"}.isdisjoint(ran.out)


def test_to_follow_what_has_ended_prints_it_and_ends(run: Run, store: Store) -> None:
    path = write(store, 1, "one", "two", ENDINGS["failed"].line)
    ran = run("logs", "a-model", "-f")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        f"== a-model (Python 3.11, engine vllm): {path}\none\ntwo\n"
        "== failed after 3.2 s (uv_failed)\n"
    )


def test_a_log_that_another_process_writes_is_followed_to_its_end(
    start: Start, store: Store
) -> None:
    path = write(store, 1, "one")
    process = start("logs", "a-model", "--follow")
    line_of(process, "one")
    with path.open("a") as file:
        file.write("two\nthr")
        file.flush()
        assert line_of(process, "") == "two\n"
        file.write(f"ee\n{ENDINGS['ready'].line}\n")
    assert ended(process) == (0, "three\n== ready after 3.2 s\n", "")


def test_a_follower_learns_that_the_writing_process_died(run: Run, store: Store) -> None:
    write(store, 1, "one", died=True)
    ran = run("logs", "a-model", "--follow")
    assert ran.code == 0
    assert re.search(r"\none\n== died: process \d+ ended and left the job unfinished\n$", ran.out)


def test_ctrl_c_ends_a_follower_and_nothing_else(start: Start, store: Store) -> None:
    path = write(store, 1, "one")
    process = start("logs", "a-model", "--follow")
    line_of(process, "one")
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "", "")
    assert path.read_text().endswith("one\n")


@pytest.mark.uv
def test_a_launch_of_another_process_is_followed_until_it_is_killed(
    start: Start, index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "toy-model", "1.0")
    index.hang("/simple/toy-model/")
    spec = specify(tmp_path / "toy.json", index, "toy-model")
    launch = start("launch", "toy", "--spec", spec)
    index.wait_for_request("/simple/toy-model/", timeout=60)
    follower = start("logs", "toy", "--follow")
    assert line_of(follower, "resolving") == "resolving 1 requirement\n"
    os.kill(launch.pid, signal.SIGKILL)
    launch.wait()
    code, out, err = ended(follower)
    assert (code, err) == (0, "")
    assert out.endswith(f"== died: process {launch.pid} ended and left the job unfinished\n")


@pytest.mark.uv
def test_a_failed_launch_leaves_uvs_words_and_no_credential(
    run: Run, store: Store, index: Index, tmp_path: Path
) -> None:
    with_secret = index.url.replace("://", "://someone:hunter22hunter22@")
    block = {"packages": ["absent-package"], "index_url": with_secret, "inherit_pip_config": False}
    spec = tmp_path / "toy.json"
    spec.write_text(json.dumps({"model_name": "toy", "virtualenv": block}))
    assert run("launch", "toy", "--spec", spec).code == 5
    ran = run("logs", "toy")
    assert ran.code == 0
    assert "failed after " in ran.out
    assert "(resolution_failed)" in ran.out
    assert "absent-package was not found" in ran.out
    [log] = store.layout.logs.iterdir()
    assert "hunter22" not in log.read_text()


@pytest.mark.parametrize(
    "words", [["--follow", "--json"], ["-f", "--count", "2"], ["--count", "0"]]
)
def test_bad_options_are_refused(run: Run, words: list[str]) -> None:
    ran = run("logs", "a-model", *words)
    assert ran.code == 2
    assert (
        "--follow can't be combined with --json and --count." in ran.out + ran.err
        or "x>=1" in ran.err
    )


@pytest.mark.parametrize("words", [[], ["--follow"]])
def test_where_there_is_no_log_it_is_reported(run: Run, words: list[str]) -> None:
    ran = run("logs", "absent", *words)
    assert (ran.code, ran.out) == (3, "")
    assert "there is no log of 'absent'" in ran.err
