"""Who may import what, and who may act: the rules of the layout, read off the source text.

1. Nouns, the modules at the top level that are no edge, are pure: they import only nouns, and
   nothing that reaches the disk, the clock, other processes or the event loop.
2. ``uv_cli``, ``store`` and ``catalog`` import only nouns and themselves.
3. Only ``uv_cli/process.py`` starts processes.
4. ``cli`` and ``rest`` reach effects only through the client.

And two that keep modules readable: at most 400 lines, and no broad ``except`` unless listed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

import xinference_venv

PACKAGE = Path(xinference_venv.__file__).parent
SOURCES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

NOUNS = frozenset(
    {
        "actor_class",
        "answers",
        "canonical",
        "config",
        "diagnosis",
        "difference",
        "env",
        "errors",
        "eviction",
        "explain",
        "fleet",
        "host",
        "host_checks",
        "index_answers",
        "inventory",
        "job_log",
        "jobs",
        "lease",
        "lock",
        "log_format",
        "markers",
        "measures",
        "metrics",
        "overlay",
        "pip_config",
        "redact",
        "replicas",
        "request",
        "requirements",
        "source_builds",
        "sources",
        "space",
        "spec",
        "units",
        "watching",
    }
)
EDGES = frozenset(
    {
        *("__init__", "__main__", "cli", "client", "console"),
        *("completing", "console_cluster", "console_diagnosis", "console_tree"),
        *("launch", "progress", "rest", "runner", "session"),
    }
)
FOUNDATIONS = frozenset({"catalog", "store", "uv_cli"})
OTHER_PACKAGES = frozenset({"actors", "ui", "xinference"})

PROCESS_DOOR = "uv_cli/process.py"
MAXIMUM_LINES = 400

ALLOWED_BROAD_EXCEPT: tuple[str, ...] = (
    "actors/launches.py: Launches._run",
    "runner.py: _runner_class.Runner.create",
)
"""Edges of a process, as ``actors/worker.py: VirtualEnvWorkerActor.run``."""

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


def parts_are_listed(module: Module) -> Iterator[str]:
    if module.part not in NOUNS | EDGES | FOUNDATIONS | OTHER_PACKAGES:
        yield f"{module.part} is new: list it here in NOUNS or EDGES, a package in its set"


def nouns_are_pure(module: Module) -> Iterator[str]:
    if module.part not in NOUNS:
        return
    for line, part in module.parts_imported:
        if part not in NOUNS | {"catalog"}:
            yield f"line {line}: a noun imports {part}"
    for line, name in module.imports:
        if _within(name, ACTING_MODULES) or _acts_through_os(name):
            yield f"line {line}: a noun imports {name}"
    for line, name in module.names:
        owner, _, last = name.rpartition(".")
        if (
            _acts_through_os(name)
            or name in CLOCKS
            or (owner == "pathlib.Path" and last in ACTING_METHODS)
        ):
            yield f"line {line}: a noun uses {name}"
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)):
                if called in ACTING_METHODS:
                    yield f"line {node.lineno}: a noun calls {called}()"


def _acts_through_os(name: str) -> bool:
    return name.startswith("os.") and not (
        name in PURE_OF_OS or _within(name, PURE_OF_OS - {"os.path"})
    )


def foundations_import_only_nouns(module: Module) -> Iterator[str]:
    if module.part in FOUNDATIONS:
        for line, part in module.parts_imported:
            if part not in NOUNS | {module.part}:
                yield f"line {line}: {module.part} imports {part}"


def processes_have_one_door(module: Module) -> Iterator[str]:
    if module.path == PROCESS_DOOR:
        return
    for line, name in module.imports:
        if _within(name, {"subprocess", "asyncio.subprocess"}):
            yield f"line {line}: imports {name}, as only {PROCESS_DOOR} may"
    for line, name in module.names:
        if name.rpartition(".")[2] in PROCESS_STARTERS or name.startswith(PROCESS_STARTERS_OF_OS):
            yield f"line {line}: starts processes by {name}, as only {PROCESS_DOOR} may"


def edges_go_through_the_client(module: Module) -> Iterator[str]:
    if module.part in {"cli", "rest"}:
        for line, part in module.parts_imported:
            if part in {"actors", "store", "uv_cli"}:
                yield f"line {line}: {module.part} imports {part}; the client is its way there"


def modules_are_short(module: Module) -> Iterator[str]:
    lines = len(module.source.splitlines())
    if lines > MAXIMUM_LINES:
        yield f"{lines} lines, more than {MAXIMUM_LINES}: make two modules of it"


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
    parts_are_listed,
    nouns_are_pure,
    foundations_import_only_nouns,
    processes_have_one_door,
    edges_go_through_the_client,
    modules_are_short,
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
    (parts_are_listed, "helpers.py", ""),
    (parts_are_listed, "tools/strings.py", ""),
    *((nouns_are_pure, "spec.py", f"import {name}") for name in sorted(ACTING_MODULES)),
    (nouns_are_pure, "spec.py", "from asyncio import sleep"),
    (nouns_are_pure, "spec.py", "from urllib import request"),
    (nouns_are_pure, "spec.py", "import concurrent.futures as futures"),
    (nouns_are_pure, "spec.py", "def late():\n    import socket"),
    (nouns_are_pure, "spec.py", "from os import environ"),
    (nouns_are_pure, "spec.py", "from os.path import exists"),
    (nouns_are_pure, "spec.py", "import os\nos.environ['HOME']"),
    (nouns_are_pure, "spec.py", "import os\nos.path.realpath('a')"),
    (nouns_are_pure, "spec.py", "import os\nos.sep.join(os.listdir('.'))"),
    (nouns_are_pure, "spec.py", "import os.path as paths\npaths.isfile('a')"),
    (nouns_are_pure, "spec.py", "from os import path\npath.abspath('a')"),
    (nouns_are_pure, "spec.py", "open('a')"),
    (nouns_are_pure, "spec.py", "from pathlib import Path\nPath('a').read_text()"),
    (nouns_are_pure, "spec.py", "from pathlib import Path\nfilter(Path.exists, [])"),
    (nouns_are_pure, "spec.py", "import pathlib\nfilter(pathlib.Path.exists, [])"),
    (nouns_are_pure, "spec.py", "def f(p):\n    return p.parent.resolve()"),
    (nouns_are_pure, "spec.py", "from datetime import datetime\ndatetime.now()"),
    (nouns_are_pure, "spec.py", "from xinference_venv import store"),
    (nouns_are_pure, "spec.py", "from xinference_venv.store.layout import Layout"),
    (nouns_are_pure, "spec.py", "import xinference_venv.uv_cli.command"),
    (nouns_are_pure, "spec.py", "from . import actors"),
    (nouns_are_pure, "spec.py", "from .client import Client"),
    (nouns_are_pure, "spec.py", "from .cli import main"),
    (nouns_are_pure, "spec.py", "import xinference_venv"),
    (foundations_import_only_nouns, "uv_cli/build.py", "from xinference_venv.store import layout"),
    (foundations_import_only_nouns, "uv_cli/build.py", "from ..actors.rpc import probe"),
    (foundations_import_only_nouns, "uv_cli/build.py", "from xinference_venv import launch"),
    (foundations_import_only_nouns, "store/layout.py", "from .. import uv_cli"),
    (foundations_import_only_nouns, "store/__init__.py", "from ..client import Client"),
    (foundations_import_only_nouns, "catalog/__init__.py", "from ..store import layout"),
    (processes_have_one_door, "uv_cli/probe.py", "import subprocess"),
    (processes_have_one_door, "launch.py", "from subprocess import run"),
    (processes_have_one_door, "launch.py", "from asyncio import subprocess"),
    (processes_have_one_door, "launch.py", "from asyncio.subprocess import PIPE"),
    (processes_have_one_door, "launch.py", "import asyncio\nasyncio.create_subprocess_exec('a')"),
    (processes_have_one_door, "launch.py", "from asyncio import create_subprocess_shell as c\nc()"),
    (processes_have_one_door, "launch.py", "loop.subprocess_exec(None, 'a')"),
    (processes_have_one_door, "launch.py", "import psutil\npsutil.Popen('a')"),
    (processes_have_one_door, "launch.py", "import os\nos.execve('a', [], {})"),
    (processes_have_one_door, "launch.py", "from os import system\nsystem('a')"),
    (edges_go_through_the_client, "cli/main.py", "from xinference_venv.actors import worker"),
    (edges_go_through_the_client, "cli.py", "def main():\n    from .uv_cli import process"),
    (edges_go_through_the_client, "rest.py", "import xinference_venv.store"),
    (edges_go_through_the_client, "rest/app.py", "from ..store import layout"),
    (modules_are_short, "spec.py", "\n" * (MAXIMUM_LINES + 1)),
    (broad_excepts_are_listed, "spec.py", "try:\n    f()\nexcept:\n    pass"),
    (broad_excepts_are_listed, "spec.py", "try:\n    f()\nexcept Exception:\n    raise"),
    (broad_excepts_are_listed, "spec.py", "try:\n    f()\nexcept BaseException as e:\n    g(e)"),
    (broad_excepts_are_listed, "spec.py", "try:\n    f()\nexcept (OSError, Exception):\n    g()"),
    (broad_excepts_are_listed, "spec.py", "try:\n    f()\nexcept* Exception:\n    g()"),
    (broad_excepts_are_listed, "spec.py", "with contextlib.suppress(Exception):\n    f()"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BROKEN)
def test_an_offending_source_is_caught(rule: Rule, path: str, source: str) -> None:
    assert list(rule(parse(path, source)))


HARMLESS: list[tuple[str, str]] = [
    ("spec.py", "import os\nos.path.join('a', os.sep, os.fspath('b'))\nos.sep.join('ab')"),
    ("spec.py", "from pathlib import Path\nPath('a').parent.joinpath('b').relative_to('a')"),
    ("spec.py", "import ast, re\nast.walk(ast.parse(''))\nre.match('a', 'a').group()"),
    ("spec.py", "from xinference_venv.errors import InvalidInput\nfrom .host import HostFacts"),
    ("spec.py", "from urllib.parse import urlsplit\nfrom datetime import datetime"),
    ("env.py", "def f(record, settings):\n    return record.exists and settings.home"),
    ("uv_cli/build.py", "from xinference_venv.lock import EnvLock\nfrom .command import install"),
    ("uv_cli/process.py", "import asyncio\nimport subprocess\nasyncio.create_subprocess_exec()"),
    ("store/layout.py", "import os\nos.rename('a', 'b')\nfrom . import records"),
    ("cli.py", "from xinference_venv.client import Client\nfrom xinference_venv import spec"),
    ("launch.py", "from xinference_venv.store import leases\nimport xoscar"),
    ("actors/worker.py", "from ..uv_cli import build\nfrom ..store import layout"),
    ("actors/worker.py", "try:\n    f()\nexcept (OSError, ExceptionGroup):\n    raise"),
    ("spec.py", "\n" * MAXIMUM_LINES),
]


@pytest.mark.parametrize(("path", "source"), HARMLESS)
def test_a_harmless_source_is_let_through(path: str, source: str) -> None:
    module = parse(path, source)
    assert [broken for rule in RULES for broken in rule(module)] == []


def test_a_broad_except_is_named_by_its_place() -> None:
    source = "class A:\n    async def run(self):\n        try: f()\n        except Exception: g()"
    assert broad_excepts(parse("actors/worker.py", source)) == [(4, "actors/worker.py: A.run")]
