"""`verify` as a user types it: what is printed, and the exit code."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from xinference_venv.inventory.env import EnvState

pytestmark = pytest.mark.uv


@pytest.fixture
def env(run: Run, spec: Path) -> Path:
    """The environment of the model ``toy``."""
    return Path(run("launch", "toy", "--spec", spec, "--json").json["real_path"])


def test_whole_environments_are_ok(run: Run, env: Path) -> None:
    for words in ([], ["toy"], ["toy", "--hashes"], ["--repair"]):
        ran = run("verify", *words)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("toy (Python 3.")
        assert ran.out.endswith("): ok\n")
    ran = run("verify", "--json")
    [finding] = ran.json["list"]
    assert (finding["faults"], finding["repaired"], finding["not_repaired"]) == ([], None, None)
    assert (finding["model_name"], finding["real_path"]) == ("toy", str(env))


def test_what_a_process_wrote_next_to_modules_is_named_and_is_no_fault(run: Run, env: Path) -> None:
    package = next(env.parent.glob("view/lib/python3.*/site-packages/toy_model")).resolve()
    package.chmod(0o755)
    (package / "hash_seed.txt").write_text("")
    ran = run("verify")
    assert (ran.code, ran.err) == (0, "")
    first, added = ran.out.splitlines()
    assert first.endswith("): ok")
    name = f"{package.parents[1].name}/site/toy_model/hash_seed.txt"
    assert added == f"  {name} does not belong to its package"
    assert run("verify", "--repair").out.endswith("): ok\n")
    assert not (package / "hash_seed.txt").exists()


def test_a_broken_one_is_named_with_its_faults_and_exit_code_1(run: Run, env: Path) -> None:
    shutil.rmtree(next(env.parent.glob("view/lib/python3.*/site-packages/toy_model")).resolve())
    ran = run("verify")
    assert ran.code == 1
    heading, *faults = ran.out.splitlines()
    assert heading.startswith("toy (Python 3.")
    assert heading.endswith("): broken")
    assert faults
    assert all("toy_model" in line for line in faults), faults
    assert ran.err.startswith("error: broken: toy (Python 3.")
    assert "hint: launch again, or verify with --repair\n" in ran.err
    assert "toy_model" in run("list").out

    raw = run("verify", "--json")
    assert raw.code == 1
    [finding] = raw.json["list"]
    assert finding["state"] == EnvState.BROKEN
    assert len(finding["faults"]) == len(faults)

    ran = run("verify", "toy", "--repair")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0].endswith("): repaired, it was broken")
    assert run("verify", "--hashes").out.endswith("): ok\n")


def test_what_can_not_be_repaired_says_why(run: Run, env: Path, environ: Mapping[str, str]) -> None:
    keys = Path(environ["XINFERENCE_HOME"], "virtualenv", "store", "keys")
    shutil.rmtree(keys)
    (env / "pyvenv.cfg").unlink()
    ran = run("verify", "--repair")
    assert ran.code == 1
    assert "  venv/pyvenv.cfg is missing\n" in ran.out
    assert "  not repaired: its request was not kept, or had credentials: launch the" in ran.out
    assert "hint" not in ran.err


def test_what_is_not_there_is_reported(run: Run, env: Path) -> None:
    ran = run("verify", "another")
    assert (ran.code, ran.out) == (3, "")
    ran = run("verify", "toy", "--engine", "vllm", "--json")
    assert (ran.code, ran.json["error"]["code"]) == (3, "not_found")
    assert run("remove", "toy").code == 0
    assert run("verify").out == "No environment found.\n"


def test_what_older_versions_left_is_not_checked(run: Run, environ: Mapping[str, Any]) -> None:
    old = Path(environ["XINFERENCE_HOME"], "virtualenv", "v3", "old", "3.11", "bin")
    old.mkdir(parents=True)
    ran = run("verify")
    assert (ran.code, ran.out) == (0, "old (Python 3.11): not checked, it is unmanaged\n")
