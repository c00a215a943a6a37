"""The field's words: what LAYOUT's table rules out is in no message, and in no cleaned folder.

A word is judged in messages (string literals with a space that are not docstrings, the web page's
texts) of the whole package, in all text of `CLEANED` folders, and, as a phrase, in the docs.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import xinference_venv

PACKAGE = Path(xinference_venv.__file__).parent
DOCS = PACKAGE.parent / "docs"
CLEANED = (
    *("_util", "diagnosis", "inventory", "observability", "planning"),
    *("runtime", "store", "uv", "xinference"),
)
WORDS = re.compile(
    r"\b(told|anew|beside|nobody|somebody|silent|silence|deed|dealt|strays?|bury|buried|grave"
    r"|census|lets? go|see to (?:the|its|his))\b",
    re.IGNORECASE,
)
PHRASES = re.compile(
    r"can't be meant|trying on|not asked like this|see to the spelling|there is no such"
    r"|started anew|the key means",
    re.IGNORECASE,
)


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of what is not a docstring and has words."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in docstrings:
            continue
        if isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, node.value


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_no_message_uses_a_word_of_ours() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in modules()
        for line, text in messages(path.read_text())
        if WORDS.search(text) or PHRASES.search(text)
    ]
    assert found == []


def test_the_web_page_uses_no_word_of_ours() -> None:
    texts: dict[str, str] = json.loads((PACKAGE / "rest" / "ui" / "en.json").read_text())
    assert {key: text for key, text in texts.items() if WORDS.search(text)} == {}


@pytest.mark.parametrize("folder", CLEANED)
def test_a_cleaned_folder_stays_clean_in_comments_and_names_too(folder: str) -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in sorted((PACKAGE / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if WORDS.search(line)
    ]
    assert found == []


def test_the_docs_use_no_phrase_of_ours() -> None:
    found = [
        f"{path.relative_to(DOCS)}:{number}: {line.strip()}"
        for path in sorted(DOCS.rglob("*.md"))
        if path.name != "contributing.md"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if PHRASES.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ('raise E("the input can\'t be meant")', 1),
        ('raise E(f"{key} was made anew")', 1),
        ('"""Made anew."""', 0),
        ('raise E("anew")', 0),
    ],
)
def test_a_docstring_is_no_message(source: str, number: int) -> None:
    found = [each for _, each in messages(source) if WORDS.search(each) or PHRASES.search(each)]
    assert len(found) == number
