"""Wheels that aim at the host, at other environments or at what is ours: refused by name."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.hosts import Host
from tests.scenarios.steps import asking, files_of, left_behind, says
from tests.store.packages.test_package_tree import rewrite, spoil
from tests.wheels import build_wheel
from xinference_venv.client import Client, local_client
from xinference_venv.errors import InstallFailed
from xinference_venv.store.atomic import Disk
from xinference_venv.store.paths import StorePaths

pytestmark = pytest.mark.uv

_PTH = "zzzz-xinference-venv-inherited.pth"


@pytest.fixture
def host(environ: dict[str, str], tmp_path: Path) -> Host:
    """A host with one package, which the wheels aim at."""
    made = Host.make(tmp_path / "host", environ)
    made.add("victim", "1.0")
    return made


def _evil(folder: Path, path: str) -> None:
    build_wheel(folder, "evil", "1.0", data={f"evil-1.0.data/{path}": b"x = 'the wheel'\n"})


@pytest.mark.parametrize(
    "path",
    [
        "data/inherited/0/victim.py",
        "data/view/victim.py",
        "data/pycache/victim.pyc",
        "data/pyvenv.cfg",
        "data/xinference-venv.json",
        "data/xinference-venv.lock.json",
        "data/lib/python3.0/site-packages/evil-1.0.dist-info/RECORD",
        "scripts/xinference-venv-python",
        "purelib/../../outside.txt",
        # uv refuses these by itself, in time.
        "scripts/python",
        "data/bin/python3",
    ],
)
async def test_a_wheel_with_files_at_places_of_ours_is_refused_by_name(
    host: Host, client: Client, index: Index, tmp_path: Path, layout: StorePaths, path: str
) -> None:
    before = files_of(host.prefix)
    _evil(tmp_path / "wheels", path)
    with pytest.raises(InstallFailed, match="evil") as caught:
        await client.prepare(asking(index, "evil"))
    assert caught.value.details["phase"] == "installing"
    assert files_of(host.prefix) == before
    assert left_behind(layout) == []


async def test_a_wheel_with_a_pth_of_our_name_is_refused_whether_its_record_names_it_or_not(
    host: Host, client: Client, index: Index, tmp_path: Path, layout: StorePaths
) -> None:
    build_wheel(tmp_path / "wheels", "evil", "1.0", data={_PTH: b"import evil\n"})
    build_wheel(tmp_path / "wheels", "evil", "2.0", data={_PTH: b"import evil\n"}, unlisted=[_PTH])
    for version in ("1.0", "2.0"):
        with pytest.raises(InstallFailed, match=_PTH):
            await client.prepare(asking(index, f"evil=={version}"))
    assert left_behind(layout) == []


async def test_a_wheel_that_climbs_changes_nothing_outside_of_its_environment(
    host: Host, client: Client, index: Index, tmp_path: Path, layout: StorePaths
) -> None:
    before = files_of(host.prefix)
    _evil(tmp_path / "wheels", "data/../../../outside.txt")
    made = await client.prepare(asking(index, "evil", "victim"))
    assert await says(str(made.python), "importlib.import_module('victim').__version__") == "1.0"
    assert files_of(host.prefix) == before
    # uv leaves out what climbs out of a wheel.
    assert [path for path in files_of(tmp_path) if path.endswith("outside.txt")] == []


async def test_a_wheel_with_thousands_of_nested_directories_is_refused_and_harms_no_other_launch(
    host: Host, environ: dict[str, str], index: Index, tmp_path: Path, layout: StorePaths
) -> None:
    build_wheel(tmp_path / "wheels", "deep", "1.0", modules={"d/" * 1500 + "x.py": ""})
    build_wheel(tmp_path / "wheels", "lantern", "1.0")
    # What uv unpacks has more levels than pytest can delete.
    cache = tmp_path / "cache"
    async with local_client(environ | {"UV_CACHE_DIR": str(cache)}) as client:
        try:
            with pytest.raises(InstallFailed, match=r"deep is refused: .*at most 1000 characters"):
                await client.prepare(asking(index, "deep"))
            assert left_behind(layout) == []
            await client.prepare(asking(index, "lantern"))
        finally:
            Disk().delete(cache)


ENDS = "raise SystemExit('of the wheel')\n"
ROWS = """\
/etc/passwd,,
../../../../../../../../etc/passwd,,
../../../pyvenv.cfg,,
../victim.py,,
victim.py,,
victim-1.0.dist-info/RECORD,,
rows/../victim.py,,
rows.py,sha256=AAAA,5
rows/,,
"""


async def test_wheels_that_are_odd_are_harmless_where_they_are_not_refused(
    host: Host, client: Client, index: Index, tmp_path: Path, layout: StorePaths
) -> None:
    wheels = tmp_path / "wheels"
    rows = build_wheel(wheels, "rows", "1.0")
    spoil(rows, lambda text: (text + ROWS).replace("\n", "\r\n"))
    twins = ("twins/a.py", "twins/A.py", "twins/caf\u00e9.py", "twins/cafe\u0301.py")
    modules = {path: f"x = {path!r}\n" for path in (*twins, "twins/__init__.py")}
    build_wheel(wheels, "twins", "1.0", modules=modules)
    standard = ("site.py", "os.py", "encodings/__init__.py", "json/__init__.py")
    build_wheel(wheels, "standard", "1.0", modules=dict.fromkeys(standard, ENDS))
    build_wheel(wheels, "ours", "1.0", modules={"xinference_venv/__init__.py": ENDS})
    long = {"n" * 252 + ".py": "", "d" * 255 + "/x.py": "", "d/" * 300 + "x.py": ""}
    build_wheel(wheels, "long", "1.0", modules=long)
    code = f"__pycache__/victim.{sys_tag()}.pyc", f"bits/__pycache__/__init__.{sys_tag()}.pyc"
    bits = build_wheel(
        wheels,
        "bits",
        "1.0",
        modules={"bits/__init__.py": "x = 1\n", "bits/closed.py": "x = 2\n"},
        data={
            **dict.fromkeys(code, b"no bytecode"),
            "bits/link": b"/etc/passwd",
            "bits/pipe": b"",
            "bits-1.0.data/scripts/su": b"#!/bin/sh\n",
            "bits-1.0.data/data/share/link": b"../../../..",
        },
    )
    modes = {
        "bits/closed.py": 0o100000,
        "bits/link": 0o120777,
        "bits/pipe": 0o010644,
        "bits-1.0.data/scripts/su": 0o106755,
        "bits-1.0.data/data/share/link": 0o120777,
    }
    rewrite(bits, lambda _, found: found.update(modes))
    before = files_of(host.prefix)
    names = ["rows", "twins", "standard", "ours", "long", "bits"]
    made = await client.prepare(asking(index, *names, "victim"))
    of_each = {
        "victim": "importlib.import_module('victim').__version__",
        "twins": f"[importlib.import_module(name[:-3].replace('/', '.')).x for name in {twins}]",
        "bits": "[importlib.import_module(name).x for name in ('bits', 'bits.closed')]",
        "rows": "importlib.import_module('rows').__version__",
    }
    found = {name: await says(made.python, each) for name, each in of_each.items()}
    assert found == {"victim": "1.0", "twins": list(twins), "bits": [1, 2], "rows": "1.0"}
    assert files_of(host.prefix) == before
    for folder, folders, files in os.walk(layout.root):
        for path in (Path(folder, name) for name in (*folders, *files)):
            mode = path.lstat().st_mode
            assert not stat.S_ISFIFO(mode), path
            assert stat.S_ISLNK(mode) or not mode & (stat.S_ISUID | stat.S_ISGID), path
            assert not (stat.S_ISLNK(mode) and path.is_relative_to(layout.packages)), path


def sys_tag() -> str:
    """What names of bytecode have of the interpreter."""
    return str(sys.implementation.cache_tag)
