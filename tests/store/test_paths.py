"""Where everything lies: nothing that a request may name leads outside of the root."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fakes import key
from xinference_venv._util.names import check_python_version
from xinference_venv.errors import InvalidInput, StoreError
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.request import (
    check_engine_name,
    check_model_name,
)
from xinference_venv.store.paths import StorePaths

ROOT = Path("/home/somebody/.xinference/virtualenv")
LAYOUT = StorePaths(ROOT)

# What a path could be led astray by, beside any text at all.
PIECES = [".", "..", "...", "/", "//", "\\", "~", "\0", "\n", " ", "-", "a", "é", "v3", "v4"]
TEXTS = st.text(max_size=300) | st.lists(
    st.sampled_from([*PIECES, "store", "envs", "C:", "%2e%2e", "\u2024\u2024", "$HOME", "*"]),
    max_size=6,
).map("".join)
VERSIONS = TEXTS | st.from_regex(r"3\.\d{1,3}(\.\d{1,3})?", fullmatch=True)


def accepted(model: str, engine: str | None, python: str) -> EnvKey | None:
    try:
        return EnvKey(
            model_name=check_model_name(model),
            model_engine=None if engine is None else check_engine_name(engine),
            python_version=check_python_version(python),
        )
    except InvalidInput:
        return None


@given(model=TEXTS, engine=st.none() | TEXTS, python=VERSIONS)
@example(model="..", engine=None, python="3.11")
@example(model="...", engine="...", python="3.11")
@example(model="~", engine="-rf", python="3.11")
@example(model="a", engine="..", python="3.11")
@example(model="a", engine="vllm", python="../../3.11")
@example(model=".hidden", engine=".hidden", python="3.11")
def test_no_accepted_name_leads_outside_of_the_keys(
    model: str, engine: str | None, python: str
) -> None:
    asked = accepted(model, engine, python)
    if asked is None:
        return
    link = LAYOUT.key_link(asked)
    assert link.relative_to(ROOT).parts == asked.parts
    assert ".." not in link.parts
    assert asked.parts[0] == ("v3" if engine is None else "v4")
    assert not link.is_relative_to(LAYOUT.store)
    assert all(0 < len(part.encode()) <= 255 for part in asked.parts)


NAMES = st.sampled_from(["a", "b", ".a", "3.11", "v3", "v4", "vllm", "store"])


@given(one=st.tuples(NAMES, st.none() | NAMES), other=st.tuples(NAMES, st.none() | NAMES))
def test_two_keys_never_share_a_link_nor_a_file_name(
    one: tuple[str, str | None], other: tuple[str, str | None]
) -> None:
    first, second = (key(model, engine) for model, engine in (one, other))
    same = one == other
    assert (LAYOUT.key_link(first) == LAYOUT.key_link(second)) == same
    assert (first.digest == second.digest) == same


@pytest.mark.parametrize(
    "path",
    [
        ROOT,
        ROOT.parent,
        ROOT / ".." / "elsewhere",
        ROOT / "v3" / ".." / "store",
        ROOT / "..",
        Path("/etc/passwd"),
        Path("relative"),
        Path(f"{ROOT}-other") / "v3",
        Path("/"),
        Path(),
    ],
)
def test_a_path_that_is_not_inside_as_written_is_refused(path: Path) -> None:
    with pytest.raises(StoreError, match="does not lie inside"):
        LAYOUT.inside(path)


def test_a_path_that_is_inside_is_itself() -> None:
    for path in (ROOT / "v3", ROOT / "..." / "a", ROOT / "v4" / "..a" / "b"):
        assert LAYOUT.inside(path) is path


@pytest.mark.parametrize(
    "parts", [("..", None), ("/etc", None), ("a", "/etc"), ("a/../../b", None), ("", "..")]
)
def test_a_key_that_no_one_checked_is_still_kept_inside(parts: tuple[str, str | None]) -> None:
    with pytest.raises(StoreError):
        LAYOUT.key_link(key(*parts))


@pytest.mark.parametrize("env_id", ["", ".", "..", "/", "/etc", "a/b", "a/../b", "../envs", "./"])
def test_an_id_never_means_the_folder_of_all_nor_what_is_deeper(env_id: str) -> None:
    for place in (LAYOUT.env, LAYOUT.leases_of):
        with pytest.raises(StoreError):
            place(env_id)


def test_an_id_means_an_entry_of_its_own() -> None:
    assert LAYOUT.env("0a1b") == ROOT / "store" / "envs" / "0a1b"
    assert LAYOUT.leases_of("0a1b") == ROOT / "store" / "leases" / "0a1b"


def test_every_folder_lies_in_the_store() -> None:
    assert len(set(LAYOUT.folders)) == len(LAYOUT.folders)
    assert all(folder.parent == LAYOUT.store for folder in LAYOUT.folders)
