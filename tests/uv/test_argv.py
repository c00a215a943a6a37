from __future__ import annotations

import itertools
import tomllib
from typing import Any

import pytest

from xinference_venv.planning.sources import PackageSources
from xinference_venv.planning.uv_files import IndexSettings
from xinference_venv.uv import argv
from xinference_venv.uv.argv import ResolutionFiles, UvCommand
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
    settings: IndexSettings = {
        "https://index.example/simple": {"authenticate": "always", "ignore-error-codes": [403]},
        "https://plain.example/simple": {"cache-control": {"api": "max-age=600"}},
        "https://other.example/simple": {"format": "flat"},
    }
    assert tomllib.loads(made.configuration(settings)) == {
        "index": [
            {"url": SECRET_EXTRA},
            {
                "url": "https://plain.example/simple",
                "cache-control": {"api": "max-age=600"},
            },
            {
                "url": SECRET_INDEX,
                "default": True,
                "authenticate": "always",
                "ignore-error-codes": [403],
            },
        ]
    }
    assert made.secrets == {"secretpw"}
    again = tomllib.loads(resolve(refresh=True).configuration(settings))["index"]
    assert again[1] == {"url": "https://plain.example/simple"}
    assert again[2]["authenticate"] == "always"


def test_sources_that_say_nothing_leave_all_to_uv() -> None:
    made = resolve(PackageSources())
    assert (made.environment, made.configuration({})) == (LOG, "")
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
