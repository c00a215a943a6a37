"""Wheels that aim at the host, at other environments or at what is ours: refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.index import Index
from tests.scenarios.hosts import Host
from tests.scenarios.steps import asking, files_of, left_behind, says
from tests.wheels import build_wheel
from xinference_venv.client import Client
from xinference_venv.errors import InstallFailed
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
