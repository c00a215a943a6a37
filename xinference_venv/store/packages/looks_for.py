"""What a package looks for outside of its own tree, by paths that the system resolves.

Comes in: a folder of packages, and which files of it are one distribution's. Comes out: the
top-level names that its sources and shared objects look for there, with the way and the file.

In a view a package's directory is a link into its tree. Paths that are made by text alone
(``dirname(dirname(__file__))``) stay in the view and find everything. Those that the kernel or
``realpath`` resolves leave the view and arrive in the tree, where the neighbours are not: ``..``
in a path that is opened, ``$ORIGIN/..`` in a run path, ``realpath`` and ``Path.resolve``. Sources
are judged by evaluating what they compute from ``__file__`` over their syntax tree; what depends
on a value that only the running program has is not known, and says nothing.
"""

from __future__ import annotations

import ast
import os
import re
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from xinference_venv.planning.package import LooksFor, Way
from xinference_venv.store.envs.file_copies import is_shared_object
from xinference_venv.store.host.elf import read_dynamic
from xinference_venv.store.visit import open_regular

_OWN_PATH: Final = re.compile(rb"__(?:file|path|spec)__")
_OWN_FRAME: Final = b"currentframe"
# What makes a path real; or what the system resolves, which is searched for by its literal part.
_REALS: Final = (b"pardir", b"realpath", b".resolve(")
_PARENT: Final = re.compile(rb"""\.\.(?<=['"/]\.\.)['"/]""")
# Each is a directory up, ``parents[2]`` is three. What a pattern begins with is literal, and found
# ten times as fast by that.
_STEPS: Final = (b"pardir", b"dirname", b"with_name", b"path.split(")
_STEP: Final = re.compile(rb"""\.\.(?<=['"/]\.\.)(?=['"/])""")
_STEP_OF_PATH: Final = re.compile(rb"\.\s*parent\b")
_ANCESTOR: Final = re.compile(rb"parents\s*\[\s*(\d{1,3})")
# A name for text with a step in it, which may be used many times; ``[".."] * 3``.
_NAMED_STEP: Final = re.compile(rb"""=\s*\(?\s*[^=\n()]*(?:['"/]\.\.['"/]|pardir)""")
_REPEATED_STEP: Final = re.compile(rb"""(?:\.\.['"]|pardir)\s*\]\s*\*""")
# What stands at the beginning of a line, and there begins a definition or ends one.
_TOP: Final = re.compile(rb"^\f?(?:(@|(?:class|def|async)\b)|[^\s#)\]}])", re.MULTILINE)
# Generated tables; what looks for a file is short.
_MOST_SOURCE_BYTES = 2_000_000
_PARSING = threading.Lock()
_PARSE_ATTEMPTS = 5
_MOST_STEPS = 20


@dataclass(frozen=True, slots=True)
class _Path:
    """A path by its parts below the folder of packages.

    `parts` may have ``..`` that was not resolved yet; `above` counts the directories by which
    it lies above the folder. `way` is how it came to be real, None while it is text.
    """

    parts: tuple[str, ...]
    above: int = 0
    way: Way | None = None

    def join(self, text: str) -> _Path | None:
        """The path with more of it; None for what leads elsewhere."""
        if text.startswith("/"):
            return None
        more = [part for part in text.split("/") if part not in ("", ".")]
        return replace(self, parts=(*self.parts, *more))

    def parent(self) -> _Path:
        """The directory, by text alone."""
        if self.parts:
            return replace(self, parts=self.parts[:-1])
        return replace(self, above=self.above + 1)

    def collapse(self) -> _Path:
        """The path without ``..``, by text alone, or from what is real by now."""
        done = replace(self, parts=())
        for part in self.parts:
            done = done.parent() if part == ".." else replace(done, parts=(*done.parts, part))
        return done

    def resolve(self, way: Way) -> _Path:
        """The real path."""
        return replace(self.collapse(), way=self.way or way)

    def reached(self) -> tuple[str, Way] | None:
        """The top-level name at which the system arrives, and why not in the view."""
        way = self.way or (Way.PARENT if ".." in self.parts else None)
        collapsed = self.collapse()
        if way is None or not (collapsed.parts or (way is Way.RUN_PATH and collapsed.above)):
            return None
        if collapsed.above:
            return "/".join([*[".."] * collapsed.above, *collapsed.parts]), way
        return collapsed.parts[0], way


_Value = _Path | str | None
_Scope = dict[str, _Value]


def looks_for(root: Path, files: Iterable[str], own: Collection[str]) -> tuple[LooksFor, ...]:
    """What the files, given relative to the folder of packages `root`, look for outside.

    `own` are the top-level names of the distribution itself, which are at their place. Blocks
    on the disk.
    """
    found = (each for path in files for each in looks_of(root, path))
    return tuple(sorted({each for each in found if each.name not in own}))


def looks_of(root: Path | str, path: str, content: bytes | None = None) -> Sequence[LooksFor]:
    """What one file below `root` looks for, its own distribution's names among it.

    `content` is a source's, where that was read already.
    """
    if path.endswith(".py"):
        reached = _reached_by_source(root, path, content)
    elif is_shared_object(path):
        reached = list(_reached_by_run_path(os.path.join(root, ""), path))
    else:
        return ()
    return [LooksFor(name=name, way=way, path=path) for name, way in reached]


def _reached_by_run_path(base: str, path: str) -> Iterator[tuple[str, Way]]:
    dynamic = read_dynamic(base + path)
    for folder in () if dynamic is None else dynamic.run_path:
        if not folder.startswith(base):
            # An absolute one of the machine that it was built on.
            continue
        place = _Path(()).join(folder.removeprefix(base))
        if place is None or ".." not in place.parts:
            continue
        if (reached := place.resolve(Way.RUN_PATH).reached()) is not None:
            yield reached


def _reached_by_source(root: Path | str, path: str, content: bytes | None) -> list[tuple[str, Way]]:
    try:
        source = _read_source(os.path.join(root, path)) if content is None else content
    except OSError:
        return []
    parts = tuple(path.split("/"))
    if not _may_look_outside(source, len(parts)):
        return []
    try:
        try:
            return _evaluate(_pieces(source), parts)
        except SyntaxError:
            # A definition was divided, or the encoding is named in another piece.
            return _evaluate([(source, False)], parts)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _evaluate(
    pieces: Iterable[tuple[bytes, bool]], parts: tuple[str, ...]
) -> list[tuple[str, Way]]:
    """What the pieces of a source look for, those of `_pieces` or all in one.

    A definition that mentions no path is not parsed: nearly all of them, and nearly all of the
    time.
    """
    reading = _Reading(file=_Path(parts))
    scope: _Scope = {}
    before = b""
    for piece, is_definition in pieces:
        if not is_definition or _mentions_path(piece, scope):
            try:
                reading.source(piece, scope)
            except SyntaxError:
                if is_definition:
                    raise
                # A line at the margin was of a longer text, in the definition before.
                reading.source(before + piece, scope)
        before = piece
    return reading.reached


def _pieces(source: bytes) -> Iterator[tuple[bytes, bool]]:
    """The definitions at the top of a module, each by itself, and what lies between them; each
    with whether it is a definition.
    """
    start, is_definition, decorated = 0, False, False
    for found in _TOP.finditer(source):
        begins = found[1] is not None
        if (begins and not decorated) or is_definition > begins:
            yield source[start : found.start()], is_definition
            start, is_definition = found.start(), begins
        decorated = found[1] == b"@"
    yield source[start:], is_definition


def _may_look_outside(source: bytes, depth: int) -> bool:
    """Whether a source may arrive outside of its top-level name, `depth` directories up.

    Only by a path of its own that is real or gets so, and with a step for each directory. To
    search for that takes a hundredth of what a syntax tree takes, and few sources pass.
    """
    if _OWN_PATH.search(source) is None and _OWN_FRAME not in source:
        return False
    if not any(each in source for each in _REALS) and _PARENT.search(source) is None:
        return False
    if b"__path__" in source:
        # It is the directory already.
        depth -= 1
    steps = len(_STEP.findall(source))
    may_be_named = steps > 0 or b"pardir" in source
    steps += sum(map(source.count, _STEPS)) + len(_STEP_OF_PATH.findall(source))
    steps += sum(int(index) + 1 for index in _ANCESTOR.findall(source))
    return steps >= depth or (
        may_be_named
        and any(each.search(source) is not None for each in (_NAMED_STEP, _REPEATED_STEP))
    )


def _mentions_path(text: bytes, scope: _Scope) -> bool:
    """Whether a definition has the source's path in it, or a name that stands for one."""
    return (
        _OWN_PATH.search(text) is not None
        or _OWN_FRAME in text
        or any(
            name.strip(".()").encode() in text
            for name, value in scope.items()
            if isinstance(value, _Path)
        )
    )


def _read_source(file: str) -> bytes:
    with open_regular(file) as stream:
        return stream.read(_MOST_SOURCE_BYTES)


def _parse(source: bytes) -> ast.Module:
    """The syntax tree of a source; one at a time, whichever threads ask.

    CPython counts the depth of a tree that it makes per interpreter, not per thread, and raises
    `SystemError` where two threads meet (seen with 3.11.7; python/cpython issue 106905). The same
    happens with a thread that is not ours, so that is tried again.
    """
    with _PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(_PARSE_ATTEMPTS - 1):
            with suppress(SystemError):
                return ast.parse(source)
        return ast.parse(source)


@dataclass(slots=True)
class _Reading:
    """One source, evaluated as far as it computes paths from its own, `file`.

    `lines` are of the piece of it that is evaluated, `aliases` its own names for functions. In a
    scope ``.name`` is an attribute of the object at hand, ``name()`` what a function returns.
    """

    file: _Path
    lines: Sequence[bytes] = ()
    reached: list[tuple[str, Way]] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)

    def source(self, text: bytes, scope: _Scope) -> None:
        """Evaluate a piece; raises `SyntaxError` where it is none by itself."""
        body = _parse(text).body
        self.lines = text.splitlines()
        self.statements(body, scope)

    def statements(self, body: Iterable[ast.stmt], scope: _Scope) -> None:
        """Evaluate statements in their order; both branches of a condition count."""
        for each in body:
            self.statement(each, scope)

    def statement(self, node: ast.stmt, scope: _Scope) -> None:
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                for each in names:
                    if (bound := each.asname or each.name) in _TEXTS or each.name in _TEXTS:
                        scope[bound] = _TEXTS[each.name]
                    elif each.asname is not None:
                        self.aliases[bound] = each.name
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Attribute(attr=function) | ast.Name(id=function),
            ) if function in _FUNCTIONS.keys() | _JOINS:
                self.aliases[name] = function
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)) if len(
                targets
            ) == len(values):
                given = [self.value(each, scope) for each in values]
                for target, found in zip(targets, given, strict=True):
                    _bind(target, found, scope)
            case ast.Assign(targets=targets, value=value):
                found = self.value(value, scope)
                for target in targets:
                    _bind(target, found, scope)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                _bind(target, self.value(value, scope), scope)
            case ast.AugAssign(target=ast.Name() as target, op=op, value=value):
                _bind(target, self.value(ast.BinOp(target, op, value), scope), scope)
            case ast.Return(value=ast.expr() as value):
                found = self.value(value, scope)
                if isinstance(found, _Path):
                    scope["()"] = found
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if not (
                _mentions_path(self._text(node), scope)
            ):
                pass
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                inner = {**scope, **self._arguments_of(node.args, scope), "()": None}
                self.statements(node.body, inner)
                scope[f"{node.name}()"] = inner["()"]
            case _:
                for part in ast.iter_child_nodes(node):
                    self.part(part, scope)

    def _text(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bytes:
        first = min(each.lineno for each in (node, *node.decorator_list))
        return b"\n".join(self.lines[first - 1 : node.end_lineno])

    def part(self, node: ast.AST, scope: _Scope) -> None:
        if isinstance(node, ast.stmt):
            self.statement(node, scope)
        elif isinstance(node, ast.expr):
            self.value(node, scope)
        else:
            for each in ast.iter_child_nodes(node):
                self.part(each, scope)

    def _arguments_of(self, node: ast.arguments, scope: _Scope) -> _Scope:
        """What the arguments of a function are where they are not given."""
        names: _Scope = {each.arg: None for each in ast.walk(node) if isinstance(each, ast.arg)}
        positional = [*node.posonlyargs, *node.args]
        last = positional[len(positional) - len(node.defaults) :]
        for argument, default in [
            *zip(last, node.defaults, strict=True),
            *zip(node.kwonlyargs, node.kw_defaults, strict=True),
        ]:
            names[argument.arg] = None if default is None else self.value(default, scope)
        return names

    def value(self, node: ast.expr, scope: _Scope) -> _Value:
        """What an expression is, where that can be known; and note where it leads.

        What an operation on paths takes is not noted: ``abspath`` makes text of ``..``.
        """
        return self._note(self._value(node, scope))

    def _note(self, found: _Value) -> _Value:
        if isinstance(found, _Path) and (reached := found.reached()) is not None:
            self.reached.append(reached)
        return found

    def _value(self, node: ast.expr, scope: _Scope) -> _Value:
        match node:
            case ast.Constant(value=str() as text):
                return text
            case ast.Name(id="__file__"):
                return self.file
            case ast.Name(id=name):
                return scope.get(name)
            case ast.Subscript(value=ast.Name(id="__path__")):
                return self.file.parent()
            case ast.Subscript(value=ast.Attribute(value=inner, attr="parents"), slice=index):
                return self._ancestor(self._value(inner, scope), index)
            case ast.Subscript(
                value=ast.Call(func=ast.Attribute(attr="split"), args=[inner]),
                slice=ast.Constant(value=0),
            ):
                found = self._value(inner, scope)
                return found.parent() if isinstance(found, _Path) else None
            case ast.Attribute(value=ast.Name(id="__spec__"), attr="origin"):
                return self.file
            case ast.Attribute(value=ast.Name(id=name), attr="__file__") if (
                name == self.file.parts[0]
            ):
                return _Path((name, "__init__.py"))
            case ast.Attribute(attr="pardir" | "curdir" | "sep" as name):
                return _TEXTS[name]
            case ast.Attribute(value=inner, attr="parent"):
                found = self._value(inner, scope)
                # pathlib takes the last part away, whatever it is.
                return found.parent() if isinstance(found, _Path) else None
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                return scope.get(f".{name}", scope.get(name))
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self._join(self._value(left, scope), [self._value(right, scope)])
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _concatenated([self._value(left, scope), self._value(right, scope)])
            case ast.BinOp(left=ast.Constant(value=str() as text), op=ast.Mod(), right=right) if (
                _is_one_of(text, "%s")
            ):
                return _concatenated([self._value(right, scope), text[2:]])
            case ast.IfExp(body=first, orelse=second) | ast.BoolOp(values=[first, second]):
                if isinstance(node, ast.IfExp):
                    self.value(node.test, scope)
                found, other = self.value(first, scope), self.value(second, scope)
                return found if isinstance(found, _Path) else other
            case ast.JoinedStr(values=parts):
                return _concatenated(
                    [
                        self._value(
                            part.value if isinstance(part, ast.FormattedValue) else part, scope
                        )
                        for part in parts
                    ]
                )
            case ast.Call():
                return self._call(node, scope)
            case _:
                for part in ast.iter_child_nodes(node):
                    self.part(part, scope)
                return None

    def _call(self, node: ast.Call, scope: _Scope) -> _Value:
        for keyword in node.keywords:
            self.value(keyword.value, scope)
        arguments = [found for each in node.args for found in self._values(each, scope)]
        first = arguments[0] if arguments else None
        method = node.func if isinstance(node.func, ast.Attribute) else None
        name = node.func.id if isinstance(node.func, ast.Name) else method.attr if method else ""
        function = self.aliases.get(name, name) if method is None else name
        if function in _JOINS and isinstance(first, _Path):
            return self._join(first, arguments[1:])
        if function in _FUNCTIONS and isinstance(first, _Path):
            return _FUNCTIONS[function](first)
        if name in ("getfile", "getsourcefile") and _is_own_frame(node.args):
            return self.file
        if method is not None:
            inner = self._value(method.value, scope)
            if isinstance(inner, _Path) and name in _JOINING_METHODS:
                return self._join(inner, arguments)
            if isinstance(inner, _Path) and name in _METHODS:
                return _METHODS[name](inner, arguments)
            if name == "format" and isinstance(inner, str) and _is_one_of(inner, "{}"):
                return _concatenated([first, inner[2:]])
            self._note(inner)
        for each in arguments:
            self._note(each)
        is_here = method is None or getattr(method.value, "id", None) in ("self", "cls")
        return scope.get(f"{name}()") if is_here else None

    def _values(self, node: ast.expr, scope: _Scope) -> list[_Value]:
        """What an argument is; what a starred one of known length stands for."""
        match node:
            case ast.Starred(value=ast.List(elts=parts) | ast.Tuple(elts=parts)):
                return [self._value(each, scope) for each in parts]
            case ast.Starred(
                value=ast.BinOp(
                    left=ast.List(elts=parts), op=ast.Mult(), right=ast.Constant(value=int() as n)
                )
            ):
                return [self._value(each, scope) for each in parts] * min(n, _MOST_STEPS)
            case _:
                return [self._value(node, scope)]

    def _join(self, start: _Value, more: Iterable[_Value]) -> _Value:
        """A path and what is appended to it; of what is not known it leads to what is before."""
        found = start
        for each in more:
            if not isinstance(found, _Path):
                return None
            if not isinstance(each, str):
                self._note(found)
                return None
            found = found.join(each)
        return found

    def _ancestor(self, found: _Value, index: ast.expr) -> _Value:
        if not isinstance(found, _Path) or not isinstance(index, ast.Constant):
            return None
        if not isinstance(index.value, int) or not 0 <= index.value < _MOST_STEPS:
            return None
        for _ in range(index.value + 1):
            found = found.parent()
        return found


def _bind(target: ast.expr, found: _Value, scope: _Scope) -> None:
    if isinstance(target, ast.Name):
        scope[target.id] = found
    elif isinstance(target, ast.Attribute):
        scope[f".{target.attr}"] = found


def _is_one_of(text: str, field: str) -> bool:
    """Whether a format begins with its one field."""
    return text.startswith(field) and text.count(field[0]) == 1


def _is_own_frame(arguments: Sequence[ast.expr]) -> bool:
    """Whether a call gets what ``inspect.currentframe()`` gives."""
    match arguments:
        case [ast.Call(func=ast.Attribute(attr="currentframe") | ast.Name(id="currentframe"))]:
            return True
    return False


def _concatenated(parts: Iterable[_Value]) -> _Value:
    """A path or text with text behind it; the rest begins a name, or follows a slash."""
    found: _Value = ""
    for part in parts:
        if isinstance(found, str) and isinstance(part, str):
            found += part
        elif found == "" and isinstance(part, _Path):
            found = part
        elif isinstance(found, _Path) and isinstance(part, str):
            if part.startswith("/") or not found.parts:
                found = found.join(part.lstrip("/"))
            else:
                first, *rest = part.split("/")
                found = replace(found, parts=(*found.parts[:-1], found.parts[-1] + first))
                found = found.join("/".join(rest))
        else:
            return None
        if found is None:
            return None
    return found


def _with_name(found: _Path, arguments: Sequence[_Value]) -> _Value:
    [name] = arguments if len(arguments) == 1 else [None]
    return found.parent().join(name) if isinstance(name, str) else None


# Of `os`, by their names.
_TEXTS: Final[Mapping[str, str]] = {"pardir": "..", "curdir": ".", "sep": "/"}
# Of os.path, and what makes a path of a path.
_FUNCTIONS: Final[Mapping[str, Callable[[_Path], _Value]]] = {
    "dirname": _Path.parent,
    "abspath": _Path.collapse,
    "normpath": _Path.collapse,
    "realpath": lambda found: found.resolve(Way.REALPATH),
    **dict.fromkeys(("fspath", "str"), lambda found: found),
}
_JOINS: Final = frozenset({"join", "Path", "PurePath", "PosixPath"})
# Of a `pathlib.Path`.
_METHODS: Final[Mapping[str, Callable[[_Path, Sequence[_Value]], _Value]]] = {
    "resolve": lambda found, _: found.resolve(Way.RESOLVE),
    "with_name": _with_name,
    **dict.fromkeys(("absolute", "as_posix", "expanduser"), lambda found, _: found),
}
_JOINING_METHODS: Final = frozenset({"joinpath", "glob"})
