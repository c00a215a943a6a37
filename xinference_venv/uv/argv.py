"""Argument vectors for uv, as data: nothing is run here.

Ambient configuration changes uv's results, so every command says `--no-config` and runs in the
environment of `scrubbed_environment`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import tomli_w

from xinference_venv.planning.pip_config import file_url
from xinference_venv.planning.pylock import strip_credentials
from xinference_venv.planning.sources import PackageSources
from xinference_venv.planning.uv_files import IndexSettings, index_key
from xinference_venv.uv.messages import LOG_OF_RESOLVER

# Commands of uv that have commands of their own.
_GROUPS = (("cache",), ("pip",), ("python",))
_REFRESH = "--refresh"


@dataclass(frozen=True, kw_only=True, slots=True)
class UvCommand:
    """A uv command without the program itself; `secrets` must never be shown.

    `indexes`, in the terms of a uv.toml, go by one that takes the place of ``--no-config``:
    everybody on a host can read argument vectors, and what uv builds has its environment.
    """

    arguments: tuple[str, ...]
    indexes: tuple[Mapping[str, str | bool], ...] = field(default=(), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()

    def configuration(self, settings: IndexSettings) -> str:
        """The text of the uv.toml, with the settings of its indexes; empty without any."""
        tables = []
        for index in self.indexes:
            table = {**settings.get(index_key(str(index["url"])), {}), **index}
            if _REFRESH in self.arguments:
                # It counts before the option: uv would take what it has.
                table.pop("cache-control", None)
            tables.append(table)
        return tomli_w.dumps({"index": tables}) if tables else ""

    @property
    def name(self) -> str:
        """What uv is to do, without any argument: ``pip install``, ``venv``."""
        words = self.arguments[:2] if self.arguments[:1] in _GROUPS else self.arguments[:1]
        return " ".join(words).lstrip("-")


def version() -> UvCommand:
    """Print uv's version."""
    return UvCommand(arguments=("--version",))


def python_list() -> UvCommand:
    """Print the interpreters of this host as JSON."""
    return UvCommand(
        arguments=(
            *("python", "list", "--only-installed", "--no-config", "--no-python-downloads"),
            *("--output-format", "json"),
        )
    )


def python_install(wanted: str) -> UvCommand:
    """Download and install an interpreter."""
    return UvCommand(arguments=("python", "install", wanted, "--no-config", "--no-bin"))


def make_venv(*, path: str, python: str) -> UvCommand:
    """Make an empty environment that can be renamed."""
    return UvCommand(
        arguments=("venv", path, "--relocatable", "--python", python, "--no-config", "--no-project")
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolutionFiles:
    """Paths of the files that a resolution reads; None for what there is not.

    `requirements` names the find-links, too. What is in `constraints`, of the host's stubs by
    their URLs among others, counts for what is resolved and never for what a build needs.
    """

    requirements: str
    constraints: str | None = None
    overrides: str | None = None
    excludes: str | None = None
    build_constraints: str | None = None

    def arguments(self) -> list[str]:
        """The options that name the files."""
        options = {
            "--constraints": self.constraints,
            "--overrides": self.overrides,
            "--excludes": self.excludes,
            "--build-constraints": self.build_constraints,
        }
        return [word for name, path in options.items() if path is not None for word in (name, path)]


def resolve(
    *,
    files: ResolutionFiles,
    output: str,
    python: str,
    sources: PackageSources,
    of_host_alone: bool = False,
    allow_source_builds: bool = True,
    wheels: Sequence[str] = (),
    dependencies: bool = True,
    refresh: bool = False,
    secrets: frozenset[str] = frozenset(),
) -> UvCommand:
    """Resolve a requirements file into a PEP 751 lock file, and say what requires what.

    With `of_host_alone` no index is asked and no request leaves the machine. An existing
    `output` gives preferences. Of what is named in `wheels` no source is taken. Without
    `dependencies` only what the files name is resolved. With `refresh` an index is asked again even
    if its last answer still holds.
    """
    arguments = [
        *("pip", "compile", files.requirements, "--format", "pylock.toml", "--output-file", output),
        *("--python", python, "--no-config", "--no-header", "--no-annotate", "--no-progress"),
        *("--no-python-downloads", *files.arguments()),
        *(argument for name in wheels for argument in ("--only-binary", name)),
    ]
    arguments += ["--no-index"] if of_host_alone else _source_arguments(sources)
    if not allow_source_builds:
        arguments += ["--only-binary", ":all:"]
    if not dependencies:
        arguments += ["--no-deps"]
    if sources.no_build_isolation:
        arguments += ["--no-build-isolation"]
    if refresh:
        arguments += [_REFRESH]
    return UvCommand(
        arguments=tuple(arguments),
        indexes=() if of_host_alone else _indexes(sources),
        environment={"RUST_LOG": LOG_OF_RESOLVER},
        secrets=secrets,
    )


def install(
    *,
    lock: str,
    python: str,
    sources: PackageSources,
    allow_source_builds: bool = True,
    build_constraints: str | None = None,
    cache: str | None = None,
    secrets: frozenset[str] = frozenset(),
) -> UvCommand:
    """Install exactly a PEP 751 lock file, hashes checked, nothing resolved.

    The sources serve what a source distribution needs for being built, within the
    `build_constraints` (a file's path). `cache` is a folder to take instead of uv's own.
    """
    arguments = [
        *("pip", "install", "--requirements", lock, "--python", python, "--no-config"),
        *("--preview-features", "pylock", "--no-python-downloads"),
        *_find_links_arguments(sources),
        *_source_arguments(sources),
    ]
    if not allow_source_builds:
        arguments += ["--only-binary", ":all:"]
    if sources.no_build_isolation:
        arguments += ["--no-build-isolation"]
    if build_constraints is not None:
        arguments += ["--build-constraints", build_constraints]
    if cache is not None:
        arguments += ["--cache-dir", cache]
    return UvCommand(arguments=tuple(arguments), indexes=_indexes(sources), secrets=secrets)


def build(
    *,
    lock: str,
    python: str,
    sources: PackageSources,
    build_constraints: str | None = None,
    cache: str | None = None,
    secrets: frozenset[str] = frozenset(),
) -> UvCommand:
    """Install the sources of a PEP 751 lock file as links into uv's cache.

    There the wheels that uv builds of them stay; `cache` is a folder to take instead of uv's own.
    """
    made = install(
        lock=lock,
        python=python,
        sources=sources,
        build_constraints=build_constraints,
        cache=cache,
        secrets=secrets,
    )
    return replace(made, arguments=(*made.arguments, "--link-mode", "symlink"))


def build_folder(
    *,
    folder: str,
    output: str,
    python: str,
    sources: PackageSources,
    build_constraints: str | None = None,
    secrets: frozenset[str] = frozenset(),
) -> UvCommand:
    """Build the wheel of a folder of sources into the folder `output`."""
    arguments = [
        *("build", folder, "--wheel", "--out-dir", output, "--python", python),
        *("--no-config", "--no-python-downloads", "--no-create-gitignore"),
        *_find_links_arguments(sources),
        *_source_arguments(sources),
    ]
    if sources.no_build_isolation:
        arguments += ["--no-build-isolation"]
    if build_constraints is not None:
        arguments += ["--build-constraints", build_constraints]
    return UvCommand(arguments=tuple(arguments), indexes=_indexes(sources), secrets=secrets)


def look_up(made: UvCommand) -> UvCommand:
    """Say instead of an install what of it is not in uv's cache; no request leaves the machine."""
    return replace(made, arguments=(*made.arguments, "--dry-run", "--offline", "--verbose"))


def prune_cache() -> UvCommand:
    """Delete from uv's cache what nothing refers to any more."""
    return UvCommand(arguments=("cache", "prune", "--no-config"))


def find_links_url(place: str) -> str:
    """A find-links place, an absolute path or a URL, as a URL that uv takes as it stands.

    In a path uv would end the folder's name at a ``#``, and in a requirements file at a blank;
    there it would also fill in ``${NAME}`` from the environment, and so tell it to an index.
    """
    url = file_url(place) if place.startswith("/") else place
    return url.replace("{", "%7B").replace("}", "%7D")


def _indexes(sources: PackageSources) -> tuple[Mapping[str, str | bool], ...]:
    extra = tuple({"url": url} for url in sources.extra_index_urls)
    if sources.index_url is None:
        return extra
    return (*extra, {"url": sources.index_url, "default": True})


def _find_links_arguments(sources: PackageSources) -> list[str]:
    # One with credentials would be shown to everybody on the host; its wheels are locked.
    shown = (place for place in sources.find_links if strip_credentials(place) == place)
    return [word for place in shown for word in ("--find-links", find_links_url(place))]


def _source_arguments(sources: PackageSources) -> list[str]:
    arguments: list[str] = []
    if sources.no_index:
        arguments += ["--no-index"]
    for host in sources.trusted_hosts:
        arguments += ["--allow-insecure-host", host]
    if sources.index_strategy is not None:
        arguments += ["--index-strategy", sources.index_strategy]
    if sources.torch_backend is not None:
        arguments += ["--torch-backend", sources.torch_backend]
    if sources.prerelease:
        arguments += ["--prerelease", "allow"]
    if sources.exclude_newer is not None:
        arguments += ["--exclude-newer", sources.exclude_newer]
    for name in sources.no_binary:
        arguments += ["--no-binary", name]
    for name in sources.only_binary:
        arguments += ["--only-binary", name]
    return arguments
