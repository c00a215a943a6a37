"""`diff` of real environments, of one host and of a cluster's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import Run, specify
from tests.daemons import STARTED_NOW, daemons
from tests.index import Index
from tests.wheels import build_wheel


@pytest.fixture
def specs(index: Index, tmp_path: Path) -> Path:
    """The models ``old`` and ``new``, which need different versions of one package."""
    for version in ("1.0", "2.0"):
        build_wheel(tmp_path / "wheels", "toy-library", version)
    build_wheel(tmp_path / "wheels", "toy-extra", "1.0")
    models = []
    for name, packages in (
        ("old", ["toy-library==1.0"]),
        ("new", ["toy-library==2.0", "toy-extra"]),
    ):
        block = {"packages": packages, "index_url": index.url}
        models.append({"model_name": name, "virtualenv": block})
    path = tmp_path / "models.json"
    path.write_text(json.dumps(models))
    return path


@pytest.mark.uv
def test_two_models_of_this_host_are_compared(run: Run, specs: Path) -> None:
    for name in ("old", "new"):
        assert run("launch", name, "--spec", specs).code == 0
    ran = run("diff", "old", "new")
    assert (ran.code, ran.err) == (0, "")
    a, b, title, extra, library, total = ran.out.splitlines()
    assert a.startswith("A old/-/3.") and b.startswith("B new/-/3.")
    assert title.split() == ["Package", "A", "B"]
    assert extra.split() == ["+", "toy-extra", "-", "1.0,", "installed"]
    assert library.split() == ["~", "toy-library", "1.0,", "installed", "2.0,", "installed"]
    assert total.startswith("2 differences; ")
    document = run("diff", "new", "old", "--json").json
    assert (document["a"]["model_name"], document["b"]["model_name"]) == ("new", "old")
    assert [each["change"] for each in document["changes"]] == ["removed", "version"]
    assert "No difference: " in run("diff", "old", "old").out


@pytest.mark.uv
def test_a_name_that_means_none_or_several_names_those_that_are(run: Run, specs: Path) -> None:
    for engine in ("one", "two"):
        assert run("launch", "old", "--spec", specs, "--engine", engine, "--any-engine").code == 0
    several = run("diff", "old", "old/two")
    assert (several.code, several.out) == (2, "")
    assert "'old' matches 2 environments\nhint: name one of: old/one/3." in several.err
    none = run("diff", "old/three", "old/two")
    assert (none.code, none.out) == (3, "")
    assert "hint: there are: old/one/3." in none.err
    assert run("diff", "old/one", "old/two").code == 0
    assert run("diff", "absent", "old/two", "--json").json["error"]["code"] == "not_found"


@pytest.mark.uv
def test_replicas_that_differ_are_compared_over_a_cluster(
    run: Run,
    specs: Path,
    tmp_path: Path,
    environ: Mapping[str, str],
    index: Index,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with daemons(tmp_path / "daemons", environ) as serving:
        supervisor = serving.supervisor()
        monkeypatch.setenv("XINFERENCE_VENV_SUPERVISOR", supervisor.address)
        first, second = (serving.worker(supervisor, f"127.0.0.{n}") for n in (2, 3))
        while STARTED_NOW in run("list").err:
            """Until then nobody can say that all have answered."""
        loose = specify(tmp_path / "loose.json", index, "loose", "toy-library")
        words = ("launch", "loose", "--spec", loose)
        assert run(*words, "--worker", first.address).code == 0
        build_wheel(tmp_path / "wheels", "toy-library", "3.0")
        assert run(*words, "--worker", second.address, "--refresh").code == 0

        several = run("diff", "loose", "loose///127.0.0.3")
        assert several.code == 2
        assert f"/{first.address}, loose/-/3." in several.err
        ran = run("diff", "loose///127.0.0.2", f"loose///{second.address}", "--json")
        assert (ran.code, ran.json["unreachable"]) == (0, [])
        assert [each["worker_address"] for each in (ran.json["a"], ran.json["b"])] == [
            first.address,
            second.address,
        ]
        [change] = ran.json["changes"]
        assert (change["a"]["version"], change["b"]["version"]) == ("2.0", "3.0")

        second.process.kill()
        second.process.wait()
        silent = run("diff", "loose///127.0.0.2", "loose///127.0.0.3")
        assert (silent.code, silent.out) == (8, "")
        assert second.address in silent.err
