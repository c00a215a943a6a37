from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv.errors import InvalidRecord, InvalidSource
from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.planning.request import ModelVirtualEnv
from xinference_venv.planning.sources import (
    INDEX_STRATEGIES,
    PUBLIC_HOSTS,
    PackageSources,
    check_launch_find_links,
    combine_sources,
)

MIRROR = "https://mirror.example/simple"
OTHER = "https://other.example/simple"
PYPI = "https://pypi.org/simple"


def combine(
    model: ModelVirtualEnv | None = None,
    pip: PipConfig | None = None,
    *,
    engine_indexes: tuple[str, ...] = (),
    engine_strategy: str | None = None,
    engine_first: str | None = None,
    launch_find_links: tuple[str, ...] = (),
    offline: bool = False,
) -> PackageSources:
    return combine_sources(
        model=model,
        engine_extra_index_urls=engine_indexes,
        engine_index_strategy=engine_strategy,
        engine_index_first=engine_first,
        pip=pip,
        launch_find_links=launch_find_links,
        offline=offline,
    )


PIP = PipConfig(
    index_url=MIRROR,
    extra_index_url=(OTHER,),
    find_links=("/pip/wheels",),
    trusted_host=("mirror.example:8443",),
)


def test_with_nothing_configured_all_is_left_to_uv() -> None:
    assert combine() == PackageSources()


def test_what_the_model_does_not_set_comes_from_pips_configuration() -> None:
    assert combine(ModelVirtualEnv(), PIP) == PackageSources(
        index_url=MIRROR,
        extra_index_urls=(OTHER,),
        find_links=("/pip/wheels",),
        trusted_hosts=("mirror.example:8443",),
        index_strategy="unsafe-best-match",
    )


def test_each_setting_of_the_model_replaces_pips_and_no_other() -> None:
    model = ModelVirtualEnv(index_url=OTHER, find_links=("/model/wheels",), no_build_isolation=True)
    assert combine(model, PIP) == PackageSources(
        index_url=OTHER,
        extra_index_urls=(OTHER,),
        find_links=("/model/wheels",),
        trusted_hosts=("mirror.example:8443",),
        index_strategy="unsafe-best-match",
        no_build_isolation=True,
    )
    model = ModelVirtualEnv(extra_index_url=(MIRROR,), trusted_host=("host",))
    assert combine(model, PIP) == PackageSources(
        index_url=MIRROR,
        extra_index_urls=(MIRROR,),
        find_links=("/pip/wheels",),
        trusted_hosts=("host",),
    )


def test_a_model_can_refuse_pips_configuration() -> None:
    assert combine(ModelVirtualEnv(inherit_pip_config=False), PIP) == PackageSources()


def test_a_launch_without_a_model_block_takes_pips_configuration() -> None:
    assert combine(None, PIP).index_url == MIRROR


def test_the_index_strategy_is_the_models_then_the_engines_then_pips_meaning() -> None:
    model = ModelVirtualEnv(index_strategy="first-index")
    engine = "unsafe-first-match"
    assert combine(model, PIP, engine_strategy=engine).index_strategy == "first-index"
    assert combine(None, PIP, engine_strategy=engine).index_strategy == engine
    assert combine(None, PIP).index_strategy == "unsafe-best-match"
    assert combine(None, PipConfig(index_url=MIRROR)).index_strategy is None
    assert combine(ModelVirtualEnv(extra_index_url=(OTHER,))).index_strategy is None


def test_the_index_strategy_of_the_operators_variables_counts_where_no_other_does() -> None:
    pip = PipConfig(index_strategy="unsafe-first-match")
    assert combine(pip=pip).index_strategy == "unsafe-first-match"
    assert combine(pip=pip, engine_strategy="first-index").index_strategy == "first-index"


def test_an_index_with_builds_for_the_hosts_cuda_is_asked_first_and_no_other_for_what_it_has() -> (
    None
):
    found = combine(
        ModelVirtualEnv(index_strategy="unsafe-best-match"),
        PIP,
        engine_indexes=("https://engine.example/simple",),
        engine_first="https://cuda.example/cu128",
    )
    assert found.extra_index_urls == (
        *("https://cuda.example/cu128", OTHER, "https://engine.example/simple"),
    )
    assert found.index_strategy == "first-index"


def test_what_of_releases_and_formats_counts_comes_from_pips_configuration() -> None:
    pip = PipConfig(pre=True, no_binary=("a",), only_binary=("b",), exclude_newer="2026-01-01")
    assert combine(pip=pip) == PackageSources(
        prerelease=True, no_binary=("a",), only_binary=("b",), exclude_newer="2026-01-01"
    )


def test_sources_are_the_same_by_what_they_say_and_without_their_credentials() -> None:
    earlier = {
        "index_url",
        "extra_index_urls",
        "find_links",
        "trusted_hosts",
        "index_strategy",
        "no_index",
        "no_build_isolation",
        "torch_backend",
    }
    # The digests of environments that earlier releases made stay as they are.
    assert PackageSources().identity().keys() == earlier
    known = PackageSources(
        index_url="https://me:hunter22@mirror.example/simple",
        prerelease=True,
        no_binary=("a",),
        only_binary=("b",),
        exclude_newer="2026-01-01",
    ).identity()
    assert known.keys() - earlier == {"prerelease", "no_binary", "only_binary", "exclude_newer"}
    assert known["index_url"] == "https://****@mirror.example/simple"


def test_no_index_of_pips_is_kept_where_it_wants_none() -> None:
    assert combine(pip=PipConfig(index_url=MIRROR, no_index=True)) == PackageSources(no_index=True)


@pytest.mark.parametrize(
    ("block", "begin"),
    [
        ({"index_url": "x"}, "Invalid index URL 'x': "),
        ({"extra_index_url": ["x"]}, "Invalid extra index URL 'x': "),
        ({"find_links": ["x"]}, "Invalid find-links 'x': "),
        ({"find_links": ["/x\n"]}, "Invalid find-links '/x\\n': it contains control characters"),
        ({"trusted_host": ["*"]}, "Invalid trusted host '*': it is neither host nor host:port"),
        ({"index_url": "https://[::1/x"}, "Invalid index URL 'https://[::1/x': its host is"),
        ({"index_url": "https:///x"}, "Invalid index URL 'https:///x': its host or port"),
        ({"index_url": "file:x"}, "Invalid index URL 'file:x': it has no absolute path"),
    ],
)
def test_a_source_that_is_none_is_named_with_what_it_was_to_be(
    block: dict[str, Any], begin: str
) -> None:
    with pytest.raises(InvalidSource) as caught:
        combine(ModelVirtualEnv.from_dict(block))
    assert caught.value.message.startswith(begin)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:hun@ter22@h/a b", "'https://****@h/a b'"),
        ("hunter22@h/a b", "'****@h/a b'"),
        ("https://h/a b?token=hunter22?x", "'https://h/a b'"),
        ("https://me:hunter22?x@h/a b", "'https://****@****'"),
        (f"https://h/{'x' * 300}#x", f"'https://h/{'x' * 190}'"),
    ],
)
def test_a_source_that_is_none_is_shown_as_far_as_it_holds_no_credential(
    url: str, shown: str
) -> None:
    with pytest.raises(InvalidSource) as caught:
        combine(ModelVirtualEnv(index_url=url))
    assert f"Invalid index URL {shown}: " in caught.value.message


def test_a_time_of_the_newest_packages_is_one_that_uv_understands() -> None:
    for time in ("2026-01-31", "2026-01-31T12:00:00Z", "P3D"):
        assert combine(pip=PipConfig(exclude_newer=time)).exclude_newer == time
    with pytest.raises(InvalidSource, match="Invalid time '--2026'") as caught:
        combine(pip=PipConfig(exclude_newer="--2026"))
    assert "2026-01-31" in (caught.value.hint or "")


def test_the_engines_indexes_come_last_and_the_launchs_folders_first() -> None:
    sources = combine(
        ModelVirtualEnv(extra_index_url=(OTHER,), find_links=("/model", "/launch")),
        engine_indexes=("https://engine.example", OTHER),
        launch_find_links=("/launch",),
    )
    assert sources.extra_index_urls == (OTHER, "https://engine.example")
    assert sources.find_links == ("/launch", "/model")


def test_pips_no_index_holds_unless_the_model_names_an_index() -> None:
    pip = PipConfig(no_index=True, extra_index_url=(OTHER,), find_links=("/wheels",))
    assert combine(None, pip) == PackageSources(no_index=True, find_links=("/wheels",))
    with_index = combine(ModelVirtualEnv(index_url=MIRROR), pip)
    assert not with_index.no_index
    assert with_index.index_url == MIRROR


def test_offline_without_an_index_of_its_own_asks_none() -> None:
    assert combine(offline=True) == PackageSources(no_index=True)
    public = PipConfig(index_url=PYPI, find_links=("https://download.pytorch.org/whl", "/wheels"))
    assert combine(None, public, offline=True) == PackageSources(
        no_index=True, find_links=("/wheels",)
    )


def test_offline_a_path_stays_whatever_it_looks_like() -> None:
    model = ModelVirtualEnv(find_links=("//pypi.org/wheels", "//[wheels"))
    assert combine(model, offline=True).find_links == model.find_links


def test_offline_keeps_private_indexes_in_their_order_and_none_that_is_public() -> None:
    pip = PipConfig(index_url=PYPI, extra_index_url=(MIRROR, "https://pypi.nvidia.com", OTHER))
    sources = combine(None, pip, engine_indexes=("https://wheels.vllm.ai/nightly",), offline=True)
    assert sources == PackageSources(
        index_url=OTHER, extra_index_urls=(MIRROR,), index_strategy="unsafe-best-match"
    )
    pip = PipConfig(index_url=MIRROR, extra_index_url=(OTHER, PYPI))
    assert combine(None, pip, offline=True).index_url == MIRROR
    assert combine(None, pip, offline=True).extra_index_urls == (OTHER,)


@pytest.mark.parametrize("host", sorted(PUBLIC_HOSTS))
@pytest.mark.parametrize(
    "spelling", ["https://{}/simple", "HTTP://{}./x", "https://u:p@{}:443", "https://u@x:p@{}"]
)
def test_a_public_host_is_recognized_however_its_url_is_spelled(host: str, spelling: str) -> None:
    for each in (host, host.upper()):
        url = spelling.format(each)
        assert combine(ModelVirtualEnv(index_url=url), offline=True).no_index


BAD_URLS = [
    ("pypi.org/simple", "does not begin with http"),
    ("ftp://host/simple", "does not begin with http"),
    ("git+https://host/simple", "does not begin with http"),
    ("--index-url=x", "does not begin with http"),
    ("../simple", "does not begin with http"),
    ("https://", "host or port is missing"),
    ("https:///simple", "host or port is missing"),
    ("https://host:port/simple", "host or port is missing or malformed"),
    ("https://[::1/simple", "host is malformed"),
    (r"https://pypi.org\@mirror.example/simple", "host or port"),
    ("https://pypi%2Eorg/simple", "host or port"),
    ("https://pypi。org/simple", "host or port"),
    ("file://", "no absolute path"),
    ("file://host/simple", "no absolute path"),
    ("file:simple", "no absolute path"),
    ("https://host/sim ple", "spaces or control characters"),
    ("https://host/\nsimple", "spaces or control characters"),
    ("https://host/\0", "spaces or control characters"),
    ("https://host/simple#egg=x", "fragment"),
]


@pytest.mark.parametrize(("url", "wrong"), BAD_URLS)
def test_a_url_that_is_none_is_refused_wherever_it_comes_from(url: str, wrong: str) -> None:
    attempts: list[Callable[[], PackageSources]] = [
        lambda: combine(ModelVirtualEnv(index_url=url)),
        lambda: combine(ModelVirtualEnv(find_links=(url,))),
        lambda: combine(None, PipConfig(extra_index_url=(url,))),
        lambda: combine(engine_indexes=(url,)),
        lambda: PackageSources.from_dict({"index_url": url}),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidSource, match=wrong) as caught:
            attempt()
        assert str(caught.value.hint).startswith("Allowed are http, https and file URLs")


@pytest.mark.parametrize(
    "url",
    [
        MIRROR,
        "http://127.0.0.1:8080/simple",
        "http://[::1]:8080/simple",
        "file:///srv/simple",
        "file://localhost/srv/simple",
        "https://user:p%40ss@mirror.example/simple",
        "https://mirror/simple?token=abc",
    ],
)
def test_absolute_http_https_and_file_urls_are_indexes(url: str) -> None:
    assert combine(ModelVirtualEnv(index_url=url)).index_url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter22@host:port/simple",
        "https://user:hunter 22hunter22@host/simple",
        "https://user:?hunter22@host/simple",
        "https://user:/hunter22@host/simple#x",
        "ftp://host/simple?sig=hunter22",
        "ftp://host/simple?mail=a@b&sig=hunter22",
        "user:hunter22@host/simple",
        "user:hunter22://x@host/simple",
        "ftp://user:hunter22@host/?x=https://other@host",
    ],
)
def test_the_error_of_a_source_shows_no_credentials(url: str) -> None:
    for model in (ModelVirtualEnv(index_url=url), ModelVirtualEnv(trusted_host=(url,))):
        with pytest.raises(InvalidSource) as caught:
            combine(model)
        assert "hunter22" not in json.dumps(caught.value.to_dict())


@pytest.mark.parametrize("host", ["", "-x", "https://host", "host:port", "host/path", "a b", "*"])
def test_a_trusted_host_is_a_host_with_or_without_a_port(host: str) -> None:
    with pytest.raises(InvalidSource, match="trusted host"):
        combine(ModelVirtualEnv(trusted_host=(host,)))


@pytest.mark.parametrize("host", ["host", "host.example:8443", "127.0.0.1", "[::1]:8080"])
def test_trusted_hosts_may_be_names_and_addresses(host: str) -> None:
    assert combine(ModelVirtualEnv(trusted_host=(host,))).trusted_hosts == (host,)


def test_an_unknown_index_strategy_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InvalidSource, match="'best'") as caught:
        combine(ModelVirtualEnv(index_strategy="best"))
    assert all(strategy in str(caught.value.hint) for strategy in INDEX_STRATEGIES)


URLS = st.sampled_from([MIRROR, OTHER, "https://user:pass@host/simple", "file:///srv/simple"])
SOURCES = st.builds(
    PackageSources,
    index_url=st.none() | URLS,
    extra_index_urls=st.lists(URLS, max_size=3).map(tuple),
    find_links=st.lists(URLS | st.just("/srv/wheels"), max_size=3).map(tuple),
    trusted_hosts=st.lists(st.just("host:80"), max_size=1).map(tuple),
    index_strategy=st.sampled_from([None, *INDEX_STRATEGIES]),
    no_index=st.booleans(),
    no_build_isolation=st.booleans(),
    torch_backend=st.sampled_from([None, "cu128"]),
)


@given(sources=SOURCES)
def test_sources_survive_the_way_through_json(sources: PackageSources) -> None:
    wire = json.loads(json.dumps(sources.to_dict()))
    assert PackageSources.from_dict({**wire, "future": 1}) == sources


@given(sources=SOURCES)
def test_redacted_sources_are_still_valid_and_hold_no_credentials(sources: PackageSources) -> None:
    redacted = sources.redacted()
    assert "user" not in json.dumps(redacted.to_dict())
    assert "user" not in repr(sources)
    assert PackageSources.from_dict(redacted.to_dict()) == redacted == redacted.redacted()


@pytest.mark.parametrize("data", [None, [], {"index_url": 1}, {"extra_index_urls": MIRROR}])
def test_a_damaged_record_of_sources_is_refused(data: Any) -> None:
    with pytest.raises(InvalidRecord, match="package sources"):
        PackageSources.from_dict(data)


def resolve(path: str) -> str | None:
    return str(Path(path).resolve()) if Path(path).is_dir() else None


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    (tmp_path / "allowed" / "wheels").mkdir(parents=True)
    (tmp_path / "allowed-evil").mkdir()
    (tmp_path / "allowed" / "file").touch()
    (tmp_path / "allowed" / "way-out").symlink_to(tmp_path / "allowed-evil")
    (tmp_path / "way-in").symlink_to(tmp_path / "allowed" / "wheels")
    (tmp_path / "root-link").symlink_to(tmp_path / "allowed")
    return tmp_path.resolve()


@pytest.mark.parametrize(
    "place", ["allowed", "allowed/", "allowed/wheels", "way-in", "allowed/../way-in"]
)
@pytest.mark.parametrize("root", ["allowed", "root-link", "allowed/wheels/.."])
def test_a_folder_inside_an_allowed_root_is_found_by_its_real_path(
    folders: Path, place: str, root: str
) -> None:
    found = check_launch_find_links([f"{folders}/{place}"], [f"{folders}/{root}"], resolve)
    assert found == (str((folders / place).resolve()),)


@pytest.mark.parametrize(
    "place",
    [
        "allowed-evil",
        "allowed/way-out",
        "allowed/../allowed-evil",
        "",
        "allowed/file",
        "allowed/gone",
    ],
)
def test_any_other_folder_is_refused_in_the_same_words(folders: Path, place: str) -> None:
    wrong = "is not an existing directory in an allowed folder"
    with pytest.raises(InvalidSource) as caught:
        check_launch_find_links([f"{folders}/{place}"], [f"{folders}/allowed"], resolve)
    assert caught.value.message == f"Find-links folder '{folders}/{place}' {wrong}"
    assert "XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS" in str(caught.value.hint)


@pytest.mark.parametrize(
    "place", ["wheels", "~/wheels", "https://host/wheels", "", "/a\0b", "/a\n"]
)
def test_what_is_no_absolute_path_is_refused_before_the_disk_is_asked(place: str) -> None:
    asked: list[str] = []
    with pytest.raises(InvalidSource) as caught:
        check_launch_find_links(["/first", place], ["/"], asked.append)
    assert caught.value.message == f"Find-links folder {place!r} is not an absolute path"
    assert "XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS" in str(caught.value.hint)
    assert asked == []


def test_without_allowed_roots_no_folder_is_allowed(folders: Path) -> None:
    with pytest.raises(InvalidSource) as caught:
        check_launch_find_links([f"{folders}/allowed"], [], resolve)
    assert (
        caught.value.message == f"Find-links folder '{folders}/allowed' is not allowed on this host"
    )
    assert "XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS" in str(caught.value.hint)
    with pytest.raises(InvalidSource):
        check_launch_find_links([f"{folders}/allowed"], [f"{folders}/gone"], resolve)
    assert check_launch_find_links([], [], resolve) == ()
