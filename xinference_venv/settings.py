"""The settings of a process, read once from its environment variables at the edge.

In comes a mapping of environment variables, out goes a `Settings` that is passed on as an
argument; no other module of the package reads a variable of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, TypeVar

from xinference_venv._util.humanize import parse_duration, parse_size, quoted
from xinference_venv._util.names import check_distribution_names, check_version_bounds
from xinference_venv.errors import InvalidInput, InvalidName, InvalidRequirement
from xinference_venv.sentences import sentence

WIRE_KEY_VARIABLE = "XOSCAR_AUTH_KEY"
"""xoscar's variable for the key that signs what actors say to each other."""
ALLOWED_ROOTS_VARIABLE = "XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS"
DEFAULT_MAX_AGE_GAP = 180 * 24 * 3600.0
# For so long uv does not ask PyPI again either.
DEFAULT_RESOLUTION_MAX_AGE = 600.0
# A large engine with torch for CUDA is about 5 GB of wheels.
DEFAULT_RELAY_BYTES = 10_000_000_000
ALLOWED_HOSTS_VARIABLE = "XINFERENCE_VIRTUAL_ENV_ALLOWED_HOSTS"
_T = TypeVar("_T")
_Choice = TypeVar("_Choice", bound=StrEnum)

_TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
_FALSE_WORDS = frozenset({"0", "false", "no", "off"})
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|[0-9a-f:.]+")
_CUDA_VERSION = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){1,2}")
_TORCH_BACKEND = re.compile(r"cpu|cu[0-9]{2,3}|none")
_CUDA_ARCHITECTURE = re.compile(r"sm_[0-9]{2,3}[a-z]?")


class InheritMode(StrEnum):
    """How much of the host's packages a process in the environment sees."""

    HOST = "host"
    """All distributions of the host but those that the environment hides."""
    EXACT = "exact"
    """Only those that the lock names as inherited, and what must always be importable."""
    NONE = "none"
    """None: the environment stands alone."""


class ViewKind(StrEnum):
    """What the packages of an environment are."""

    LINKS = "links"
    """One link for each name that can be imported, into packages that all environments share."""
    FILES = "files"
    """Files of its own, for a model that writes into its packages."""


class RelayMode(StrEnum):
    """Which wheels a worker gets through another worker of its cluster."""

    AUTO = "auto"
    """What it can't fetch itself."""
    ON = "on"
    """All of them, so that each crosses the link to its index once for the cluster."""
    OFF = "off"
    """None, and it fetches nothing for others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the operator of a host decided, defaults filled in; all paths are absolute."""

    home: str
    """``XINFERENCE_HOME``."""
    enable_virtual_env: bool
    """``XINFERENCE_ENABLE_VIRTUAL_ENV``: what counts where a launch says nothing."""
    skip_installed: bool
    """``XINFERENCE_VIRTUAL_ENV_SKIP_INSTALLED``: inherit what the host has."""
    offline_install: bool
    """``XINFERENCE_VIRTUAL_ENV_OFFLINE_INSTALL``: never ask a public index."""
    find_links_allowed_roots: tuple[str, ...]
    """``XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS``, separated by colons or commas."""
    allowed_hosts: tuple[str, ...]
    """``XINFERENCE_VIRTUAL_ENV_ALLOWED_HOSTS``, separated by commas: the only hosts whose indexes,
    find-links, archives and repositories a request may name. Empty: not restricted."""
    uv_path: str | None
    """``XOSCAR_UV_PATH``: the uv to use instead of the one that was installed with us."""
    uv_cache_dir: str | None
    """``UV_CACHE_DIR``."""
    uv_processes: int
    """``XINFERENCE_VIRTUAL_ENV_UV_PROCESSES``: so many uv run at once at most."""
    build_timeout: int
    """``XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT``: seconds that one process of uv may take, and that a
    launch waits for another one of its key."""
    patience: int
    """``XINFERENCE_VIRTUAL_ENV_PATIENCE``: seconds without progress after which a process ends."""
    inherit: InheritMode
    """``XINFERENCE_VIRTUAL_ENV_INHERIT``: what counts where a launch says nothing."""
    view: ViewKind
    """``XINFERENCE_VIRTUAL_ENV_VIEW``: what counts where neither a launch nor its model says."""
    must_import: tuple[str, ...]
    """``XINFERENCE_VIRTUAL_ENV_MUST_IMPORT``, separated by commas: distributions that every
    model process must be able to import."""
    must_import_alone: tuple[str, ...]
    """``XINFERENCE_VIRTUAL_ENV_MUST_IMPORT_ALONE``: those that it must be able to import
    whatever becomes of their own requirements."""
    max_bytes: int | None
    """``XINFERENCE_VIRTUAL_ENV_MAX_BYTES``: what all environments may take together."""
    max_unused: float | None
    """``XINFERENCE_VIRTUAL_ENV_MAX_UNUSED``: seconds after which one that is not launched goes."""
    allow_source_builds: bool
    """``XINFERENCE_VIRTUAL_ENV_ALLOW_SOURCES``."""
    prove_imports: bool
    """``XINFERENCE_VIRTUAL_ENV_PROOF``: what is compiled against the host's packages must be
    importable next to them."""
    max_age_gap: float
    """``XINFERENCE_VIRTUAL_ENV_MAX_AGE_GAP``: seconds that what is asked for may be older at most,
    for the sake of the host's packages, than it would be without them."""
    resolution_max_age: float
    """``XINFERENCE_VIRTUAL_ENV_RESOLUTION_MAX_AGE``: seconds for which an equal request gets the
    lock of an earlier resolution, without asking an index."""
    constraints: tuple[str, ...]
    """``XINFERENCE_VIRTUAL_ENV_CONSTRAINTS``, separated by white space: versions that whatever is
    resolved must have, like ``numpy<3``."""
    overrides: tuple[str, ...]
    """``XINFERENCE_VIRTUAL_ENV_OVERRIDES``: requirements that replace all others of their names."""
    exclude: tuple[str, ...]
    """``XINFERENCE_VIRTUAL_ENV_EXCLUDE``, separated by commas: distributions never installed."""
    build_constraints: tuple[str, ...]
    """``XINFERENCE_VIRTUAL_ENV_BUILD_CONSTRAINTS``: versions that builds must use."""
    relay: RelayMode
    """``XINFERENCE_VIRTUAL_ENV_RELAY``: which wheels come through another worker."""
    relay_max_bytes: int
    """``XINFERENCE_VIRTUAL_ENV_RELAY_MAX_BYTES``: what wheels that were fetched for others may
    take."""
    python_downloads: bool
    """``XINFERENCE_VIRTUAL_ENV_PYTHON_DOWNLOADS``: uv may download an interpreter."""
    spec_dir: str
    """``XINFERENCE_VIRTUAL_ENV_SPEC_DIR``: the folder of the users' own model specs."""
    host_python: str | None
    """``XINFERENCE_VIRTUAL_ENV_HOST_PYTHON``: the interpreter to inherit from, else our own."""
    torch_backend: str | None
    """``XINFERENCE_VIRTUAL_ENV_TORCH_BACKEND``: the build of torch, like ``cu128``, where the host
    has no torch to follow; ``none`` for that of the index itself."""
    cuda_version: str | None
    """``XINFERENCE_VIRTUAL_ENV_CUDA_VERSION``, like ``12.8``: plan as if the host had it."""
    cuda_arch: str | None
    """``XINFERENCE_VIRTUAL_ENV_CUDA_ARCH``, like ``sm_90``: plan as if the host had it."""
    has_npu: bool | None
    """``XINFERENCE_VIRTUAL_ENV_HAS_NPU``: plan as if the host had one, or had none."""

    @property
    def virtualenv_dir(self) -> str:
        """The folder that the store lives under."""
        return _virtualenv_dir(self.home)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, home_directory: str | None) -> Self:
        """Read the variables; one that is empty counts as not set.

        ``home_directory`` is the user's, None for one who has none that may be written to.
        Raises `InvalidInput`, naming the variable, its value and what is allowed.
        """
        read = _Variables(environ=environ)
        home = read.path("XINFERENCE_HOME") or _default_home(home_directory)
        option = "XINFERENCE_VIRTUAL_ENV_"
        age_gap = read.parsed(f"{option}MAX_AGE_GAP", parse_duration, "durations like 180d or 0s")
        recent = read.parsed(
            f"{option}RESOLUTION_MAX_AGE", parse_duration, "durations like 600s or 1h"
        )
        relay_bytes = read.parsed(f"{option}RELAY_MAX_BYTES", parse_size, "sizes like 20GB or 8GiB")
        return cls(
            home=home,
            enable_virtual_env=read.boolean("XINFERENCE_ENABLE_VIRTUAL_ENV") is not False,
            skip_installed=read.boolean(f"{option}SKIP_INSTALLED") is not False,
            offline_install=read.boolean(f"{option}OFFLINE_INSTALL") is True,
            find_links_allowed_roots=read.paths(ALLOWED_ROOTS_VARIABLE),
            allowed_hosts=read.hosts(ALLOWED_HOSTS_VARIABLE),
            uv_path=read.path("XOSCAR_UV_PATH"),
            uv_cache_dir=read.path("UV_CACHE_DIR"),
            uv_processes=read.integer(f"{option}UV_PROCESSES", default=5, maximum=64),
            build_timeout=read.integer(f"{option}BUILD_TIMEOUT", default=3600, maximum=604_800),
            patience=read.integer(f"{option}PATIENCE", default=120, maximum=604_800),
            inherit=read.choice(f"{option}INHERIT", InheritMode) or InheritMode.HOST,
            view=read.choice(f"{option}VIEW", ViewKind) or ViewKind.LINKS,
            must_import=read.names(f"{option}MUST_IMPORT"),
            must_import_alone=read.names(f"{option}MUST_IMPORT_ALONE"),
            max_bytes=read.parsed(f"{option}MAX_BYTES", parse_size, "sizes like 500GB or 20GiB"),
            max_unused=read.parsed(
                f"{option}MAX_UNUSED", parse_duration, "durations like 30d or 12h"
            ),
            allow_source_builds=read.boolean(f"{option}ALLOW_SOURCES") is not False,
            prove_imports=read.boolean(f"{option}PROOF") is not False,
            max_age_gap=DEFAULT_MAX_AGE_GAP if age_gap is None else age_gap,
            resolution_max_age=DEFAULT_RESOLUTION_MAX_AGE if recent is None else recent,
            constraints=read.bounds(f"{option}CONSTRAINTS"),
            overrides=read.bounds(f"{option}OVERRIDES"),
            exclude=read.names(f"{option}EXCLUDE"),
            build_constraints=read.bounds(f"{option}BUILD_CONSTRAINTS"),
            relay=read.choice(f"{option}RELAY", RelayMode) or RelayMode.AUTO,
            relay_max_bytes=DEFAULT_RELAY_BYTES if relay_bytes is None else relay_bytes,
            python_downloads=read.boolean(f"{option}PYTHON_DOWNLOADS") is True,
            spec_dir=read.path(f"{option}SPEC_DIR") or f"{_virtualenv_dir(home)}/models",
            host_python=read.path(f"{option}HOST_PYTHON"),
            torch_backend=read.matching(
                f"{option}TORCH_BACKEND", _TORCH_BACKEND, "cpu, builds like cu128, or none"
            ),
            cuda_version=read.matching(
                f"{option}CUDA_VERSION", _CUDA_VERSION, "a version like 12.8"
            ),
            cuda_arch=read.matching(
                f"{option}CUDA_ARCH", _CUDA_ARCHITECTURE, "an architecture like sm_90"
            ),
            has_npu=read.boolean(f"{option}HAS_NPU"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Variables:
    """Typed reading of environment variables; None for one that is not set or is empty."""

    environ: Mapping[str, str]

    def text(self, name: str) -> str | None:
        return self.environ.get(name, "").strip() or None

    def boolean(self, name: str) -> bool | None:
        value = self.text(name)
        if value is None:
            return None
        if value.lower() in _TRUE_WORDS | _FALSE_WORDS:
            return value.lower() in _TRUE_WORDS
        raise _invalid(name, value, sentence("1, 0, true, false, yes, no, on and off"))

    def integer(self, name: str, *, default: int, maximum: int) -> int:
        value = self.text(name)
        if value is None:
            return default
        if value.isascii() and value.isdigit() and len(value) <= 9 and 1 <= int(value) <= maximum:
            return int(value)
        raise _invalid(name, value, sentence("whole numbers from 1 to {maximum}", maximum=maximum))

    def path(self, name: str) -> str | None:
        value = self.text(name)
        return None if value is None else _absolute(name, value)

    def paths(self, name: str) -> tuple[str, ...]:
        entries = re.split("[:,]", self.text(name) or "")
        return tuple(_absolute(name, entry.strip()) for entry in entries if entry.strip())

    def hosts(self, name: str) -> tuple[str, ...]:
        value = self.text(name) or ""
        found = tuple(each.strip().lower() for each in value.split(",") if each.strip())
        if all(_HOST.fullmatch(each) for each in found):
            return found
        raise _invalid(name, value, sentence("names or addresses of hosts, separated by commas"))

    def names(self, name: str) -> tuple[str, ...]:
        value = self.text(name) or ""
        try:
            return check_distribution_names(filter(None, re.split(r"[,\s]+", value)))
        except InvalidName as error:
            raise _invalid(
                name, value, sentence("names of distributions, separated by commas")
            ) from error

    def bounds(self, name: str) -> tuple[str, ...]:
        value = self.text(name) or ""
        try:
            return check_version_bounds(value.split())
        except InvalidRequirement:
            allowed = "names with versions and without spaces, like numpy<3 setuptools<81"
            raise _invalid(name, value, allowed) from None

    def matching(self, name: str, pattern: re.Pattern[str], allowed: str) -> str | None:
        value = self.text(name)
        if value is None or pattern.fullmatch(value):
            return value
        raise _invalid(name, value, allowed)

    def parsed(self, name: str, parse: Callable[[str], _T], allowed: str) -> _T | None:
        value = self.text(name)
        try:
            return None if value is None else parse(value)
        except InvalidInput:
            raise _invalid(name, value or "", allowed) from None

    def choice(self, name: str, choices: type[_Choice]) -> _Choice | None:
        value = self.text(name)
        if value is None:
            return None
        for each in choices:
            if each.value == value.lower():
                return each
        raise _invalid(name, value, ", ".join(choices))


def _default_home(home_directory: str | None) -> str:
    if home_directory is None:
        raise InvalidInput(
            sentence(
                "This user has no home directory that may be written to, so there is no"
                " place for environments"
            ),
            {
                "hint": sentence("Let XINFERENCE_HOME name a folder that this user may write to."),
                "variable": "XINFERENCE_HOME",
            },
        )
    return f"{home_directory.rstrip('/')}/.xinference"


def _virtualenv_dir(home: str) -> str:
    return f"{home.rstrip('/')}/virtualenv"


def _absolute(name: str, value: str) -> str:
    if not value.startswith("/") or not value.isprintable():
        raise _invalid(name, value, sentence("absolute paths"))
    return value.rstrip("/") or "/"


def _invalid(name: str, value: str, allowed: str) -> InvalidInput:
    return InvalidInput(
        sentence(
            "Invalid value {value} of the environment variable {name}",
            value=quoted(value, 200),
            name=name,
        ),
        {"hint": sentence("Allowed: {allowed}.", allowed=allowed), "variable": name},
    )
