"""`export` and `import` on one machine: what is written, read and refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import Run, specify
from tests.index import Index, dead_port
from tests.wheels import build_sdist, build_wheel


@pytest.mark.uv
def test_an_environment_goes_to_another_home_without_an_index(
    run: Run, spec: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("launch", "toy", "--spec", spec).code == 0
    file = tmp_path / "toy.tar"
    file.write_text("an earlier one")
    exported = run("export", "toy", file)
    assert exported.code == 0, exported.err
    assert f"{file} has toy: 2 wheels" in exported.out
    assert f"sha256  {hashlib.sha256(file.read_bytes()).hexdigest()}\n" in exported.out
    assert [*tmp_path.glob(".toy.tar*")] == []

    index.clear()
    monkeypatch.setenv("XINFERENCE_HOME", str(tmp_path / "another-home"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "another-cache"))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{dead_port()}")
    imported = run("import", file)
    assert imported.code == 0, imported.err
    assert imported.out.startswith("toy is ready on 1 of 1 worker")
    launched = run("launch", "toy", "--spec", spec, "--json")
    assert (launched.code, launched.json["uv_calls"], launched.json["installed"]) == (0, 0, 2)
    assert run("verify", "toy", "--hashes").code == 0
    assert index.requests == []


@pytest.mark.uv
def test_what_was_built_from_source_goes_along(
    run: Run, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_sdist(tmp_path / "wheels", "raw", "1.0")
    spec = specify(tmp_path / "raw.json", index, "raw", "raw")
    assert run("launch", "raw", "--spec", spec).code == 0
    file = tmp_path / "raw.tar"
    assert run("export", "raw", file).code == 0
    index.clear()
    monkeypatch.setenv("XINFERENCE_HOME", str(tmp_path / "another-home"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "another-cache"))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{dead_port()}")
    assert run("import", file).code == 0
    assert run("launch", "raw", "--spec", spec, "--json").json["uv_calls"] == 0
    assert index.requests == []


def test_what_is_no_bundle_is_named(run: Run, tmp_path: Path) -> None:
    pipe, text = tmp_path / "pipe", tmp_path / "text"
    os.mkfifo(pipe)
    text.write_text("a text\n" * 1000)
    for file, words in {
        pipe: "no regular file",
        text: "no bundle",
        tmp_path / "absent": "no file",
        tmp_path: "no regular file",
        Path(os.devnull): "no regular file",
    }.items():
        ran = run("import", file)
        assert (ran.code, words in ran.err, str(file) in ran.err) == (2, True, True), ran.err
    for file in (pipe, tmp_path, tmp_path / "absent" / "file"):
        refused = run("export", "toy", file)
        assert refused.code in (2, 3), refused.err


@pytest.mark.uv
def test_an_export_that_fails_leaves_the_earlier_file(
    run: Run, spec: Path, tmp_path: Path, environ: Mapping[str, str]
) -> None:
    assert run("launch", "toy", "--spec", spec).code == 0
    file = tmp_path / "toy.tar"
    file.write_text("an earlier one")
    for wheel in (tmp_path / "wheels").glob("*.whl"):
        wheel.unlink()
    build_wheel(tmp_path / "wheels", "toy-model", "1.0", modules={"toy_model.py": "changed = 1"})
    failed = run("export", "toy", file)
    assert failed.code == 3
    assert "toy-dependency" in failed.err
    assert "toy-model" in failed.err
    assert file.read_text() == "an earlier one"
    assert [*tmp_path.glob(".toy.tar*")] == []
