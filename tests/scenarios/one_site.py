"""A world of wheels in one real site-packages, and the same world in an environment of ours.

`compare` installs everything into one virtual environment with uv, one wheel after the other, then
puts a part of it on a host and launches a model that asks for all. The same program looks at both
in processes of their own: what it finds has to be equal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uv import find_uv_bin

from tests.wheels import build_wheel
from xinference_venv.client import local_client
from xinference_venv.inventory.jobs import PreparedEnvironment
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.settings import ALLOWED_ROOTS_VARIABLE

# Looks at an environment as programs do; places are given relative to the folder of packages or to
# the prefix. Whatever can fail is caught: both worlds have to fail alike.
_LOOK = r"""
import glob, importlib, importlib.metadata, importlib.resources, importlib.util, json, os, pkgutil
import site, subprocess, sys, sysconfig
from pathlib import Path
wanted = json.loads(sys.argv[1])
# Debian's Python names others behind it, which are not there.
[folder] = filter(os.path.isdir, site.getsitepackages())
prefix = sys.prefix
OWN = ("_virtualenv", "__pycache__", "zzzz-xinference-venv-")
# What an installer notes of the install.
LEFT = ("direct_url.json", "uv_cache.json", "REQUESTED", ".pyc")
def told(value):
    if isinstance(value, (list, tuple)):
        return [told(each) for each in value]
    if isinstance(value, dict):
        return {told(key): told(each) for key, each in value.items()}
    if isinstance(value, (str, os.PathLike)):
        text = str(value)
        for name, place in (("SITE", folder), ("PREFIX", prefix)):
            text = text.replace(place, name)
        return text
    return value if isinstance(value, (int, float, bool, type(None))) else type(value).__name__
def tried(what):
    try:
        return told(what())
    except BaseException as error:
        return [type(error).__name__, told(str(error))]
def imported(name):
    module = importlib.import_module(name)
    public = {key: value for key, value in vars(module).items() if not key.startswith("_")
              and isinstance(value, (str, int, bool, list, dict, tuple))}
    where = getattr(module, "__file__", None)
    return [where, list(getattr(module, "__path__", [])), public]
def walked(top):
    found = set()
    for place, folders, names in os.walk(top):
        folders[:] = [each for each in folders if each != "__pycache__"]
        found.update(os.path.relpath(os.path.join(place, each), folder) for each in names
                     if not each.endswith(LEFT))
    return sorted(found)
def without_bytecode(paths):
    return sorted(os.path.relpath(each, folder) for each in paths
                  if "__pycache__" not in str(each) and not str(each).endswith(LEFT))
found = {}
found["names"] = sorted(each for each in os.listdir(folder) if not each.startswith(OWN))
tops = [os.path.join(folder, each) for each in found["names"]
        if os.path.isdir(os.path.join(folder, each))]
found["walks"] = {told(top): walked(top) for top in tops}
found["rglobs"] = {told(top): without_bytecode(Path(top).rglob("*")) for top in tops}
found["globs"] = {told(top): without_bytecode(
    glob.glob(os.path.join(glob.escape(top), "**"), recursive=True)) for top in tops}
found["contents"] = {told(path): tried(lambda: Path(path).read_bytes().decode("utf-8", "replace"))
    for top in tops for path in (os.path.join(folder, each) for each in walked(top))
    if not path.endswith("RECORD")}
found["stays inside"] = {told(path): os.path.realpath(path).startswith(os.path.realpath(top) + "/")
    for top in tops for path in (os.path.join(folder, each) for each in walked(top))}
found["specs"] = {name: tried(lambda: (lambda spec: spec and [
    spec.origin, list(spec.submodule_search_locations or [])])(importlib.util.find_spec(name)))
    for name in wanted["modules"]}
found["imports"] = {name: tried(lambda: imported(name)) for name in wanted["modules"]}
found["top modules"] = sorted(each.name for each in pkgutil.iter_modules([folder])
                              if not each.name.startswith(OWN))
found["all modules"] = {name: tried(lambda: sorted(each.name for each in pkgutil.walk_packages(
    importlib.import_module(name).__path__, name + "."))) for name in wanted["packages"]}
def resources(name):
    def below(place, path=""):
        for each in sorted(place.iterdir(), key=lambda each: each.name):
            if each.name != "__pycache__":
                yield path + each.name
                if each.is_dir():
                    yield from below(each, path + each.name + "/")
    return list(below(importlib.resources.files(name)))
found["resources"] = {name: tried(lambda: resources(name)) for name in wanted["packages"]}
listed = sorted((each.metadata["Name"], each.version) for each in importlib.metadata.distributions()
                if each.metadata["Name"] not in ("pip", "setuptools"))
found["distributions"] = listed
found["files"] = {name: tried(lambda: sorted([str(each), each.locate().exists()]
    for each in importlib.metadata.files(name) if not str(each).endswith(LEFT)))
    for name, _ in listed}
found["entry points"] = sorted([group, each.name, each.value]
    for group in ("console_scripts", "plugins")
    for each in importlib.metadata.entry_points(group=group))
found["owners"] = {key: sorted(value) for key, value in
    importlib.metadata.packages_distributions().items() if key in wanted["modules"]}
def output(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return [done.returncode, done.stdout, done.stderr[-300:]]
found["programs"] = {name: tried(lambda: output(os.path.join(prefix, "bin", name)))
                     for name in wanted["programs"]}
found["data"] = {path: tried(lambda: Path(prefix, path).read_text()) for path in wanted["data"]}
found["paths"] = [told(each) for each in sys.path if each.startswith((folder, prefix))
                  and each not in (sysconfig.get_path("purelib"), folder)]
print(json.dumps(found))
"""


@dataclass(frozen=True, kw_only=True)
class Package:
    """One wheel: files by their path in it; those in `data` may have any bytes."""

    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, bytes] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    entry_points: Mapping[str, str] = field(default_factory=dict)
    tag: str = "py3-none-any"

    def build(self, folder: Path) -> Path:
        """Write the wheel."""
        return build_wheel(
            folder,
            self.name,
            "1.0",
            requires=self.requires,
            modules=self.files,
            data=self.data,
            entry_points=self.entry_points,
            tag=self.tag,
        )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the program found in the real site-packages and in the environment."""

    real: Mapping[str, Any]
    view: Mapping[str, Any]
    environment: PreparedEnvironment

    @property
    def differences(self) -> list[str]:
        """Each as a line, with what both have."""
        lines = []
        for what, wanted in self.real.items():
            found = self.view[what]
            if isinstance(wanted, dict):
                lines += [
                    f"{what}: {name}: real {wanted.get(name)}, view {found.get(name)}"
                    for name in sorted(wanted.keys() | found.keys())
                    if wanted.get(name) != found.get(name)
                ]
            elif wanted != found:
                lines.append(f"{what}: real {wanted}, view {found}")
        return lines


async def compare(
    packages: Sequence[Package],
    inherited: Collection[str],
    folder: Path,
    environ: dict[str, str],
    *,
    mode: str = "host",
    flags: Iterable[str] = (),
) -> Seen:
    """Look at both worlds; `packages` are in the order in which they are installed for real.

    Those of `inherited` are on the host and come first.
    """
    wheels = folder / "offered"
    wheels.mkdir()
    built = {each.name: each.build(wheels) for each in packages}
    host, real = folder / "a-host", folder / "real"
    first = [built[name] for name in built if name in inherited]
    second = [built[name] for name in built if name not in inherited]
    for place, installed in ((host, first), (real, [*first, *second])):
        _uv(environ, "venv", "-q", "-p", sys.executable, str(place))
        python = str(place / "bin" / "python")
        for wheel in installed:
            _uv(environ, *_INSTALL, "--python", python, str(wheel))
    environ = environ | {
        "XINFERENCE_VIRTUAL_ENV_HOST_PYTHON": str(host / "bin" / "python"),
        ALLOWED_ROOTS_VARIABLE: str(folder),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }
    request = {"model_name": "one-site", "virtualenv": {"packages": [*built]}, "inherit": mode}
    async with local_client(environ) as client:
        made = await client.prepare(LaunchRequest.from_dict(request))
    wanted = json.dumps(_wanted(packages))
    return Seen(
        real=_look(real / "bin" / "python", flags, wanted),
        view=_look(Path(made.python), flags, wanted),
        environment=made,
    )


_INSTALL = ("pip", "install", "-q", "--no-deps", "--offline")


def _uv(environ: Mapping[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [find_uv_bin(), *arguments], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def _wanted(packages: Sequence[Package]) -> dict[str, list[str]]:
    """Which modules, packages, programs and data files there are, or ought to be."""
    modules: set[str] = set()
    below: set[str] = set()
    programs: set[str] = set()
    data: set[str] = set()
    for package in packages:
        programs |= package.entry_points.keys()
        for path in (*package.files, *package.data):
            if (start := path.find(".data/")) >= 0:
                kind, _, rest = path[start + 6 :].partition("/")
                if kind == "scripts":
                    programs.add(rest)
                elif kind == "data":
                    data.add(rest)
            elif path.endswith(".py"):
                parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
                if all(part.isidentifier() for part in parts):
                    modules.add(".".join(parts))
                    below.update(".".join(parts[:depth]) for depth in range(1, len(parts)))
    return {
        "modules": sorted(modules | below),
        "packages": sorted(below),
        "programs": sorted(programs),
        "data": sorted(data),
    }


def _look(python: Path, flags: Iterable[str], wanted: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [python, *flags, "-c", _LOOK, wanted],
            cwd=elsewhere,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
