"""What uv's files of configuration mean; how uv itself reads them was looked at with uv 0.13.9."""

from __future__ import annotations

from typing import Any

import pytest

from xinference_venv.errors import InvalidSource
from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.planning.uv_files import (
    UvFiles,
    check_present,
    choosing_settings,
    complete_sources,
    is_project_of_uv,
    read_uv_files,
    uv_file_paths,
    with_absolute_paths,
    with_named_indexes,
    with_uv_files,
)

USER = "/home/you/.config/uv/uv.toml"
SYSTEM = "/etc/uv/uv.toml"


def paths(*present: str, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    return uv_file_paths(
        environ or {},
        working_directory="/srv/app/now",
        home="/home/you",
        present=present.__contains__,
        is_project=lambda path: path in present and path.endswith("pyproject.toml"),
    )


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ((USER, SYSTEM), (USER, SYSTEM)),
        ((SYSTEM, "/etc/xdg/uv/uv.toml"), ("/etc/xdg/uv/uv.toml",)),
        (("/srv/uv.toml", "/srv/app/uv.toml", USER), ("/srv/app/uv.toml", USER)),
        (("/srv/app/uv.toml", "/srv/app/now/pyproject.toml"), ("/srv/app/now/pyproject.toml",)),
        (("/srv/app/uv.toml", "/srv/app/pyproject.toml"), ("/srv/app/uv.toml",)),
        ((), ()),
    ],
)
def test_the_nearest_file_of_a_project_counts_then_the_users_then_the_systems(
    present: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert paths(*present) == expected


def test_variables_say_where_the_files_are() -> None:
    assert paths(USER, environ={"UV_NO_CONFIG": "1"}) == ()
    assert paths(USER, environ={"UV_NO_CONFIG": "0"}) == (USER,)
    named = {"UV_CONFIG_FILE": "mine.toml", "UV_NO_CONFIG": "1"}
    assert paths(USER, environ=named) == ("/srv/app/now/mine.toml",)
    moved = {"XDG_CONFIG_HOME": "/conf", "XDG_CONFIG_DIRS": "/a::/b"}
    assert paths("/conf/uv/uv.toml", "/b/uv/uv.toml", USER, environ=moved) == (
        "/conf/uv/uv.toml",
        "/b/uv/uv.toml",
    )


def test_a_file_that_can_not_be_read_is_an_error() -> None:
    check_present((USER,), [(USER, "")])
    with pytest.raises(InvalidSource, match=SYSTEM):
        check_present((USER, SYSTEM), [(USER, "")])


def test_a_pyproject_counts_when_it_configures_uv() -> None:
    assert is_project_of_uv("[tool.uv]\n")
    assert not is_project_of_uv("[tool.ruff]\n[uv]\n")
    assert not is_project_of_uv("[tool.uv\n")


def test_lists_are_put_together_and_of_single_settings_the_first_counts() -> None:
    project = """
        [tool.uv]
        index-strategy = "unsafe-best-match"
        constraint-dependencies = ["oil<2"]
        find-links = ["wheels", "https://h/links"]
        [[tool.uv.index]]
        name = "corp"
        url = "https://h/project"
        [[tool.uv.index]]
        url = "https://h/hidden"
        explicit = true
        [[tool.uv.index]]
        url = "https://h/default"
        default = true
    """
    user = """
        index-url = "https://h/of-user"
        extra-index-url = ["https://h/extra"]
        index-strategy = "first-index"
        allow-insecure-host = ["h"]
        override-dependencies = ["oil==1"]
        build-constraint-dependencies = ["wheel<1"]
        keyring-provider = "subprocess"
        offline = false
        [[index]]
        url = "simple"
        [pip]
        extra-index-url = ["https://h/pip"]
        no-binary = ["lamp", "wick"]
        only-binary = [":all:"]
        keyring-provider = "disabled"
    """
    found = read_uv_files([("/srv/pyproject.toml", project), (USER, user)])
    assert found == UvFiles(
        indexes=(
            *("corp=https://h/project", "file:///home/you/.config/uv/simple"),
            *("https://h/pip", "https://h/extra"),
        ),
        default_index="https://h/default",
        find_links=("/srv/wheels", "https://h/links"),
        trusted_hosts=("h",),
        constraints=("oil<2",),
        overrides=("oil==1",),
        build_constraints=("wheel<1",),
        variables={
            "UV_INDEX_STRATEGY": "unsafe-best-match",
            "UV_KEYRING_PROVIDER": "disabled",
            "UV_NO_BINARY_PACKAGE": "lamp wick",
            "UV_NO_BUILD": "1",
            "UV_OFFLINE": "0",
        },
        named_indexes={"corp": "https://h/project"},
    )
    assert "h/" not in repr(found)


def test_settings_of_single_indexes_are_known_by_their_urls() -> None:
    project = """
        [[index]]
        name = "corp"
        url = "https://ada:s3cret@h/corp/"
        cache-control = { api = "max-age=600", files = "max-age=3600" }
        publish-url = "https://h/upload"
        [[index]]
        url = "http://[h/corp"
        explicit = true
        format = "simple"
        [[index]]
        url = "wheels"
        format = "flat"
        exclude-newer = "2026-01-01"
    """
    user = """
        [[index]]
        name = "corp"
        url = "https://h/shadowed"
        authenticate = "never"
        [[index]]
        name = "hidden"
        url = "https://h/hidden"
        explicit = true
        ignore-error-codes = [401, 403]
        [[index]]
        url = "https://h/corp"
        authenticate = "always"
        default = true
    """
    found = read_uv_files([("/srv/uv.toml", project), (USER, user)])
    assert found.indexes == ("corp=https://ada:s3cret@h/corp/", "file:///srv/wheels")
    assert found.default_index == "https://h/corp"
    assert found.named_indexes == {
        "corp": "https://ada:s3cret@h/corp/",
        "hidden": "https://h/hidden",
    }
    assert found.index_settings == {
        "https://h/corp": {"cache-control": {"api": "max-age=600", "files": "max-age=3600"}},
        "http://[h/corp": {"format": "simple"},
        "file:///srv/wheels": {"format": "flat", "exclude-newer": "2026-01-01"},
        "https://h/hidden": {"ignore-error-codes": [401, 403]},
    }


@pytest.mark.parametrize(
    "line",
    [
        'authenticate = "perhaps"',
        "cache-control = 600",
        "cache-control = { api = 600 }",
        'cache-control = { files = "a\\nb" }',
        "exclude-newer = 2026-01-01",
        'format = "round"',
        "ignore-error-codes = 403",
        'ignore-error-codes = ["403"]',
        "ignore-error-codes = [9999]",
    ],
)
def test_a_setting_of_an_index_that_uv_refuses_is_named(line: str) -> None:
    key = line.split(" =")[0]
    with pytest.raises(InvalidSource, match=f"{USER}: .* is no {key} of an index"):
        read_uv_files([(USER, f'[[index]]\nurl = "https://h/corp"\n{line}\n')])


def test_what_is_no_toml_is_named() -> None:
    with pytest.raises(InvalidSource, match=f"{USER} is no TOML"):
        read_uv_files([(USER, "index-url = ")])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('index = "https://h/simple"', "index in .* of a type"),
        ('[[index]]\nname = "corp"', "url of an index in .* is missing"),
        ("find-links = 3", "find-links in .* of a type"),
        ("[pip]\nno-binary = true", "no-binary in .* of a type"),
        ("pip = 3", "pip in .* of a type"),
        (
            "override-dependencies = ['oil @@ https://u:hunter22@h/oil.whl']",
            r"has 'oil @@ https://\*\*\*\*@h/oil.whl', which is no requirement",
        ),
    ],
)
def test_what_uv_would_refuse_is_named_with_its_file(text: str, words: str) -> None:
    with pytest.raises(InvalidSource, match=words) as caught:
        read_uv_files([(USER, text)])
    assert USER in str(caught.value)
    assert choosing_settings([(USER, text)]) == ()
    # Of a project uv warns, and looks for the next one.
    text = text.replace("[pip]", "[tool.uv.pip]").replace("[[index]]", "[[tool.uv.index]]")
    assert not is_project_of_uv(f"[tool.uv]\n{text}")


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\nuv = 3", "[tool.uv"])
def test_a_project_with_a_wrong_table_of_tools_is_none_of_uv(text: str) -> None:
    assert not is_project_of_uv(text)


def test_hosts_without_a_proxy_are_separated_by_commas() -> None:
    found = read_uv_files([(USER, 'no-proxy = ["a.example", "b.example"]')])
    assert found.variables == {"NO_PROXY": "a.example,b.example"}


def test_files_of_requirements_are_found_from_the_working_directory() -> None:
    given = {"UV_CONSTRAINT": "a.txt /b.txt https://h/c.txt", "UV_OFFLINE": "1"}
    expected = {"UV_CONSTRAINT": "/srv/a.txt /b.txt https://h/c.txt", "UV_OFFLINE": "1"}
    assert with_absolute_paths(given, "/srv") == expected


FILES = UvFiles(
    indexes=("corp=https://h/corp",),
    default_index="https://h/default",
    find_links=("/srv/wheels",),
    trusted_hosts=("h",),
    constraints=("oil<2",),
)
LOGIN = {"UV_INDEX_CORP_USERNAME": "you", "UV_INDEX_CORP_PASSWORD": "secret"}


def test_files_complete_what_variables_say() -> None:
    found = with_uv_files(PipConfig(), FILES, LOGIN)
    assert found.index_url == "https://h/default"
    assert found.extra_index_url == ("https://you:secret@h/corp",)
    assert (found.find_links, found.trusted_host) == (("/srv/wheels",), ("h",))
    assert (found.constraints, found.index_strategy) == (("oil<2",), "first-index")
    variables = PipConfig(
        index_url="https://h/variable",
        extra_index_url=("https://h/first",),
        index_strategy="unsafe-best-match",
        variables_not_honoured=("UV_CONFIG_FILE", "UV_RESOLUTION"),
    )
    found = with_uv_files(variables, FILES, {})
    assert found.index_url == "https://h/variable"
    assert found.extra_index_url == ("https://h/first", "https://h/corp")
    assert found.index_strategy == "unsafe-best-match"
    assert found.variables_not_honoured == ("UV_RESOLUTION",)
    assert with_uv_files(PipConfig(), UvFiles(), {}) == PipConfig()


def test_variables_may_name_an_index_of_the_files_and_hide_one_of_its_name() -> None:
    files = UvFiles(
        indexes=("corp=https://h/corp", "https://h/plain"),
        default_index="main=https://h/default",
        named_indexes={"corp": "https://h/corp", "hidden": "https://h/hidden"},
    )
    environ = with_named_indexes(
        {"UV_DEFAULT_INDEX": "hidden", "UV_INDEX": "corp https://h/a other", "PATH": "/bin"}, files
    )
    assert environ == {
        "UV_DEFAULT_INDEX": "hidden=https://h/hidden",
        "UV_INDEX": "corp=https://h/corp https://h/a other",
        "PATH": "/bin",
    }
    for variable in ("corp=https://h/mine", "main=https://h/mine"):
        found = with_uv_files(PipConfig(), files, {"UV_INDEX": variable})
        named = variable.split("=")[0]
        assert found.index_url == (None if named == "main" else "https://h/default")
        assert ("https://h/corp" in found.extra_index_url) == (named == "main")
        assert "https://h/plain" in found.extra_index_url


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ({}, {}, {}),
        ({"index_url": "https://h/call"}, {}, {"index_url": "https://h/call"}),
        (
            {"index_url": "https://h/call"},
            {"UV_DEFAULT_INDEX": "corp=https://h/variable", **LOGIN},
            {"index_url": "https://you:secret@h/variable"},
        ),
        ({"index_url": "https://h/call"}, {"UV_NO_INDEX": "1"}, {}),
        (
            {"extra_index_url": "https://h/call", "find_links": ["/a"], "trusted_host": "i"},
            {"UV_INDEX": "https://h/variable"},
            {
                "extra_index_url": ["https://h/variable", "https://h/call", "https://h/corp"],
                "find_links": ["/a", "/srv/wheels"],
                "trusted_host": ["i", "h"],
            },
        ),
    ],
)
def test_the_sources_of_a_call_are_completed_as_uv_completes_its_command_line(
    given: dict[str, Any], environ: dict[str, str], expected: dict[str, Any]
) -> None:
    assert complete_sources(given, FILES, environ) == expected
