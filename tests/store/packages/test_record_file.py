"""The one reader of RECORD: what pip and uv install, it reads."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv.store.packages.record_file import (
    RecordRow,
    digest_fits,
    encode_digest,
    format_record,
    metadata_name,
    parse_paths,
    parse_record,
    read_file_list,
    recorded_bytes,
)

_NAMES = st.text(
    st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda name: name.strip(" \t") not in ("", ".", ".."))
_PATHS = st.lists(_NAMES, min_size=1, max_size=4).map("/".join)
_ROWS = st.lists(
    st.builds(
        RecordRow,
        path=_PATHS,
        digest=st.sampled_from(["", "sha256=abc"]),
        size=st.one_of(st.none(), st.integers(0, 2**50)),
    ),
    unique_by=lambda row: row.path,
    max_size=6,
)


@given(_ROWS)
def test_what_is_written_is_read_again_whatever_the_files_are_called(rows: list[RecordRow]) -> None:
    assert parse_record(format_record(rows)) == rows
    assert parse_paths(format_record(rows)) == [row.path for row in rows]


@given(_ROWS.filter(lambda rows: all(row.path.isalnum() and row.path.isascii() for row in rows)))
def test_line_ends_of_other_systems_change_nothing(rows: list[RecordRow]) -> None:
    assert parse_record(format_record(rows).replace("\n", "\r\n")) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("./a.py,sha256=x,6\n", [RecordRow("a.py", "sha256=x", 6)]),
        ("a//b/../c.py,,\n", [RecordRow("a/c.py")]),
        ("../../../bin/a,,3\n", [RecordRow("../../../bin/a", "", 3)]),
        ("a.py,sha256=x,6\na.py,sha256=y,7\n", [RecordRow("a.py", "sha256=y", 7)]),
        ("a/,,\n,,\n\n", []),
        ("a.py\nb.py,sha256=x\n", [RecordRow("a.py"), RecordRow("b.py", "sha256=x")]),
        ("a,b.py,sha256=x,6\n", [RecordRow("a,b.py", "sha256=x", 6)]),
        ('"a,b.py",sha256=x,6\r\n', [RecordRow("a,b.py", "sha256=x", 6)]),
        ("a.py, sha256=x , 6\n", [RecordRow("a.py", "sha256=x", 6)]),
        ("a.py,sha256=x,many\n", [RecordRow("a.py", "sha256=x")]),
        ("a\u2028b.py,,1\n", [RecordRow("a\u2028b.py", "", 1)]),
    ],
)
def test_a_row_may_be_as_odd_as_installers_allow(text: str, rows: list[RecordRow]) -> None:
    assert parse_record(text) == rows
    assert parse_paths(text) == [row.path for row in rows]


def test_a_digest_may_be_hexadecimal_or_padded() -> None:
    digest = hashlib.sha256(b"x").digest()
    padded = base64.urlsafe_b64encode(digest).decode()
    for recorded in (encode_digest(digest), f"sha256={digest.hex()}", f"sha256={padded}"):
        assert digest_fits(recorded, "sha256", digest)
    assert not digest_fits(f"sha512={digest.hex()}", "sha256", digest)
    assert not digest_fits("sha256=", "sha256", digest)


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("Toy_Model-1.0.dist-info", ("toy-model", "1.0")),
        ("lamp-2.0+cpu.dist-info", ("lamp", "2.0+cpu")),
        ("odd.dist-info", ("odd", "")),
    ],
)
def test_a_metadata_folder_says_name_and_version(folder: str, found: tuple[str, str]) -> None:
    assert metadata_name(folder) == found


def test_bytes_are_those_of_the_rows_that_have_a_size(tmp_path: Path) -> None:
    (tmp_path / "RECORD").write_text("a.py,sha256=x,6\nb.py,,7\nRECORD,,\n")
    assert recorded_bytes(tmp_path) == 13
    (tmp_path / "RECORD").write_text("a.py,,\n")
    assert recorded_bytes(tmp_path) is None
    assert recorded_bytes(tmp_path / "nowhere") is None


def test_a_file_list_is_distinguished_by_what_lies_inside(tmp_path: Path) -> None:
    metadata = tmp_path / "toy-1.0.dist-info"
    metadata.mkdir()
    (metadata / "RECORD").write_bytes(b"./toy.py,,\r\n../bin/toy,,\r\ncaf\xe9.py,,\r\n")
    found = read_file_list(str(tmp_path), "toy", metadata.name)
    assert found.inside == ("toy.py", "caf\udce9.py")
    assert found.outside == (str(tmp_path.parent / "bin" / "toy"),)
    assert found.recorded
