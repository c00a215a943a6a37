"""What variables of uv say about where packages come from and which are chosen.

Comes in: pip's configuration, and the variables of the operator. Comes out: the same
configuration, completed: what pip's says counts before. Variables that change what uv resolves
and have no counterpart here are named in the answer. They are described in
https://docs.astral.sh/uv/reference/environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import quote, urlsplit, urlunsplit

from xinference_venv._util.redact import redact_url
from xinference_venv.planning.pip_config import TRUE_WORDS, PipConfig, host_of

_NAME = re.compile(r"[A-Za-z0-9._-]+=")
_NOT_HONOURED = (
    *("UV_CONFIG_FILE", "UV_EXCLUDE", "UV_EXCLUDE_NEWER_PACKAGE", "UV_FORK_STRATEGY"),
    *("UV_NO_BUILD_ISOLATION", "UV_NO_CACHE", "UV_NO_SOURCES", "UV_NO_VERIFY_HASHES"),
    *("UV_REQUIRE_HASHES", "UV_RESOLUTION", "UV_TORCH_BACKEND"),
)
# What uv does by itself.
_DEFAULT_PRERELEASE = "if-necessary-or-explicit"


def with_uv_variables(pip: PipConfig, environ: Mapping[str, str]) -> PipConfig:
    """The configuration of pip, completed by what the operator says to uv."""

    def words(*names: str, separator: str | None = None) -> tuple[str, ...]:
        return words_of(environ, *names, separator=separator)

    def is_on(name: str) -> bool:
        return environ.get(name, "").strip().lower() in TRUE_WORDS

    index = words("UV_DEFAULT_INDEX") or words("UV_INDEX_URL")
    extra = words("UV_INDEX", "UV_EXTRA_INDEX_URL")
    links = words("UV_FIND_LINKS", separator=",")
    strategy = environ.get("UV_INDEX_STRATEGY", "").strip()
    if extra and not pip.extra_index_url:
        # Who configures uv relies on its default; with pip's indexes the best version counts.
        strategy = strategy or "first-index"
    prerelease = environ.get("UV_PRERELEASE", "").strip().lower()
    no_binary = _formats(is_on("UV_NO_BINARY"), words("UV_NO_BINARY_PACKAGE"))
    no_build = _formats(is_on("UV_NO_BUILD"), words("UV_NO_BUILD_PACKAGE"))
    files = {name: words(name) for name in ("UV_CONSTRAINT", "UV_OVERRIDE", "UV_BUILD_CONSTRAINT")}
    found = [name for name in _NOT_HONOURED if environ.get(name, "").strip()]
    found += [
        f"{name}={redact_url(each)}"
        for name, paths in files.items()
        for each in paths
        if not each.startswith("/")
    ]
    if prerelease not in ("", "allow", _DEFAULT_PRERELEASE):
        found.append(f"UV_PRERELEASE={prerelease[:20]}")
    return replace(
        pip,
        index_url=pip.index_url or next((url_of_index(each, environ) for each in index), None),
        extra_index_url=pip.extra_index_url or tuple(url_of_index(each, environ) for each in extra),
        # A worker's own working directory means nothing to its users.
        find_links=pip.find_links
        or tuple(each for each in links if each.startswith("/") or ":" in each),
        no_index=pip.no_index or is_on("UV_NO_INDEX"),
        constraint=(*pip.constraint, *files["UV_CONSTRAINT"]),
        override=files["UV_OVERRIDE"],
        build_constraint=files["UV_BUILD_CONSTRAINT"],
        pre=pip.pre or prerelease == "allow",
        no_binary=pip.no_binary or no_binary,
        only_binary=pip.only_binary or no_build,
        index_strategy=strategy or None,
        exclude_newer=pip.exclude_newer or environ.get("UV_EXCLUDE_NEWER", "").strip() or None,
        variables_not_honoured=tuple(found),
    )


def _formats(every: bool, names: Iterable[str]) -> tuple[str, ...]:
    return (":all:",) if every else tuple(names)


def words_of(
    environ: Mapping[str, str], *names: str, separator: str | None = None
) -> tuple[str, ...]:
    """The words in variables, by default what is between blanks."""
    values = (environ.get(name, "").split(separator) for name in names)
    return tuple(each.strip() for value in values for each in value if each.strip())


def name_of_index(text: str) -> str | None:
    """The name of an index that has one before its URL."""
    found = _NAME.match(text)
    return None if found is None else found[0][:-1]


def url_of_index(text: str, environ: Mapping[str, str]) -> str:
    """The URL of an index that may have a name, with the credentials that its name gives it."""
    found = _NAME.match(text)
    if found is None:
        return text
    url = text[found.end() :]
    if host_of(url) is None:
        return url
    name = re.sub("[^A-Z0-9]", "_", found[0][:-1].upper())
    user = environ.get(f"UV_INDEX_{name}_USERNAME", "")
    password = environ.get(f"UV_INDEX_{name}_PASSWORD", "")
    parts = urlsplit(url)
    if "@" in parts.netloc or not (user or password):
        return url
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))
