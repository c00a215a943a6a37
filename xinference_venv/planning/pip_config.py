"""Where pip would look for packages, as its own configuration says.

In come the texts of pip's configuration files and the environment variables, out goes a
`PipConfig` with the settings that matter to a spec's sources. Which files there are, how they
override each other and how values are read follows pip 26 on Linux and macOS (its modules
``pip._internal.configuration`` and ``pip._internal.cli.parser``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from xinference_venv._util.humanize import quoted
from xinference_venv._util.redact import redact_text, redact_url
from xinference_venv.errors import InvalidSource
from xinference_venv.sentences import sentence

if TYPE_CHECKING:
    from configparser import Error, RawConfigParser

_NO_FILES = "/dev/null"
_SECTIONS = ("global", "install", ":env:")  # each overrides those before it
_INDEX_KEYS = frozenset({"index-url", "pypi-url"})
TRUE_WORDS = frozenset({"y", "yes", "t", "true", "on", "1"})
_FALSE_WORDS = frozenset({"n", "no", "f", "false", "off", "0"})


# What changes what `pip install` does and has no counterpart in a launch.
_WITHOUT_COUNTERPART = (
    *("require-hashes", "no-deps", "ignore-requires-python", "prefer-binary", "config-settings"),
    *("use-deprecated", "group", "requirement", "platform", "abi"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PipConnection:
    """How pip reaches indexes; None where it says nothing. `repr` shows no credentials."""

    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = field(default=None, repr=False)
    timeout: str | None = None
    retries: str | None = None
    keyring_provider: str | None = None

    def uv_variables(self, *, keyring: bool) -> dict[str, str]:
        """The same for uv, as its variables; `keyring` says whether that program is there.

        uv knows pip's provider ``subprocess`` alone, which is what ``auto`` and ``import`` come to
        where the program is installed.
        """
        found = {
            "SSL_CERT_FILE": self.cert,
            "SSL_CLIENT_CERT": self.client_cert,
            "HTTP_PROXY": self.proxy,
            "HTTPS_PROXY": self.proxy,
            "ALL_PROXY": self.proxy,
            "UV_HTTP_TIMEOUT": self.timeout,
            "UV_HTTP_RETRIES": self.retries,
            "UV_KEYRING_PROVIDER": "subprocess"
            if self.keyring_provider == "subprocess"
            or (keyring and self.keyring_provider in ("auto", "import"))
            else None,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class PipConfig:
    """The sources that ``pip install`` would use, completed by variables of uv; ``repr`` shows none
    that hold credentials.
    """

    index_url: str | None = field(default=None, repr=False)
    extra_index_url: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    """Absolute paths and URLs."""
    trusted_host: tuple[str, ...] = field(default=(), repr=False)
    no_index: bool = False
    connection: PipConnection = field(default_factory=lambda: PipConnection())
    constraint: tuple[str, ...] = field(default=(), repr=False)
    """Absolute paths and URLs of files with constraints."""
    constraints: tuple[str, ...] = ()
    """The lines of these files, once they are read."""
    pre: bool = False
    no_binary: tuple[str, ...] = ()
    """Names to take from source alone, or ``:all:``."""
    only_binary: tuple[str, ...] = ()
    """Names to take from wheels alone, or ``:all:``."""
    exclude_newer: str | None = None
    """What was uploaded later does not count: a date, a time or a duration."""
    not_honoured: tuple[str, ...] = ()
    """Keys that `pip install` would honour and a launch does not."""
    # By variables of uv alone (`uv_variables`)
    override: tuple[str, ...] = field(default=(), repr=False)
    """Paths of files with requirements that replace all others of their names."""
    overrides: tuple[str, ...] = ()
    """The lines of these files, once they are read."""
    build_constraint: tuple[str, ...] = field(default=(), repr=False)
    """Paths of files with constraints of what builds use."""
    build_constraints: tuple[str, ...] = ()
    """The lines of these files, once they are read."""
    index_strategy: str | None = None
    variables_not_honoured: tuple[str, ...] = ()
    """Variables that uv would honour and a launch does not."""
    uv_settings_not_honoured: tuple[str, ...] = ()
    """Settings of uv's own files, each with its file: uv would honour them, a launch does not."""


def pip_config_paths(
    environ: Mapping[str, str],
    *,
    prefix: str,
    home: str,
    platform: str,
    present: Callable[[str], bool],
) -> tuple[str, ...]:
    """Return the absolute paths of the files that pip reads, later ones overriding earlier.

    These are pip's global, user (old and new place), site and ``PIP_CONFIG_FILE`` files,
    whether they exist or not. ``prefix`` and ``platform`` are what the host interpreter calls
    `sys.prefix` and `sys.platform`, ``home`` is the user's home directory. ``present`` says
    whether a file or directory exists: pip leaves the user's files out when there is a
    ``PIP_CONFIG_FILE``, and macOS has two places for them. That pip is also configured below
    Homebrew's prefix is not followed.
    """
    named = environ.get("PIP_CONFIG_FILE")
    if named == _NO_FILES:
        return ()
    directories = _global_directories(environ, platform)
    if not (named and present(named)):
        directories += [PurePosixPath(home, ".pip")]
        directories += [_user_directory(environ, home, platform, present)]
    directories += [PurePosixPath(prefix)]
    files = [str(directory / "pip.conf") for directory in directories]
    if named:
        files.append(named)
    return tuple(dict.fromkeys(files))


def parse_pip_config(files: Sequence[tuple[str, str]], environ: Mapping[str, str]) -> PipConfig:
    """Return what ``pip install`` takes from its files and its ``PIP_*`` variables.

    ``files`` are paths with their texts, in the order of `pip_config_paths`, those that do not
    exist left out. pip reads ``[global]`` of all files, then ``[install]`` of all files, then
    the variables; per key the last word counts, and an empty value says nothing.

    Two things differ from pip, which works in the user's current directory: relative
    find-links are left out, and a leading ``~/`` is replaced only if ``HOME`` is set.

    Raises `InvalidSource` for a damaged file, with its path and line, and for a ``no-index``
    that is no boolean word.
    """
    sections: dict[str, dict[str, str]] = {name: {} for name in _SECTIONS}
    for path, text in files:
        parser = _parser_of(path, text)
        for section in parser.sections():
            if section in sections:
                found = parser.items(section)
                sections[section].update({_normalized_key(key): value for key, value in found})
    for variable, value in environ.items():
        if variable.startswith("PIP_"):
            sections[":env:"][_normalized_key(variable.removeprefix("PIP_"))] = value

    values: dict[str, str] = {}
    for section in _SECTIONS:
        for key, value in sections[section].items():
            if value:
                values["index-url" if key in _INDEX_KEYS else key] = value
    constraint = tuple(_absolute_find_links(values.get("constraint", ""), environ))
    return PipConfig(
        index_url=_index_url(values.get("index-url")),
        extra_index_url=tuple(values.get("extra-index-url", "").split()),
        find_links=tuple(_absolute_find_links(values.get("find-links", ""), environ)),
        trusted_host=tuple(values.get("trusted-host", "").split()),
        no_index=_boolean(values.get("no-index", "no")),
        connection=PipConnection(
            cert=values.get("cert"),
            client_cert=values.get("client-cert"),
            proxy=values.get("proxy"),
            timeout=_whole_number(values.get("timeout") or values.get("default-timeout"), least=1),
            retries=_whole_number(values.get("retries"), least=0),
            keyring_provider=values.get("keyring-provider"),
        ),
        constraint=constraint,
        pre=_boolean(values.get("pre", "no"), "pre"),
        no_binary=_formats(values.get("no-binary", "")),
        only_binary=_formats(values.get("only-binary", "")),
        exclude_newer=values.get("uploaded-prior-to"),
        not_honoured=tuple(
            key for key in _WITHOUT_COUNTERPART if values.get(key, "no").lower() not in _FALSE_WORDS
        )
        + tuple(f"constraint of {redact_url(each)}" for each in constraint if ":" in each),
    )


def _whole_number(value: str | None, *, least: int) -> str | None:
    """Uv takes whole seconds only, where pip also takes ``2.5``."""
    try:
        return None if value is None else str(max(least, round(float(value))))
    except (ValueError, OverflowError):
        return None


def _formats(value: str) -> tuple[str, ...]:
    """The names of ``no-binary`` and ``only-binary``; ``:none:`` empties what was named before."""
    names: list[str] = []
    for name in value.replace(",", " ").split():
        if name == ":none:":
            names.clear()
        else:
            names.append(name)
    return tuple(dict.fromkeys(names))


def _global_directories(environ: Mapping[str, str], platform: str) -> list[PurePosixPath]:
    mac = platform == "darwin"
    entries = environ.get("XDG_DATA_DIRS" if mac else "XDG_CONFIG_DIRS", "").split(":")
    shared = [path for entry in entries if (path := _xdg_path(entry))]
    if mac:
        return [path / "pip" for path in shared or [PurePosixPath("/Library/Application Support")]]
    return [
        *(path / "pip" for path in shared or [PurePosixPath("/etc/xdg")]),
        PurePosixPath("/etc"),
    ]


def _user_directory(
    environ: Mapping[str, str], home: str, platform: str, present: Callable[[str], bool]
) -> PurePosixPath:
    linux_like = PurePosixPath(home, ".config")
    if platform != "darwin":
        return (_xdg_path(environ.get("XDG_CONFIG_HOME", "")) or linux_like) / "pip"
    data = _xdg_path(environ.get("XDG_DATA_HOME", ""))
    directory = (data or PurePosixPath(home, "Library", "Application Support")) / "pip"
    return directory if present(str(directory)) else linux_like / "pip"


def _xdg_path(value: str) -> PurePosixPath | None:
    """Return the path, if it is absolute: the XDG specification says to ignore others."""
    path = PurePosixPath(value.strip())
    return path if path.is_absolute() else None


def _normalized_key(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("--")


def _parser_of(path: str, text: str) -> RawConfigParser:
    # Many hosts have no such file.
    import configparser

    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as error:
        # Its own message quotes the line, which can hold credentials.
        raise InvalidSource(
            sentence(
                "pip's configuration file {path} is damaged in line {error}",
                path=repr(path),
                error=_line_of(error),
            ),
            {"hint": sentence("Correct it: `python -m pip config debug` says what pip reads.")},
        ) from None
    return parser


def _line_of(error: Error) -> str:
    # MissingSectionHeaderError is a ParsingError that has no list of errors.
    line = getattr(error, "lineno", None)
    return str(getattr(error, "errors", [[None]])[0][0] if line is None else line)


def _index_url(value: str | None) -> str | None:
    """Return pip's index as a URL; pip also takes the path of a directory."""
    if value is not None and value.startswith("/"):
        return file_url(value)
    return value


def file_url(path: str) -> str:
    """The URL of an absolute path; `PurePath.as_uri` is deprecated since Python 3.14."""
    return f"file://{quote(str(PurePosixPath(path)), errors='surrogateescape')}"


def local_path(place: str) -> str | None:
    """The path that a place of packages names, itself one or a file URL; None for any other URL."""
    if place.startswith("/"):
        return place
    parts = urlsplit(place)
    return unquote(parts.path, errors="surrogateescape") if parts.scheme == "file" else None


def host_of(url: str) -> str | None:
    """The host of a URL; None of one that is malformed, which who asks there says."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def check_requirements(lines: Iterable[str], path: str) -> None:
    """Raise `InvalidSource` for the first line of a file that is no requirement of PEP 508."""
    if not (lines := tuple(lines)):
        return
    from packaging.requirements import InvalidRequirement, Requirement

    for line in lines:
        try:
            Requirement(line)
        except InvalidRequirement:
            raise InvalidSource(
                sentence(
                    "{path} has {line}, which is no requirement of PEP 508",
                    path=path,
                    line=quoted(redact_text(line), 200),
                ),
                {"hint": sentence("correct it: pip or uv reads it for every install")},
            ) from None


def _absolute_find_links(value: str, environ: Mapping[str, str]) -> Iterator[str]:
    home = environ.get("HOME")
    for place in value.split():
        if place.startswith("~/") and home:
            yield f"{home.rstrip('/')}{place[1:]}"
        elif place.startswith("/") or ":" in place:
            yield place


def _boolean(value: str, key: str = "no-index") -> bool:
    word = value.lower()
    if word in TRUE_WORDS | _FALSE_WORDS:
        return word in TRUE_WORDS
    raise InvalidSource(
        sentence("pip's configuration has a value that is not a boolean for {key}", key=key),
        {"hint": sentence("Allowed are yes, no, true, false, on, off, 1 and 0.")},
    )
