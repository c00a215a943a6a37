"""The field's words: what LAYOUT's table rules out is in no code, no page, no name of a test.

Judged is all text of the package, of the web page and of the docs, and the names of tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import xinference_venv

PACKAGE = Path(xinference_venv.__file__).parent
DOCS = PACKAGE.parent / "docs"
UI = PACKAGE / "rest" / "ui"
TESTS = Path(__file__).parent
README = PACKAGE.parent / "README.md"
WORDS = re.compile(
    r"\b(told|said|anew|beside|standing|nobody|somebody|silent|silence|deed|dealt|strays?|bury|buried"
    r"|grave|census|leftovers?|lets? go|see to (?:the|its|his)|(?:at|de)tache[sd])\b",
    re.IGNORECASE,
)
PHRASES = re.compile(
    r"can't be meant|trying on|not asked like this|see to the spelling|there is no such"
    r"|started anew|the key means",
    re.IGNORECASE,
)


def lines_of(paths: Iterable[Path]) -> Iterator[str]:
    """The lines that use a word of ours, each with its place."""
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if WORDS.search(line) or PHRASES.search(line):
                yield f"{path}:{number}: {line.strip()}"


def test_no_text_of_the_package_uses_a_word_of_ours() -> None:
    assert list(lines_of(sorted(PACKAGE.rglob("*.py")))) == []


def test_the_web_page_uses_no_word_of_ours() -> None:
    pages = [path for path in sorted(UI.iterdir()) if path.suffix in (".js", ".css", ".html")]
    texts: dict[str, str] = json.loads((UI / "en.json").read_text())
    assert list(lines_of(pages)) == []
    assert {key: text for key, text in texts.items() if WORDS.search(text)} == {}


def test_the_docs_use_no_word_of_ours() -> None:
    pages = [*sorted(DOCS.rglob("*.md")), *sorted(DOCS.rglob("*.svg"))]
    # What scripts/docs built is of these, and may be old.
    pages = [each for each in pages if not each.is_relative_to(DOCS / "build")]
    assert list(lines_of([README, *pages])) == []


def test_no_name_of_a_test_uses_a_word_of_ours() -> None:
    found = [
        f"{path.relative_to(TESTS)}: {name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for name in re.findall(r"def (test_\w+)", path.read_text())
        if path != Path(__file__) and WORDS.search(name.replace("_", " "))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('raise E("the input can\'t be meant")', True),
        ("# It was made Anew.", True),
        ("entry.beside", True),
        ("seen_besides = 1", False),
    ],
)
def test_a_word_is_found_wherever_it_stands_alone(tmp_path: Path, line: str, found: bool) -> None:
    (tmp_path / "page.md").write_text(f"first\n{line}\n")
    assert list(lines_of([tmp_path / "page.md"])) == ([f"{tmp_path}/page.md:2: {line}"] * found)
