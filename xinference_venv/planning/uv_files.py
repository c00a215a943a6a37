"""What uv's own files of configuration say about where packages come from and which are chosen.

Comes in: the texts of ``uv.toml`` and ``pyproject.toml``. Comes out: lists and single settings, put
together as uv does; and with them the sources of a call, which stand for options of uv's command
line. They are described in https://docs.astral.sh/uv/concepts/configuration-files.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from xinference_venv._util.humanize import quoted
from xinference_venv.errors import InvalidSource
from xinference_venv.planning.pip_config import (
    TRUE_WORDS,
    PipConfig,
    check_requirements,
    file_url,
)
from xinference_venv.planning.pylock import strip_credentials
from xinference_venv.planning.uv_variables import name_of_index, url_of_index, words_of
from xinference_venv.sentences import sentence

_NAME = "uv.toml"
_PROJECT = "pyproject.toml"
_CONFIG_FILE = "UV_CONFIG_FILE"
_FILE_VARIABLES = frozenset({"UV_BUILD_CONSTRAINT", "UV_CONSTRAINT", "UV_OVERRIDE"})
# Settings with a variable of the same meaning: how uv works,
_WORKING = {
    "cache-dir": "UV_CACHE_DIR",
    "concurrent-builds": "UV_CONCURRENT_BUILDS",
    "concurrent-downloads": "UV_CONCURRENT_DOWNLOADS",
    "http-proxy": "HTTP_PROXY",
    "https-proxy": "HTTPS_PROXY",
    "link-mode": "UV_LINK_MODE",
    "native-tls": "UV_NATIVE_TLS",
    "no-proxy": "NO_PROXY",
    "python-install-mirror": "UV_PYTHON_INSTALL_MIRROR",
    "system-certs": "UV_SYSTEM_CERTS",
}
# and what changes where packages come from, and which are chosen,
_CHOOSING = {
    "exclude-newer": "UV_EXCLUDE_NEWER",
    "index-strategy": "UV_INDEX_STRATEGY",
    "keyring-provider": "UV_KEYRING_PROVIDER",
    "no-binary": "UV_NO_BINARY",
    "no-binary-package": "UV_NO_BINARY_PACKAGE",
    "no-build": "UV_NO_BUILD",
    "no-build-package": "UV_NO_BUILD_PACKAGE",
    "no-index": "UV_NO_INDEX",
    "offline": "UV_OFFLINE",
    "prerelease": "UV_PRERELEASE",
    # Without a counterpart: who plans says so.
    "fork-strategy": "UV_FORK_STRATEGY",
    "no-build-isolation": "UV_NO_BUILD_ISOLATION",
    "resolution": "UV_RESOLUTION",
    "torch-backend": "UV_TORCH_BACKEND",
}
# which settings without such a variable do, too: lists, and others.
_DEPENDENCIES = frozenset(
    {"constraint-dependencies", "override-dependencies", "build-constraint-dependencies"}
)
_LISTS = _DEPENDENCIES | {"allow-insecure-host", "extra-index-url", "find-links", "index"}
_OTHERS = frozenset({"exclude-newer-package", "index-url"})
# How a variable separates what is a list here.
_SEPARATORS = {"no-binary-package": " ", "no-build-package": " ", "no-proxy": ","}
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX")
# Settings of one index, with what uv takes: how uv talks to it,
_TALKING: Mapping[str, Callable[[Any], bool]] = {
    "authenticate": lambda value: value in ("auto", "always", "never"),
    "cache-control": lambda value: (
        isinstance(value, dict)
        and all(isinstance(each, str) and each.isprintable() for each in value.values())
    ),
    "ignore-error-codes": lambda value: (
        isinstance(value, list) and all(type(each) is int and 100 <= each <= 999 for each in value)
    ),
}
# and what it finds there.
_FINDING: Mapping[str, Callable[[Any], bool]] = {
    "exclude-newer": lambda value: value is False or isinstance(value, str),
    "format": lambda value: value in ("simple", "flat"),
}

IndexSettings = Mapping[str, Mapping[str, Any]]
"""Settings of single indexes in uv's own words, by what `index_key` says of their URLs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UvFiles:
    """What the files say; ``repr`` shows nothing that may hold credentials.

    `variables` are the single settings, as variables of uv.
    """

    indexes: tuple[str, ...] = field(default=(), repr=False)
    """URLs, with ``NAME=`` before them where they have a name."""
    default_index: str | None = field(default=None, repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    trusted_hosts: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    build_constraints: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    named_indexes: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The URLs of all that have a name."""
    index_settings: IndexSettings = field(default_factory=dict, repr=False)


def index_key(url: str) -> str:
    """The URL of an index without credentials and last slash, by which its settings are known."""
    try:
        return strip_credentials(url).rstrip("/")
    except ValueError:
        # Its host is malformed, which is an error where it is asked.
        return url


def uv_file_paths(
    environ: Mapping[str, str],
    *,
    working_directory: str,
    home: str,
    present: Callable[[str], bool],
    is_project: Callable[[str], bool],
) -> tuple[str, ...]:
    """The absolute paths of the files that uv reads, those that count first.

    The nearest one of a project: a ``uv.toml``, or a ``pyproject.toml`` that `is_project` of uv;
    the user's; the system's. `present` says whether a file exists.
    """
    if named := environ.get(_CONFIG_FILE):
        return (posixpath.join(working_directory, named),)
    if environ.get("UV_NO_CONFIG", "").strip().lower() in TRUE_WORDS:
        return ()
    folders = [PurePosixPath(working_directory), *PurePosixPath(working_directory).parents]
    of_project = (
        path
        for folder in folders
        for path, counts in (
            (str(folder / _NAME), present),
            (str(folder / _PROJECT), is_project),
        )
        if counts(path)
    )
    user = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    shared = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    of_system = (f"{folder}/uv/{_NAME}" for folder in (*filter(None, shared), "/etc"))
    found = (
        next(of_project, None),
        f"{user}/uv/{_NAME}",
        next(filter(present, of_system), None),
    )
    return tuple(path for path in found if path is not None and present(path))


def check_present(paths: Sequence[str], files: Sequence[tuple[str, str]]) -> None:
    """Raise `InvalidSource` for a path that is not among the files: it was named, or could not be
    read.
    """
    missing = [path for path in paths if path not in dict(files)]
    if missing:
        raise InvalidSource(
            sentence("{path}, a file of uv's configuration, can't be read", path=missing[0]),
            {
                "hint": sentence(
                    "correct its permissions, or {variable} if that names it", variable=_CONFIG_FILE
                )
            },
        )


def with_absolute_paths(environ: Mapping[str, str], working_directory: str) -> dict[str, str]:
    """The variables, where files of requirements that uv finds from a working directory are found
    from anywhere.
    """
    return {
        name: " ".join(
            each if "://" in each else posixpath.join(working_directory, each)
            for each in value.split()
        )
        if name in _FILE_VARIABLES
        else value
        for name, value in environ.items()
    }


def is_project_of_uv(text: str) -> bool:
    """Whether a ``pyproject.toml`` configures uv; one that is wrong does not."""
    try:
        return _settings(f"/{_PROJECT}", text) is not None
    except InvalidSource:
        return False


def with_named_indexes(environ: Mapping[str, str], files: UvFiles) -> dict[str, str]:
    """The variables, where indexes that they name by names in files have their URLs."""
    completed = {
        name: " ".join(
            f"{each}={files.named_indexes[each]}" if each in files.named_indexes else each
            for each in words_of(environ, name)
        )
        for name in _INDEX_VARIABLES
        if name in environ
    }
    return {**environ, **completed}


def choosing_settings(
    files: Sequence[tuple[str, str]], indexes: Collection[str] = ()
) -> tuple[str, ...]:
    """The settings in files, as (path, text), that change what is installed, each with its file.

    Those of how uv talks to `indexes`, by their `index_key`, don't. A file that is wrong has none.
    """
    found = []
    for path, text in files:
        keys: set[str] = set()
        try:
            for folder, table in _tables(path, text):
                keys |= table.keys()
                if all(_is_known(folder, each, indexes) for each in table.get("index", ())):
                    keys.discard("index")
        except InvalidSource:
            continue
        known = _CHOOSING.keys() | _LISTS | _OTHERS
        found += [f"{key} in {path}" for key in sorted(keys & known)]
    return tuple(found)


def _is_known(folder: str, index: Mapping[str, Any], indexes: Collection[str]) -> bool:
    return (
        index_key(_as_url(folder, index["url"])) in indexes and not index.keys() & _FINDING.keys()
    )


def talking_settings(files: Sequence[tuple[str, str]]) -> IndexSettings:
    """How uv is to talk to single indexes, as files say; one that uv would refuse says nothing."""
    found: dict[str, Mapping[str, Any]] = {}
    for each in files:
        with suppress(InvalidSource):
            for key, settings in read_uv_files([each]).index_settings.items():
                talking = {name: settings[name] for name in _TALKING if name in settings}
                found.setdefault(key, talking)
    return {key: talking for key, talking in found.items() if talking}


def read_uv_files(files: Sequence[tuple[str, str]]) -> UvFiles:
    """Put files, as (path, text), together; of single settings the first one counts.

    Raises `InvalidSource`, which names the file.
    """
    tables = [each for path, text in files for each in _tables(path, text)]
    indexes: list[str] = []
    default: str | None = None
    named: dict[str, str] = {}
    index_settings: dict[str, Mapping[str, Any]] = {}
    for folder, table in tables:
        for index in table.get("index", ()):
            name, url = str(index.get("name", "")), _as_url(folder, index["url"])
            if name in named:
                continue
            if name:
                named[name] = url
            settings = {key: index[key] for key in (*_TALKING, *_FINDING) if key in index}
            if settings:
                index_settings.setdefault(index_key(url), settings)
            place = f"{name}={url}" if name else url
            if index.get("explicit"):
                continue  # Only for what a project's sources name.
            if index.get("default"):
                default = default or place
            else:
                indexes.append(place)
    extra = [
        _as_url(folder, each)
        for folder, table in tables
        for each in _texts(table.get("extra-index-url"))
    ]
    plain = (
        _as_url(folder, str(table["index-url"])) for folder, table in tables if "index-url" in table
    )
    variables: dict[str, str] = {}
    for _, table in tables:
        for key, name in (*_WORKING.items(), *_CHOOSING.items()):
            if key in table:
                variables.setdefault(name, _as_variable(key, table[key]))
    return UvFiles(
        indexes=tuple(dict.fromkeys((*indexes, *extra))),
        default_index=default or next(plain, None),
        find_links=_unique(
            each if ":" in each else _path(folder, each)
            for folder, table in tables
            for each in _texts(table.get("find-links"))
        ),
        trusted_hosts=_all_of(tables, "allow-insecure-host"),
        constraints=_all_of(tables, "constraint-dependencies"),
        overrides=_all_of(tables, "override-dependencies"),
        build_constraints=_all_of(tables, "build-constraint-dependencies"),
        variables=variables,
        named_indexes=named,
        index_settings=index_settings,
    )


def with_uv_files(config: PipConfig, files: UvFiles, environ: Mapping[str, str]) -> PipConfig:
    """What variables of uv say, completed by its files: lists by theirs, behind.

    The single settings are among the variables already.
    """
    extra = _urls_of(files.indexes, environ)
    default = next(iter(_urls_of(filter(None, [files.default_index]), environ)), None)
    strategy = config.index_strategy or ("first-index" if extra else None)
    return replace(
        config,
        index_url=config.index_url or default,
        extra_index_url=(*config.extra_index_url, *extra),
        find_links=(*config.find_links, *files.find_links),
        trusted_host=(*config.trusted_host, *files.trusted_hosts),
        index_strategy=strategy,
        constraints=(*config.constraints, *files.constraints),
        overrides=(*config.overrides, *files.overrides),
        build_constraints=(*config.build_constraints, *files.build_constraints),
        variables_not_honoured=tuple(
            each for each in config.variables_not_honoured if each != _CONFIG_FILE
        ),
    )


def complete_sources(
    given: Mapping[str, Any], files: UvFiles, environ: Mapping[str, str]
) -> dict[str, Any]:
    """The sources that a call names, completed as uv completes its command line.

    ``UV_DEFAULT_INDEX`` counts before its index, ``UV_INDEX`` is asked before its extra indexes,
    and what the files list comes behind; without indexes, it names none.
    """
    sources = dict(given)
    if environ.get("UV_NO_INDEX", "").strip().lower() in TRUE_WORDS:
        sources.pop("index_url", None)
    elif default := words_of(environ, "UV_DEFAULT_INDEX"):
        sources["index_url"] = url_of_index(default[0], environ)
    behind = {
        "extra_index_url": _urls_of(files.indexes, environ),
        "find_links": list(files.find_links),
        "trusted_host": list(files.trusted_hosts),
    }
    before = {"extra_index_url": [url_of_index(e, environ) for e in words_of(environ, "UV_INDEX")]}
    for name, more in behind.items():
        if named := _texts(sources.get(name)):
            sources[name] = [*_unique((*before.get(name, ()), *named, *more))]
    return sources


def _urls_of(indexes: Iterable[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """The URLs of indexes of files; of equal names that in a variable counts."""
    taken = {name_of_index(each) for each in words_of(environ, *_INDEX_VARIABLES)} - {None}
    return tuple(
        url_of_index(each, environ) for each in indexes if name_of_index(each) not in taken
    )


def _tables(path: str, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The tables of a file, each with the file's folder: that of uv's pip interface first."""
    table = _settings(path, text) or {}
    folder = path.rpartition("/")[0]
    yield folder, _of_pip(table.get("pip", {}))
    yield folder, table


def _settings(path: str, text: str) -> Mapping[str, Any] | None:
    """The settings in a file, None in one of a project that has none; raises `InvalidSource`."""
    # Few hosts have such files.
    import tomllib

    try:
        table: Mapping[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(sentence("{path} is no TOML: {error}", path=path, error=error)) from None
    if path.endswith(f"/{_PROJECT}"):
        tools = _table(table, "tool", path)
        if "uv" not in tools:
            return None
        table = _table(tools, "uv", path)
    of_pip = _table(table, "pip", path)
    for key in ("no-binary", "only-binary"):
        _check_list(of_pip, key, path)
    for each in (of_pip, table):
        for key in _LISTS | _SEPARATORS.keys():
            _check_list(each, key, path)
        for key in _DEPENDENCIES:
            check_requirements(each.get(key, ()), path)
        for index in each.get("index", ()):
            _check_index(index, path)
    return table


def _table(table: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, Mapping):
        raise _wrong_type(key, path)
    return found


def _check_list(table: Mapping[str, Any], key: str, path: str) -> None:
    found = table.get(key, [])
    kind = Mapping if key == "index" else str
    if not isinstance(found, list) or not all(isinstance(each, kind) for each in found):
        raise _wrong_type(key, path)


def _check_index(index: Mapping[str, Any], path: str) -> None:
    if not isinstance(index.get("url"), str):
        raise _wrong_type("url of an index", path)
    for key, is_allowed in (*_TALKING.items(), *_FINDING.items()):
        if key in index and not is_allowed(index[key]):
            raise _wrong(
                sentence(
                    "{path}: {value} is no {key} of an index",
                    path=path,
                    value=quoted(str(index[key])),
                    key=key,
                )
            )


def _wrong_type(key: str, path: str) -> InvalidSource:
    return _wrong(
        sentence(
            "{key} in {path} is missing, or of a type that uv does not take", key=key, path=path
        )
    )


def _wrong(message: str) -> InvalidSource:
    return InvalidSource(message, {"hint": sentence("correct it: uv reads it for every install")})


def _of_pip(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table of uv's pip interface in the terms of the others."""
    named = dict(table)
    for key, every, some in (
        ("no-binary", "no-binary", "no-binary-package"),
        ("only-binary", "no-build", "no-build-package"),
    ):
        names = _texts(named.pop(key, None))
        if ":all:" in names:
            named[every] = True
        elif names:
            named[some] = names
    return named


def _as_url(folder: str, place: str) -> str:
    """An index as a URL; uv takes paths, too."""
    return place if ":" in place else file_url(_path(folder, place))


def _path(folder: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(folder, path))


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _all_of(tables: Iterable[tuple[str, Mapping[str, Any]]], key: str) -> tuple[str, ...]:
    return _unique(each for _, table in tables for each in _texts(table.get(key)))


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def _as_variable(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return _SEPARATORS[key].join(value) if key in _SEPARATORS else str(value)
