"""Hosts as distributors make them: Debian's, pyenv's, conda's, uv's own, a venv over Debian's.

What a machine has not is skipped with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.index import Index
from tests.scenarios.hosts import Host, visible
from tests.scenarios.steps import asking, says, version_of
from tests.wheels import build_wheel
from xinference_venv.client import local_client
from xinference_venv.inventory.jobs import PreparedEnvironment

pytestmark = pytest.mark.uv

DEBIANS = "/usr/bin/python3"
MINORS = (11, 12, 13, 14)
_INSTALLED = (
    "{each.metadata['Name']: each.version for each in"
    " reversed(list(importlib.import_module('importlib.metadata').distributions()))"
    " if each.metadata['Name']}"
)
_SITES = "importlib.import_module('site').getsitepackages()"
# Starts a process by each method and lets it say what it imports.
_SPAWNING = """
import multiprocessing, sys

def version(_):
    import lantern
    return lantern.__version__, sys.prefix

if __name__ == "__main__":
    for method in ("spawn", "forkserver", "fork"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            [(found, prefix)] = pool.map(version, [0])
        print(method, found, prefix == sys.prefix)
"""


@pytest.fixture
def wheels(tmp_path: Path, index: Index) -> Path:
    """The folder that the index serves."""
    folder = tmp_path / "wheels"
    build_wheel(folder, "lantern", "1.0")
    return folder


def output_of(*command: str | Path) -> str:
    """What a command says; no variable of this process's Python reaches it."""
    own = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=own, cwd="/"
    ).stdout


async def launch_over(
    python: str, environ: dict[str, str], index: Index, **more: str
) -> PreparedEnvironment:
    """Launch ``lantern`` with an interpreter as the host."""
    environ["XINFERENCE_VIRTUAL_ENV_HOST_PYTHON"] = python
    async with local_client(environ) as client:
        return await client.prepare(asking(index, "lantern", **more))


async def check_shows(environment: PreparedEnvironment, python: str) -> dict[str, str]:
    """The environment shows all that the host has and ``lantern``, in one folder; returns it."""
    there: dict[str, str] = json.loads(
        output_of(python, "-c", f"import importlib, json; print(json.dumps({_INSTALLED}))")
    )
    shown = await visible(environment)
    assert shown.pop("lantern") == "1.0"
    assert shown == there
    assert await says(environment.python, version_of("lantern")) == "1.0"
    # Debian's names four of one prefix, in any virtual environment; the others name one.
    sites = await says(environment.python, _SITES)
    view = Path(str(environment.real_path)).parent / "view"
    assert [site for site in sites if not Path(site).is_relative_to(view)] == []
    assert list(filter(os.path.isdir, sites)) == sites[:1]
    return shown


def check_spawns(environment: PreparedEnvironment, folder: Path) -> None:
    """Processes that Python starts by itself see the same."""
    program = folder / "spawning.py"
    program.write_text(_SPAWNING)
    lines = output_of(environment.python, program).splitlines()
    assert lines == ["spawn 1.0 True", "forkserver 1.0 True", "fork 1.0 True"]


# Debian's own


@pytest.fixture
def debians() -> str:
    """Debian's own interpreter."""
    if not Path(DEBIANS).exists():
        pytest.skip(f"no {DEBIANS} here")
    sites = output_of(DEBIANS, "-c", "import site; print(site.getsitepackages())")
    if "/usr/lib/python3/dist-packages" not in sites:
        pytest.skip(f"{DEBIANS} is not Debian's: {sites.strip()}")
    return DEBIANS


@pytest.mark.usefixtures("wheels")
async def test_debians_own_python_serves_with_several_site_directories_and_is_left_alone(
    debians: str, environ: dict[str, str], index: Index, tmp_path: Path
) -> None:
    before = sorted(os.listdir("/usr/lib/python3/dist-packages"))
    environment = await launch_over(debians, environ, index)
    await check_shows(environment, debians)
    check_spawns(environment, tmp_path)
    assert sorted(os.listdir("/usr/lib/python3/dist-packages")) == before


@pytest.mark.usefixtures("wheels")
async def test_a_venv_with_the_systems_packages_shows_both_and_its_own_first(
    debians: str, environ: dict[str, str], index: Index, tmp_path: Path
) -> None:
    prefix = tmp_path / "over-debian"
    # Without python3-venv Debian has no ensurepip.
    output_of(debians, "-m", "venv", "--system-site-packages", "--without-pip", prefix)
    host = Host(prefix=prefix)
    host.add("oil", "1.0")
    names = json.loads(
        output_of(debians, "-c", f"import importlib, json; print(json.dumps({_INSTALLED}))")
    )
    shadowed = next((name for name in names if name.isidentifier()), "wick")
    host.add(shadowed, "999.0", files={f"{shadowed.lower()}_of_venv.py": ""})
    environment = await launch_over(host.python, environ, index)
    shown = await check_shows(environment, host.python)
    assert shown["oil"] == "1.0"
    assert shown[shadowed] == "999.0"
    check_spawns(environment, tmp_path)


# Others of the machine


def interpreters(folder: Path, pattern: str) -> dict[int, str]:
    """The interpreters of the supported versions below a folder, by minor version."""
    found = {}
    for minor in MINORS:
        for path in sorted(folder.glob(pattern.format(minor=minor))):
            found[minor] = str(path)
    return found


PYENVS = interpreters(
    Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv"),
    "versions/3.{minor}.*/bin/python3.{minor}",
)


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.usefixtures("wheels")
async def test_a_python_of_pyenv_serves(
    minor: int, environ: dict[str, str], index: Index, tmp_path: Path
) -> None:
    if minor not in PYENVS:
        pytest.skip(f"pyenv has no Python 3.{minor} here")
    environment = await launch_over(PYENVS[minor], environ, index)
    await check_shows(environment, PYENVS[minor])
    check_spawns(environment, tmp_path)
    assert await says(environment.python, "list(sys.version_info[:2])") == [3, minor]


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.usefixtures("wheels")
async def test_a_standalone_python_of_uv_serves(
    minor: int, environ: dict[str, str], index: Index, tmp_path: Path
) -> None:
    listed = json.loads(
        output_of(
            *(find_uv_bin(), "python", "list", "--no-config", "--only-installed"),
            *("--managed-python", "--output-format", "json", f"3.{minor}"),
        )
    )
    if not listed:
        pytest.skip(f"uv has no standalone Python 3.{minor} here")
    environment = await launch_over(listed[0]["path"], environ, index)
    await check_shows(environment, listed[0]["path"])
    check_spawns(environment, tmp_path)


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.usefixtures("wheels")
async def test_an_environment_of_another_python_than_the_workers_serves_and_inherits_nothing(
    minor: int, environ: dict[str, str], index: Index, tmp_path: Path
) -> None:
    if minor == sys.version_info.minor:
        pytest.skip(f"Python 3.{minor} is the worker's")
    if minor not in PYENVS:
        pytest.skip(f"pyenv has no Python 3.{minor} here")
    Host.make(tmp_path / "host", environ).add("oil", "1.0")
    async with local_client(environ) as client:
        environment = await client.prepare(
            asking(index, "lantern", python_version=f"3.{minor}", inherit="host")
        )
    assert await visible(environment) == {"lantern": "1.0"}
    assert await says(environment.python, "list(sys.version_info[:2])") == [3, minor]
    check_spawns(environment, tmp_path)


# conda's: its own interpreter in a prefix whose libraries and data packages reach by relative paths


@pytest.fixture
def condas(tmp_path: Path) -> str:
    """An interpreter with packages as conda lays them out, imitated by a copy of this one's."""
    base = Path(os.path.realpath(sys.executable))
    version = f"python3.{sys.version_info.minor}"
    prefix = tmp_path / "conda"
    library = prefix / "lib" / version
    (prefix / "bin").mkdir(parents=True)
    shutil.copy2(base, prefix / "bin" / version)
    (prefix / "bin" / "python").symlink_to(version)
    for each in (base.parents[1] / "lib").glob("libpython*"):
        (prefix / "lib").mkdir(exist_ok=True)
        (prefix / "lib" / each.name).symlink_to(each)
    standard = Path(os.__file__).parent
    shutil.copytree(
        standard,
        library,
        copy_function=os.symlink,
        ignore=lambda _, names: [
            each for each in names if re.fullmatch(r"(site|dist)-packages|__pycache__|EXT.*", each)
        ],
        symlinks=True,
    )
    (library / "site-packages").mkdir()
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta" / "history").write_text("==> 2026-01-01 00:00:00 <==\n")
    python = str(prefix / "bin" / "python")
    if f"{library}/site-packages" not in output_of(python, "-c", "import sys; print(sys.path)"):
        pytest.skip("a copy of this interpreter looks for packages elsewhere, as Debian's does")
    return python


@pytest.mark.usefixtures("wheels")
async def test_a_prefix_of_conda_serves_and_its_packages_find_what_lies_above_site_packages(
    condas: str, environ: dict[str, str], index: Index, tmp_path: Path
) -> None:
    prefix = Path(condas).parents[1]
    (prefix / "share").mkdir()
    (prefix / "share" / "wick.txt").write_text("cotton")
    climbs = (
        "import os\n"
        "_above = os.path.join(os.path.dirname(os.path.realpath(__file__)), *['..'] * 4)\n"
        "wick = open(os.path.join(_above, 'share', 'wick.txt')).read()\n"
    )
    host = Host(prefix=prefix)
    host.add("oil", "1.0", files={"oil/__init__.py": climbs})
    environment = await launch_over(condas, environ, index)
    shown = await check_shows(environment, condas)
    assert shown == {"oil": "1.0"}
    assert await says(environment.python, "importlib.import_module('oil').wick") == "cotton"
    check_spawns(environment, tmp_path)
