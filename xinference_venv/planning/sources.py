"""The one policy of where an environment's packages come from.

In come a model's own settings, its engine's, the inherited configuration of pip and the
launch's find-links; out goes a `PackageSources`, which says all that uv gets to know about sources.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Self
from urllib.parse import urlsplit

from xinference_venv._util.humanize import quoted
from xinference_venv._util.records import Record
from xinference_venv._util.redact import HIDDEN, redact_url
from xinference_venv.errors import InvalidSource
from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.planning.request import ModelVirtualEnv
from xinference_venv.sentences import sentence
from xinference_venv.settings import ALLOWED_ROOTS_VARIABLE

PYPI = "https://pypi.org/simple"
"""What uv asks where nothing else is configured."""
TORCH_INDEX = "https://download.pytorch.org/whl"
"""Where uv looks for the builds of torch's family, a folder for each backend."""
INDEX_STRATEGIES = ("first-index", "unsafe-first-match", "unsafe-best-match")
TORCH_FAMILY = frozenset(
    {"torch", "torchaudio", "torchcodec", "torchtext", "torchvision", "torchao", "xformers"}
)
"""What links against torch and has a build for each of its builds."""
BUILT_AS_TORCH = frozenset({"torchaudio", "torchcodec", "torchtext", "torchvision"})
"""What works only with a torch of the same build, which the local version (``+cpu``) names."""
PUBLIC_HOSTS = frozenset(
    {
        "pypi.org",
        "files.pythonhosted.org",
        "pypi.python.org",
        "test.pypi.org",
        "download.pytorch.org",
        "pypi.nvidia.com",
        "wheels.vllm.ai",
        "xorbitsai.github.io",
    }
)

# Not every host that urllib and uv could read: they must not read different hosts in one URL.
_HOST = r"(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?|\[[0-9a-f:.]+\])"
_AUTHORITY = re.compile(rf"(?:[^\\]*@)?{_HOST}(?::[0-9]{{1,5}})?", re.IGNORECASE)
_TRUSTED_HOST = re.compile(rf"{_HOST}(?::[0-9]{{1,5}})?", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# uv itself says what is wrong with one that looks like a time and is none.
_WHEN = re.compile(r"[0-9A-Za-z][0-9A-Za-z:.+ -]{0,60}")
_MAX_SHOWN = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageSources(Record, name="package sources"):
    """Where uv looks for packages; ``None`` and empty mean uv's own default.

    Locations are left out of ``repr``, since they can hold credentials. What is logged,
    stored or digested is `redacted` first.
    """

    index_url: str | None = field(default=None, repr=False)
    """The index that is asked last; without it and without `no_index`, PyPI."""
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    """Absolute paths and URLs."""
    trusted_hosts: tuple[str, ...] = ()
    """``host`` or ``host:port``, whose certificates are not verified."""
    index_strategy: str | None = None
    """One of `INDEX_STRATEGIES`."""
    no_index: bool = False
    no_build_isolation: bool = False
    torch_backend: str | None = None
    """The build of torch, like ``cu128``, as uv's ``--torch-backend`` names it."""
    prerelease: bool = False
    """Pre-releases are taken like any other release."""
    no_binary: tuple[str, ...] = ()
    only_binary: tuple[str, ...] = ()
    exclude_newer: str | None = None
    """What was uploaded later does not count, in words of uv: a date, a time or a duration."""

    def identity(self) -> dict[str, object]:
        """What a spec's digest is made of: without credentials, and without what says nothing
        and was not known to earlier releases, whose digests stay.
        """
        added = ("prerelease", "no_binary", "only_binary", "exclude_newer")
        known = self.redacted().to_dict()
        return {name: each for name, each in known.items() if each or name not in added}

    def redacted(self) -> Self:
        """Return the same sources without credentials."""
        return replace(
            self,
            index_url=None if self.index_url is None else redact_url(self.index_url),
            extra_index_urls=tuple(map(redact_url, self.extra_index_urls)),
            find_links=tuple(map(redact_url, self.find_links)),
        )

    def check_record(self) -> None:
        """Raise `InvalidSource` like `combine_sources`."""
        _check(self)


def combine_sources(
    *,
    model: ModelVirtualEnv | None,
    engine_extra_index_urls: Sequence[str],
    engine_index_strategy: str | None,
    engine_index_first: str | None = None,
    pip: PipConfig | None,
    launch_find_links: Sequence[str],
    offline: bool,
) -> PackageSources:
    """Return the sources of one environment, decided setting by setting.

    - Each setting is the model's own if it has one, else pip's if the model inherits pip's
      configuration, else uv's default.
    - The engine's extra indexes come after these, the launch's find-links (already proved by
      `check_launch_find_links`) before the others.
    - An index that has the engine in builds for the host's CUDA is asked first, and what it has is
      looked for nowhere else: others may have newer versions for processors alone.
    - The index strategy is the model's, else the engine's. Where neither has one and extra
      indexes come from pip, it is ``unsafe-best-match``: pip takes the best version of all
      indexes, and uv's default would not see what only a later index has.
    - ``pip`` is completed by the operator's variables of uv, see `uv_variables`.
    - pip's ``no-index`` holds unless the model names its own index; then no index is asked.
    - ``offline`` promises that no public index is asked: indexes and find-links on
      `PUBLIC_HOSTS` are dropped. Where this leaves no index to stand in for PyPI, the last
      extra index takes its place, and where there is none of these either, no index is asked.

    Raises `InvalidSource`, naming the source without its credentials.
    """
    model = model or ModelVirtualEnv()
    inherited = pip if pip is not None and model.inherit_pip_config else PipConfig()
    index_url = model.index_url or inherited.index_url
    index_strategy = (
        model.index_strategy or engine_index_strategy or inherited.index_strategy or None
    )
    if inherited.extra_index_url and not model.extra_index_url:
        index_strategy = index_strategy or "unsafe-best-match"
    if engine_index_first is not None:
        index_strategy = "first-index"
    sources = PackageSources(
        index_url=index_url,
        extra_index_urls=_unique(
            [
                *([] if engine_index_first is None else [engine_index_first]),
                *(model.extra_index_url or inherited.extra_index_url),
                *engine_extra_index_urls,
            ]
        ),
        find_links=_unique([*launch_find_links, *(model.find_links or inherited.find_links)]),
        trusted_hosts=_unique(model.trusted_host or inherited.trusted_host),
        index_strategy=index_strategy,
        no_index=inherited.no_index and not model.index_url,
        no_build_isolation=model.no_build_isolation,
        prerelease=inherited.pre,
        no_binary=inherited.no_binary,
        only_binary=inherited.only_binary,
        exclude_newer=inherited.exclude_newer,
    )
    _check(sources)
    if offline:
        sources = _without_public_hosts(sources)
    if sources.no_index:
        return replace(sources, index_url=None, extra_index_urls=(), index_strategy=None)
    return sources


def check_launch_find_links(
    find_links: Sequence[str],
    allowed_roots: Sequence[str],
    real_path: Callable[[str], str | None],
) -> tuple[str, ...]:
    """Return the real paths of the folders that a launch wants to find packages in.

    Each must be the absolute path of an existing directory that, symbolic links resolved, is
    one of the allowed roots or lies inside one. ``real_path`` returns the real path of an
    existing directory, and None for anything else.

    Raises `InvalidSource`. It does not tell a missing directory from one that is not allowed,
    so that requests can't explore the host.
    """
    if not find_links:
        return ()
    if not allowed_roots:
        raise InvalidSource(
            sentence(
                "Find-links folder {find_links} is not allowed on this host",
                find_links=_quoted_source(find_links[0]),
            ),
            {
                "hint": sentence(
                    "{allowed_roots_variable} names the folders that are allowed: none so far.",
                    allowed_roots_variable=ALLOWED_ROOTS_VARIABLE,
                )
            },
        )
    for place in find_links:
        if not place.startswith("/") or not place.isprintable():
            raise InvalidSource(
                sentence(
                    "Find-links folder {place} is not an absolute path", place=_quoted_source(place)
                ),
                {
                    "hint": sentence(
                        "{allowed_roots_variable} names the folders that are allowed.",
                        allowed_roots_variable=ALLOWED_ROOTS_VARIABLE,
                    )
                },
            )
    roots = [PurePosixPath(root) for root in map(real_path, allowed_roots) if root is not None]
    found = []
    for place in find_links:
        real = real_path(place)
        if real is None or not any(PurePosixPath(real).is_relative_to(root) for root in roots):
            raise InvalidSource(
                sentence(
                    "Find-links folder {place} is not an existing directory in an allowed folder",
                    place=_quoted_source(place),
                ),
                {
                    "hint": sentence(
                        "{allowed_roots_variable} names the folders that are allowed.",
                        allowed_roots_variable=ALLOWED_ROOTS_VARIABLE,
                    )
                },
            )
        found.append(real)
    return _unique(found)


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def _without_public_hosts(sources: PackageSources) -> PackageSources:
    index_url = sources.index_url
    if index_url is not None and _is_public(index_url):
        index_url = None
    extra_index_urls = tuple(url for url in sources.extra_index_urls if not _is_public(url))
    if index_url is None and extra_index_urls:
        # uv asks the extra indexes in their order and then the index, so the order stays:
        # https://github.com/astral-sh/uv/pull/2083
        *others, index_url = extra_index_urls
        extra_index_urls = tuple(others)
    return replace(
        sources,
        index_url=index_url,
        extra_index_urls=extra_index_urls,
        find_links=tuple(place for place in sources.find_links if not _is_public(place)),
        no_index=sources.no_index or index_url is None,
    )


def _is_public(place: str) -> bool:
    if place.startswith("/"):
        return False
    return (urlsplit(place).hostname or "").rstrip(".") in PUBLIC_HOSTS


def _check(sources: PackageSources) -> None:
    if sources.index_url is not None:
        _check_url("index URL", sources.index_url)
    for url in sources.extra_index_urls:
        _check_url("extra index URL", url)
    for place in sources.find_links:
        if not place.startswith("/"):
            _check_url("find-links", place)
        elif not place.isprintable():
            raise _invalid("find-links", place, sentence("it contains control characters"))
    for host in sources.trusted_hosts:
        if not _TRUSTED_HOST.fullmatch(host):
            raise _invalid("trusted host", host, sentence("it is neither host nor host:port"))
    if sources.exclude_newer is not None and not _WHEN.fullmatch(sources.exclude_newer):
        raise InvalidSource(
            sentence(
                "Invalid time {exclude_newer} of the newest packages",
                exclude_newer=quoted(sources.exclude_newer),
            ),
            {
                "hint": sentence(
                    "Allowed are dates, times of RFC 3339 and durations: 2026-01-31, P3D."
                )
            },
        )
    if sources.index_strategy not in (None, *INDEX_STRATEGIES):
        raise InvalidSource(
            sentence(
                "Invalid index strategy {index_strategy}",
                index_strategy=quoted(sources.index_strategy),
            ),
            {
                "hint": sentence(
                    "Allowed are {index_strategies}.", index_strategies=", ".join(INDEX_STRATEGIES)
                )
            },
        )


def _check_url(what: str, url: str) -> None:
    if " " in url or not url.isprintable():
        raise _invalid(what, url, sentence("it contains spaces or control characters"))
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _invalid(what, url, sentence("its host is malformed")) from None
    if parts.scheme not in ("http", "https", "file"):
        raise _invalid(what, url, sentence("it does not begin with http://, https:// or file://"))
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise _invalid(what, url, sentence("it has no absolute path"))
    elif not _AUTHORITY.fullmatch(parts.netloc):
        raise _invalid(what, url, sentence("its host or port is missing or malformed"))
    if parts.fragment:
        raise _invalid(what, url, sentence("it has a fragment"))


def _invalid(what: str, source: str, wrong: str) -> InvalidSource:
    return InvalidSource(
        sentence(
            "Invalid {what} {source}: {wrong}",
            what=what,
            source=_quoted_source(source),
            wrong=wrong,
        ),
        {
            "hint": sentence(
                "Allowed are http, https and file URLs for indexes, these and absolute"
                " paths for find-links, and host or host:port for trusted hosts."
            )
        },
    )


def _quoted_source(source: str) -> str:
    """Return how an error shows a source that may not be a URL: more hidden than in a good one."""
    before, at, after = source.rpartition("@")
    scheme = _SCHEME.match(source)
    if "?" in before:  # Of a password or of a query: there is no telling.
        after = HIDDEN
    hidden = f"{scheme[0] if scheme else ''}{HIDDEN}@" if at else ""
    return repr(f"{hidden}{after.partition('?')[0]}"[:_MAX_SHOWN])
