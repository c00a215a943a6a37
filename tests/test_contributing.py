"""The map for who carries the code on names what is there, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import xinference_venv

PACKAGE = Path(xinference_venv.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "contributing.md"


ROWS = dict(re.findall(r"^\| `([\w/]+\.py)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE))


def test_the_map_has_every_module() -> None:
    modules = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" and path != PACKAGE / "__main__.py"
    }
    assert ROWS.keys() == modules


def test_the_map_says_of_each_module_what_its_docstring_begins_with() -> None:
    first = {
        name: (ast.get_docstring(ast.parse((PACKAGE / name).read_text())) or "").split("\n\n")[0]
        for name in ROWS
    }
    assert {name: text.replace("\n", " ").rstrip(".") for name, text in first.items()} == ROWS
