"""What the answers of indexes, and of other places of packages, mean for launches.

Comes in: places and their answers. Comes out: a `Check` for each; name, certificate, timeout and
refusal have hints of their own.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from xinference_venv._util.humanize import duration_text
from xinference_venv.diagnosis.checks import Check, failed, ok, warning
from xinference_venv.planning.index_answers import (
    LOGIN_HINT,
    IndexAnswer,
    IndexFailure,
    Place,
)
from xinference_venv.sentences import sentence

_HINTS = {
    IndexFailure.NAME: sentence(
        "check the spelling, DNS (/etc/resolv.conf) and proxies (HTTPS_PROXY)"
    ),
    IndexFailure.TLS: sentence(
        "name its authority's certificate in SSL_CERT_FILE, or make it trusted-host"
    ),
    IndexFailure.TIMEOUT: sentence(
        "check firewalls and proxies (HTTPS_PROXY, NO_PROXY) on the way"
    ),
    IndexFailure.CONNECTION: sentence(
        "check that it runs, the port, and proxies (HTTPS_PROXY, NO_PROXY)"
    ),
    IndexFailure.ABSENT: sentence("create it, or remove it from pip's configuration"),
}
_FAILURES = {
    IndexFailure.NAME: sentence("its name can't be resolved"),
    IndexFailure.TLS: sentence("its certificate or encryption is not accepted"),
    IndexFailure.TIMEOUT: sentence("no answer in time"),
    IndexFailure.CONNECTION: sentence("no connection"),
    IndexFailure.ABSENT: sentence("no such folder or file"),
}


def index_check(place: Place, answer: IndexAnswer) -> Check:
    """What an answer means for launches."""
    if answer.failure is not None:
        words = f" ({answer.words})" if answer.words else ""
        return failed(
            place.what,
            sentence(
                "{shown}: {value}{words}",
                shown=place.shown,
                value=_FAILURES[answer.failure],
                words=words,
            ),
            _HINTS[answer.failure],
        )
    if answer.status is None:
        return ok(place.what, sentence("{shown} is there", shown=place.shown))
    found = sentence(
        "{shown} answered {status} after {elapsed}",
        shown=place.shown,
        status=answer.status,
        elapsed=duration_text(answer.elapsed),
    )
    if answer.login:
        return failed(
            place.what,
            sentence("{found} with a page that asks for a login", found=found),
            LOGIN_HINT,
        )
    match answer.status:
        case 401 | 403 if urlsplit(place.url).password:
            return failed(
                place.what,
                found,
                sentence("check the credentials in its URL: the index refuses them"),
            )
        case 407:
            return failed(
                place.what, found, sentence("the proxy wants credentials: see HTTPS_PROXY")
            )
        case 401 | 403:
            return warning(
                place.what,
                found,
                sentence(
                    "it requires credentials: put them into its URL or into ~/.netrc; a"
                    " keyring is asked by launches alone"
                ),
            )
        case 429:
            return failed(
                place.what,
                found,
                sentence(
                    "it takes no more requests from here for a while: wait, name a mirror, or"
                    " let uv ask less at once with UV_CONCURRENT_DOWNLOADS"
                ),
            )
        case 404 | 410:
            return warning(
                place.what,
                found,
                sentence("check its path: that of an index usually ends with /simple/"),
            )
        case 405 | 501:
            # It does not know HEAD, and it is there.
            return ok(place.what, found)
        case status if status >= 400:
            return failed(
                place.what, found, sentence("it answers, but with an error: ask its administrator")
            )
    return ok(place.what, found)
