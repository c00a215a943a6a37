"""What uv's words mean when it finds no solution, and what to do then.

Comes in: the words. Comes out: whether it was the requirements, and a hint that uv has not given.
"""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name

_NO_SOLUTION = ("No solution found", "unsatisfiable")
_NOT_THERE = ("was not found in the package registry", "was not found in the provided")
_MISSING = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s+was\s+not\s+found\s+in\s+the\s"
    r"|there\s+(?:is|are)\s+no\s+versions?\s+of\s+(?P<versioned>[A-Za-z0-9][A-Za-z0-9._-]*)"
)
_FAILED_BUILD = re.compile(r"Failed to build `(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*?)(?:==| @ |@|`)")
_WHERE_TO_LOOK = (
    "see whether the name is right, and whether an index that is asked has it:"
    " `xinference-venv doctor` names them"
)
_WAYS_OUT = (
    "ask for other versions; where a package of the host is in the way, launch with --inherit"
    " none, or, if nothing in the request needs it, take it out of must_import"
)


def has_no_solution(words: str) -> bool:
    """Whether the requirements are what failed, rather than an index or uv itself."""
    return any(each in words for each in _NO_SOLUTION)


def missing_in(words: str) -> frozenset[str]:
    """The names of which no place that was asked has any version, or none that fits."""
    found = _MISSING.finditer(words)
    return frozenset(match["name"] or match["versioned"] for match in found)


def failed_builds(words: str) -> frozenset[str]:
    """The names of what could not be built, or whose metadata could not be, while resolving."""
    return frozenset(canonicalize_name(match["name"]) for match in _FAILED_BUILD.finditer(words))


def way_out(words: str, *, over_host: bool, unusable: bool = False) -> str | None:
    """What to do when there is no solution, unless uv says it itself.

    `unusable`: something that the host has can't be used, and so was looked for elsewhere.
    """
    if "hint:" in words or not has_no_solution(words):
        return None
    if not unusable and any(each in words for each in _NOT_THERE):
        return _WHERE_TO_LOOK
    return _WAYS_OUT if over_host else None
