"""Each promise of the page about security names tests, and these are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()


def _names_of_tests() -> dict[str, set[str]]:
    """The test functions of each file of the tests, by its path in the repository."""
    return {
        path.relative_to(ROOT).as_posix(): {
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for path in (ROOT / "tests").rglob("test_*.py")
    }


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 20
    assert sorted(named.difference(*_names_of_tests().values())) == []


def test_every_file_that_the_page_names_has_the_test_before_it() -> None:
    tests = _names_of_tests()
    named = re.findall(r"`(test_\w+)` in `(tests/[\w/]+\.py)`", PAGE)
    assert named
    assert [each for each in named if each[0] not in tests[each[1]]] == []


def test_every_promise_names_a_test() -> None:
    tables = re.findall(r"^\| promise \| test \|\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    promises = [line for table in tables for line in table.splitlines()]
    assert len(promises) > 15
    assert [line for line in promises if "`test_" not in line] == []
