"""docs/field.md names the test of each condition, and each test of one stands there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "field.md").read_text("utf-8")


def functions(paths: list[Path]) -> set[str]:
    return {
        node.name
        for path in paths
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[:5] == "test_"
    }


def test_every_condition_that_a_test_makes_stands_on_the_page() -> None:
    made = functions(sorted((ROOT / "tests" / "scenarios").glob("test_field_*.py")))
    assert sorted(name for name in made if f"`{name}`" not in PAGE) == []


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", PAGE))
    there = functions(sorted((ROOT / "tests").rglob("test_*.py")))
    assert sorted(named - there - {"test_field_users", "test_field_items"}) == []
