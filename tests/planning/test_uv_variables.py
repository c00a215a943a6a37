"""What an operator says to uv completes pip's configuration, or is named."""

from __future__ import annotations

from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.planning.uv_variables import with_uv_variables

MIRROR = "https://mirror.example/simple"
OTHER = "https://other.example/simple"


def read(pip: PipConfig | None = None, **variables: str) -> PipConfig:
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
