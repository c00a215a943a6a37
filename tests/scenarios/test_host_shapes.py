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
from tests.scenarios.field import Field, open_field
from tests.scenarios.hosts import Host, visible
from tests.scenarios.steps import asking, says, version_of
from tests.wheels import build_wheel, fake_distribution
from xinference_venv.client import local_client
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.inventory.selection import Selection

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


# What sudo's pip, apt and a package for one version alone have, each in a folder of its own.
DEBIANS_FOLDERS = """
mkdir -p {folder}/layers
mount -t tmpfs none {folder}/layers
for each in usr/local/lib/python3.{minor} usr/lib/python3/dist-packages usr/lib/python3.{minor}; do
  mkdir -p {folder}/layers/upper/$each {folder}/layers/work/$each /$each
  [ ! -d {folder}/added/$each ] || cp -r {folder}/added/$each/. {folder}/layers/upper/$each
  options=lowerdir=/$each,upperdir={folder}/layers/upper/$each,workdir={folder}/layers/work/$each
  mount -t overlay none -o $options /$each
done
"""
_SHOWN = """
import importlib, importlib.metadata, json, site
names = ("oil", "wick", "glass", "lamp")
print(json.dumps([
    *(importlib.import_module(name).__version__ for name in names),
    *(importlib.metadata.version(name) for name in names[:3]),
]))
"""


@pytest.mark.condition
@pytest.mark.usefixtures("wheels")
def test_debians_site_directories_count_in_its_order(
    debians: str, index: Index, uv_cache: Path
) -> None:
    minor = output_of(debians, "-c", "import sys; print(sys.version_info[1])").strip()
    sites = f"usr/local/lib/python3.{minor}/dist-packages", "usr/lib/python3/dist-packages"
    third = f"usr/lib/python3.{minor}/dist-packages"
    with open_field(index, uv_cache) as opened:
        field = opened.having(XINFERENCE_VIRTUAL_ENV_HOST_PYTHON=debians)
        added = field.folder / "added"
        for version, site in zip(("2.0", "1.0"), sites, strict=True):
            module = f"__version__ = {version!r}\n"
            fake_distribution(added / site, "oil", version, files={"oil.py": module})
            (added / site / "lamp.py").write_text(module)
        fake_distribution(
            added / sites[1], "wick", "1.0", files={"wick.py": "__version__ = '1.0'\n"}
        )
        fake_distribution(
            added / third, "glass", "1.0", files={"glass.py": "__version__ = '1.0'\n"}
        )
        field = field.under(DEBIANS_FOLDERS.format(folder=field.folder, minor=minor))
        expected = shown_by(field, debians)
        assert expected == ["2.0", "1.0", "1.0", "2.0", "2.0", "1.0", "1.0"]
        assert field.launch("lantern==1.0").status == 0
        [link] = field.home.glob(f"virtualenv/v3/glow/3.{minor}")
        python = str(link / "bin" / "xinference-venv-python")
        assert shown_by(field, python) == expected
        # What sudo's pip had is taken away, so that apt's is the first.
        shutil.rmtree(added / sites[0])
        expected = shown_by(field, debians)
        assert expected[0] == expected[4] == "1.0"
        assert field.launch("lantern==1.0").status == 0
        assert shown_by(field, python) == expected


def shown_by(field: Field, python: str) -> list[str]:
    """The versions of what an interpreter imports, and of its metadata."""
    done = subprocess.run(
        field.command(python, "-c", _SHOWN),
        env=dict(field.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown: list[str] = json.loads(done.stdout)
    return shown


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
    # Where pyenv is not set up, uv doesn't look for its interpreters.
    environ["PATH"] += f":{Path(PYENVS[minor]).parent}"
    Host.make(tmp_path / "host", environ).add("oil", "1.0")
    async with local_client(environ) as client:
        environment = await client.prepare(
            asking(index, "lantern", python_version=f"3.{minor}", inherit="host")
        )
    assert await visible(environment) == {"lantern": "1.0"}
    assert await says(environment.python, "list(sys.version_info[:2])") == [3, minor]
    check_spawns(environment, tmp_path)


# Interpreters in a prefix of their own, as conda and uv bring them, imitated by a copy of this one


def copy_interpreter(prefix: Path) -> str:
    """An interpreter at a prefix, with its own, empty site-packages; skips where that can't be."""
    base = Path(os.path.realpath(sys.executable))
    version = f"python3.{sys.version_info.minor}"
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
    python = str(prefix / "bin" / "python")
    if f"{library}/site-packages" not in output_of(python, "-c", "import sys; print(sys.path)"):
        pytest.skip("a copy of this interpreter looks for packages elsewhere, as Debian's does")
    return python


@pytest.fixture
def condas(tmp_path: Path) -> str:
    """An interpreter with packages as conda lays them out."""
    prefix = tmp_path / "conda"
    python = copy_interpreter(prefix)
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta" / "history").write_text("==> 2026-01-01 00:00:00 <==\n")
    return python


def install_as_conda_does(host: Host, name: str, *requires: str) -> Path:
    """A distribution whose RECORD has no hashes, from a folder of where it was built."""
    metadata = host.add(name, "1.0", *requires)
    (metadata / "INSTALLER").write_text("conda\n")
    built = {"dir_info": {}, "url": f"file:///home/conda/feedstock_root/build_artifacts/{name}"}
    (metadata / "direct_url.json").write_text(json.dumps(built))
    record = metadata / "RECORD"
    rows = [line.split(",")[0] for line in record.read_text().splitlines()]
    record.write_text("".join(f"{path},,\n" for path in [*rows, f"{name}.pyc"]))
    return metadata


@pytest.mark.usefixtures("wheels")
async def test_what_conda_installed_is_inherited_however_its_metadata_look(
    condas: str, environ: dict[str, str], index: Index, tmp_path: Path
) -> None:
    host = Host(prefix=Path(condas).parents[1])
    install_as_conda_does(host, "oil", "wick")
    # One without a list of files, known by its top_level.txt, and one of setuptools of old.
    (listless := install_as_conda_does(host, "wick") / "RECORD").unlink()
    (listless.parent / "top_level.txt").write_text("wick\n")
    egg = host.site / "glass-1.0-py3.11.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Metadata-Version: 1.1\nName: glass\nVersion: 1.0\n")
    (egg / "top_level.txt").write_text("glass\n")
    (host.site / "glass.py").write_text("__version__ = '1.0'\n")
    environ["XINFERENCE_VIRTUAL_ENV_HOST_PYTHON"] = condas
    async with local_client(environ) as client:
        environment = await client.prepare(asking(index, "lantern", "oil", "glass", "wick>=1"))
        [checked] = (await client.supervisor.verify_virtual_env(Selection(), hashes=True)).list
    assert checked.finding.faults == ()
    shown = await check_shows(environment, condas)
    assert shown == dict.fromkeys(("oil", "wick", "glass"), "1.0")
    for name in shown:
        assert await says(environment.python, version_of(name)) == "1.0"


STANDALONE = "cpython-3.{minor}{patch}-linux-x86_64-gnu"


@pytest.fixture
def standalones(tmp_path: Path) -> str:
    """An interpreter as uv installs one, by the link for its minor version next to it.

    What its sysconfig says is where it was built.
    """
    minor = sys.version_info.minor
    prefix = tmp_path / "python" / STANDALONE.format(minor=minor, patch=".1")
    copy_interpreter(prefix)
    library = prefix / "lib" / f"python3.{minor}"
    (library / "EXTERNALLY-MANAGED").write_text(
        "[externally-managed]\nError=This Python installation is managed by uv.\n"
    )
    for data in library.glob("_sysconfigdata_*.py"):
        text = data.read_text().replace(sys.base_prefix, "/install")
        data.unlink()
        data.write_text(text)
    (prefix / "BUILD").write_text("20260101")
    link = prefix.with_name(STANDALONE.format(minor=minor, patch=""))
    link.symlink_to(prefix.name)
    return str(link / "bin" / f"python3.{minor}")


@pytest.mark.usefixtures("wheels")
async def test_a_python_as_uv_installs_it_serves_and_its_upgrade_is_noticed(
    standalones: str, environ: dict[str, str], index: Index, tmp_path: Path
) -> None:
    link = Path(standalones).parents[1]
    Host(prefix=link).add("oil", "1.0")
    environment = await launch_over(standalones, environ, index)
    assert await check_shows(environment, standalones) == {"oil": "1.0"}
    check_spawns(environment, tmp_path)
    # uv brings a new patch in a folder of its own, and lets the link lead there; the old one goes.
    upgraded = link.with_name(STANDALONE.format(minor=sys.version_info.minor, patch=".2"))
    shutil.copytree(link.resolve(), upgraded, symlinks=True)
    shutil.rmtree(link.resolve())
    link.unlink()
    link.symlink_to(upgraded.name)
    again = await launch_over(standalones, environ, index)
    assert await check_shows(again, standalones) == {"oil": "1.0"}
    check_spawns(again, tmp_path)


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
