"""What works in one site-packages works in a view of it, whichever part of it is the host's.

Each case is a few packages that depend on each other's place. Some of them are installed, some
inherited, in both modes of inheritance.
"""

from __future__ import annotations

import base64
import hashlib
import os
import textwrap
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.scenarios.hosts import Host, ran
from tests.scenarios.steps import asking, environments, says, uv_subcommands
from tests.wheels import build_wheel
from xinference_venv.client import local_client
from xinference_venv.inventory.jobs import Phase, PreparedEnvironment
from xinference_venv.inventory.selection import EVERY, Selection
from xinference_venv.store.paths import StorePaths

pytestmark = pytest.mark.uv

MODES = ("host", "exact")
Files = Mapping[str, str]

OLD_NAMESPACE = (
    "import sys, types, os; p = os.path.join(sys._getframe(1).f_locals['sitedir'], 'old');"
    " m = sys.modules.setdefault('old', types.ModuleType('old'));"
    " mp = m.__dict__.setdefault('__path__', []); (p not in mp) and mp.append(p)\n"
)
COMPASS = textwrap.dedent(
    """
    import os, site
    from pathlib import Path
    here = os.path.dirname(__file__)
    real = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    places = {
        "climbs": os.path.join(here, "..", "north", "pole.txt"),
        "parents": str(Path(__file__).parent.parent / "north" / "pole.txt"),
        "real path": os.path.join(real, "north", "pole.txt"),
        "resolved": str(Path(__file__).resolve().parents[1] / "north" / "pole.txt"),
        "site": os.path.join(site.getsitepackages()[0], "north", "pole.txt"),
    }
    missed = [way for way, place in places.items() if not os.path.isfile(place)]
    """
)


async def launch(environ: dict[str, str], index: Index, *packages: str, mode: str) -> Any:
    """The environment of a model that asks for these packages."""
    async with local_client(environ) as client:
        return await client.prepare(asking(index, *packages, inherit=mode))


def installable(wheels: Path, name: str, *requires: str, files: Files, **more: Any) -> None:
    build_wheel(wheels, name, "1.0", requires=requires, modules=files, **more)


def view_of(environment: PreparedEnvironment) -> Path:
    [view] = Path(str(environment.real_path)).parent.glob("view/lib/python3.*/site-packages")
    return view


HALVES: dict[str, tuple[Files, Files, str]] = {
    "both have an __init__": (
        {"reed/__init__.py": "", "reed/low.py": "x = 1\n"},
        {"reed/__init__.py": "", "reed/high.py": "x = 2\n"},
        "importlib.import_module('reed.low').x + importlib.import_module('reed.high').x",
    ),
    "one has an __init__": (
        {"reed/__init__.py": "", "reed/low.py": "x = 1\n"},
        {"reed/high.py": "x = 2\n"},
        "importlib.import_module('reed.low').x + importlib.import_module('reed.high').x",
    ),
    "none has": (
        {"reed/low.py": "x = 1\n"},
        {"reed/high.py": "x = 2\n"},
        "importlib.import_module('reed.low').x + importlib.import_module('reed.high').x",
    ),
    "a package below a namespace": (
        {"reed/in/__init__.py": "", "reed/in/low.py": "x = 1\n"},
        {"reed/in/high.py": "x = 2\n", "reed/out/far.py": ""},
        "importlib.import_module('reed.in.low').x + importlib.import_module('reed.in.high').x",
    ),
    "a namespace by a .pth file": (
        {"old/low.py": "x = 1\n", "low-nspkg.pth": OLD_NAMESPACE},
        {"old/high.py": "x = 2\n"},
        "importlib.import_module('old.low').x + importlib.import_module('old.high').x",
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", HALVES)
async def test_a_package_that_is_half_inherited_and_half_installed_is_whole(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path, kind: str, mode: str
) -> None:
    inherited, installed, expression = HALVES[kind]
    host = Host.make(tmp_path / "host", environ)
    host.add("reed-low", "1.0", files=inherited)
    installable(wheels, "reed-high", "reed-low", files=installed)
    made = await launch(environ, index, "reed-high", mode=mode)
    assert await says(made.python, expression) == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("inherited", ["none", "what is looked for", "who looks"])
async def test_a_file_of_another_package_is_found_from_every_path(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path, inherited: str, mode: str
) -> None:
    host = Host.make(tmp_path / "host", environ)
    north = {"north/__init__.py": "", "north/pole.txt": "n"}
    if inherited == "what is looked for":
        host.add("north", "1.0", files=north)
    else:
        installable(wheels, "north", files={"north/__init__.py": ""}, data={"north/pole.txt": b"n"})
    if inherited == "who looks":
        host.add("compass", "1.0", "north", files={"compass/__init__.py": COMPASS})
    else:
        installable(wheels, "compass", "north", files={"compass/__init__.py": COMPASS})
    made = await launch(environ, index, "compass", mode=mode)
    assert await says(made.python, "importlib.import_module('compass').missed") == []


async def test_two_packages_with_one_path_launch_and_the_answer_says_which_is_seen(
    environ: dict[str, str], index: Index, wheels: Path
) -> None:
    for name in ("lamp", "lute"):
        files = {f"{name}.py": "x = 1\n", "checks/__init__.py": f"of = {name!r}\n"}
        installable(wheels, name, files=files)
    made = await launch(environ, index, "lamp", "lute", mode="host")
    seen = await says(made.python, "importlib.import_module('checks').of")
    # pip installs what nothing tells apart in the reverse order of the names.
    assert seen == "lamp"
    assert "checks/__init__.py is of lamp and of lute too: that of lamp is seen" in made.warnings


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_installed_comes_before_a_module_of_the_host_with_its_import_name(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path, mode: str
) -> None:
    host = Host.make(tmp_path / "host", environ)
    host.add("fiddle-tools", "1.0", files={"fiddle/__init__.py": "of = 'host'\n"})
    (host.site / "drum.py").write_text("of = 'host'\n")
    (host.site / "spoons.py").write_text("of = 'host'\n")
    installable(wheels, "fiddle", files={"fiddle.py": "of = 'wheel'\n", "drum/__init__.py": ""})
    made = await launch(environ, index, "fiddle", "fiddle-tools", mode=mode)
    assert await says(made.python, "importlib.import_module('fiddle').of") == "wheel"
    names = set(os.listdir(view_of(made)))
    assert "drum.py" not in names
    assert ("spoons.py" in names) == (mode == "host")


async def test_nothing_of_a_replaced_version_is_left(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path
) -> None:
    host = Host.make(tmp_path / "host", environ)
    host.add("viol", "0.5", files={"viol/__init__.py": "", "viol/stale.py": "", "hook.pth": "\n"})
    installable(wheels, "viol", files={"viol/__init__.py": "fresh = True\n"})
    made = await launch(environ, index, "viol==1.0", mode="host")
    assert await says(made.python, "importlib.import_module('viol').fresh")
    find = "importlib.import_module('importlib.util').find_spec('viol.stale') is None"
    assert await says(made.python, find)
    names = os.listdir(view_of(made))
    assert [name for name in names if name.startswith(("viol-", "hook"))] == ["viol-1.0.dist-info"]


@pytest.mark.parametrize("mode", MODES)
async def test_an_editable_project_of_the_host_is_on_the_path_unless_it_is_hidden(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path, mode: str
) -> None:
    host = Host.make(tmp_path / "host", environ)
    for name in ("seen", "replaced"):
        source = tmp_path / name / "src"
        source.mkdir(parents=True)
        (source / f"{name}.py").write_text("of = 'project'\n")
        host.add(name, "0.5", files={f"__editable__.{name}.pth": f"{source}\n"})
    installable(wheels, "replaced", files={"replaced.py": "of = 'wheel'\n"})
    made = await launch(environ, index, "seen", "replaced==1.0", mode=mode)
    assert await says(made.python, "importlib.import_module('seen').of") == "project"
    assert await says(made.python, "importlib.import_module('replaced').of") == "wheel"
    path = await says(made.python, "sys.path")
    assert str(tmp_path / "replaced" / "src") not in path


async def test_the_view_is_the_one_site_directory_and_programs_lie_in_the_prefix(
    environ: dict[str, str], index: Index, wheels: Path
) -> None:
    program = b'#!python\n"""A docstring."""\nfrom __future__ import annotations\nprint("runs")\n'
    installable(
        wheels,
        "kit",
        files={"kit.py": "def main(): print('called')\n"},
        data={
            "kit-1.0.data/scripts/kit-shell": b"#!/bin/sh\necho shell\n",
            "kit-1.0.data/scripts/kit-python": program,
            "kit-1.0.data/data/share/kit/data.txt": b"data",
        },
        entry_points={"kit-main": "kit:main"},
    )
    made = await launch(environ, index, "kit", mode="host")
    real_path = Path(str(made.real_path))
    sites = await says(made.python, "importlib.import_module('site').getsitepackages()")
    # Debian's Python names others behind it, which are not there.
    assert [sites[0], *filter(os.path.isdir, sites[1:])] == [str(view_of(made))]
    for name, output in (("kit-shell", "shell"), ("kit-python", "runs"), ("kit-main", "called")):
        assert ran(real_path / "bin" / name) == (0, f"{output}\n", "")
        assert ran(Path(str(made.path)) / "bin" / name) == (0, f"{output}\n", "")
    assert (real_path / "share" / "kit" / "data.txt").read_text() == "data"
    recorded = (
        "all(each.locate().exists() for each in"
        " importlib.import_module('importlib.metadata').files('kit'))"
    )
    assert await says(made.python, recorded)


async def test_another_model_with_known_packages_takes_no_install_and_shares_them(
    environ: dict[str, str],
    index: Index,
    wheels: Path,
    layout: StorePaths,
    started: list[tuple[str, ...]],
) -> None:
    async with local_client(environ) as client:
        await client.prepare(asking(index, "lantern==1.0"))
        trees = sorted(path.name for path in layout.packages.iterdir())
        started.clear()
        second = await client.prepare(asking(index, "lantern==1.0", "wick", model="shine"))
        assert "pip install" not in uv_subcommands(started)
        assert "venv" not in uv_subcommands(started)
        lantern = (view_of(second) / "lantern.py").resolve()
    assert lantern.is_relative_to(layout.packages)
    assert sorted(path.name for path in layout.packages.iterdir()) == trees


@pytest.mark.usefixtures("wheels")
async def test_a_known_lock_of_known_packages_starts_nothing_but_the_interpreter_that_proves_it(
    environ: dict[str, str],
    index: Index,
    layout: StorePaths,
    started: list[tuple[str, ...]],
) -> None:
    request = asking(index, "wick==1.0", model="shine")
    async with local_client(environ) as client:
        await client.prepare(asking(index, "lantern==1.0"))
        lock = (await client.worker.plan(request)).lock
        assert lock is not None
        index.clear()
        for interpreters in (1, 0):
            started.clear()
            job = await client.worker.prepare(request, lock)
            while (report := await client.worker.wait(job)).result is None:
                assert report.error is None
            # Not even the skeleton of an environment is made by a program; and what was proved of
            # the same trees over the same host is not proved again.
            assert [argv[1:3] for argv in started] == [("-I", "-c")] * interpreters
            phases = {event.phase for event in report.events}
            assert Phase.COMPOSING in phases and Phase.INSTALLING not in phases
            made = report.result
            assert made.env_id is not None and made.lease_id is not None
            await client.worker.release_lease(made.env_id, made.lease_id)
            await client.worker.remove_virtual_env(Selection(model_name="shine"))
            assert made.env_id not in environments(layout)
        assert index.requests == []


async def test_a_home_that_was_moved_still_works(
    environ: dict[str, str], tmp_path: Path, index: Index, wheels: Path
) -> None:
    made = await launch(environ, index, "lantern==1.0", mode="host")
    home = Path(environ["XINFERENCE_HOME"])
    moved = home.with_name("moved")
    os.rename(home, moved)
    python = moved / Path(str(made.real_path)).relative_to(home) / "bin" / "python"
    assert await says(str(python), "importlib.import_module('lantern').__version__") == "1.0"


def _spoil(wheel: Path, change: Callable[[str], str]) -> None:
    """Change the text of a wheel's RECORD."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            record = name.endswith("/RECORD")
            archive.writestr(name, change(content.decode()).encode() if record else content)


_DIGEST = base64.urlsafe_b64encode(hashlib.sha256(b"x = 1\n").digest()).rstrip(b"=").decode()
SPOILED: dict[str, Callable[[str], str]] = {
    "sizes": lambda text: text.replace(",6\n", ",7\n", 1),
    "absent": lambda text: text + "absent/not_there.txt,,\n",
    "fewer": lambda text: "".join(row for row in text.splitlines(True) if "other" not in row),
    "twice": lambda text: text + text.splitlines(True)[0],
    "folder": lambda text: text + "folder/,,\n",
    "compiled": lambda text: text + "__pycache__/compiled.cpython-311.pyc,,\n",
    "dotted": lambda text: text.replace("dotted.py,", "./dotted.py,"),
    "returns": lambda text: text.replace("\n", "\r\n"),
    "hexes": lambda text: text.replace(_DIGEST, hashlib.sha256(b"x = 1\n").hexdigest()),
    # As of libraries that a tool changed after RECORD was written: vLLM requires such a wheel.
    "digests": lambda text: text.replace(_DIGEST, "A" * 43).replace(",6\n", ",7\n", 1),
}


async def test_a_record_that_is_wrong_and_that_pip_and_uv_accept_is_accepted(
    environ: dict[str, str], index: Index, wheels: Path, started: list[tuple[str, ...]]
) -> None:
    for name, change in SPOILED.items():
        files = {f"{name}.py": "x = 1\n", f"other_{name}.py": "y = 22\n"}
        _spoil(build_wheel(wheels, name, "1.0", modules=files), change)
    async with local_client(environ) as client:
        made = await client.prepare(asking(index, *SPOILED))
        names = [*SPOILED, *(f"other_{name}" for name in SPOILED)]
        found = f"[importlib.import_module(each).__name__ for each in {names}]"
        assert await says(made.python, found) == names
        answer = await client.supervisor.verify_virtual_env(EVERY, hashes=True)
        assert [each.finding.faults for each in answer.list] == [()]
        started.clear()
        again = await client.prepare(asking(index, *SPOILED))
        assert (again.env_id, uv_subcommands(started)) == (made.env_id, [])
