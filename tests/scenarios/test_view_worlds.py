"""Small worlds of wheels drawn at random, half of them on the host: an environment shows them as
one real site-packages does.

Packages share namespaces of all kinds and own paths together, look for files of each other in
every usual way, walk over their own files, bring data, programs and ``.pth`` files.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from tests.scenarios.one_site import Package, compare

pytestmark = pytest.mark.uv

World = Mapping[str, tuple[frozenset[str], Mapping[str, str]]]
"""The features of each package, and in which ways it looks for files of which other ones."""

NAMES = ("ant", "bee", "cat", "dog")

WAYS: Mapping[str, str] = {
    "climbs": "os.path.join(here, '..', {other!r}, 'data.txt')",
    "climbs from below": "os.path.join(here, 'sub', '..', '..', {other!r}, 'data.txt')",
    "text": "os.path.join(os.path.dirname(here), {other!r}, 'data.txt')",
    "parents": "Path(__file__).parent.parent / {other!r} / 'data.txt'",
    "real path": "os.path.join(os.path.realpath(here), '..', {other!r}, 'data.txt')",
    "resolved": "Path(__file__).resolve().parents[1] / {other!r} / 'data.txt'",
    "site": "os.path.join(site.getsitepackages()[0], {other!r}, 'data.txt')",
    "search path": "os.path.join(__path__[0], os.pardir, {other!r}, 'data.txt')",
    "namespace": "Path(__file__).resolve().parent / '../space' / ({other!r} + '.txt')",
    "its own folder": "os.path.join(here, 'sub', 'deep', 'data.txt')",
    "glob": "(glob.glob(os.path.join(here, '..', {start!r} + '*', 'data.txt')) or [''])[0]",
    "glob of a real path": (
        "next(Path(__file__).resolve().parents[1].glob({start!r} + '*/data.txt'), '')"
    ),
    "prefix": "os.path.join(sys.prefix, 'share', {other!r}, 'x.txt')",
    "data folder": "os.path.join(sysconfig.get_path('data'), 'share', {other!r}, 'x.txt')",
    "climbs to the prefix": "os.path.join(here, *['..'] * 4, 'share', {other!r}, 'x.txt')",
    "prefix by text": "Path(__file__).parents[4] / 'share' / {other!r} / 'x.txt'",
    "prefix of the real path": (
        "os.path.join(os.path.realpath(here), '../../../../share', {other!r}, 'x.txt')"
    ),
    "resolved prefix": "Path(__file__).resolve().parents[4] / 'share' / {other!r} / 'x.txt'",
    "shared folder": "Path(__file__).resolve().parents[4] / 'share/all' / ({other!r} + '.txt')",
}
"""How a package looks for a file, of another one or of its own."""

FEATURES = (
    *("namespace", "shared package", "deep package", "old namespace", "same path", "loose data"),
    *("data", "script", "entry point", "code in .pth", "folder in .pth", "top file", "libs"),
)
LOOKS = (
    "import glob, os, site, sys, sysconfig\nfrom pathlib import Path\n"
    "here = os.path.dirname(__file__)\n"
)
FOUND = "found = {way: os.path.isfile(place) for way, place in _places.items()}\n"
SCRIPT = '#!python\n"""Says."""\nfrom __future__ import annotations\nfrom {0} import main\nmain()\n'
OLD = (
    "import sys, types, os; p = os.path.join(sys._getframe(1).f_locals['sitedir'], 'old');"
    " m = sys.modules.setdefault('old', types.ModuleType('old'));"
    " mp = m.__dict__.setdefault('__path__', []); (p not in mp) and mp.append(p)\n"
)


def package(name: str, world: World) -> Package:
    """A package of a world with its features; it requires those that it looks for."""
    features, looks = world[name]
    ways = "".join(
        f"    {way + ' ' + other!r}: {WAYS[way].format(other=other, start=other[:2])},\n"
        for way, other in sorted(looks.items())
    )
    found = f"{LOOKS}_places = {{\n{ways}}}\n{FOUND}"
    files = {
        f"{name}/__init__.py": f"{found}def main():\n    print('{name} runs')\n",
        f"{name}/sub/__init__.py": "",
        f"{name}/sub/deep/data.txt": name,
        f"{name}/data.txt": name,
    }
    data: dict[str, bytes] = {}
    folder = f"{name}-1.0.data"
    extra = {
        "namespace": {f"space/{name}.py": f"x = {name!r}\n", f"space/{name}.txt": name},
        "shared package": {"common/__init__.py": "", f"common/{name}.py": f"x = {name!r}\n"},
        "deep package": {
            "deep/in/__init__.py": "",
            f"deep/in/{name}.py": "x = 1\n",
            f"deep/{name}/y.py": "x = 2\n",
        },
        "old namespace": {f"old/{name}.py": "x = 3\n", f"{name}-nspkg.pth": OLD},
        "same path": {"both/__init__.py": f"of = {name!r}\n", "both/data.txt": name},
        "loose data": {f"space/data/{name}/x.json": "{}"},
        "code in .pth": {f"{name}-hook.pth": f"import sys; sys.{name}_ran = True\n"},
        "folder in .pth": {f"{name}.pth": f"{name}_more\n", f"{name}_more/{name}_in.py": "x = 4\n"},
        "top file": {"LICENSE.txt": f"of {name}\n", f"{name}_one.py": "x = 5\n"},
        "libs": {
            f"{name}.libs/lib{name}.txt": "so",
            "tests/__init__.py": "",
            f"tests/{name}.py": "",
        },
    }
    for feature in features & extra.keys():
        files |= extra[feature]
    if "data" in features:
        data[f"{folder}/data/share/{name}/x.txt"] = name.encode()
        data[f"{folder}/data/share/all/{name}.txt"] = name.encode()
        data[f"{folder}/data/share/all/one.txt"] = name.encode()
    if "script" in features:
        data[f"{folder}/scripts/{name}-sh"] = b"#!/bin/sh\necho shell\n"
        data[f"{folder}/scripts/{name}-py"] = SCRIPT.format(name).encode()
    points = {f"{name}-main": f"{name}:main"} if "entry point" in features else {}
    # A package of the host is looked at only where it requires what is installed.
    requires = tuple(sorted({*looks.values()} & {*world} - {name}))
    return Package(name=name, files=files, data=data, entry_points=points, requires=requires)


def in_order(world: World) -> list[str]:
    """The packages in the order of pip: what is required first, else the last of a name."""
    left = {name: {*looks.values()} & {*world} - {name} for name, (_, looks) in world.items()}
    ordered: list[str] = []
    while left:
        ready = [name for name, needs in left.items() if not needs & left.keys()] or [*left]
        ordered += sorted(ready, reverse=True)
        left = {name: needs for name, needs in left.items() if name not in ready}
    return ordered


looking = st.dictionaries(st.sampled_from(sorted(WAYS)), st.sampled_from(NAMES), max_size=4)
features_of = st.frozensets(st.sampled_from(FEATURES), max_size=6)
worlds = st.dictionaries(
    st.sampled_from(NAMES), st.tuples(features_of, looking), min_size=2, max_size=4
)


@settings(
    max_examples=12,
    deadline=None,
    # The same worlds each time: what an inherited package finds of an installed one that it does
    # not require may differ, as docs/concepts.md says, and random ones meet that now and then.
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
    # A world is small enough to be read, and shrinking one takes minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    world=worlds,
    inherited=st.frozensets(st.sampled_from(NAMES)),
    mode=st.sampled_from(["host", "exact"]),
    flag=st.sampled_from(["-P", "-I", "-E", "-s"]),
)
def test_an_environment_shows_a_world_as_one_site_packages_does(
    world: World,
    inherited: frozenset[str],
    mode: str,
    flag: str,
    uv_cache: Path,
) -> None:
    on_host = inherited & world.keys()
    installed = {name: each for name, each in world.items() if name not in on_host}
    packages = [package(name, world) for name in (*on_host, *in_order(installed))]
    event(f"{len(on_host)} of {len(world)} inherited")
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "XINFERENCE_HOME": f"{folder}/home",
            "UV_CACHE_DIR": str(uv_cache),
        }
        seen = asyncio.run(
            compare(packages, on_host, Path(folder), environ, mode=mode, flags=[flag])
        )
    assert seen.differences == []
