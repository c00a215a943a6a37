"""Who may import what, and who may act: the rules of the layout, read off the source text.

1. Imports go downwards only, by folder: `LAYERS` lists, lowest first, what each folder is above.
   There is no circle between modules, not even for type checkers alone.
2. The pure folders reach neither the disk, the clock, other processes nor the event loop.
3. Only ``uv/subprocess.py`` starts processes, by way of the reaper; a process of its own may fork.
   Only the folders that have actors know xoscar.
4. A broad ``except`` stands only at the edge of a process or a thread.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

import xinference_venv

PACKAGE = Path(xinference_venv.__file__).parent
SOURCES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

LAYERS: dict[str, frozenset[str]] = {}
"""Each folder or module at the top level, and those below it, which it may import from."""


def layer(names: str, *, above: str = "") -> None:
    """Put folders side by side above those that are named, and above all that those are above."""
    below = frozenset(above.split()).union(*(LAYERS[each] for each in above.split()))
    for name in names.split():
        LAYERS[name] = below


layer("sentences")
layer("errors", above="sentences")
layer("_util", above="errors")
layer("settings", above="_util")
layer("planning", above="settings")
layer("inventory", above="planning")
layer("observability", above="inventory")
layer("store uv", above="observability")
layer("service runtime", above="store uv")
layer("diagnosis xinference", above="service")
layer("actors", above="diagnosis runtime")
layer("client", above="actors")
layer("rest", above="client")
layer("cli", above="rest")
layer("__init__", above="client xinference")
layer("__main__", above="cli")

PURE = frozenset({"planning", "inventory"})
WITH_ACTORS = frozenset({"actors", "client", "runtime", "xinference"})
FRONT_ENDS = frozenset({"cli", "rest"})
WIRE_TYPES = f"{xinference_venv.__name__}.actors.protocols"
"""What supervisor and worker answer, as types alone: it loads no actor."""

PROCESS_DOOR = "uv/subprocess.py"
BEHIND_THE_DOOR = frozenset({"uv/become.py", "uv/reaped_process.py", "uv/reaper.py"})
FORKS_ITSELF = "_util/forks.py"
"""For processes that the door starts, and ends with all their forks."""

ALLOWED_BROAD_EXCEPT: tuple[str, ...] = (
    "diagnosis/diagnose.py: checks_of",
    "actors/heartbeat.py: Heartbeats.keep",
    "actors/launch_tracker.py: LaunchTracker._carry_out",
    "actors/rpc.py: answer",
    "service/launch_service.py: LaunchService._run",
    "runtime/remote_actor.py: _runner_class.Runner.create",
    "xinference/compiling.py: BackgroundCompiling._keep_compiled",
    "_util/disk_threads.py: in_abandonable_thread.run",
)
"""Edges of a process or of a thread, as ``actors/worker.py: VirtualEnvWorkerActor.run``."""

ACTING_MODULES = frozenset(
    {
        *("asyncio", "concurrent", "fcntl", "glob", "http", "importlib", "multiprocessing"),
        *("psutil", "shutil", "socket", "subprocess", "tempfile", "threading", "time"),
        *("urllib.request", "xoscar"),
    }
)
PURE_OF_OS = frozenset(
    {
        *("os.PathLike", "os.fsdecode", "os.fsencode", "os.fspath", "os.pathsep", "os.sep"),
        *("os.path", "os.path.basename", "os.path.commonpath", "os.path.dirname"),
        *("os.path.isabs", "os.path.join", "os.path.normpath", "os.path.split"),
        "os.path.splitext",
    }
)
CLOCKS = frozenset(
    {
        *("datetime.date.today", "datetime.datetime.now", "datetime.datetime.today"),
        "datetime.datetime.utcnow",
    }
)
ACTING_METHODS = frozenset(
    {
        *("open", "read_bytes", "read_text", "write_bytes", "write_text", "touch"),
        *("exists", "is_dir", "is_file", "is_mount", "is_symlink", "samefile", "lstat", "stat"),
        *("glob", "iterdir", "rglob", "absolute", "cwd", "expanduser", "home", "readlink"),
        *("resolve", "chmod", "hardlink_to", "mkdir", "rename", "rmdir", "symlink_to", "unlink"),
    }
)
PROCESS_STARTERS = frozenset(
    {
        *("Popen", "create_subprocess_exec", "create_subprocess_shell"),
        *("subprocess_exec", "subprocess_shell"),
    }
)
PROCESS_STARTERS_OF_OS = (
    "os.exec",
    "os.fork",
    "os.popen",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """A module of the package: its path inside it, its text and what that parses to."""

    path: str
    source: str
    tree: ast.Module

    @property
    def part(self) -> str:
        """The module or package at the top level that this is or belongs to."""
        return PurePosixPath(self.path).parts[0].removesuffix(".py")

    @property
    def imports(self) -> list[tuple[int, str]]:
        """Line and absolute dotted name of all that is imported, wherever it stands."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                found += [(node.lineno, f"{origin}.{alias.name}") for alias in node.names]
        return found

    @property
    def parts_imported(self) -> list[tuple[int, str]]:
        """Line and part of each import from the package; the package itself is ``__init__``."""
        package = xinference_venv.__name__
        return [
            (line, name.removeprefix(package).lstrip(".").split(".")[0] or "__init__")
            for line, name in self.imports
            if _within(name, {package})
        ]

    @property
    def names(self) -> Iterator[tuple[int, str]]:
        """Line and dotted name of each name that is used, aliases of imports undone."""
        known: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    bound = alias.asname or alias.name.split(".")[0]
                    known[bound] = alias.name if alias.asname else bound
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    known[alias.asname or alias.name] = f"{self._origin(node)}.{alias.name}"
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name | ast.Attribute):
                first, _, rest = ast.unparse(node).partition(".")
                yield node.lineno, f"{known.get(first, first)}.{rest}".rstrip(".")

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = (xinference_venv.__name__, *PurePosixPath(self.path).parts[:-1])
        upwards = package[: len(package) - node.level + 1]
        return ".".join([*upwards, node.module] if node.module else upwards)


def _within(name: str, roots: frozenset[str] | set[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def imports_go_downwards(module: Module) -> Iterator[str]:
    if module.part not in LAYERS:
        yield f"{module.part} is new: give it a layer here"
        return
    for line, part in module.parts_imported:
        if part != module.part and part not in LAYERS[module.part]:
            yield f"line {line}: {module.part} imports {part}, which is not below it"


def pure_folders_do_not_act(module: Module) -> Iterator[str]:
    if module.part not in PURE:
        return
    for line, name in module.imports:
        if _within(name, ACTING_MODULES) or _acts_through_os(name):
            yield f"line {line}: a pure module imports {name}"
    for line, name in module.names:
        owner, _, last = name.rpartition(".")
        if (
            _acts_through_os(name)
            or name in CLOCKS
            or (owner == "pathlib.Path" and last in ACTING_METHODS)
        ):
            yield f"line {line}: a pure module uses {name}"
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)):
                if called in ACTING_METHODS:
                    yield f"line {node.lineno}: a pure module calls {called}()"


def _acts_through_os(name: str) -> bool:
    return name.startswith("os.") and not (
        name in PURE_OF_OS or _within(name, PURE_OF_OS - {"os.path"})
    )


def processes_have_one_door(module: Module) -> Iterator[str]:
    if module.path in BEHIND_THE_DOOR:
        return
    for line, name in module.imports:
        if _within(name, {"subprocess", "asyncio.subprocess"}):
            yield f"line {line}: imports {name}, not by {PROCESS_DOOR}"
    for line, name in module.names:
        if name == "os.fork" and module.path == FORKS_ITSELF:
            continue
        if name.rpartition(".")[2] in PROCESS_STARTERS or name.startswith(PROCESS_STARTERS_OF_OS):
            yield f"line {line}: starts processes by {name}, not by {PROCESS_DOOR}"


def the_reaper_is_behind_the_door(module: Module) -> Iterator[str]:
    reaper = f"{xinference_venv.__name__}.uv.reaped_process"
    if module.path != PROCESS_DOOR:
        for line, name in module.imports:
            if _within(name, {reaper}):
                yield f"line {line}: imports {name}, as only {PROCESS_DOOR} may"


def xoscar_stays_with_the_actors(module: Module) -> Iterator[str]:
    if module.part not in WITH_ACTORS:
        for line, name in module.imports:
            if _within(name, {"xoscar"}):
                yield f"line {line}: {module.part} imports {name}"


def front_ends_reach_no_effect(module: Module) -> Iterator[str]:
    if module.part in FRONT_ENDS:
        effects = {f"{xinference_venv.__name__}.{each}" for each in ("actors", "store", "uv")}
        for line, name in module.imports:
            if _within(name, effects) and not _within(name, {WIRE_TYPES}):
                yield f"line {line}: {module.part} imports {name}; client and service lead there"


def broad_excepts_are_listed(module: Module) -> Iterator[str]:
    for line, place in broad_excepts(module):
        if place not in ALLOWED_BROAD_EXCEPT:
            yield f"line {line}: a broad except in {place!r}, which ALLOWED_BROAD_EXCEPT lacks"


def broad_excepts(module: Module) -> list[tuple[int, str]]:
    """Line and place, as ``path: Class.function``, of what catches or suppresses everything."""
    found = []

    def visit(node: ast.AST, scope: tuple[str, ...]) -> None:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                scope = (*scope, name)
            case ast.ClassDef(name=name):
                scope = (*scope, name)
            case ast.ExceptHandler(type=caught):
                if caught is None or _is_broad(caught):
                    found.append((node.lineno, f"{module.path}: {'.'.join(scope)}"))
            case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress")):
                if any(_is_broad(argument) for argument in node.args):
                    found.append((node.lineno, f"{module.path}: {'.'.join(scope)}"))
        for child in ast.iter_child_nodes(node):
            visit(child, scope)

    visit(module.tree, ())
    return found


def _is_broad(caught: ast.expr) -> bool:
    names = {ast.unparse(each).rpartition(".")[2] for each in ast.walk(caught)}
    return not names.isdisjoint({"BaseException", "Exception"})


Rule = Callable[[Module], Iterator[str]]

RULES: tuple[Rule, ...] = (
    imports_go_downwards,
    pure_folders_do_not_act,
    processes_have_one_door,
    the_reaper_is_behind_the_door,
    xoscar_stays_with_the_actors,
    front_ends_reach_no_effect,
    broad_excepts_are_listed,
)


def parse(path: str, source: str) -> Module:
    return Module(path=path, source=source, tree=ast.parse(source, path))


def read(path: str) -> Module:
    return parse(path, (PACKAGE / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SOURCES)
def test_a_module_keeps_the_rules(path: str) -> None:
    module = read(path)
    assert [broken for rule in RULES for broken in rule(module)] == []


def test_the_list_of_broad_excepts_names_only_what_exists() -> None:
    places = {place for path in SOURCES for _, place in broad_excepts(read(path))}
    assert set(ALLOWED_BROAD_EXCEPT) <= places


BROKEN: list[tuple[Rule, str, str]] = [
    (imports_go_downwards, "helpers.py", ""),
    (imports_go_downwards, "tools/strings.py", ""),
    *(
        (pure_folders_do_not_act, "planning/spec.py", f"import {name}")
        for name in sorted(ACTING_MODULES)
    ),
    (pure_folders_do_not_act, "planning/spec.py", "from asyncio import sleep"),
    (pure_folders_do_not_act, "planning/spec.py", "from urllib import request"),
    (pure_folders_do_not_act, "planning/spec.py", "import concurrent.futures as futures"),
    (pure_folders_do_not_act, "planning/spec.py", "def late():\n    import socket"),
    (pure_folders_do_not_act, "planning/spec.py", "from os import environ"),
    (pure_folders_do_not_act, "planning/spec.py", "from os.path import exists"),
    (pure_folders_do_not_act, "planning/spec.py", "import os\nos.environ['HOME']"),
    (pure_folders_do_not_act, "planning/spec.py", "import os\nos.path.realpath('a')"),
    (pure_folders_do_not_act, "planning/spec.py", "import os\nos.sep.join(os.listdir('.'))"),
    (pure_folders_do_not_act, "planning/spec.py", "import os.path as paths\npaths.isfile('a')"),
    (pure_folders_do_not_act, "planning/spec.py", "from os import path\npath.abspath('a')"),
    (pure_folders_do_not_act, "planning/spec.py", "open('a')"),
    (
        pure_folders_do_not_act,
        "planning/spec.py",
        "from pathlib import Path\nPath('a').read_text()",
    ),
    (
        pure_folders_do_not_act,
        "planning/spec.py",
        "from pathlib import Path\nfilter(Path.exists, [])",
    ),
    (
        pure_folders_do_not_act,
        "planning/spec.py",
        "import pathlib\nfilter(pathlib.Path.exists, [])",
    ),
    (pure_folders_do_not_act, "planning/spec.py", "def f(p):\n    return p.parent.resolve()"),
    (pure_folders_do_not_act, "planning/spec.py", "from datetime import datetime\ndatetime.now()"),
    (imports_go_downwards, "planning/spec.py", "from xinference_venv import store"),
    (
        imports_go_downwards,
        "planning/spec.py",
        "from xinference_venv.store.atomic import Disk",
    ),
    (imports_go_downwards, "planning/spec.py", "import xinference_venv.uv.argv"),
    (imports_go_downwards, "planning/spec.py", "from .. import actors"),
    (imports_go_downwards, "planning/spec.py", "from ..client import Client"),
    (imports_go_downwards, "planning/spec.py", "from ..inventory.env import EnvRecord"),
    (imports_go_downwards, "planning/spec.py", "import xinference_venv"),
    (imports_go_downwards, "uv/installer.py", "from xinference_venv.store import paths"),
    (imports_go_downwards, "uv/installer.py", "from ..actors.rpc import probe"),
    (imports_go_downwards, "uv/installer.py", "from xinference_venv import runtime"),
    (imports_go_downwards, "store/paths.py", "from .. import uv"),
    (imports_go_downwards, "store/__init__.py", "from ..client import Client"),
    (imports_go_downwards, "service/jobs.py", "from ..actors.rpc import call"),
    (imports_go_downwards, "_util/redact.py", "from ..planning.host import HostFacts"),
    (xoscar_stays_with_the_actors, "service/jobs.py", "import xoscar as xo"),
    (xoscar_stays_with_the_actors, "cli/main.py", "def late():\n    from xoscar import Actor"),
    (processes_have_one_door, "uv/interpreters.py", "import subprocess"),
    (
        the_reaper_is_behind_the_door,
        "uv/interpreters.py",
        "from xinference_venv.uv.reaped_process import ReapedProcess",
    ),
    (processes_have_one_door, "runtime/model_process.py", "from subprocess import run"),
    (processes_have_one_door, "runtime/model_process.py", "from asyncio import subprocess"),
    (processes_have_one_door, "runtime/model_process.py", "from asyncio.subprocess import PIPE"),
    (
        processes_have_one_door,
        "runtime/model_process.py",
        "import asyncio\nasyncio.create_subprocess_exec('a')",
    ),
    (
        processes_have_one_door,
        "runtime/model_process.py",
        "from asyncio import create_subprocess_shell as c\nc()",
    ),
    (processes_have_one_door, "runtime/model_process.py", "loop.subprocess_exec(None, 'a')"),
    (processes_have_one_door, "runtime/model_process.py", "import psutil\npsutil.Popen('a')"),
    (processes_have_one_door, "runtime/model_process.py", "import os\nos.execve('a', [], {})"),
    (processes_have_one_door, "runtime/model_process.py", "from os import system\nsystem('a')"),
    (front_ends_reach_no_effect, "cli/main.py", "from xinference_venv.actors import worker"),
    (front_ends_reach_no_effect, "cli/main.py", "def main():\n    from ..uv import subprocess"),
    (front_ends_reach_no_effect, "rest/base.py", "import xinference_venv.store"),
    (front_ends_reach_no_effect, "rest/app.py", "from ..store import paths"),
    (broad_excepts_are_listed, "planning/spec.py", "try:\n    f()\nexcept:\n    pass"),
    (broad_excepts_are_listed, "planning/spec.py", "try:\n    f()\nexcept Exception:\n    raise"),
    (
        broad_excepts_are_listed,
        "planning/spec.py",
        "try:\n    f()\nexcept BaseException as e:\n    g(e)",
    ),
    (
        broad_excepts_are_listed,
        "planning/spec.py",
        "try:\n    f()\nexcept (OSError, Exception):\n    g()",
    ),
    (broad_excepts_are_listed, "planning/spec.py", "try:\n    f()\nexcept* Exception:\n    g()"),
    (broad_excepts_are_listed, "planning/spec.py", "with contextlib.suppress(Exception):\n    f()"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BROKEN)
def test_an_offending_source_is_caught(rule: Rule, path: str, source: str) -> None:
    assert list(rule(parse(path, source)))


HARMLESS: list[tuple[str, str]] = [
    ("planning/spec.py", "import os\nos.path.join('a', os.sep, os.fspath('b'))\nos.sep.join('ab')"),
    (
        "planning/spec.py",
        "from pathlib import Path\nPath('a').parent.joinpath('b').relative_to('a')",
    ),
    ("planning/spec.py", "import ast, re\nast.walk(ast.parse(''))\nre.match('a', 'a').group()"),
    (
        "planning/spec.py",
        "from xinference_venv.errors import InvalidInput\nfrom .host import HostFacts",
    ),
    ("planning/spec.py", "from urllib.parse import urlsplit\nfrom datetime import datetime"),
    ("inventory/env.py", "def f(record, settings):\n    return record.exists and settings.home"),
    (
        "uv/installer.py",
        "from xinference_venv.planning.lock import EnvLock\nfrom .argv import install",
    ),
    ("uv/reaped_process.py", "import asyncio\nimport subprocess\nasyncio.create_subprocess_exec()"),
    ("store/paths.py", "import os\nos.rename('a', 'b')\nfrom . import records"),
    ("cli/main.py", "from xinference_venv.client import Client\nfrom ..planning import spec"),
    ("runtime/model_process.py", "from ..store import leases\nimport xoscar"),
    ("actors/worker.py", "from ..uv import installer\nfrom ..store import paths"),
    ("actors/worker.py", "try:\n    f()\nexcept (OSError, ExceptionGroup):\n    raise"),
]


@pytest.mark.parametrize(("path", "source"), HARMLESS)
def test_a_harmless_source_is_let_through(path: str, source: str) -> None:
    module = parse(path, source)
    assert [broken for rule in RULES for broken in rule(module)] == []


def test_a_broad_except_is_named_by_its_place() -> None:
    source = "class A:\n    async def run(self):\n        try: f()\n        except Exception: g()"
    assert broad_excepts(parse("actors/worker.py", source)) == [(4, "actors/worker.py: A.run")]


def module_imports(path: str) -> set[str]:
    """The modules of the package that a module imports, wherever the import stands."""
    package = xinference_venv.__name__
    found = set()
    for _, name in read(path).imports:
        place = name.removeprefix(f"{package}.").replace(".", "/")
        for candidate in (f"{place}.py", f"{place.rpartition('/')[0]}.py"):
            if candidate in SOURCES and _within(name, {package}) and candidate != path:
                found.add(candidate)
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    sorter = graphlib.TopologicalSorter({path: module_imports(path) for path in SOURCES})
    sorter.prepare()
