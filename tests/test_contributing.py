"""The map for who carries the code on names what is there, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import xinference_venv

PACKAGE = Path(xinference_venv.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "contributing.md"


def test_the_map_has_every_module() -> None:
    modules = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" and path != PACKAGE / "__main__.py"
    }
    assert set(re.findall(r"^\| `([\w/]+\.py)` \|", PAGE.read_text(), re.MULTILINE)) == modules
