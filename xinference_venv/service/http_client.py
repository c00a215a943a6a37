"""Requests of our own to places of packages, made as uv would make them.

Comes in: a place, and the variables of uv: proxies, certificates, ``NETRC``. Comes out: a request
and what opens it. No credential goes anywhere but to its own host.
"""

from __future__ import annotations

import asyncio
import base64
import netrc
import os
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from xinference_venv.planning.index_answers import Place

_T = TypeVar("_T")


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


async def in_abandonable_thread(work: Callable[[], _T]) -> _T:
    """Do the work in a thread that is not waited for once this is cancelled.

    The end of the process would wait for those of `asyncio.to_thread`, and a resolver of names
    that does not answer can't be interrupted.
    """
    outcome: Future[_T] = Future()
    # From now on it can't be cancelled, as the thread can't.
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 (the edge of a thread: it is raised to who waits)
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)


def _contexts(place: Place, environment: Mapping[str, str]) -> Iterator[ssl.SSLContext]:
    """What is trusted: the file that is named, and then the system's store, as uv is asked to."""
    named = environment.get("SSL_CERT_FILE")
    for file in (named, None) if named else (None,):
        context = ssl.create_default_context(cafile=file)
        # From Python 3.13 on it refuses authorities without key usage, as companies' own often are
        # (https://github.com/python/cpython/issues/107361); neither uv nor pip does.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if place.trusted:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if client := environment.get("SSL_CLIENT_CERT"):
            context.load_cert_chain(client)
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


def _netrc_login(host: str, environment: Mapping[str, str]) -> str:
    """``user:password`` of a host by the user's netrc file, where uv finds it; else empty."""
    file = environment.get("NETRC") or os.path.join(environment.get("HOME", ""), ".netrc")
    try:
        found = netrc.netrc(file).authenticators(host)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return ""
    return "" if found is None else f"{found[0]}:{found[2]}"
