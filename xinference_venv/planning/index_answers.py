"""What an index, or another place of packages, answered when it was asked whether it is there.

Comes in: the sources of packages, later the bodies of answers. Comes out: which places are to be
asked, and what kind of page an answer is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from xinference_venv._util.redact import redact_url
from xinference_venv.planning.pip_config import file_url
from xinference_venv.planning.sources import PYPI, PackageSources
from xinference_venv.sentences import sentence

LOGIN_HINT = sentence(
    "a proxy, firewall or portal wants a login first, or the index wants"
    " credentials: put them into its URL, ~/.netrc or HTTPS_PROXY"
)

# What a page for people has that asks for a login, or leads to one, and a page of an index
# (PEP 503) never has.
_LOGIN = re.compile(
    r"<form\b|\btype\s*=\s*[\"']?password|\bhttp-equiv\s*=\s*[\"']?refresh", re.IGNORECASE
)


class IndexFailure(StrEnum):
    """Why there is no answer at all."""

    NAME = "its name can't be resolved"
    TLS = "its certificate or encryption is not accepted"
    TIMEOUT = "no answer in time"
    CONNECTION = "no connection"
    ABSENT = "no such folder or file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where packages may come from; `url` may hold credentials, a folder is a ``file:`` URL."""

    what: str
    url: str = field(repr=False)
    trusted: bool = False

    @property
    def shown(self) -> str:
        """The place without credentials."""
        return redact_url(self.url)

    @property
    def host(self) -> str:
        """The name of its host, for comparisons of clocks."""
        return urlsplit(self.url).hostname or ""

    def of_project(self, name: str) -> Place:
        """The page of one project of an index (PEP 503)."""
        return Place(what=self.what, url=f"{self.url.rstrip('/')}/{name}/", trusted=self.trusted)


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexAnswer:
    """A status of HTTP, None of a folder that is there, or the `failure` to get one.

    `words` say more of a failure. `ahead` is how many seconds our clock is ahead of the answer's
    `Date`, `elapsed` how long it took. `login`: it is a page for people that asks for a login.
    """

    status: int | None = None
    failure: IndexFailure | None = None
    words: str = ""
    ahead: float | None = None
    elapsed: float = 0.0
    login: bool = False


def places_of(sources: PackageSources) -> list[Place]:
    """All places that uv would ask, in its order; PyPI where nothing stands in for it."""
    indexes = list(sources.extra_index_urls)
    if not sources.no_index:
        indexes.append(sources.index_url or f"{PYPI}/")
    named = [("index", url) for url in indexes]
    named += [("find-links", place) for place in sources.find_links]
    return [
        Place(
            what=what,
            url=file_url(url) if url.startswith("/") else url,
            trusted=is_trusted(url, sources.trusted_hosts),
        )
        for what, url in named
    ]


def is_login_page(media_type: str, body: str) -> bool:
    """Whether an answer with status 200 is what a proxy or portal shows before a login."""
    return media_type.partition(";")[0].strip() == "text/html" and _LOGIN.search(body) is not None


def is_trusted(url: str, trusted_hosts: Iterable[str]) -> bool:
    """Whether the certificate of a place is not verified, by its ``host`` or ``host:port``."""
    parts = urlsplit(url)
    return bool({parts.hostname, parts.netloc.rpartition("@")[2]} & {*trusted_hosts})
