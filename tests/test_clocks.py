"""No test patches what decides about time: a clock, a setting or an event is there for that."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
# Where the clock of the event loop is set forward for all others.
_CLOCKS = TESTS / "clock.py"
_OF_TIME = re.compile(
    r"(^|_)(seconds|nanoseconds|interval|delay|timeout|deadline|patience|period|grace|pause|every"
    r"|ttl|time|time_ns|monotonic|monotonic_ns|perf_counter|sleep|clock|now|asyncio)($|_)",
    re.IGNORECASE,
)


def patched_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """What calls of ``setattr`` of a fixture or a context replace: lines and names."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="setattr"), args=[_, ast.Constant(value=str(name)), _, *_]
            ):
                yield node.lineno, name
            case ast.Call(
                func=ast.Attribute(attr="setattr"), args=[ast.Constant(value=str(path)), _]
            ):
                yield node.lineno, path.rpartition(".")[2]


def patches_of_time(source: str) -> list[tuple[int, str]]:
    """Those that decide how long something takes, or what time it is."""
    return [found for found in patched_names(ast.parse(source)) if _OF_TIME.search(found[1])]


def test_no_test_patches_what_decides_about_time() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{line}: {name}"
        for path in sorted(TESTS.rglob("*.py"))
        if path != _CLOCKS
        for line, name in patches_of_time(path.read_text())
    ]
    assert found == []


def test_patches_of_time_are_found_however_they_are_written() -> None:
    source = (
        "monkeypatch.setattr(module, '_FIRST_SECONDS', 0.0)\n"
        "patch.setattr('package.module.PROOF_SECONDS', 3.0)\n"
        "monkeypatch.setattr(module.time, 'monotonic', clock)\n"
        "monkeypatch.setattr(module, '_every', 1)\n"
        "monkeypatch.setattr(module, 'asyncio', fake)\n"
        "monkeypatch.setattr(module, 'measure', walk)\n"
        "monkeypatch.setattr(module, 'LOGS_KEPT', 3)\n"
        "setattr(module, 'other', 3)\n"
    )
    assert [name for _, name in patches_of_time(source)] == [
        *("_FIRST_SECONDS", "PROOF_SECONDS", "monotonic", "_every", "asyncio")
    ]
