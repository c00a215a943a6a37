"""`doctor` on real hosts with real faults: this one, a throw-away one, those of a cluster."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from tests.cli.conftest import Run, specify
from tests.daemons import STARTED_NOW, Daemons, eventually
from tests.index import Index, black_hole, dead_port
from tests.wheels import build_wheel

SECRET = "opensesame"
OTHER_RELEASE = """\
import importlib.metadata as metadata
real = metadata.version
metadata.version = lambda name: "0.0.9" if name == "xinference_venv" else real(name)
"""

Checks = dict[str, list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def one_index(index: Index, environ: Mapping[str, str]) -> None:
    """Nobody asks the network: the index of this test stands in for PyPI."""
    assert isinstance(environ, dict)
    environ.update(PIP_INDEX_URL=index.url, NO_PROXY="*")


def checks_of(diagnosis: Mapping[str, Any]) -> Checks:
    """The checks of a host by name."""
    found: Checks = {}
    for each in diagnosis["checks"]:
        found.setdefault(each["name"], []).append(each)
    return found


def diagnosed(run: Run, *words: str) -> tuple[int, Checks]:
    ran = run("doctor", "--json", *words)
    [diagnosis] = ran.json["list"]
    return ran.code, checks_of(diagnosis)


@pytest.fixture
def spec(index: Index, tmp_path: Path) -> Path:
    build_wheel(tmp_path / "wheels", "toy-model", "1.0")
    return specify(tmp_path / "toy.json", index, "toy", "toy-model")


@pytest.mark.uv
def test_a_host_that_works_has_no_failure_and_nothing_is_left_on_it(
    run: Run, environ: Mapping[str, str]
) -> None:
    code, checks = diagnosed(run)
    failures = [each for all_ in checks.values() for each in all_ if each["verdict"] == "failed"]
    assert (code, failures) == (0, [])
    assert {
        *("settings", "uv", "pythons", "host python", "host packages", "xoscar", "index", "clock"),
        *("home", "uv cache", "free space", "owner", "environments", "sockets", "open files"),
    } <= checks.keys()
    for name in ("settings", "uv", "host python", "xoscar", "index", "clock", "home", "uv cache"):
        assert [each["verdict"] for each in checks[name]] == ["ok"]
    assert not Path(environ["XINFERENCE_HOME"]).exists()
    text = run("doctor")
    assert (text.code, text.err) == (0, "")
    assert "\n  ok       uv " in text.out


@pytest.mark.uv
def test_uv_is_not_asked_again_while_nothing_of_it_changes(
    run: Run, monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    """A uv that breaks after it worked is found all the same."""
    own, runs = tmp_path / "uv", tmp_path / "runs"
    own.write_text(f'#!/bin/sh\necho "$1" >> {runs}\nexec {find_uv_bin()} "$@"\n')
    own.chmod(0o755)
    os.utime(own, (0, 0))
    monkeypatch.setenv("XOSCAR_UV_PATH", str(own))
    assert run("launch", "toy", "--spec", spec).code == 0
    # What has changed within the last moments is asked again.
    eventually(lambda: asked_by_doctor(run, runs) == "")
    _, checks = diagnosed(run)
    assert checks["uv"][0]["found"].endswith(f" at {own}")
    assert checks["pythons"][0]["found"]
    own.write_text("#!/bin/sh\nexit 1\n")
    _, checks = diagnosed(run)
    assert checks["uv"][0]["verdict"] == "failed"


def asked_by_doctor(run: Run, runs: Path) -> str:
    """What a uv was asked while the doctor ran."""
    runs.write_text("")
    diagnosed(run)
    return runs.read_text()


@pytest.mark.uv
def test_each_index_is_distinguished_by_what_is_wrong_with_it(
    run: Run, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.require_auth("me", "another one")
    with black_hole() as silent:
        places = [
            f"http://me:{SECRET}@127.0.0.1:{dead_port()}/simple/",
            f"http://127.0.0.1:{silent}/simple/",
            "http://nowhere.invalid/simple/",
            index.url.replace("http:", "https:"),
            index.url.replace("//", f"//me:{SECRET}@"),
        ]
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", " ".join(places))
        ran = run("doctor", "--json")
        text = run("doctor")
    assert (ran.code, text.code) == (1, 1)
    assert SECRET not in ran.out + text.out
    found = checks_of(ran.json["list"][0])["index"]
    for each, words in zip(
        found,
        ["no connection", "no answer in time", "name", "encryption", "answered 401", "401"],
        strict=True,
    ):
        assert words in each["found"] and each["hint"]
    verdicts = [each["verdict"] for each in found]
    assert verdicts == ["failed"] * 5 + ["warning"]


@pytest.mark.uv
def test_offline_no_public_index_is_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XINFERENCE_VIRTUAL_ENV_OFFLINE_INSTALL", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.org/simple")
    code, checks = diagnosed(run)
    assert code == 0
    [asked] = checks["index"]
    assert asked["found"].startswith("offline: no public index is configured")


@pytest.mark.uv
def test_every_malformed_setting_is_named_and_the_rest_is_looked_at_all_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XINFERENCE_VIRTUAL_ENV_MAX_BYTES", "lots")
    monkeypatch.setenv("XINFERENCE_VIRTUAL_ENV_INHERIT", "some")
    code, checks = diagnosed(run)
    assert code == 1
    assert [each["verdict"] for each in checks["settings"]] == ["failed"] * 2
    said = " ".join(each["found"] for each in checks["settings"])
    assert "'lots'" in said and "'some'" in said
    assert checks["uv"][0]["verdict"] == "ok"


@pytest.mark.uv
def test_a_damaged_configuration_of_pip_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("index-url = without a section\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    code, checks = diagnosed(run)
    assert code == 1
    assert str(file) in checks["index"][0]["found"]


@pytest.mark.uv
def test_a_uv_that_is_none_and_a_python_that_does_not_run_hide_nothing_else(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XOSCAR_UV_PATH", "/bin/false")
    monkeypatch.setenv("XINFERENCE_VIRTUAL_ENV_HOST_PYTHON", "/bin/false")
    code, checks = diagnosed(run)
    assert code == 1
    for name in ("uv", "host python"):
        assert [each["verdict"] for each in checks[name]] == ["failed"]
    assert checks["home"][0]["verdict"] == "ok"


@pytest.mark.uv
def test_a_home_that_can_not_be_is_named_although_no_actor_could_start_there(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XINFERENCE_HOME", str(tmp_path / "file" / "home"))
    code, checks = diagnosed(run)
    assert code == 1
    assert "Not a directory" in checks["home"][0]["found"]
    assert run("list").code != 0


@pytest.mark.uv
def test_a_home_that_the_system_refuses_to_look_at_hides_nothing_else(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XINFERENCE_HOME", str(tmp_path / ("x" * 300)))
    code, checks = diagnosed(run)
    assert code == 1
    assert "File name too long" in checks["environments"][0]["found"]
    assert checks["uv"][0]["verdict"] == "ok"


@pytest.mark.uv
def test_a_look_that_the_system_refuses_is_a_failure_and_hides_no_other(
    run: Run, monkeypatch: pytest.MonkeyPatch, spec: Path
) -> None:
    """A stale handle of a network mount may be met anywhere."""

    def stale(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "/mnt/models")

    assert run("launch", "toy", "--spec", spec).code == 0
    before = diagnosed(run)[1]
    for refused, name in {
        "free_bytes": "free space",
        "_open_files": "open files",
        "lock_holders": "held locks",
        "uncompiled_distributions": "host bytecode",
        "open_to_all": "owner",
        "service_units": "xinference service",
    }.items():
        with monkeypatch.context() as patched:
            patched.setattr(f"xinference_venv.diagnosis.diagnose.{refused}", stale)
            code, checks = diagnosed(run)
        assert code == 1
        assert checks[name][0]["verdict"] == "failed"
        assert "Stale file handle" in checks[name][0]["found"]
        assert before.keys() == checks.keys()


@pytest.mark.uv
def test_a_broken_environment_is_a_warning(run: Run, spec: Path) -> None:
    assert run("launch", "toy", "--spec", spec).code == 0
    assert "1 environment, none found broken" in diagnosed(run)[1]["environments"][0]["found"]
    [there] = run("list", "--json").json["list"]
    Path(there["real_path"], "bin", "python").unlink()
    code, checks = diagnosed(run)
    assert code == 0
    [check] = checks["environments"]
    assert (check["verdict"], there["env_id"][:12] in check["found"]) == ("warning", True)
    assert "verify --repair" in check["hint"]


@pytest.fixture
def contradictory(tmp_path: Path) -> Path:
    """The interpreter of a host whose packages contradict each other."""
    venv = tmp_path / "contradictory"
    command = [sys.executable, "-m", "venv", "--without-pip", str(venv)]
    subprocess.run(command, check=True, capture_output=True)
    [site] = venv.glob("lib/python*/site-packages")
    for name, version, requires in (("one", "1.0", "two>=2"), ("two", "1.5", None)):
        folder = site / f"{name}-{version}.dist-info"
        folder.mkdir()
        needs = "" if requires is None else f"Requires-Dist: {requires}\n"
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(head + needs)
        (folder / "RECORD").write_text("")
    return venv / "bin" / "python"


@pytest.mark.uv
def test_a_host_whose_packages_contradict_each_other_and_lack_xoscar(
    run: Run, monkeypatch: pytest.MonkeyPatch, contradictory: Path
) -> None:
    monkeypatch.setenv("XINFERENCE_VIRTUAL_ENV_HOST_PYTHON", str(contradictory))
    code, checks = diagnosed(run)
    assert code == 1
    [packages], [xoscar] = checks["host packages"], checks["xoscar"]
    assert packages["verdict"] == "warning"
    assert "one 1.0 requires two>=2, found is 1.5" in packages["found"]
    assert xoscar["verdict"] == "failed"
    assert "-m pip install 'xoscar" in xoscar["hint"]


@pytest.mark.uv
def test_each_worker_of_a_cluster_examines_its_host_and_a_dead_one_is_named(
    run: Run, serving: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = serving.supervisor()
    monkeypatch.setenv("XINFERENCE_VENV_SUPERVISOR", supervisor.address)
    first = serving.worker(supervisor, "127.0.0.2", patch=OTHER_RELEASE)
    second = serving.worker(supervisor, "127.0.0.3", PIP_INDEX_URL="http://nowhere.invalid/s")
    while STARTED_NOW in run("list").err:
        """Until then nobody can say that all have answered."""
    ran = run("doctor", "--json")
    assert (ran.code, ran.json["unreachable"]) == (1, [])
    here, there = ran.json["list"]
    assert [each["worker_address"] for each in (here, there)] == [first.address, second.address]
    assert checks_of(here)["index"][0]["verdict"] == "ok"
    assert checks_of(there)["index"][0]["verdict"] == "failed"
    clocks, releases = ran.json["cluster"]
    assert clocks["verdict"] == "ok"
    assert releases["verdict"] == "warning"
    assert f"0.0.9 on {first.address}" in releases["found"]
    assert run("doctor", "--worker", "127.0.0.2").code == 0

    second.process.kill()
    second.process.wait()
    left = run("doctor")
    assert left.code == 8
    assert f"{first.address}: " in left.out and "  ok       uv " in left.out
    assert left.err.startswith(f"unreachable: {second.address} (")


def test_a_worker_without_a_cluster_is_refused(run: Run) -> None:
    assert run("doctor", "--worker", "127.0.0.2").code == 2
