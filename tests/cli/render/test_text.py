"""Tables and trees: names whole, prose cut, columns left out in the order of need."""

from __future__ import annotations

import pytest

from xinference_venv.cli.render.text import (
    Colour,
    Coloured,
    Column,
    Table,
    Tree,
    lines_of,
)

LONG = "a-name-that-is-longer-than-the-terminal-is-wide"


def table() -> Table:
    made = Table("Name", Column("Size", 2), Column("Why", 1, prose=True), Column("Note", 3))
    made.add_row("numpy", "20 MiB", "the model asks for it, and so does torch", "-")
    made.add_row("torch", "2 GiB", "it is asked for", "-")
    return made


def test_without_a_width_a_table_has_all_that_it_has() -> None:
    assert list(table().lines(None)) == [
        "Name   Size    Why                                       Note",
        "numpy  20 MiB  the model asks for it, and so does torch  -",
        "torch  2 GiB   it is asked for                           -",
    ]


def test_two_columns_of_prose_share_what_is_left() -> None:
    made = Table("Name", Column("What", 1, prose=True), Column("Why", 2, prose=True))
    made.add_row("glow", "w" * 90, "y" * 90)
    for width in (48, 60, 100, 150, 190):
        _, row = made.lines(width)
        assert len(row) == min(width, 4 + 2 + 90 + 2 + 90)
        assert "y" * 19 in row


def test_prose_is_cut_before_anything_is_left_out() -> None:
    shown = list(table().lines(45))
    assert shown[0].split() == ["Name", "Size", "Why", "Note"]
    assert shown[1] == "numpy  20 MiB  the model asks for it,…   -"


def test_a_column_that_says_nothing_goes_first() -> None:
    made = Table("Name", Column("Empty", 1), Column("Full", 2))
    made.add_row("x" * 10, "-", "y" * 10)
    assert next(iter(made.lines(24))).split() == ["Name", "Full"]


def test_the_highest_number_goes_first_and_what_has_none_stays() -> None:
    widths = {70: 4, 36: 3, 30: 2, 10: 1}
    titles = {width: len(next(iter(table().lines(width))).split()) for width in widths}
    assert titles == widths


def test_a_name_that_is_wider_than_the_terminal_is_whole() -> None:
    made = Table("Name", Column("Size", 1))
    made.add_row(LONG, "1 B")
    assert list(made.lines(20))[1] == LONG


def test_wide_characters_take_two_columns() -> None:
    made = Table("Name", "Next")
    made.add_row("模型", "x")
    made.add_row("abcd", "x")
    assert list(made.lines(None)) == ["Name  Next", "模型  x", "abcd  x"]


def test_a_cell_is_one_line() -> None:
    made = Table("Name")
    made.add_row("two\nlines\x1b[2J")
    assert list(made.lines(None))[1] == "two\\nlines\\x1b[2J"


@pytest.mark.parametrize(("coloured", "shown"), [(True, "\x1b[32mok\x1b[0m  x"), (False, "ok  x")])
def test_colours_are_shown_where_they_can_be(coloured: bool, shown: str) -> None:
    made = Table("", "", header=False)
    made.add_row(Coloured("ok", Colour.GREEN), "x")
    assert list(made.lines(None, coloured=coloured)) == [shown]


def test_a_tree_is_drawn_with_a_line_for_each_label() -> None:
    tree = Tree("top")
    tree.add("first").add("below")
    tree.add(Tree("last", [Tree("end")]))
    assert list(tree.lines()) == [
        "top",
        "├── first",
        "│   └── below",
        "└── last",
        "    └── end",
    ]


def test_an_empty_table_has_its_titles_alone() -> None:
    assert list(lines_of([Table("Name", Column("Size", 1))], 80)) == ["Name  Size"]
