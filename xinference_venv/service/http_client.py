"""Requests of our own to places of packages, made as uv would make them.

Comes in: a place, and the variables of uv: proxies, certificates, ``NETRC``. Comes out: a request
and what opens it, or what the place answers. No credential goes anywhere but to its own host, and
none comes out.
"""

from __future__ import annotations

import base64
import netrc
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.parse import unquote, urlsplit, urlunsplit

from xinference_venv._util.redact import redact_text, secrets_of
from xinference_venv.planning.index_answers import (
    IndexAnswer,
    IndexFailure,
    Place,
    is_login_page,
)
from xinference_venv.store.visit import open_regular

_HEADERS = {"Accept": "text/html, */*;q=0.1"}
# The list of all projects is large; a page that asks for a login says so at its beginning.
_LOOKED_AT = 1 << 16


def request_to(
    place: Place,
    environment: Mapping[str, str],
    *,
    method: str = "GET",
    headers: Mapping[str, str],
) -> urllib.request.Request:
    """The request to a place, with the login of its URL, else that of the user's netrc file."""
    parts = urlsplit(place.url)
    login, _, host = parts.netloc.rpartition("@")
    url = urlunsplit(parts._replace(netloc=host))
    request = urllib.request.Request(url, headers=dict(headers), method=method)  # noqa: S310 (http or https)
    if login := unquote(login) or _netrc_login(place.host, environment):
        # Where a redirection leads is no business of these credentials.
        token = base64.b64encode(login.encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def ask(place: Place, environment: Mapping[str, str], timeout: float, method: str) -> IndexAnswer:
    """What a place answers over HTTP, or why there is no answer; blocks."""
    request = request_to(place, environment, method=method, headers=_HEADERS)
    answer = IndexAnswer()
    try:
        for opener in openers_for(place, environment):
            answer = _open(request, opener, place, timeout)
            if answer.failure is not IndexFailure.TLS:
                break
    except (OSError, ValueError) as error:
        # A file of certificates that can't be read.
        return _no_answer(IndexFailure.TLS, str(error)[:200])
    return answer


def openers_for(
    place: Place, environment: Mapping[str, str]
) -> Iterator[urllib.request.OpenerDirector]:
    """What opens a request to a place: with the certificates that are named, then the system's.

    The next one is to be tried when the certificate is not accepted. Raises `OSError` and
    `ValueError` for a file of certificates that can't be read.
    """
    proxies = urllib.request.ProxyHandler(_proxies(place, environment))
    for context in _contexts(place, environment):
        yield urllib.request.build_opener(proxies, urllib.request.HTTPSHandler(context=context))


def _contexts(place: Place, environment: Mapping[str, str]) -> Iterator[ssl.SSLContext]:
    """What is trusted: the file that is named, and then the system's store, as uv is asked to."""
    named = environment.get("SSL_CERT_FILE")
    for file in (named, None) if named else (None,):
        context = ssl.create_default_context(cafile=_regular(file) if file else None)
        # From Python 3.13 on it refuses authorities without key usage, as companies' own often are
        # (https://github.com/python/cpython/issues/107361); neither uv nor pip does.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if place.trusted:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if client := environment.get("SSL_CLIENT_CERT"):
            context.load_cert_chain(_regular(client))
        yield context


def _proxies(place: Place, environment: Mapping[str, str]) -> dict[str, str]:
    """The proxies by scheme; none for a host that is to be reached without."""
    # Both spellings count, the one in small letters first.
    known = {name.lower(): value for name, value in sorted(environment.items()) if value}
    proxies = {
        scheme: proxy
        for scheme in ("http", "https")
        if (proxy := known.get(f"{scheme}_proxy") or known.get("all_proxy"))
    }
    return {} if _without_proxy(place.host, known.get("no_proxy", "")) else proxies


def _without_proxy(host: str, excluded: str) -> bool:
    """Whether ``NO_PROXY`` names a host, a domain that it is in, or everything."""
    for each in filter(None, (entry.strip().lower() for entry in excluded.split(","))):
        name = each.removeprefix("*").lstrip(".").partition(":")[0]
        if each == "*" or host.lower() == name or host.lower().endswith(f".{name}"):
            return True
    return False


def _regular(path: str) -> str:
    """The same path; raises `OSError` for what is no regular file: a pipe may never be written."""
    open_regular(path).close()
    return path


def _netrc_login(host: str, environment: Mapping[str, str]) -> str:
    """``user:password`` of a host by the user's netrc file, where uv finds it; else empty."""
    file = environment.get("NETRC") or os.path.join(environment.get("HOME", ""), ".netrc")
    try:
        found = netrc.netrc(_regular(file)).authenticators(host)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return ""
    return "" if found is None else f"{found[0]}:{found[2]}"


def _open(
    request: urllib.request.Request,
    opener: urllib.request.OpenerDirector,
    place: Place,
    timeout: float,
) -> IndexAnswer:
    began = time.monotonic()
    try:
        with opener.open(request, timeout=timeout) as response:
            beginning = response.read(_LOOKED_AT).decode("utf-8", "replace")
            answer = _answered(response.status, response.headers, began)
            media_type = response.headers.get_content_type()
            return replace(answer, login=is_login_page(media_type, beginning))
    except urllib.error.HTTPError as error:
        with error:
            return _answered(error.code, error.headers, began)
    except urllib.error.URLError as error:
        return _failure(error.reason, place)
    except (OSError, HTTPException, ValueError) as error:
        return _failure(error, place)


def _answered(status: int, headers: Message, began: float) -> IndexAnswer:
    ahead = None
    # A date that is none tells nothing.
    with suppress(ValueError, TypeError):
        ahead = time.time() - parsedate_to_datetime(headers["Date"]).timestamp()
    return IndexAnswer(status=status, ahead=ahead, elapsed=time.monotonic() - began)


def _failure(reason: object, place: Place) -> IndexAnswer:
    words = str(getattr(reason, "strerror", None) or reason)
    shown = redact_text(words, secrets_of([place.url]))[:200]
    match reason:
        case ssl.SSLCertVerificationError():
            return _no_answer(IndexFailure.TLS, redact_text(reason.verify_message)[:200])
        case ssl.SSLError():
            return _no_answer(IndexFailure.TLS, shown)
        case socket.gaierror():
            return _no_answer(IndexFailure.NAME, shown)
        case TimeoutError():
            return _no_answer(IndexFailure.TIMEOUT, shown)
    return _no_answer(IndexFailure.CONNECTION, shown)


def _no_answer(failure: IndexFailure, words: str = "") -> IndexAnswer:
    return IndexAnswer(failure=failure, words=words)
