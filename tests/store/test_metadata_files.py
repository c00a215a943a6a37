"""The fields and entry points of a distribution are those that `importlib.metadata` reads."""

from __future__ import annotations

import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from xinference_venv.store.metadata_files import (
    NamedValue,
    normalized_name,
    parse_fields,
    read_entry_points,
    read_fields,
    required_name,
)

INSTALLED = sorted(
    metadata for place in sys.path for metadata in Path(place or ".").glob("*.dist-info")
)


@pytest.mark.parametrize("metadata", INSTALLED, ids=lambda path: str(path.name))
def test_each_that_is_installed_here_reads_as_the_standard_library_reads_it(
    metadata: Path,
) -> None:
    theirs, ours = PathDistribution(metadata), read_fields(metadata)
    for name in ("Name", "Version", "Requires-Dist", "requires-python", "Provides-Extra"):
        assert ours.all(name) == list(map(str, theirs.metadata.get_all(name) or []))
    assert read_entry_points(metadata) == [
        NamedValue(each.group, each.name, each.value) for each in theirs.entry_points
    ]
    for text in ours.all("Requires-Dist"):
        assert required_name(text) == canonicalize_name(Requirement(text).name)


def test_fields_end_at_the_description_and_at_what_is_no_field() -> None:
    fields = parse_fields("Name: lamp\nSummary: a\n  b\nname:wick\n\nVersion: 2\n")
    assert fields.all("NAME") == ["lamp", "wick"]
    assert fields.first("Summary") == "a\n  b"
    assert fields.first("Version") is None
    assert parse_fields("Name: lamp\nno field\nVersion: 1\n").all("Version") == []
    assert parse_fields(" of nothing\nName: lamp\n").first("name") == "lamp"
    assert parse_fields("").all("Name") == []


def test_metadata_may_be_an_egg_or_a_file_or_absent(tmp_path: Path) -> None:
    egg = tmp_path / "lamp.egg-info"
    assert read_fields(egg).all("Name") == []
    egg.mkdir()
    assert read_fields(egg).all("Name") == []
    assert read_entry_points(egg) == []
    (egg / "PKG-INFO").write_text("Name: lamp\n", "utf-8")
    assert read_fields(egg).all("Name") == ["lamp"]
    (tmp_path / "wick.egg-info").write_text("Name: wick\n", "utf-8")
    assert read_fields(tmp_path / "wick.egg-info").all("Name") == ["wick"]


def test_comments_and_what_is_in_no_group_are_no_entry_points(tmp_path: Path) -> None:
    text = "before = a:b\n[console_scripts]\n# c = d:e\n; e\nlamp = lamp:main [x]\nnothing\n\n"
    text += "[g]\nh=i=j\n"
    (tmp_path / "entry_points.txt").write_text(text, "utf-8")
    assert read_entry_points(tmp_path) == [
        NamedValue("console_scripts", "lamp", "lamp:main [x]"),
        NamedValue("console_scripts", "nothing", ""),
        NamedValue("g", "h", "i=j"),
    ]


def test_names_of_requirements() -> None:
    assert required_name(" Foo.Bar[x] >=1 ; python_version > '3'") == "foo-bar"
    assert required_name("lamp_-._wick@ https://a/b.whl") == "lamp-wick"
    # uv reads it, and takes the end away.
    assert required_name("lamp>=1.*") == "lamp"
    assert required_name("") == required_name("=1") == ""
    assert normalized_name("A__b.-C") == "a-b-c"
