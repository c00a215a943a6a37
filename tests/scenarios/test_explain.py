"""Why each distribution is there, as a person and a program are told: planned, then made."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import venv
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.wheels import build_wheel, fake_distribution

pytestmark = pytest.mark.uv

Run = Callable[..., Awaitable[str]]
_SIZE = re.compile(r", [0-9.]+ ([KMG]i)?B\b")


@pytest.fixture
def run(environ: dict[str, str], tmp_path: Path) -> Run:
    """Run a command line over a host that has ``d`` and, too old, ``b`` with what needs that."""
    host = tmp_path / "host"
    venv.create(host, symlinks=True)
    environ["XINFERENCE_VIRTUAL_ENV_HOST_PYTHON"] = str(host / "bin" / "python")
    [site] = host.glob("lib/python3.*/site-packages")
    fake_distribution(site, "d", "1.0", requires=["e>=1"], files={"d.py": ""})
    fake_distribution(site, "e", "1.5", files={"e.py": ""})
    fake_distribution(site, "b", "0.9", files={"b.py": ""})
    fake_distribution(site, "on-b", "3.0", requires=["b<1"], files={"on_b.py": ""})

    async def run(*words: str | Path) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "xinference_venv", *words),
            env=environ,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    return run


@pytest.fixture
def spec(index: Index, tmp_path: Path) -> Path:
    """The model ``toy``, which asks for ``a``, which requires ``b``, which requires ``c``."""
    wheels = tmp_path / "wheels"
    build_wheel(wheels, "a", "1.0", requires=["b>=1", "d"])
    build_wheel(wheels, "b", "2.0", requires=["c"])
    build_wheel(wheels, "c", "0.3")
    block = {"packages": ["a>=1"], "index_url": index.url, "inherit_pip_config": False}
    path = tmp_path / "toy.json"
    path.write_text(json.dumps({"model_name": "toy", "virtualenv": block}))
    return path


def tree_of(printed: str) -> str:
    return printed[printed.index("Installed in") :].rstrip("\n")


TREE = """\
Installed in the environment: 3 packages
Inherited from the host: 2 packages
a 1.0, size unknown (model: a>=1): the newest that fits
├── b 2.0, size unknown: the host's 0.9 gives way, since a requires b>=1
│   └── c 0.3, size unknown: the newest that fits
└── d 1.0, inherited: kept from the host
    └── e 1.5, inherited: kept from the host

Shadowed: packages of the host that installed ones replace: 1 package
└── b 0.9: 2.0 is installed: model: a>=1 -> b==2.0

Hidden: packages of the host that the environment does not show: 1 package
└── on-b 3.0: it requires b<1, the environment has b 2.0"""

WHY = {
    ("a", "installed"): "model: a>=1",
    ("b", "installed"): "model: a>=1 -> b==2.0",
    ("c", "installed"): "model: a>=1 -> b==2.0 -> c==0.3",
    ("d", "inherited"): "model: a>=1 -> d==1.0",
    ("e", "inherited"): "model: a>=1 -> d==1.0 -> e>=1",
    ("b", "shadowed"): "2.0 is installed: model: a>=1 -> b==2.0",
    ("on-b", "hidden"): "it requires b<1, the environment has b 2.0",
}


async def test_an_import_name_that_is_taken_from_the_host_is_named_at_once_and_later(
    run: Run, index: Index, tmp_path: Path
) -> None:
    build_wheel(tmp_path / "wheels", "greedy", "1.0", modules={"d/__init__.py": ""})
    block = {"packages": ["greedy"], "index_url": index.url, "inherit_pip_config": False}
    spec = tmp_path / "toy.json"
    spec.write_text(json.dumps({"model_name": "toy", "virtualenv": block}))
    warning = "d.py is of greedy and of d of the host too: that of greedy is seen"
    assert json.loads(await run("launch", "toy", "--spec", spec, "--json"))["warnings"] == [warning]
    assert (await run("explain", "toy")).endswith(f"\nwarning: {warning}\n")


def why_of(distributions: list[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    return {(each["name"], each["role"]): each["why"] for each in distributions}


async def test_a_plan_and_a_record_tell_which_requirement_forced_what(run: Run, spec: Path) -> None:
    planned = await run("launch", "toy", "--spec", spec, "--dry-run")
    assert tree_of(planned) == TREE
    await run("launch", "toy", "--spec", spec)
    made = tree_of(await run("explain", "toy"))
    assert _SIZE.sub("", made) == TREE.replace(", size unknown", "")
    assert len(_SIZE.findall(made)) == 4

    plan = json.loads(await run("launch", "toy", "--spec", spec, "--dry-run", "--json"))
    [made] = json.loads(await run("explain", "toy", "--json"))["list"]
    assert why_of(made["packages"]) == why_of(plan["lock"]["distributions"]) == WHY
    versions = {
        each["name"]: each["why_version"] for each in made["packages"] if each["why_version"]
    }
    assert versions["b"] == "the host's 0.9 gives way, since a requires b>=1"
    assert versions["d"] == "kept from the host"
    requires = {each["name"]: each["requires"] for each in made["packages"] if each["requires"]}
    assert requires == {"a": ["b", "d"], "b": ["c"], "d": ["e"]}
    assert [each["name"] for each in made["packages"] if each["asked"]] == ["a"]
