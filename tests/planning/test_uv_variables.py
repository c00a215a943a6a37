"""What an operator says to uv completes pip's configuration, or is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.planning.uv_variables import with_uv_variables

MIRROR = "https://mirror.example/simple"
OTHER = "https://other.example/simple"


def read(pip: PipConfig | None = None, /, **variables: str) -> PipConfig:
    return with_uv_variables(pip or PipConfig(), variables)


def test_without_variables_nothing_is_added() -> None:
    assert read() == PipConfig()
    assert read(UV_PRERELEASE="if-necessary-or-explicit", UV_CACHE_DIR="/cache") == PipConfig()


def test_indexes_are_those_of_uv_and_pip_s_count_before() -> None:
    found = read(UV_DEFAULT_INDEX=MIRROR, UV_INDEX=f"corp={OTHER} {MIRROR}")
    assert (found.index_url, found.extra_index_url) == (MIRROR, (OTHER, MIRROR))
    assert found.index_strategy == "first-index"
    found = read(
        UV_INDEX_URL=MIRROR, UV_EXTRA_INDEX_URL=OTHER, UV_INDEX_STRATEGY="unsafe-best-match"
    )
    assert (found.index_url, found.index_strategy) == (MIRROR, "unsafe-best-match")
    pip = PipConfig(index_url=OTHER, extra_index_url=(OTHER,), find_links=("/pip",))
    found = read(pip, UV_DEFAULT_INDEX=MIRROR, UV_INDEX=MIRROR, UV_FIND_LINKS="/uv,relative")
    assert (found.index_url, found.extra_index_url, found.find_links) == (
        OTHER,
        (OTHER,),
        ("/pip",),
    )
    assert found.index_strategy is None
    assert read(UV_FIND_LINKS="/uv,relative,https://links.example").find_links == (
        *("/uv", "https://links.example"),
    )
    assert read(UV_NO_INDEX="1").no_index


def test_credentials_of_an_index_with_a_name_are_in_its_url_and_in_no_representation() -> None:
    found = read(
        UV_INDEX=f"my-corp={OTHER}",
        UV_INDEX_MY_CORP_USERNAME="ada",
        UV_INDEX_MY_CORP_PASSWORD="s/3cret",
    )
    assert found.extra_index_url == ("https://ada:s%2F3cret@other.example/simple",)
    assert "3cret" not in repr(found)


def test_an_index_whose_url_is_malformed_is_handed_on_as_it_is() -> None:
    found = read(UV_INDEX="corp=https://[x/simple", UV_INDEX_CORP_PASSWORD="hunter22")
    assert found.extra_index_url == ("https://[x/simple",)


def test_what_is_chosen_is_read() -> None:
    found = read(
        UV_PRERELEASE="allow",
        UV_EXCLUDE_NEWER="2026-01-01",
        UV_CONSTRAINT="/etc/one.txt https://ada:pw@host/two.txt",
        UV_OVERRIDE="/etc/over.txt",
        UV_BUILD_CONSTRAINT="/etc/build.txt",
        UV_NO_BINARY_PACKAGE="a b",
        UV_NO_BUILD="1",
    )
    assert (found.pre, found.exclude_newer) == (True, "2026-01-01")
    assert found.constraint[0] == "/etc/one.txt"
    assert (found.override, found.build_constraint) == (("/etc/over.txt",), ("/etc/build.txt",))
    assert (found.no_binary, found.only_binary) == (("a", "b"), (":all:",))
    [named] = found.variables_not_honoured
    assert "two.txt" in named and "pw" not in named


def test_what_has_no_counterpart_is_named() -> None:
    named = read(UV_RESOLUTION="lowest", UV_PRERELEASE="disallow", UV_TORCH_BACKEND="cpu")
    assert named.variables_not_honoured == (
        *("UV_RESOLUTION", "UV_TORCH_BACKEND", "UV_PRERELEASE=disallow"),
    )


def test_an_index_of_its_own_name_counts_before_the_old_variable_and_the_first_of_several() -> None:
    found = read(UV_DEFAULT_INDEX=f"corp={MIRROR} {OTHER}", UV_INDEX_URL=OTHER)
    assert found.index_url == MIRROR
    found = read(UV_INDEX=MIRROR, UV_EXTRA_INDEX_URL=OTHER)
    assert found.extra_index_url == (MIRROR, OTHER)


def test_indexes_of_pip_are_searched_as_pip_does_unless_uv_has_a_strategy() -> None:
    pip = PipConfig(extra_index_url=(OTHER,))
    assert read(pip, UV_INDEX=MIRROR).index_strategy is None
    found = read(pip, UV_INDEX=MIRROR, UV_INDEX_STRATEGY=" unsafe-first-match ")
    assert found.index_strategy == "unsafe-first-match"


def test_blanks_around_a_value_do_not_count_and_its_case_neither() -> None:
    assert read(UV_FIND_LINKS=" /uv , , /a folder,").find_links == ("/uv", "/a folder")
    assert read(UV_PRERELEASE=" Allow ").pre
    assert read(UV_EXCLUDE_NEWER=" ").exclude_newer is None
    assert read(UV_RESOLUTION=" ").variables_not_honoured == ()
    for word, on in ((" TRUE ", True), ("yes", True), ("0", False), ("", False)):
        found = read(UV_NO_INDEX=word, UV_NO_BINARY=word, UV_NO_BUILD=word)
        every = (":all:",) if on else ()
        assert (found.no_index, found.no_binary, found.only_binary) == (on, every, every)


def test_what_pip_says_of_formats_versions_and_time_counts_before() -> None:
    pip = PipConfig(
        no_index=True,
        pre=True,
        no_binary=("a",),
        only_binary=("b",),
        exclude_newer="2025-01-01",
        constraint=("/etc/pip.txt",),
    )
    assert read(pip) == pip
    found = read(
        pip,
        UV_NO_BINARY_PACKAGE="c",
        UV_NO_BUILD_PACKAGE="d",
        UV_EXCLUDE_NEWER="2026-01-01",
        UV_CONSTRAINT="/etc/uv.txt",
    )
    assert replace(found, constraint=pip.constraint) == pip
    assert found.constraint == ("/etc/pip.txt", "/etc/uv.txt")
    assert read(UV_NO_BUILD_PACKAGE="d").only_binary == ("d",)


@pytest.mark.parametrize(
    ("index", "variables", "url"),
    [
        ("a.b-c=https://h/s", {"UV_INDEX_A_B_C_PASSWORD": "word"}, "https://:word@h/s"),
        ("a1=https://h/s", {"UV_INDEX_A1_USERNAME": "a/da"}, "https://a%2Fda:@h/s"),
        ("a=https://u:own@h/s", {"UV_INDEX_A_PASSWORD": "word"}, "https://u:own@h/s"),
        ("a=https://h/s", {"UV_INDEX_B_PASSWORD": "word"}, "https://h/s"),
        ("https://h/s?a=b", {"UV_INDEX_A_PASSWORD": "word"}, "https://h/s?a=b"),
    ],
)
def test_an_index_has_the_credentials_of_its_name_unless_it_has_its_own(
    index: str, variables: dict[str, str], url: str
) -> None:
    assert read(UV_DEFAULT_INDEX=index, **variables).index_url == url


def test_a_long_word_that_is_not_honoured_is_named_in_part() -> None:
    [named] = read(UV_PRERELEASE="x" * 30).variables_not_honoured
    assert named == f"UV_PRERELEASE={'x' * 20}"
