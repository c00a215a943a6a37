from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv.errors import InvalidSource
from xinference_venv.planning.pip_config import (
    PipConfig,
    PipConnection,
    file_url,
    parse_pip_config,
    pip_config_paths,
)

# What pip itself makes of its files and variables, told by its own modules.
WHAT_PIP_READS = """
import json, sys
sys.prefix = sys.argv[1]
from pip._internal.commands import create_command
from pip._internal.configuration import OVERRIDE_ORDER, Configuration
options = create_command("install").parser.get_default_values()
names = ("index_url", "extra_index_urls", "find_links", "trusted_hosts", "no_index", "cert",
         "client_cert", "pre")
by_kind = dict(Configuration(isolated=False).iter_config_files())
files = [file for kind in OVERRIDE_ORDER for file in by_kind.get(kind, ())]
print(json.dumps([files, {name: getattr(options, name) for name in names}]))
"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A folder with a place for each file of pip, and the environment that leads pip there."""

    root: Path
    environ: dict[str, str]

    def write(self, place: str, text: str) -> Path:
        path = self.root / place / "pip.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, *arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, env=self.environ, cwd=self.root, check=True, capture_output=True, text=True
        ).stdout

    def paths(self) -> tuple[str, ...]:
        return pip_config_paths(
            self.environ,
            prefix=f"{self.root}/prefix",
            home=f"{self.root}/home",
            platform=sys.platform,
            present=os.path.exists,
        )

    def config(self) -> PipConfig:
        files = [(path, Path(path).read_text()) for path in self.paths() if Path(path).exists()]
        return parse_pip_config(files, self.environ)

    def what_pip_reads(self) -> tuple[list[str], dict[str, Any]]:
        files, options = json.loads(self.run("-c", WHAT_PIP_READS, f"{self.root}/prefix"))
        return files, options


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    ambient = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "XDG_")) and name != "HOME"
    }
    return Machine(
        root=tmp_path,
        environ={
            **ambient,
            "HOME": f"{tmp_path}/home",
            "XDG_CONFIG_DIRS": f"{tmp_path}/global1:{tmp_path}/global2",
            "XDG_DATA_DIRS": f"{tmp_path}/global1:{tmp_path}/global2",
        },
    )


def assert_same_as_pip(machine: Machine) -> PipConfig:
    files, options = machine.what_pip_reads()
    config = machine.config()
    if machine.environ.get("PIP_CONFIG_FILE") != os.devnull:
        assert list(machine.paths()) == files
    assert config == PipConfig(
        index_url=None
        if options["index_url"] == "https://pypi.org/simple"
        else options["index_url"],
        extra_index_url=tuple(options["extra_index_urls"]),
        find_links=tuple(options["find_links"]),
        trusted_host=tuple(options["trusted_hosts"]),
        no_index=bool(options["no_index"]),
        pre=bool(options["pre"]),
        connection=PipConnection(cert=options["cert"], client_cert=options["client_cert"]),
    )
    return config


USER = "home/.config/pip"
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "nothing": ({}, {}),
    "all keys": (
        {
            USER: "[global]\nindex-url = https://one/simple\n"
            "extra-index-url =\n    https://two/simple\n    https://three/simple  https://four\n"
            "find-links = /wheels\n  https://links/\ntrusted-host = one two:80\nno-index = yes\n"
        },
        {},
    ),
    "install overrides global, even of a later file": (
        {
            USER: "[install]\nindex-url = https://install\n",
            "prefix": "[global]\nindex-url = https://site\n",
        },
        {},
    ),
    "later files override earlier ones": (
        {
            "global1/pip": "[global]\nindex-url = https://global1\nextra-index-url = https://a\n",
            "global2/pip": "[global]\nindex-url = https://global2\ntrusted-host = b\n",
            "home/.pip": "[global]\nindex-url = https://legacy\nfind-links = /c\n",
            USER: "[global]\nindex-url = https://user\n",
            "prefix": "[global]\nindex-url = https://site\n",
        },
        {},
    ),
    "variables override files, and replace whole lists": (
        {USER: "[install]\nindex-url = https://file\nextra-index-url = https://a https://b\n"},
        {
            "PIP_INDEX_URL": "https://variable",
            "PIP_EXTRA_INDEX_URL": "https://c",
            "PIP_NO_INDEX": "1",
        },
    ),
    "a later no overrides a yes": (
        {USER: "[global]\nno-index = on\n"},
        {"PIP_NO_INDEX": "False"},
    ),
    "an empty variable says nothing": (
        {USER: "[global]\nindex-url = https://file\n"},
        {"PIP_INDEX_URL": "", "PIP_NO_INDEX": ""},
    ),
    "keys are spelled in several ways": (
        {
            USER: "[global]\nIndex_URL: https://one\n--find-links = /wheels\n[install]\npypi-url = https://two\n"
        },
        {"PIP_TRUSTED_HOST": "a b", "PIP_VERSION": "1", "PIP_HELP": "1"},
    ),
    "of two spellings of a key the later one counts": (
        {USER: "[global]\nindex-url = https://one\nindex_url = https://two\n--pre = 1\npre = 0\n"},
        {},
    ),
    "defaults and other sections": (
        {
            USER: "[DEFAULT]\nindex-url = https://default\n[global]\n[download]\nindex-url = https://no\n"
        },
        {},
    ),
    "an interpolation is none": ({USER: "[global]\nindex-url = https://u:%(x)s@h/%40\n"}, {}),
    "a file of its own replaces the user's": (
        {
            USER: "[global]\nindex-url = https://user\nfind-links = /user\n",
            "prefix": "[global]\nindex-url = https://site\ntrusted-host = site\n",
            "own": "[global]\nindex-url = https://own\n",
        },
        {"PIP_CONFIG_FILE": "{root}/own/pip.conf"},
    ),
    "a file of its own that is missing replaces nothing": (
        {USER: "[global]\nindex-url = https://user\n"},
        {"PIP_CONFIG_FILE": "{root}/gone/pip.conf"},
    ),
    "no files at all": (
        {USER: "[global]\nindex-url = https://user\n"},
        {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "/wheels"},
    ),
    "a configuration folder elsewhere": (
        {
            "elsewhere/pip": "[global]\nindex-url = https://elsewhere\n",
            USER: "[global]\nindex-url = https://user\n",
        },
        {"XDG_CONFIG_HOME": "{root}/elsewhere", "XDG_DATA_HOME": "{root}/elsewhere"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_files_and_variables_mean_what_they_mean_to_pip(machine: Machine, case: str) -> None:
    files, variables = CASES[case]
    for place, text in files.items():
        machine.write(place, text)
    for name, value in variables.items():
        machine.environ[name] = value.format(root=machine.root)
    assert_same_as_pip(machine)


def test_what_pip_config_list_says_is_what_counts(machine: Machine) -> None:
    machine.write(
        USER, "[install]\nextra-index-url =\n    https://a/simple\n    https://b/simple\n"
    )
    machine.environ.update(PIP_INDEX_URL="https://mirror/simple", PIP_NO_INDEX="off")
    listed = machine.run("-m", "pip", "config", "list").splitlines()
    assert r"install.extra-index-url='\nhttps://a/simple\nhttps://b/simple'" in listed
    assert ":env:.index-url='https://mirror/simple'" in listed
    config = machine.config()
    assert config.extra_index_url == ("https://a/simple", "https://b/simple")
    assert config.index_url == "https://mirror/simple"
    assert not config.no_index


def test_relative_folders_of_the_xdg_variables_are_ignored() -> None:
    paths = pip_config_paths(
        {"XDG_CONFIG_HOME": "config", "XDG_CONFIG_DIRS": "shared::/shared"},
        prefix="/venv",
        home="/home/me",
        platform="linux",
        present=lambda path: False,
    )
    assert paths == (
        "/shared/pip/pip.conf",
        "/etc/pip.conf",
        "/home/me/.pip/pip.conf",
        "/home/me/.config/pip/pip.conf",
        "/venv/pip.conf",
    )


def test_an_empty_value_takes_back_that_of_an_earlier_file_in_the_same_section() -> None:
    # As pip 26 does; older ones went on with the value of the earlier file.
    files = [
        ("one", "[global]\nindex-url = https://one\n[install]\nfind-links = /one\n"),
        ("two", "[global]\nindex-url =\nfind-links = /two\n[install]\nfind-links =\n"),
    ]
    assert parse_pip_config(files, {}) == PipConfig(find_links=("/two",))


def paths_on_macos(*existing: str, **environ: str) -> tuple[str, ...]:
    return pip_config_paths(
        environ, prefix="/venv", home="/Users/me", platform="darwin", present=existing.__contains__
    )


def test_macos_has_its_own_folders() -> None:
    shared = "/Library/Application Support/pip/pip.conf"
    own = "/Users/me/Library/Application Support/pip"
    legacy = "/Users/me/.pip/pip.conf"
    assert paths_on_macos() == (
        shared,
        legacy,
        "/Users/me/.config/pip/pip.conf",
        "/venv/pip.conf",
    )
    assert paths_on_macos(own) == (shared, legacy, f"{own}/pip.conf", "/venv/pip.conf")
    assert paths_on_macos("/data/pip", XDG_DATA_HOME="/data", XDG_DATA_DIRS="/a:/b") == (
        "/a/pip/pip.conf",
        "/b/pip/pip.conf",
        legacy,
        "/data/pip/pip.conf",
        "/venv/pip.conf",
    )


def test_a_file_named_twice_is_read_in_its_first_place() -> None:
    paths = pip_config_paths(
        {"PIP_CONFIG_FILE": "/etc/pip.conf"},
        prefix="/venv",
        home="/home/me",
        platform="linux",
        present={"/etc/pip.conf"}.__contains__,
    )
    assert paths == ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "/venv/pip.conf")


def test_relative_find_links_are_left_out_and_the_home_is_filled_in() -> None:
    links = {"PIP_FIND_LINKS": "wheels ./w ~/mine ~other/w /abs file:///f https://host/"}
    config = parse_pip_config([], {**links, "HOME": "/home/MAX/"})
    assert config.find_links == ("/home/MAX/mine", "/abs", "file:///f", "https://host/")
    assert parse_pip_config([], links).find_links == ("/abs", "file:///f", "https://host/")


def test_relative_constraints_are_left_out_and_those_that_must_be_fetched_are_named() -> None:
    variables = {"PIP_CONSTRAINT": "one.txt ~/two.txt /etc/three.txt https://u:pw@h/four.txt"}
    config = parse_pip_config([], {**variables, "HOME": "/home/me"})
    assert config.constraint == (
        "/home/me/two.txt",
        "/etc/three.txt",
        "https://u:pw@h/four.txt",
    )
    assert config.not_honoured == ("constraint of https://****@h/four.txt",)


def test_a_bound_of_time_is_handed_on_as_it_is() -> None:
    assert parse_pip_config([], {"PIP_UPLOADED_PRIOR_TO": "P3D"}).exclude_newer == "P3D"
    assert parse_pip_config([], {}).exclude_newer is None


@pytest.mark.parametrize("word", ["no", "0", "False", "OFF", "n", "f"])
def test_what_is_switched_off_is_not_named_as_not_honoured(word: str) -> None:
    assert parse_pip_config([], {"PIP_REQUIRE_HASHES": word}).not_honoured == ()


def test_formats_are_named_once_whether_by_commas_or_spaces() -> None:
    config = parse_pip_config([], {"PIP_NO_BINARY": "a,b a", "PIP_ONLY_BINARY": ":none:"})
    assert (config.no_binary, config.only_binary) == (("a", "b"), ())


def test_a_path_that_is_no_utf_8_has_a_url() -> None:
    assert file_url("/srv/\udcff/a+b") == "file:///srv/%FF/a%2Bb"


def test_an_index_that_is_a_directory_becomes_a_url() -> None:
    assert parse_pip_config([], {"PIP_INDEX_URL": "/srv/a b"}).index_url == "file:///srv/a%20b"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("index-url = https://u:hunter22@host\n", 1),
        ("[global]\nindex-url = https://u:hunter22@host\nhunter22\n", 3),
        ("[global]\nfind-links = /a\nfind-links = hunter22\n", 3),
        ("[global]\n[global]\n", 2),
    ],
)
def test_a_damaged_file_is_named_with_its_line_but_not_its_text(text: str, line: int) -> None:
    with pytest.raises(InvalidSource) as caught:
        parse_pip_config([("/etc/pip.conf", text)], {})
    assert (
        caught.value.message
        == f"pip's configuration file '/etc/pip.conf' is damaged in line {line}"
    )
    assert "hunter22" not in json.dumps(caught.value.to_dict())
    assert caught.value.__suppress_context__


def test_a_no_index_that_is_no_boolean_word_is_refused() -> None:
    with pytest.raises(InvalidSource, match="not a boolean for no-index"):
        parse_pip_config([("/etc/pip.conf", "[global]\nno-index = maybe\n")], {})


def test_another_word_that_is_no_boolean_is_refused_by_its_key() -> None:
    with pytest.raises(InvalidSource, match=r"not a boolean for pre$") as caught:
        parse_pip_config([], {"PIP_PRE": "maybe"})
    assert "yes, no" in (caught.value.hint or "")


@given(
    text=st.lists(
        st.sampled_from(["[global]", "[install]", "[", "]", "\n", " ", "=", ":", "#", "no-index"])
        | st.text(max_size=5),
        max_size=20,
    ).map("".join)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(parse_pip_config([("pip.conf", text)], {}), PipConfig)
    except InvalidSource as error:
        assert error.hint


def test_the_representation_shows_no_credentials() -> None:
    url = "https://user:hunter22@host/simple"
    variables = {"PIP_INDEX_URL": url, "PIP_EXTRA_INDEX_URL": url, "PIP_FIND_LINKS": url}
    config = parse_pip_config([], variables)
    assert (config.index_url, config.extra_index_url, config.find_links) == (url, (url,), (url,))
    assert "hunter22" not in repr(config)


KEYS = {
    "cert": "/etc/ca.pem",
    "client-cert": "/etc/me.pem",
    "proxy": "http://user:secret@proxy:3128",
    "timeout": "2.5",
    "retries": "7",
    "keyring-provider": "subprocess",
}


@pytest.mark.parametrize("way", ["file", "variable"])
def test_how_pip_reaches_indexes_is_set_in_variables_of_uv(way: str) -> None:
    text = "[global]\n" + "".join(f"{key} = {value}\n" for key, value in KEYS.items())
    variables = {f"PIP_{key.upper().replace('-', '_')}": value for key, value in KEYS.items()}
    config = (
        parse_pip_config([("/etc/pip.conf", text)], {})
        if way == "file"
        else parse_pip_config([], variables)
    )
    assert config.connection.uv_variables(keyring=False) == {
        "SSL_CERT_FILE": "/etc/ca.pem",
        "SSL_CLIENT_CERT": "/etc/me.pem",
        "HTTP_PROXY": KEYS["proxy"],
        "HTTPS_PROXY": KEYS["proxy"],
        "ALL_PROXY": KEYS["proxy"],
        "UV_HTTP_TIMEOUT": "2",
        "UV_HTTP_RETRIES": "7",
        "UV_KEYRING_PROVIDER": "subprocess",
    }
    assert "secret" not in repr(config)


@pytest.mark.parametrize(
    ("provider", "there", "asked"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("import", True, True),
        ("import", False, False),
        ("subprocess", False, True),
        ("disabled", True, False),
    ],
)
def test_a_keyring_that_pip_would_find_is_asked_by_its_program(
    provider: str, there: bool, asked: bool
) -> None:
    config = parse_pip_config([], {"PIP_KEYRING_PROVIDER": provider})
    variables = config.connection.uv_variables(keyring=there)
    assert variables == ({"UV_KEYRING_PROVIDER": "subprocess"} if asked else {})


def test_where_pip_says_nothing_of_connections_uv_hears_nothing() -> None:
    assert parse_pip_config([], {}).connection.uv_variables(keyring=True) == {}


@pytest.mark.parametrize(
    ("key", "said", "heard"),
    [
        ("timeout", "0.2", "1"),
        ("timeout", "1.6", "2"),
        ("timeout", "never", None),
        ("timeout", "inf", None),
        ("default-timeout", "30", "30"),
        ("retries", "0", "0"),
        ("retries", "-1", "0"),
        ("retries", "three", None),
    ],
)
def test_uv_hears_whole_numbers_where_pip_has_any_and_waits_a_second_at_least(
    key: str, said: str, heard: str | None
) -> None:
    connection = parse_pip_config([("pip.conf", f"[global]\n{key} = {said}\n")], {}).connection
    assert (connection.timeout or connection.retries) == heard


def test_a_timeout_counts_before_the_default_one() -> None:
    text = "[global]\ndefault-timeout = 30\ntimeout = 5\n"
    assert parse_pip_config([("pip.conf", text)], {}).connection.timeout == "5"


def test_what_pip_may_choose_is_read_and_what_has_no_counterpart_is_named() -> None:
    variables = {
        "PIP_PRE": "1",
        "PIP_NO_BINARY": "a,:none:,b",
        "PIP_ONLY_BINARY": ":all:",
        "PIP_CONSTRAINT": "/etc/one.txt https://user:pw@host/two.txt",
        "PIP_REQUIRE_HASHES": "yes",
        "PIP_NO_DEPS": "no",
        "PIP_PREFER_BINARY": "1",
    }
    config = parse_pip_config([], variables)
    assert (config.pre, config.no_binary, config.only_binary) == (True, ("b",), (":all:",))
    assert config.constraint[0] == "/etc/one.txt"
    named = " ".join(config.not_honoured)
    assert "require-hashes" in named and "prefer-binary" in named and "no-deps" not in named
    assert "two.txt" in named and "pw" not in named
