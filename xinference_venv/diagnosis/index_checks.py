"""What an index, or another place of packages, answered when it was asked whether it is there.

Comes in: the sources of packages, later the answers. Comes out: which places are to be asked, and
a `Check` for each answer; name, certificate, timeout and refusal have hints of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from xinference_venv._util.humanize import duration_text
from xinference_venv._util.redact import redact_url
from xinference_venv.diagnosis.checks import Check, failed, ok, warning
from xinference_venv.planning.sources import PYPI, PackageSources


class IndexFailure(StrEnum):
    """Why there is no answer at all."""

    NAME = "its name can't be resolved"
    TLS = "its certificate or encryption is not accepted"
    TIMEOUT = "no answer in time"
    CONNECTION = "no connection"
    ABSENT = "no such folder or file"


_HINTS = {
    IndexFailure.NAME: "check the spelling, DNS (/etc/resolv.conf) and proxies (HTTPS_PROXY)",
    IndexFailure.TLS: "name its authority's certificate in SSL_CERT_FILE, or make it trusted-host",
    IndexFailure.TIMEOUT: "check firewalls and proxies (HTTPS_PROXY, NO_PROXY) on the way",
    IndexFailure.CONNECTION: "check that it runs, the port, and proxies (HTTPS_PROXY, NO_PROXY)",
    IndexFailure.ABSENT: "create it, or remove it from pip's configuration",
}


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


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexAnswer:
    """A status of HTTP, None of a folder that is there, or the `failure` to get one.

    `words` say more of a failure. `ahead` is how many seconds our clock is ahead of the answer's
    `Date`, `elapsed` how long it took.
    """

    status: int | None = None
    failure: IndexFailure | None = None
    words: str = ""
    ahead: float | None = None
    elapsed: float = 0.0


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
            url=f"file://{url}" if url.startswith("/") else url,
            trusted=_is_trusted(url, sources),
        )
        for what, url in named
    ]


def index_check(place: Place, answer: IndexAnswer) -> Check:
    """What an answer means for launches."""
    if answer.failure is not None:
        words = f" ({answer.words})" if answer.words else ""
        return failed(
            place.what, f"{place.shown}: {answer.failure.value}{words}", _HINTS[answer.failure]
        )
    if answer.status is None:
        return ok(place.what, f"{place.shown} is there")
    found = f"{place.shown} answered {answer.status} after {duration_text(answer.elapsed)}"
    match answer.status:
        case 401 | 403 | 407 if "@" in urlsplit(place.url).netloc:
            return failed(
                place.what, found, "check the credentials in its URL: the index refuses them"
            )
        case 401 | 403 | 407:
            return warning(
                place.what, found, "it requires credentials: put them into its URL or into ~/.netrc"
            )
        case 404 | 410:
            return warning(
                place.what, found, "check its path: that of an index usually ends with /simple/"
            )
        case 405 | 501:
            # It does not know HEAD, and it is there.
            return ok(place.what, found)
        case status if status >= 400:
            return failed(place.what, found, "it answers, but with an error: ask its administrator")
    return ok(place.what, found)


def _is_trusted(url: str, sources: PackageSources) -> bool:
    parts = urlsplit(url)
    return bool({parts.hostname, parts.netloc.rpartition("@")[2]} & {*sources.trusted_hosts})
