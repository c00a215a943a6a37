"""pip and uv run by hand in an environment: what they install works and comes first, and no file
of the host, of the store or of the view changes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from tests.index import Index
from tests.plain import plain
from tests.scenarios.hosts import Host
from tests.scenarios.steps import asking, files_of
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.inventory.selection import Selection
from xinference_venv.store.paths import StorePaths

pytestmark = pytest.mark.uv

# The oldest pip that runs with the Python of these tests, and the newest that there is.
OLDEST = "pip==19.2" if sys.version_info < (3, 12) else "pip==23.1"
NEWEST = "pip"
INSTALLERS = [
    "uv",
    "the pip of Python",
    pytest.param(OLDEST, marks=pytest.mark.network),
    pytest.param(NEWEST, marks=pytest.mark.network),
]

STEPS: tuple[tuple[tuple[str, ...], str, object], ...] = (
    # What is new; what adds a file to the folder of another package.
    (("install", "spark", "reed-more", "deep-more"), "version('spark')", "1.0"),
    (("list",), "[load('reed.' + each).x for each in ('low', 'high', 'more')]", [1, 2, 3]),
    # What is inherited.
    (("install", "--upgrade", "deep"), "version('deep')", "2.0"),
    (("install", "deep==1.0"), "version('deep')", "1.0"),
    (("install", "--force-reinstall", "wick==1.0"), "version('wick')", "1.0"),
    (("uninstall", "wick", "deep"), "version('wick') + version('deep')", "1.01.0"),
    (("uninstall", "wick", "deep", "shade"), "version('shade')", "1.0"),
    # What is installed.
    (("install", "--upgrade", "lantern", "kit"), "version('kit') + version('lantern')", "2.02.0"),
    (("install", "--force-reinstall", "lantern==2.0"), "version('lantern')", "2.0"),
    (("install", "--force-reinstall", "kit==1.0"), "version('kit')", "1.0"),
    (("uninstall", "lantern", "kit"), "version('kit') + version('lantern')", "1.01.0"),
    (("uninstall", "lantern", "kit"), "version('kit') + version('lantern')", "1.01.0"),
    (("uninstall", "spark", "reed-more", "deep-more"), "find('spark') is None", True),
    (("list",), "[load('reed.' + each).x for each in ('low', 'high')]", [1, 2]),
)


def says(python: str, expression: str) -> Any:
    """What an expression is in a new process of an environment."""
    program = (
        "import importlib, importlib.util, json\n"
        "load, find = importlib.import_module, importlib.util.find_spec\n"
        "def version(name):\n"
        "    import importlib.metadata\n"
        "    found = load(name).__version__\n"
        "    assert importlib.metadata.version(name) == found\n"
        "    return found\n"
        f"print(repr({expression}))\n"
    )
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return eval(done.stdout)


def versions(wheels: Path, name: str, *, data: bool = False) -> None:
    """Version 1.0 and 2.0 of a package with a program, and data files if wanted."""
    for version in ("1.0", "2.0"):
        extra = {f"{name}-{version}.data/data/share/{name}/x.txt": version.encode()} if data else {}
        build_wheel(
            wheels,
            name,
            version,
            requires=["wick"] if name == "lantern" else [],
            modules={
                f"{name}/__init__.py": f"__version__ = {version!r}\ndef main(): pass\n",
                f"{name}/of_{version[0]}.py": "",
            },
            data=extra,
            entry_points={f"{name}-main": f"{name}:main"},
        )


def by_hand(
    installer: str, environment: PreparedEnvironment, environ: dict[str, str], folder: Path
) -> Callable[..., None]:
    """A function that runs an installer in an environment, as a user would."""
    prefix = Path(str(environment.path))
    python = str(prefix / "bin" / "python")
    variables = {**environ, "VIRTUAL_ENV": str(prefix), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if installer == "uv":
        command, yes = [find_uv_bin(), "pip"], []
    else:
        command, yes = [python, "-m", "pip"], ["--yes"]
        if installer == "the pip of Python":
            done = subprocess.run([python, "-m", "ensurepip"], check=False, capture_output=True)
            assert done.returncode == 0, done.stderr
        else:
            target = str(folder / "pip")
            fetch = [find_uv_bin(), "pip", "install", "-q", "--target", target, installer]
            subprocess.run([*fetch, "--python", sys.executable], check=True, env=dict(os.environ))
            # Run from its own folder, pip is no package of the environment.
            command = [python, str(Path(target, "pip"))]

    def run(*arguments: str) -> None:
        verb, *names = arguments
        command_line = [*command, verb, *(yes if verb == "uninstall" else []), *names]
        done = subprocess.run(
            command_line, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)

    return run


@pytest.mark.parametrize("installer", INSTALLERS)
async def test_what_is_done_by_hand_works_and_changes_nothing_of_host_store_or_view(
    environ: dict[str, str],
    tmp_path: Path,
    index: Index,
    wheels: Path,
    layout: StorePaths,
    installer: str,
) -> None:
    host = Host.make(tmp_path / "host", environ)
    host.add("deep", "1.0", files={"deep/__init__.py": "__version__ = '1.0'\n", "deep/in/x.py": ""})
    host.add("wick", "1.0")
    host.add("shade", "1.0", entry_points={"shade": "shade:main"})
    host.add("reed-low", "1.0", files={"reed/low.py": "x = 1\n"})
    for name in ("deep", "lantern", "kit", "spark"):
        versions(wheels, name, data=name == "kit")
    (wheels / "spark-2.0-py3-none-any.whl").unlink()
    build_wheel(wheels, "shade", "2.0")
    build_wheel(
        wheels, "reed-high", "1.0", requires=["reed-low"], modules={"reed/high.py": "x = 2\n"}
    )
    build_wheel(wheels, "reed-more", "1.0", modules={"reed/more.py": "x = 3\n"})
    build_wheel(wheels, "deep-more", "1.0", modules={"deep/more.py": "x = 3\n"})
    async with local_client(environ) as client:
        made = await client.prepare(asking(index, "lantern==1.0", "kit==1.0", "reed-high"))
    environ |= {"PIP_INDEX_URL": index.url, "UV_DEFAULT_INDEX": index.url}
    run = by_hand(installer, made, environ, tmp_path)
    view = Path(str(made.real_path)).parent / "view"
    others = (host.prefix, layout.packages, layout.joined, view / "lib")
    before = [files_of(each) for each in others]
    assert all(before)
    for step, expression, expected in STEPS:
        run(*step)
        assert says(made.python, expression) == expected, step
        assert [files_of(each) for each in others] == before, step


async def faults_of(client: Client) -> list[str]:
    """What `verify` finds of the one environment of a store."""
    answer = plain(await client.supervisor.verify_virtual_env(Selection()))
    [found] = answer["list"]
    return sorted(found["faults"])


@pytest.mark.parametrize("installer", ["uv", "the pip of Python"])
async def test_an_environment_stays_whole_with_what_was_installed_by_hand_and_heals_without(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path, installer: str
) -> None:
    host = Host.make(tmp_path / "host", environ)
    host.add("shade", "1.0", entry_points={"shade": "shade:main"})
    build_wheel(wheels, "shade", "2.0", entry_points={"shade": "shade:other_main"})
    versions(wheels, "kit", data=True)
    # Of other sizes than those of version 1.0.
    data = {"kit-3.0.data/data/share/kit/x.txt": b"longer"}
    modules = {"kit.py": "__version__ = '3.0'\ndef program(): pass\n"}
    build_wheel(
        wheels, "kit", "3.0", modules=modules, data=data, entry_points={"kit-main": "kit:program"}
    )
    wanted = asking(index, "kit==1.0")
    async with local_client(environ) as client:
        made = await client.prepare(wanted)
        await client.release(made)
        variables = {**environ, "PIP_INDEX_URL": index.url, "UV_DEFAULT_INDEX": index.url}
        run = by_hand(installer, made, variables, tmp_path)
        run("install", "--upgrade", "kit", "shade")
        assert await faults_of(client) == []
        again = await client.prepare(wanted)
        await client.release(again)
        assert again.real_path == made.real_path
        assert says(again.python, "version('kit') + version('shade')") == "3.02.0"
        # The installer takes the programs along, which were the view's before.
        run("uninstall", "kit", "shade")
        assert await faults_of(client) == [
            "venv/bin/kit-main is missing",
            "venv/bin/shade is missing",
            "venv/share/kit/x.txt is missing",
        ]
        healed = await client.prepare(wanted)
        assert says(healed.python, "version('kit') + version('shade')") == "1.01.0"
        assert await faults_of(client) == []
