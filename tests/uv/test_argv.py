from __future__ import annotations

import itertools
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv.planning.sources import PackageSources
from xinference_venv.uv import argv
from xinference_venv.uv.argv import ResolutionFiles, UvCommand, scrubbed_environment
from xinference_venv.uv.messages import LOG_OF_RESOLVER

SECRET_INDEX = "https://user:secretpw@index.example/simple"
SECRET_EXTRA = "https://token123@extra.example/simple"
SOURCES = PackageSources(
    index_url=SECRET_INDEX,
    extra_index_urls=(SECRET_EXTRA, "https://plain.example/simple"),
    find_links=("/wheels", "https://user:secretpw@links.example/wheels"),
    trusted_hosts=("index.example", "extra.example:8443"),
    index_strategy="unsafe-best-match",
    no_build_isolation=True,
    torch_backend="cu128",
)


FILES = ResolutionFiles(requirements="/s/requirements.txt", constraints="/s/constraints.txt")


def resolve(sources: PackageSources = SOURCES, **changes: Any) -> UvCommand:
    given: dict[str, Any] = {
        "files": FILES,
        "output": "/s/pylock.toml",
        "python": "/usr/bin/python3.11",
        **changes,
    }
    return argv.resolve(sources=sources, **given)


LOG = {"RUST_LOG": LOG_OF_RESOLVER}


def install(sources: PackageSources = SOURCES, **changes: Any) -> UvCommand:
    return argv.install(
        lock="/s/pylock.toml", python="/s/env/bin/python", sources=sources, **changes
    )


def build(sources: PackageSources = SOURCES, **changes: Any) -> UvCommand:
    return argv.build(
        lock="/s/pylock.sources.toml", python="/s/build/bin/python", sources=sources, **changes
    )


def values_of(option: str, made: UvCommand) -> list[str]:
    return [value for name, value in itertools.pairwise(made.arguments) if name == option]


EVERY = [
    resolve(),
    resolve(of_host_alone=True),
    resolve(PackageSources(no_index=True), allow_source_builds=False),
    install(),
    install(PackageSources(), allow_source_builds=False),
    build(cache="/s/cache"),
    argv.make_venv(path="/s/env", python="/usr/bin/python3.11"),
    argv.python_list(),
    argv.python_install("3.12"),
    argv.look_up(install()),
    argv.prune_cache(),
]


@pytest.mark.parametrize("made", EVERY)
def test_no_command_reads_a_configuration_that_is_not_ours(made: UvCommand) -> None:
    assert "--no-config" in made.arguments


@pytest.mark.parametrize("made", [*EVERY, argv.version()])
def test_no_credential_stands_in_an_argument_vector(made: UvCommand) -> None:
    assert not [each for each in made.arguments if "secretpw" in each or "token123" in each]


def test_only_downloading_an_interpreter_may_download_one() -> None:
    for made in (resolve(), install(), argv.python_list()):
        assert "--no-python-downloads" in made.arguments
    assert "--no-python-downloads" not in argv.python_install("3.12").arguments


def test_the_commands_are_these() -> None:
    assert argv.version().arguments == ("--version",)
    assert argv.python_list().arguments[:2] == ("python", "list")
    assert values_of("--output-format", argv.python_list()) == ["json"]
    assert argv.python_install("3.12").arguments[:3] == ("python", "install", "3.12")
    made = argv.make_venv(path="/s/env", python="/usr/bin/python3.11")
    assert made.arguments[:2] == ("venv", "/s/env")
    assert "--relocatable" in made.arguments
    assert values_of("--python", made) == ["/usr/bin/python3.11"]


def test_a_resolution_writes_a_lock_file_of_pep_751() -> None:
    made = resolve()
    assert made.arguments[:3] == ("pip", "compile", "/s/requirements.txt")
    assert values_of("--format", made) == ["pylock.toml"]
    assert values_of("--output-file", made) == ["/s/pylock.toml"]
    assert values_of("--python", made) == ["/usr/bin/python3.11"]


def test_the_sources_become_arguments_and_indexes_a_configuration() -> None:
    made = resolve(secrets=frozenset({"secretpw"}))
    assert values_of("--allow-insecure-host", made) == ["index.example", "extra.example:8443"]
    assert values_of("--index-strategy", made) == ["unsafe-best-match"]
    assert values_of("--torch-backend", made) == ["cu128"]
    assert "--no-build-isolation" in made.arguments
    assert made.environment == LOG
    assert tomllib.loads(made.configuration) == {
        "index": [
            {"url": SECRET_EXTRA},
            {"url": "https://plain.example/simple"},
            {"url": SECRET_INDEX, "default": True},
        ]
    }
    assert made.secrets == {"secretpw"}


def test_sources_that_say_nothing_leave_all_to_uv() -> None:
    made = resolve(PackageSources())
    assert (made.environment, made.configuration) == (LOG, "")
    for option in ("--no-index", "--allow-insecure-host", "--index-strategy", "--torch-backend"):
        assert option not in made.arguments
    for option in ("--no-build-isolation", "--find-links", "--only-binary"):
        assert option not in made.arguments


def test_of_the_host_alone_no_request_can_leave_the_machine() -> None:
    made = resolve(of_host_alone=True)
    assert made.environment == LOG
    assert "--no-index" in made.arguments
    assert "--torch-backend" not in made.arguments


def test_without_an_index_none_is_asked() -> None:
    made = resolve(PackageSources(no_index=True))
    assert made.arguments.count("--no-index") == 1
    assert made.environment == LOG


def test_the_files_of_a_resolution_and_a_ban_on_sources_are_passed_on() -> None:
    files = ResolutionFiles(
        requirements="/r", constraints="/c", overrides="/o", excludes="/e", build_constraints="/b"
    )
    made = resolve(files=files, allow_source_builds=False)
    assert made.arguments[:3] == ("pip", "compile", "/r")
    assert values_of("--constraints", made) == ["/c"]
    assert values_of("--overrides", made) == ["/o"]
    assert values_of("--excludes", made) == ["/e"]
    assert values_of("--build-constraints", made) == ["/b"]
    assert values_of("--build-constraints", build(build_constraints="/b")) == ["/b"]
    assert "--overrides" not in resolve().arguments
    assert values_of("--only-binary", made) == [":all:"]
    assert values_of("--only-binary", install(allow_source_builds=False)) == [":all:"]


def test_an_install_takes_the_lock_alone() -> None:
    made = install(secrets=frozenset({"secretpw"}))
    assert made.arguments[:2] == ("pip", "install")
    assert values_of("--requirements", made) == ["/s/pylock.toml"]
    assert values_of("--python", made) == ["/s/env/bin/python"]
    assert values_of("--allow-insecure-host", made) == ["index.example", "extra.example:8443"]
    assert made.secrets == {"secretpw"}


AMBIENT = {
    "HOME": "/home/someone",
    "PATH": "/usr/bin:/home/someone/.pyenv/shims:/bin",
    "HTTPS_PROXY": "http://proxy.example:3128",
    "SSL_CERT_FILE": "/etc/ssl/certs.pem",
    "CC": "gcc",
    "UV_HTTP_TIMEOUT": "60",
    "UV_INDEX": "https://elsewhere.example/simple",
    "UV_CACHE_DIR": "/elsewhere",
    "UV_CONSTRAINT": "/constraints.txt",
    "UV_EXCLUDE_NEWER": "2020-01-01",
    "PIP_INDEX_URL": "https://elsewhere.example/simple",
    "PYTHONPATH": "/elsewhere",
    "PYTHONHOME": "/elsewhere",
    "CONDA_PREFIX": "/conda",
    "VIRTUAL_ENV": "/elsewhere",
    "XOSCAR_AUTH_KEY": "a key",
}


def test_what_changes_a_resolution_is_dropped_and_what_reaches_the_network_stays() -> None:
    kept = scrubbed_environment(AMBIENT, cache_dir="/cache", python_directories=["/pyenv/3.12/bin"])
    assert kept == {
        "HOME": "/home/someone",
        "PATH": "/usr/bin:/bin:/pyenv/3.12/bin",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "SSL_CERT_FILE": "/etc/ssl/certs.pem",
        "CC": "gcc",
        "UV_HTTP_TIMEOUT": "60",
        "UV_CACHE_DIR": "/cache",
        "NO_COLOR": "1",
    }


def test_without_a_cache_uv_has_its_own() -> None:
    assert "UV_CACHE_DIR" not in scrubbed_environment(AMBIENT, cache_dir=None)


@pytest.mark.parametrize("path", [None, "", ":", "/usr/bin::", ":/usr/bin"])
def test_the_working_directory_is_never_on_the_search_path(path: str | None) -> None:
    environ = {} if path is None else {"PATH": path}
    kept = scrubbed_environment(environ, cache_dir=None, python_directories=["/pyenv/bin"])
    assert "" not in kept["PATH"].split(":")


@given(
    st.dictionaries(
        st.sampled_from(["UV_", "PIP_", "PYTHON", "CONDA_", "OTHER_"]).flatmap(
            lambda prefix: st.from_regex("[A-Z]{1,6}", fullmatch=True).map(lambda s: prefix + s)
        ),
        st.text(max_size=3),
    )
)
def test_no_variable_of_an_installer_is_passed_on(environ: dict[str, str]) -> None:
    kept = scrubbed_environment(environ, cache_dir=None)
    assert kept.keys() - {"PATH", "NO_COLOR"} == {name for name in environ if "OTHER_" in name}


def test_what_is_built_is_linked_to_the_cache() -> None:
    assert values_of("--link-mode", build()) == ["symlink"]
    assert values_of("--cache-dir", build()) == []
    assert values_of("--cache-dir", build(cache="/s/cache")) == ["/s/cache"]
    assert build().secrets == install().secrets
    assert "--only-binary" not in build().arguments


def test_of_some_no_source_is_taken() -> None:
    assert values_of("--only-binary", resolve(wheels=["a", "b"])) == ["a", "b"]
    assert values_of("--only-binary", resolve(allow_source_builds=False)) == [":all:"]
    assert "--only-binary" not in resolve().arguments


def test_what_an_install_would_fetch_is_asked_without_network_and_nothing_is_installed() -> None:
    made = argv.look_up(install())
    assert made.arguments[: len(install().arguments)] == install().arguments
    assert set(made.arguments[-3:]) == {"--dry-run", "--offline", "--verbose"}
    assert (made.environment, made.secrets) == (install().environment, install().secrets)


def test_a_cache_is_pruned_and_never_cleaned() -> None:
    assert argv.prune_cache().arguments[:2] == ("cache", "prune")
