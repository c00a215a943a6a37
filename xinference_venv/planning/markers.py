"""The marker language of requirements: PEP 508's, and what else a model server has to ask.

In comes the text behind the semicolon of a requirement and the facts of the launch (the target
interpreter, the engine, the accelerator); out goes whether the requirement counts. ::

    marker      = conjunction ("or" conjunction)*
    conjunction = negation ("and" negation)*
    negation    = "not" negation | "(" marker ")" | flag | comparison
    comparison  = operand (operator operand)+       (a chain holds when each of its pairs does)
    operator    = "==" | "!=" | "<" | "<=" | ">" | ">=" | "~=" | "===" | "in" | "not" "in"
    operand     = variable | quoted text | "True" | "False"

Of two operands of a comparison one is a variable and one is not. The variables are those of
PEP 508 except ``extra``, and

===================================================  ==============================================
``engine``, ``model_engine`` (also as ``#engine#``)  the launched engine, compared without case
``cuda_version``                                     compared as a PEP 440 version
``cuda_arch``                                        like ``sm_80``, compared by its number
``has_cuda``, ``has_npu``                            flags: stand alone or equal True or False
===================================================  ==============================================

``in`` asks whether one text contains the other, as in PEP 508. A fact that is not known equals
nothing, has no order and is in nothing: only ``!=`` and ``not in`` hold. Every part of a marker
is checked whatever the others say, so a marker that is wrong never works by chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from packaging.markers import Marker, UndefinedComparison
from packaging.specifiers import InvalidSpecifier, Specifier

from xinference_venv._util.humanize import quoted
from xinference_venv._util.redact import redact_text
from xinference_venv.errors import InvalidRequirement
from xinference_venv.sentences import sentence

MAX_DEPTH = 32

_ENVIRONMENT_VARIABLES = (
    "implementation_name",
    "implementation_version",
    "os_name",
    "platform_machine",
    "platform_python_implementation",
    "platform_release",
    "platform_system",
    "platform_version",
    "python_full_version",
    "python_version",
    "sys_platform",
)
_FLAGS = ("has_cuda", "has_npu")
_NAMES = (*_ENVIRONMENT_VARIABLES, "engine", "cuda_version", "cuda_arch", *_FLAGS)
# What may be written for each variable; the spellings of PEP 345 are read by `packaging` too.
_VARIABLES = {
    **{name: name for name in _NAMES},
    "os.name": "os_name",
    "sys.platform": "sys_platform",
    "platform.machine": "platform_machine",
    "platform.version": "platform_version",
    "platform.python_implementation": "platform_python_implementation",
    "python_implementation": "platform_python_implementation",
    "#engine#": "engine",
    "model_engine": "engine",
    "#model_engine#": "engine",
}
_SHOWN_VARIABLES = ", ".join(("#engine#", "#model_engine#", *_NAMES))

_EQUALITY = ("==", "!=")
_ORDER = ("<", "<=", ">", ">=")
_CONTAINMENT = ("in", "not in")
_OPERATORS = {
    "engine": (*_EQUALITY, *_CONTAINMENT),
    "has_cuda": _EQUALITY,
    "has_npu": _EQUALITY,
    "cuda_arch": (*_EQUALITY, *_ORDER, *_CONTAINMENT),
}
_ALL_OPERATORS = (*_EQUALITY, *_ORDER, "~=", "===", *_CONTAINMENT)
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

_TOKEN = re.compile(
    r"""[ \t]*(?:
        (?P<text>'[^'\\]*'|"[^"\\]*")
      | (?P<operator>===|==|~=|!=|<=|>=|<|>)
      | (?P<parenthesis>[()])
      | (?P<word>\#?[A-Za-z_][A-Za-z0-9_.]*\#?)
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_ARCHITECTURE = re.compile(r"sm_[0-9]{1,4}")


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkerFacts:
    """What markers are evaluated against; ``None`` means not known or not there.

    ``environment`` has the PEP 508 variables of the interpreter that the requirements are for,
    which need not be the running one.
    """

    environment: Mapping[str, str]
    engine: str | None = None
    has_cuda: bool = False
    cuda_version: str | None = None
    """A PEP 440 version, like ``12.8``."""
    cuda_arch: str | None = None
    """Like ``sm_80``."""
    has_npu: bool = False


def evaluate(marker: str, facts: MarkerFacts) -> bool:
    """Whether ``marker``, the text behind the semicolon of a requirement, holds.

    Comparisons of a PEP 508 variable give what `packaging.markers.Marker` gives. Raises
    `InvalidRequirement`, which names the marker, the place in it, and what is allowed there.
    """
    return _holds(_Parser(marker).whole(), facts, marker)


def engines_in(marker: str) -> tuple[str, ...]:
    """The names with which a marker compares the engine; raises `InvalidRequirement`."""
    return tuple(_engines_of(_Parser(marker).whole()))


def _engines_of(node: _Node) -> Iterator[str]:
    match node:
        case _Comparison():
            if node.variable == "engine":
                # What contains the engine's name may be a list of names.
                yield from filter(None, re.split(r"[\s,;|]+", node.literal))
        case _Not():
            yield from _engines_of(node.part)
        case _Joined():
            for part in node.parts:
                yield from _engines_of(part)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


# A flag that stands alone is compared with this.
_TRUE = _Token(kind="word", text="True", position=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Comparison:
    """``variable operator literal``, or where ``mirrored``, ``literal operator variable``.

    ``literal`` is without its quotes, ``place`` the index of the comparison's first character.
    """

    variable: str
    operator: str
    literal: str
    mirrored: bool
    place: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Not:
    part: _Node


@dataclass(frozen=True, kw_only=True, slots=True)
class _Joined:
    word: str
    """``and`` or ``or``."""
    parts: tuple[_Node, ...]


_Node: TypeAlias = _Comparison | _Not | _Joined


class _Parser:
    """Recursive descent by the grammar of the module's docstring, at most `MAX_DEPTH` deep."""

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._tokens = _tokens(marker)
        self._next = 0
        self._depth = 0

    def whole(self) -> _Node:
        node = self._marker_node()
        if self._token.kind != "end":
            raise self._unexpected("'and', 'or' or the end")
        return node

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _took(self, *texts: str) -> bool:
        """Whether the next tokens are these, and then go behind them."""
        upcoming = self._tokens[self._next : self._next + len(texts)]
        found = tuple(token.text for token in upcoming) == texts
        if found:
            self._next += len(texts)
        return found

    def _unexpected(self, allowed: str) -> InvalidRequirement:
        token = self._token
        wrong = (
            sentence("{text} is not expected", text=token.text)
            if token.text
            else sentence("it ends too early")
        )
        return _invalid(self._marker, token.position, wrong, allowed)

    def _marker_node(self) -> _Node:
        return self._joined("or", lambda: self._joined("and", self._negation))

    def _joined(self, word: str, part: Callable[[], _Node]) -> _Node:
        parts = [part()]
        while self._took(word):
            parts.append(part())
        return _Joined(word=word, parts=tuple(parts))

    def _negation(self) -> _Node:
        if self._token.text not in ("not", "("):
            return self._comparison()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            wrong = sentence("it is nested too deeply")
            allowed = f"at most {MAX_DEPTH} levels of 'not' and parentheses"
            raise _invalid(self._marker, self._token.position, wrong, allowed)
        node: _Node
        if self._take().text == "not":
            node = _Not(part=self._negation())
        else:
            node = self._marker_node()
            if not self._took(")"):
                raise self._unexpected("'and', 'or' or a closing parenthesis")
        self._depth -= 1
        return node

    def _comparison(self) -> _Node:
        left = self._operand()
        pairs: list[_Node] = []
        while (sign := self._operator()) is not None:
            right = self._operand()
            pairs.append(_pair(self._marker, left, sign, right))
            left = right
        if pairs:
            return _Joined(word="and", parts=tuple(pairs))
        if _VARIABLES.get(left.text) in _FLAGS:
            return _pair(self._marker, left, "==", _TRUE)
        raise self._unexpected(f"one of {', '.join(_ALL_OPERATORS)}")

    def _operator(self) -> str | None:
        if self._token.kind == "operator":
            return self._take().text
        if self._took("in"):
            return "in"
        return "not in" if self._took("not", "in") else None

    def _operand(self) -> _Token:
        token = self._token
        if token.kind == "text" or token.text in _VARIABLES or token.text in ("True", "False"):
            return self._take()
        raise self._unexpected(f"a text in quotes, True, False, or one of {_SHOWN_VARIABLES}")


def _tokens(marker: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(marker, position)
        if match is None or match.lastgroup is None:
            position = len(marker) - len(marker[position:].lstrip(" \t"))
            wrong = sentence("{marker} is not expected", marker=ascii(marker[position]))
            allowed = "names, operators, parentheses, and texts in quotes without backslash"
            raise _invalid(marker, position, wrong, allowed)
        kind, text = match.lastgroup, match[match.lastgroup]
        start = match.start(kind)
        if not text.replace("\t", " ").isprintable():
            raise _invalid(marker, start, "a character can't be printed", sentence("visible text"))
        tokens.append(_Token(kind=kind, text=text, position=start))
        position = match.end()
    return tokens


def _pair(marker: str, left: _Token, sign: str, right: _Token) -> _Comparison:
    """Two operands as a comparison, once their kinds are seen to fit."""
    place = left.position
    mirrored = left.text not in _VARIABLES
    name, literal = (right, left) if mirrored else (left, right)
    if name.text not in _VARIABLES or literal.text in _VARIABLES:
        wrong = sentence("{text} and {other} can't be compared", text=left.text, other=right.text)
        raise _invalid(marker, place, wrong, sentence("a variable with a text in quotes"))
    variable = _VARIABLES[name.text]
    operators = _OPERATORS.get(variable, _ALL_OPERATORS)
    if sign not in operators:
        wrong = sentence("{text} knows no {sign}", text=name.text, sign=sign)
        raise _invalid(marker, place, wrong, ", ".join(operators))
    if mirrored and sign in ("~=", "===") and variable == "cuda_version":
        raise _invalid(
            marker,
            place,
            f"{sign} comes after its variable",
            sentence("{variable} {sign} ...", variable=variable, sign=sign),
        )
    value = literal.text[1:-1] if literal.kind == "text" else literal.text
    expected = _wrong_literal(variable, sign, value, quoted=literal.kind == "text")
    if expected is not None:
        wrong = sentence(
            "{text} can't be compared with {other}", text=name.text, other=literal.text
        )
        raise _invalid(marker, place, wrong, expected)
    return _Comparison(
        variable=variable, operator=sign, literal=value, mirrored=mirrored, place=place
    )


def _wrong_literal(variable: str, sign: str, value: str, *, quoted: bool) -> str | None:
    """What the literal should be, or None when it is that."""
    if variable in _FLAGS:
        return None if value.lower() in ("true", "false") else "True or False"
    if not quoted:
        return "a text in quotes"
    if sign in _CONTAINMENT:
        return None
    if variable == "cuda_arch" and not _ARCHITECTURE.fullmatch(value):
        return "a text like 'sm_80'"
    if variable == "cuda_version":
        try:
            Specifier(sign + value)
        except InvalidSpecifier:
            return f"a version of PEP 440 that {sign} allows, like '12.8'"
    return None


def _holds(node: _Node, facts: MarkerFacts, marker: str) -> bool:
    match node:
        case _Not(part=part):
            return not _holds(part, facts, marker)
        case _Joined(word=word, parts=parts):
            # No generator: every part is evaluated, so every part is checked.
            each = [_holds(part, facts, marker) for part in parts]
            return all(each) if word == "and" else any(each)
        case _Comparison():
            return _compared(node, facts, marker)


def _compared(node: _Comparison, facts: MarkerFacts, marker: str) -> bool:
    standard = node.variable in _ENVIRONMENT_VARIABLES
    fact: str | bool | None = (
        facts.environment.get(node.variable) if standard else getattr(facts, node.variable)
    )
    if fact is None:
        return node.operator in ("!=", "not in")
    if isinstance(fact, bool):
        return (fact is (node.literal.lower() == "true")) is (node.operator == "==")
    if standard:
        return _compared_by_packaging(node, facts, marker)
    if node.variable == "engine":
        return _compared_as_text(node, fact.casefold(), node.literal.casefold())
    if node.operator in _CONTAINMENT:
        return _compared_as_text(node, fact, node.literal)
    # An architecture is compared as the version that its number is; what is none equals nothing.
    return _compared_as_version(node, fact.removeprefix("sm_"), node.literal.removeprefix("sm_"))


def _compared_by_packaging(node: _Comparison, facts: MarkerFacts, marker: str) -> bool:
    quote = "'" if '"' in node.literal else '"'
    literal = f"{quote}{node.literal}{quote}"
    left, right = (literal, node.variable) if node.mirrored else (node.variable, literal)
    try:
        return Marker(f"{left} {node.operator} {right}").evaluate(dict(facts.environment))
    except UndefinedComparison:
        wrong = sentence(
            "{left} {operator} {right} has no meaning",
            left=left,
            operator=node.operator,
            right=right,
        )
        allowed = f"{', '.join((*_EQUALITY, *_ORDER, *_CONTAINMENT))}, and versions of PEP 440"
        raise _invalid(marker, node.place, wrong, allowed) from None


def _compared_as_text(node: _Comparison, fact: str, literal: str) -> bool:
    if node.operator in _CONTAINMENT:
        contained = literal in fact if node.mirrored else fact in literal
        return contained is (node.operator == "in")
    return (fact == literal) is (node.operator == "==")


def _compared_as_version(node: _Comparison, fact: str, literal: str) -> bool:
    sign = _MIRRORED[node.operator] if node.mirrored else node.operator
    if sign == "!=":
        # For PEP 440 what is no version is not unequal to any, but here it is.
        return not Specifier(f"=={literal}").contains(fact)
    return Specifier(sign + literal).contains(fact)


def _invalid(marker: str, position: int, wrong: str, allowed: str) -> InvalidRequirement:
    return InvalidRequirement(
        sentence(
            "Invalid marker {marker}, character {position}: {wrong}",
            marker=quoted(marker, 200),
            position=position + 1,
            wrong=redact_text(wrong),
        ),
        {"hint": sentence("Allowed here: {allowed}.", allowed=allowed)},
    )
