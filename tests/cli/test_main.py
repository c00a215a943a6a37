from __future__ import annotations

import inspect
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import ACTORS, Run, Start, document_of, specify, store_of
from tests.index import Index
from xinference_venv import errors, settings
from xinference_venv._util.humanize import size_text
from xinference_venv.cli.completion import PROGRAM
from xinference_venv.cli.help import EXIT_CODES, VARIABLES
from xinference_venv.cli.render.launch import LaunchOutcome
from xinference_venv.inventory.jobs import PreparedEnvironment

DOCUMENTATION = Path(__file__).parents[2] / "docs"

# Launching


@pytest.mark.uv
def test_a_launch_prints_its_result_on_stdout_and_its_progress_on_stderr(
    run: Run, spec: Path, environ: Mapping[str, str]
) -> None:
    ran = run("launch", "toy", "--spec", spec)
    assert ran.code == 0
    assert ran.out.startswith("toy is ready\n")
    assert f"{environ['XINFERENCE_HOME']}/virtualenv/v3/toy/" in ran.out
    assert re.search(r"packages +2 installed, \d+ inherited from the host\n", ran.out)
    assert "\nresolving 2 requirements\n" in ran.err
    assert "downloading: 2 packages to install (0 of 2 packages)\n" in ran.err
    assert "error" not in ran.err


@pytest.mark.uv
def test_what_is_only_downloaded_is_there_for_the_launch_that_comes(run: Run, spec: Path) -> None:
    ahead = run("launch", "toy", "--spec", spec, "--download-only", "--json")
    assert ahead.code == 0
    assert run("leases", "--json").json["list"] == []
    launched = run("launch", "toy", "--spec", spec, "--json")
    assert launched.json["env_id"] == ahead.json["env_id"]
    refused = run("launch", "toy", "--spec", spec, "--download-only", "--dry-run")
    assert refused.code == 2
    assert "--download-only can't be combined with" in refused.err


@pytest.mark.uv
def test_several_models_are_brought_ahead_of_need_each_with_its_result(
    run: Run, spec: Path, index: Index, tmp_path: Path
) -> None:
    block = {"index_url": index.url}
    models = [
        {"model_name": name, "virtualenv": {"packages": packages, **block}}
        for name, packages in {
            "one": ["toy-model"],
            "two": ["toy-dependency"],
            "none": ["toy-model==9"],
        }.items()
    ]
    several = tmp_path / "several.json"
    several.write_text(json.dumps(models))
    brought = run("prefetch", "one", "two", "--spec", several)
    assert brought.code == 0, brought.err
    assert brought.out.startswith("2 of 2 models ready after ")
    assert "one: resolving 1 requirement\n" in brought.err
    assert "two: ready: " in brought.err
    assert run("leases", "--json").json["list"] == []
    again = run("launch", "one", "--spec", several, "--json")
    assert again.json["uv_calls"] == 0

    failed = run("prefetch", "none", "one", "--spec", several, "--json")
    assert (failed.code, failed.err) == (errors.ResolutionFailed.exit_code, "")
    none, one = failed.json["models"]
    assert (none["error"]["code"], one["error"]) == ("resolution_failed", None)
    assert [each["state"] for each in one["workers"]] == ["ready"]
    assert "1 of 2 models failed: none: " in failed.json["error"]["message"]


@pytest.mark.uv
def test_a_launch_in_json_is_one_document_and_a_second_one_takes_no_uv(
    run: Run, spec: Path
) -> None:
    first = run("launch", "toy", "--spec", spec, "--json")
    second = run("launch", "toy", "--spec", spec, "--json")
    assert (first.code, second.code, first.err, second.err) == (0, 0, "", "")
    assert first.json["uv_calls"] > 0
    assert second.json["uv_calls"] == 0
    assert first.json["env_id"] == second.json["env_id"]
    assert first.json["installed"] == 2
    assert first.json["process"] is None
    assert Path(first.json["python"]).is_file()


@pytest.mark.uv
def test_a_dry_run_shows_the_plan_and_makes_nothing(run: Run, spec: Path) -> None:
    ran = run("launch", "toy", "--spec", spec, "-vp", "toy-dependency==2.0", "--dry-run")
    assert ran.code == 0
    assert "toy-dependency==2.0  launch" in ran.out
    assert "Installed in the environment: 2 packages" in ran.out
    assert "Inherited from the host:" in ran.out
    raw = run("launch", "toy", "--spec", spec, "--dry-run", "--json").json
    assert {
        each["name"] for each in raw["lock"]["distributions"] if each["role"] == "installed"
    } == {
        "toy-model",
        "toy-dependency",
    }
    assert run("list", "--json").json["list"] == []


def test_a_launch_without_virtual_environment_names_the_hosts_interpreter(
    run: Run, spec: Path
) -> None:
    ran = run("launch", "toy", "--spec", spec, "--disable-virtual-env", "--json")
    assert (ran.code, ran.json["enabled"], ran.json["path"]) == (0, False, None)
    assert Path(ran.json["python"]).exists()
    dry = run("launch", "toy", "--spec", spec, "--disable-virtual-env", "--dry-run")
    assert "No environment would be built" in dry.out


@pytest.mark.uv
def test_what_has_no_solution_fails_with_uvs_words_and_leaves_nothing(
    run: Run, index: Index, tmp_path: Path, spec: Path
) -> None:
    bad = specify(tmp_path / "bad.json", index, "bad", "toy-model>5")
    ran = run("launch", "bad", "--spec", bad)
    assert (ran.code, ran.out) == (5, "")
    assert ran.err.count("you require toy-model>5") == 1
    assert "\nphase: resolving\n" in ran.err
    as_json = run("launch", "bad", "--spec", bad, "--json")
    assert as_json.code == 5
    assert as_json.json["error"]["code"] == "resolution_failed"
    assert run("list", "--json").json["list"] == []
    assert "toy-model>5" in run("logs", "bad").out


@pytest.mark.uv
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_launch_and_leaves_nothing(
    number: signal.Signals,
    code: int,
    run: Run,
    start: Start,
    spec: Path,
    index: Index,
    environ: Mapping[str, str],
) -> None:
    index.hang("/simple/toy-model/")
    process = start("launch", "toy", "--spec", spec)
    index.wait_for_request("/simple/toy-model/", timeout=60)
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("uv" in child.name() for child in children)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert (out, err.splitlines()[-1]) == (
        "",
        f"error: cancelled by {number.name}; nothing of it is left",
    )
    assert not any(child.is_running() for child in children)
    assert list((store_of(environ) / "staging").iterdir()) == []
    assert list((store_of(environ) / "processes").iterdir()) == []
    assert run("list", "--json").json["list"] == []


# Running a model


@pytest.mark.uv
def test_an_actor_runs_until_ctrl_c_and_its_environment_is_in_use_as_long(
    run: Run, start: Start, spec: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    words = ("launch", "toy", "--spec", spec, "--run", "toy_model.actors:Toy", "--json")
    process = start(*words, f"mark={mark}", 'words=["so", "be it"]')
    document = document_of(process)
    assert mark.read_text() == "so be it"
    assert document["process"]["uid"] == "toy"
    pid = document["process"]["pid"]
    assert psutil.Process(pid).parent() == psutil.Process(process.pid)

    assert f"toy, pid {pid}" in run("list").out
    refused = run("remove", "toy", "--json")
    assert refused.code == 4
    assert f"process {pid}" in refused.json["error"]["message"]
    [holder] = refused.json["error"]["details"]["holders"]
    assert holder["process"]["pid"] == pid
    assert "would be refused" in run("remove", "toy", "--dry-run").out

    # A terminal sends Ctrl-C to the model's process as well.
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "made\n" in err
    assert "Traceback" not in err
    assert not psutil.pid_exists(pid)
    assert run("list", "--json").json["list"][0]["leases"] == []
    assert run("remove", "toy").code == 0


@pytest.mark.uv
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("toy_model.actors:Fails", "no weights"),
        ("toy_model.actors:Other", "Other is not an xoscar actor class"),
        ("toy_model.actors:Missing", "has no attribute 'Missing'"),
        ("toy_absent.actors:Toy", "No module named 'toy_absent'"),
        ("toy_model.actors:Exits", "ended while toy_model.actors:Exits was created in it"),
    ],
)
def test_an_actor_that_cannot_be_created_fails_the_launch(
    target: str, words: str, start: Start, run: Run, spec: Path
) -> None:
    process = start("launch", "toy", "--spec", spec, "--run", target, "--json")
    out, _ = process.communicate(timeout=60)
    error = json.loads(out)["error"]
    assert (process.returncode, error["code"]) == (5, "model_start_failed")
    assert words in error["message"]
    assert ("--path" in error["details"].get("hint", "")) == (target == "toy_absent.actors:Toy")
    assert run("list", "--json").json["list"][0]["leases"] == []


@pytest.mark.uv
def test_an_actor_of_a_folder_is_found_and_its_process_may_end_by_itself(
    start: Start, run: Run, spec: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_actors.py").write_text(ACTORS)
    process = start(
        *("launch", "toy", "--spec", spec, "--run", "my_actors:ExitsLater", "--path", folder)
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"pid +\d+\n", out)
    assert err.endswith("error: the process of toy ended with exit status 4\n")
    assert run("list", "--json").json["list"][0]["leases"] == []


# The inventory


@pytest.mark.uv
def test_what_was_launched_is_listed_shown_and_removed(run: Run, spec: Path) -> None:
    made = run("launch", "toy", "--spec", spec, "--engine", "vLLM", "--json").json
    assert made["model_engine"] == "vllm"
    [entry] = run("list", "--json").json["list"]
    assert entry["real_path"] == made["real_path"]
    assert re.search("just now| ago", run("list", "toy", "--engine", "vllm").out)
    assert "`xinference-venv list` lists all" in run("list", "toy", "--engine", "sglang").out
    assert "did you mean toy?" in run("list", "toys").out

    # A wheel is smaller than what it takes: `list` and `explain` say the same of an environment.
    [explained] = run("explain", "toy", "--json").json["list"]
    on_disk = sum(each["size_bytes"] or 0 for each in explained["packages"])
    assert f"2 packages, {size_text(on_disk)}\n" in run("explain", "toy").out

    packages = run("packages", "toy", "--engine", "vllm").out
    assert re.search(r"^toy-dependency +2\.0 +installed ", packages, re.MULTILINE)
    [listed] = run("packages", "toy", "--json").json["list"]
    assert {"name": "toy-model", "role": "installed"}.items() <= next(
        each for each in listed["packages"] if each["name"] == "toy-model"
    ).items()

    assert "Installed 2 packages" in run("logs", "toy").out
    [log] = run("logs", "toy", "--count", "3", "--json").json["list"]
    assert log["key"]["model_engine"] == "vllm"

    assert run("remove", "toy", "--python-version", "3.8").code == 3
    assert "would be removed: toy" in run("remove", "toy", "--dry-run").out
    removed = run("remove", "toy")
    assert (removed.code, removed.out[:14]) == (0, "removed: toy (")
    again = run("remove", "toy")
    assert (again.code, again.out) == (3, "")
    assert "error: there is no environment of 'toy' that matches\n" in again.err
    assert not Path(made["real_path"]).exists()


@pytest.mark.parametrize(
    "words",
    [("packages",), ("logs",), ("leases",), ("lock",), ("export", "/nowhere")],
    ids=" ".join,
)
def test_a_misspelt_model_is_named_with_what_may_have_been_meant(
    run: Run, spec: Path, words: tuple[str, ...]
) -> None:
    assert run("launch", "toy", "--spec", spec).code == 0
    command, *more = words
    ran = run(command, "Toyy", *more)
    assert ran.code == 3
    assert "'Toyy'" in ran.err
    assert command == "export" or "hint: did you mean toy? " in ran.err
    assert "did you mean" not in run(command, "glow", *more).err


def test_removing_all_of_nothing_is_no_error(run: Run) -> None:
    ran = run("remove", "--all")
    assert (ran.code, ran.out) == (0, "There is nothing to remove.\n")


@pytest.mark.parametrize("words", [["remove"], ["remove", "toy", "--all"]])
def test_a_removal_needs_a_model_or_all(run: Run, words: list[str]) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert "Give either MODEL or --all." in ran.err


def test_the_models_are_listed(run: Run) -> None:
    assert re.search(r"^magika-1 .*magika==1\.0\.1", run("models").out, re.MULTILINE)
    names = [each["model_name"] for each in run("models", "--json").json["list"]]
    assert "GOT-OCR2_0" in names


@pytest.mark.parametrize("command", ["packages", "logs"])
def test_what_is_not_there_has_neither_packages_nor_logs(run: Run, command: str) -> None:
    ran = run(command, "absent", "--json")
    assert (ran.code, ran.json["error"]["code"]) == (3, "not_found")


# Errors


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["launch", ""], 2, "Invalid model name '': it is empty"),
        (["launch", ".."], 2, "Invalid model name '..'"),
        (["launch", "a\udcffb"], 2, "it contains"),
        (["launch", "toy", "--engine", "a/b"], 2, "Invalid engine name"),
        (["launch", "toy", "--python-version", "2.7"], 2, "Invalid Python version '2.7'"),
        (["launch", "toy", "--spec", "/absent.json"], 2, "/absent.json can't be read"),
        (["launch", "toy", "--run", "no class"], 2, "'no class' does not name a class"),
        (["launch", "toy", "mark=1"], 2, "NAME=VALUE and --path are for --run."),
        (["launch", "toy", "--run", "a:B", "--dry-run"], 2, "can't be combined"),
        (["launch", "toy", "--inherit", "some"], 2, "'some' is not one of"),
        (["launch"], 2, "Missing argument 'MODEL'"),
        (["launch", "absent-model"], 3, "has no model 'absent-model'"),
        (["list", "a/b"], 2, "Invalid model name 'a/b'"),
        (["list", "-o", "json"], 2, "'json' is not 'wide'. --json prints JSON."),
        (["logs", "toy", "--count", "0"], 2, "0 is not in the range x>=1"),
        (["absent-command"], 2, "No such command 'absent-command'"),
    ],
)
def test_bad_input_is_reported_without_a_traceback_in_text_and_in_json(
    run: Run, words: list[str], code: int, message: str
) -> None:
    text = run(*words)
    assert (text.code, text.out) == (code, "")
    assert message in text.err
    assert "Traceback" not in text.err
    as_json = run(*words, "--json")
    assert (as_json.code, as_json.err) == (code, "")
    assert message in as_json.json["error"]["message"]


def test_a_specification_must_have_the_model(run: Run, spec: Path) -> None:
    ran = run("launch", "other", "--spec", spec)
    assert ran.code == 3
    assert f"{spec} has no model 'other'\nhint: it has: toy\n" in ran.err


def test_a_bad_environment_variable_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XINFERENCE_VIRTUAL_ENV_UV_PROCESSES", "many")
    ran = run("list")
    assert ran.code == 2
    assert "XINFERENCE_VIRTUAL_ENV_UV_PROCESSES" in ran.err
    assert "\nhint: " in ran.err


def test_a_home_that_cannot_be_made_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XINFERENCE_HOME", str(tmp_path / "file" / "home"))
    ran = run("list", "--json")
    assert (ran.code, ran.json["error"]["code"]) == (6, "store_error")
    assert str(tmp_path / "file") in ran.json["error"]["message"]


# Help and documentation


def test_the_help_names_every_environment_variable_that_is_read(run: Run) -> None:
    source = inspect.getsource(settings.Settings)
    read = set(re.findall(r"``([A-Z_]{6,})``", source))
    assert {name for name, _ in VARIABLES} == read
    shown = run("--help")
    assert shown.code == 0
    assert all(name in shown.out for name in read)


def kinds(root: type[errors.VirtualEnvError]) -> Iterator[type[errors.VirtualEnvError]]:
    yield root
    for child in root.__subclasses__():
        # xoscar's dynamic subclasses have the module and the name of what they stand for.
        if vars(errors).get(child.__name__) is child:
            yield from kinds(child)


def test_the_documented_exit_codes_are_those_of_the_errors() -> None:
    rows = re.findall(
        r"^\| (\d+) \| (.*?) \|(.*)\|$", (DOCUMENTATION / "cli.md").read_text(), re.MULTILINE
    )
    documented = {code: set(re.findall(r"`(\w+)`", names)) for code, _, names in rows}
    expected: dict[str, set[str]] = {code: set() for code, _ in EXIT_CODES}
    for kind in set(kinds(errors.VirtualEnvError)):
        expected[str(kind.exit_code)].add(kind.code)
    expected["129"] = expected["143"] = {"job_cancelled"}
    assert documented == expected
    assert [(code, meaning) for code, meaning, _ in rows] == list(EXIT_CODES)


def test_the_documented_keys_of_a_launch_are_those_it_prints() -> None:
    outcome = LaunchOutcome(
        model_name="toy",
        model_engine=None,
        environment=PreparedEnvironment(enabled=False, python="python"),
        entry=None,
        elapsed=0.0,
    )
    text = (DOCUMENTATION / "json.md").read_text()
    section = text.partition("### `launch --json`")[2].partition("###")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(
        outcome.document().to_dict()
    )


_LIMITED = """
import resource
import xinference_venv.diagnosis.diagnose
import xinference_venv.cli.doctor
from xinference_venv.cli.main import main

pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (4 << 20),) * 2)
raise SystemExit(main(["doctor"]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads its own size as Linux has it")
def test_a_process_that_gets_no_more_memory_or_threads_says_which_limits_to_raise() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "error: the system gives this process no more" in done.stderr
    assert "`ulimit -v`" in done.stderr
    assert "Traceback" not in done.stderr


def test_files_that_are_too_large_for_a_limit_are_an_error_with_a_hint(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys; from pathlib import Path;"
        "from xinference_venv.store.atomic import Disk;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024));"
        "from xinference_venv.errors import StoreError\n"
        "try: Disk().write(Path(sys.argv[1]), bytes(4096), durable=False)\n"
        "except StoreError as error: print(error.details['hint'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "file")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "`ulimit -f`" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a file that takes nothing")
@pytest.mark.parametrize(
    "words",
    [
        *(("--help",), ("launch", "--help"), ("--version",), ("completion", "bash")),
        *(("list",), ("list", "--json"), ("absent", "--json")),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_an_output_that_takes_no_more_is_named(
    environ: Mapping[str, str], words: tuple[str, ...], unbuffered: str
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "xinference_venv", *words],
            env={**environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == (2 if words[0] == "absent" else 6)
    assert "Traceback" not in done.stderr
    if words[0] == "absent":
        assert "error: No such command 'absent'" in done.stderr
    else:
        assert "error: standard output can't be written: No space left on device" in done.stderr


def test_what_is_drawn_is_in_ascii_where_an_output_has_nothing_else(run: Run) -> None:
    assert run("--version").code == 0
    drawn = "├── größe…│└⠋".encode("ascii", PROGRAM)
    assert drawn == b"|-- gr\\xf6\\xdfe~|`*"


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_table_is_as_wide_as_the_terminal(environ: Mapping[str, str], unbuffered: str) -> None:
    ours, theirs = pty.openpty()
    try:
        termios.tcsetwinsize(theirs, (24, 160))
        subprocess.run(
            [sys.executable, "-m", "xinference_venv", "models"],
            env={**environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=theirs,
            check=True,
        )
        lines = os.read(ours, 65536).decode().splitlines()
    finally:
        os.close(theirs)
        os.close(ours)
    assert 80 < max(map(len, lines)) <= 160


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lsit"], "error: No such command 'lsit'.*\nhint: see `xinference-venv --help`\n"),
        (
            ["launch"],
            "error: Missing argument 'MODEL'.\nhint: see `xinference-venv launch --help`\n",
        ),
    ],
)
def test_a_command_line_that_is_not_understood_is_an_error_like_any_other(
    run: Run, words: list[str], said: str
) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert re.fullmatch(said, ran.err)
    assert run(*words, "--json").json["error"]["details"]["hint"] in said
    assert run().err.startswith("Usage: ")
