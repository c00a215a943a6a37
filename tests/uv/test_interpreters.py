"""What is asked of interpreters and of uv, and of those that do not answer as they should."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.tags import sys_tags
from uv import find_uv_bin

from tests.wheels import fake_distribution
from xinference_venv.errors import DeadlineExceeded, PythonNotFound
from xinference_venv.planning.host import Accelerator, Interpreter
from xinference_venv.uv import argv, interpreter_kind, interpreters
from xinference_venv.uv.environment import scrubbed_environment
from xinference_venv.uv.interpreters import (
    check_environment,
    find_python,
    probe_accelerator,
    probe_interpreter,
)
from xinference_venv.uv.subprocess import ProcessRunner, Uv

REAL_PYTHON = os.path.realpath(sys.executable)


@pytest.fixture
def door(environ: dict[str, str]) -> ProcessRunner:
    environment = scrubbed_environment(environ, cache_dir=environ["UV_CACHE_DIR"])
    return ProcessRunner(environment=environment, slots=2)


@pytest.fixture
async def venv(door: ProcessRunner, tmp_path: Path) -> Path:
    """A fresh environment of the running interpreter."""
    env = tmp_path / "venv"
    uv = Uv(program=find_uv_bin(), door=door)
    await uv(argv.make_venv(path=str(env), python=sys.executable), deadline=60)
    return env


def site_packages(env: Path) -> Path:
    [found] = env.glob("lib/python3*/site-packages")
    return found


def holds_modules_of_python(folder: Path) -> bool:
    return folder.name == "lib-dynload" or (folder / "os.py").exists() or not folder.is_dir()


def program(folder: Path, name: str, script: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


# An interpreter says what it is


async def test_the_running_interpreter_says_what_it_is(door: ProcessRunner) -> None:
    found = await probe_interpreter(door, sys.executable)
    assert found.executable == sys.executable
    assert found.base_executable == REAL_PYTHON
    assert found.version == platform.python_version()
    assert found.tags == tuple(str(tag) for tag in sys_tags())
    markers = {key: value for key, value in default_environment().items() if key != "extra"}
    assert found.markers == markers
    assert sysconfig.get_path("purelib") in found.search_path


async def test_one_with_the_program_of_this_process_says_no_less_than_others(
    door: ProcessRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await probe_interpreter(door, sys.executable)
    # A patch release has taken its place since this process has started.
    monkeypatch.setattr(sys, "version", "an older build")
    monkeypatch.setattr("xinference_venv.uv.interpreter_kind.kind", dict)
    assert await probe_interpreter(door, sys.executable) == asked


def test_a_python_that_is_built_from_a_checkout_is_the_version_before_the_plus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.14.1+")
    found = interpreter_kind.kind()
    assert found["version"] == "3.14.1"
    assert isinstance(markers := found["markers"], dict)
    assert markers["python_full_version"] == "3.14.1"


async def test_the_search_path_has_no_standard_library_and_no_working_directory(
    door: ProcessRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = await probe_interpreter(door, sys.executable)
    assert found.search_path
    assert not {"", "/", str(tmp_path)} & set(found.search_path)
    assert [each for each in map(Path, found.search_path) if holds_modules_of_python(each)] == []


async def test_python_path_and_python_home_of_this_process_do_not_count(
    environ: dict[str, str], tmp_path: Path
) -> None:
    ambient = {**environ, "PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere"}
    environment = scrubbed_environment(ambient, cache_dir=None)
    found = await probe_interpreter(ProcessRunner(environment=environment, slots=1), sys.executable)
    assert str(tmp_path) not in found.search_path


async def test_an_environment_names_the_interpreter_it_was_made_from(
    door: ProcessRunner, venv: Path
) -> None:
    python = str(venv / "bin" / "python")
    host = await probe_interpreter(door, sys.executable)
    found = await probe_interpreter(door, python)
    assert found.executable == python
    assert found.base_executable == host.base_executable
    assert found.search_path == (str(site_packages(venv)),)
    assert found.platform_digest == host.platform_digest


async def test_folders_that_a_pth_adds_are_in_the_search_path_in_order(
    door: ProcessRunner, venv: Path, tmp_path: Path
) -> None:
    for name in ("project", "other"):
        (tmp_path / name).mkdir()
    site = site_packages(venv)
    lines = [tmp_path / "project", tmp_path / "absent", tmp_path / "other"]
    (site / "editable.pth").write_text("\n".join(map(str, lines)))
    found = await probe_interpreter(door, str(venv / "bin" / "python"))
    assert found.search_path == (str(site), str(tmp_path / "project"), str(tmp_path / "other"))


async def test_packages_of_the_interpreter_are_not_asked(door: ProcessRunner, venv: Path) -> None:
    poison = "raise SystemExit('imported a package of the host')"
    for name in ("packaging.py", "numpy.py", "torch.py"):
        (site_packages(venv) / name).write_text(poison)
    found = await probe_interpreter(door, str(venv / "bin" / "python"))
    assert found.tags


async def test_an_interpreter_that_prints_at_its_start_is_understood(
    door: ProcessRunner, venv: Path
) -> None:
    (site_packages(venv) / "chatty.pth").write_text("import sys; print('{\\n[ready]')\n")
    python = str(venv / "bin" / "python")
    found = await probe_interpreter(door, python)
    assert found.executable == python
    assert await check_environment(door, python, seen=[], unseen=[], deadline=30) == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "exit status 3"),
        ("echo python3.9: command not found >&2; exit 127", "python3.9: command not found"),
        ("echo ready", "Expecting value"),
        ("echo 3", "Expecting value"),
        ("echo '{\"executable\": 1}'", "Expecting value"),
        ("true", "Expecting value"),
    ],
)
async def test_a_broken_interpreter_is_named_with_its_words(
    door: ProcessRunner, tmp_path: Path, script: str, words: str
) -> None:
    broken = program(tmp_path, "python3", script)
    with pytest.raises(PythonNotFound) as caught:
        await probe_interpreter(door, broken)
    assert caught.value.message.startswith(f"the interpreter {broken} does not work: ")
    assert words in caught.value.message


async def test_a_free_threaded_build_is_refused_with_what_to_name_instead(
    door: ProcessRunner, tmp_path: Path
) -> None:
    abi = f"cp3{sys.version_info.minor}"
    # Without the words that say which build asks.
    says_so = f'{sys.executable} "$1" "$2" "$3" | sed s/{abi}-{abi}-/{abi}-{abi}t-/g'
    with pytest.raises(PythonNotFound, match="a free-threaded build of Python 3") as caught:
        await probe_interpreter(door, program(tmp_path, "python3", says_so))
    assert caught.value.hint == "name one that is built with the global interpreter lock"


async def test_an_interpreter_that_was_killed_is_asked_once_more(
    door: ProcessRunner, tmp_path: Path
) -> None:
    kills_itself_once = (
        f'mkdir {tmp_path}/once 2>/dev/null && kill -KILL $$\nexec {sys.executable} "$@"'
    )
    asked = await probe_interpreter(door, program(tmp_path, "python3", kills_itself_once))
    assert asked.version == platform.python_version()


async def test_an_interpreter_that_is_killed_each_time_says_so(
    door: ProcessRunner, tmp_path: Path
) -> None:
    with pytest.raises(PythonNotFound, match=r"it ended with signal 9 \(Killed\)"):
        await probe_interpreter(door, program(tmp_path, "python3", "kill -KILL $$"))


@pytest.mark.parametrize("what", ["absent", "a directory", "not executable", "no program"])
async def test_what_is_no_interpreter_is_named(
    door: ProcessRunner, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "python"
    if what == "a directory":
        path.mkdir()
    elif what != "absent":
        path.write_bytes(b"\x7fELF not really")
        path.chmod(0o644 if what == "not executable" else 0o755)
    with pytest.raises(PythonNotFound, match=f"the interpreter {path} does not work"):
        await probe_interpreter(door, str(path))


# uv finds interpreters


def listed(version: str, path: str, **changed: str) -> dict[str, Any]:
    entry = {"version": version, "path": path, "implementation": "cpython", "variant": "default"}
    return {**entry, **changed}


@pytest.fixture
def saying(tmp_path: Path) -> Callable[[Sequence[dict[str, Any]]], Uv]:
    """A uv whose list of interpreters is given."""

    def make(entries: Sequence[dict[str, Any]]) -> Uv:
        answer = tmp_path / "answer.json"
        answer.write_text(json.dumps(entries))
        fake = program(tmp_path, "uv", f"cat {answer}")
        return Uv(program=fake, door=ProcessRunner(environment={"PATH": "/usr/bin:/bin"}, slots=1))

    return make


async def find(uv: Uv, wanted: str) -> str:
    return await find_python(uv, wanted, allow_download=False, on_line=lambda _: None)


async def test_the_newest_of_a_minor_version_is_taken(
    saying: Callable[[Sequence[dict[str, Any]]], Uv],
) -> None:
    uv = saying([listed("3.11.9", "/a"), listed("3.11.10", "/b"), listed("3.12.1", "/c")])
    assert await find(uv, "3.11") == "/b"
    assert await find(uv, "3.11.9") == "/a"
    with pytest.raises(PythonNotFound, match=r"found: 3\.11\.9, 3\.11\.10, 3\.12\.1$"):
        await find(uv, "3.1")
    with pytest.raises(PythonNotFound):
        await find(uv, "3.11.1")


async def test_the_first_of_a_version_is_taken(
    saying: Callable[[Sequence[dict[str, Any]]], Uv],
) -> None:
    assert await find(saying([listed("3.11.9", "/a"), listed("3.11.9", "/b")]), "3.11") == "/a"


async def test_a_release_is_newer_than_its_release_candidate(
    saying: Callable[[Sequence[dict[str, Any]]], Uv],
) -> None:
    uv = saying([listed("3.14.0rc3", "/candidate"), listed("3.14.0", "/release")])
    assert await find(uv, "3.14") == "/release"


async def test_other_implementations_and_variants_are_no_answer(
    saying: Callable[[Sequence[dict[str, Any]]], Uv],
) -> None:
    uv = saying(
        [
            listed("3.11.9", "/pypy", implementation="pypy"),
            listed("3.13.1", "/free", variant="freethreaded"),
        ]
    )
    for wanted in ("3.11", "3.13"):
        with pytest.raises(PythonNotFound, match="found: none"):
            await find(uv, wanted)


@pytest.mark.uv
async def test_an_absent_version_is_an_error_that_lists_those_that_are_there(
    door: ProcessRunner, tmp_path: Path
) -> None:
    program(tmp_path / "bin", "python3.9", "echo python3.9: command not found >&2; exit 127")
    environment = {**door.environment, "PATH": f"{tmp_path / 'bin'}:{Path(REAL_PYTHON).parent}"}
    uv = Uv(program=find_uv_bin(), door=ProcessRunner(environment=environment, slots=1))
    with pytest.raises(PythonNotFound) as caught:
        await find(uv, "3.9")
    assert caught.value.message.startswith("Python 3.9 is not on this host; found: ")
    assert platform.python_version() in caught.value.message
    assert "XINFERENCE_VIRTUAL_ENV_PYTHON_DOWNLOADS=1" in str(caught.value.hint)
    # What is broken beside it harms nothing.
    found = await find(uv, ".".join(platform.python_version_tuple()[:2]))
    assert Path(found).name.startswith("python")
    assert (await probe_interpreter(uv.door, found)).base_executable == REAL_PYTHON


async def test_a_download_that_fails_says_why(tmp_path: Path) -> None:
    script = 'case "$2" in list) echo "[]";; *) echo "error: no network" >&2; exit 2;; esac'
    fake = program(tmp_path, "uv", script)
    uv = Uv(program=fake, door=ProcessRunner(environment={"PATH": "/usr/bin:/bin"}, slots=1))
    with pytest.raises(PythonNotFound, match="could not be downloaded: no network"):
        await find_python(uv, "3.12", allow_download=True, on_line=lambda _: None)
    assert uv.calls == 2


# An environment says what it can see


async def test_an_environment_is_right_when_it_sees_what_it_should(
    door: ProcessRunner, venv: Path
) -> None:
    site = site_packages(venv)
    fake_distribution(site, "Ham.Eggs", "1.0")
    fake_distribution(site, "spam", "2.0")
    (site / "Old_Egg-1.0-py3.11.egg-info").write_text("Name: Old-Egg\nVersion: 1.0\n")
    python = str(venv / "bin" / "python")
    seen = ["ham-eggs", "spam", "old-egg"]
    assert await check_environment(door, python, seen=seen, unseen=["torch"], deadline=30) == []
    assert await check_environment(
        door, python, seen=["numpy", "spam"], unseen=["torch", "old-egg"], deadline=30
    ) == [
        "numpy is not visible to the interpreter",
        "old-egg of the host is still visible",
    ]


async def test_an_environment_whose_interpreter_is_gone_is_wrong(
    door: ProcessRunner, tmp_path: Path
) -> None:
    python = program(tmp_path, "python", "echo no encodings module >&2; exit 1")
    assert await check_environment(door, python, seen=[], unseen=[], deadline=30) == [
        "the interpreter does not start: no encodings module"
    ]


async def test_an_environment_that_hangs_at_its_start_is_ended(
    door: ProcessRunner, venv: Path
) -> None:
    (site_packages(venv) / "hang.pth").write_text("import time; time.sleep(1000)\n")
    with pytest.raises(DeadlineExceeded):
        await check_environment(
            door, str(venv / "bin" / "python"), seen=[], unseen=[], deadline=0.3
        )


# Accelerators


def interpreter_over(*search_path: Path) -> Interpreter:
    return Interpreter(
        executable=sys.executable,
        base_executable=sys.executable,
        version="3.11.7",
        markers={},
        tags=("py3-none-any",),
        search_path=tuple(map(str, search_path)),
    )


async def test_cuda_is_what_the_driver_and_the_host_torch_say(
    door: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        tmp_path / "bin",
        "nvidia-smi",
        'test -n "$1" && printf "9.0\\n9.0\\n" || echo "| Driver 570  CUDA Version: 12.8  |"',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    found, unknown = await probe_accelerator(door, interpreter_over(tmp_path))
    assert unknown == ()
    assert (found.has_cuda, found.cuda_version, found.cuda_arch) == (True, "12.8", "sm_90")
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text("cuda: Optional[str] = '12.4'\n")
    found, unknown = await probe_accelerator(door, interpreter_over(tmp_path))
    assert unknown == ()
    assert found.cuda_version == "12.4"
    # One that can't be read as text is the host's own affair, and keeps no model from starting.
    (tmp_path / "torch" / "version.py").write_bytes(b"# \xfc\ncuda: Optional[str] = '12.6'\n")
    found, unknown = await probe_accelerator(door, interpreter_over(tmp_path))
    assert (found.cuda_version, unknown) == ("12.6", ())


async def test_a_driver_that_finds_no_device_is_no_accelerator(
    door: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "nvidia-smi", "echo No devices were found; exit 6")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    found, unknown = await probe_accelerator(door, interpreter_over(tmp_path))
    assert unknown == ()
    assert (found.has_cuda, found.cuda_version, found.cuda_arch) == (False, None, None)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert await probe_accelerator(door, interpreter_over(tmp_path)) == (Accelerator(), ())


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exec sleep 1000", "nvidia-smi took longer than 0.5 s and was ended"),
        ("echo could not communicate with the driver; exit 9", "could not communicate"),
        ("kill -SEGV $$", "signal 11"),
    ],
)
async def test_a_driver_that_hangs_or_fails_is_named_and_keeps_no_model_from_starting(
    door: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    program(tmp_path / "bin", "nvidia-smi", script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    found, [unknown] = await probe_accelerator(door, interpreter_over(tmp_path), deadline=0.5)
    assert found == Accelerator()
    assert why in unknown


async def test_a_driver_program_that_can_not_be_started_is_named(
    door: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_interpreter = program(tmp_path / "bin", "nvidia-smi", "")
    Path(no_interpreter).write_text("#!/nowhere/interpreter\n")  # noqa: ASYNC240
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    found, [unknown] = await probe_accelerator(door, interpreter_over(tmp_path))
    assert (found, "GPUs: " in unknown) == (Accelerator(), True)


def test_the_probe_needs_no_newer_python_than_uv_itself() -> None:
    """It runs in interpreters that are older than ours."""
    script = "import ast, sys; ast.parse(sys.stdin.read(), feature_version=(3, 8))"
    for source in (interpreters._PROBE, interpreters._CHECK):
        subprocess.run([sys.executable, "-c", script], input=source, text=True, check=True)
