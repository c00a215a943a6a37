"""Asks the places of packages whether they are there, all at once, each under a deadline.

Comes in: places, and the variables by which uv would reach them: proxies, certificates,
``NETRC``. Comes out: an `IndexAnswer` for each, whatever happens. No credential goes anywhere but
to its own host, and none comes out.
"""

from __future__ import annotations

import asyncio
import base64
import netrc
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from xinference_venv._util.redact import redact_text, secrets_of
from xinference_venv.planning.index_answers import (
    IndexAnswer,
    IndexFailure,
    Place,
    is_login_page,
)

_SECONDS = 5.0
_HEADERS = {"Accept": "text/html, */*;q=0.1"}
# The list of all projects is large; a page that asks for a login says so at its beginning.
_LOOKED_AT = 1 << 16
_T = TypeVar("_T")


async def answers_of(
    places: Sequence[Place], environment: Mapping[str, str], deadline: float = _SECONDS
) -> list[IndexAnswer]:
    """The answer of each place, in order; none takes longer than `deadline` seconds.

    `environment` are uv's own variables.
    """

    async def ask(place: Place) -> IndexAnswer:
        try:
            async with asyncio.timeout(deadline):
                return await _left_behind(lambda: _ask(place, environment, deadline))
        except TimeoutError:
            return _no_answer(IndexFailure.TIMEOUT, f"{deadline:g} s")

    return await asyncio.gather(*map(ask, places))


async def _left_behind(work: Callable[[], _T]) -> _T:
    """Do the work in a thread that is not waited for once this is cancelled.

    The end of the process would wait for those of `asyncio.to_thread`, and a resolver of names
    that does not answer can't be interrupted.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def tell(result: _T) -> None:
        if not future.done():
            future.set_result(result)

    def run() -> None:
        result = work()
        # The loop may have ended meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=run, daemon=True).start()
    return await future


def _ask(place: Place, environment: Mapping[str, str], timeout: float) -> IndexAnswer:
    parts = urlsplit(place.url)
    if parts.scheme == "file":
        there = os.path.exists(unquote(parts.path))
        return IndexAnswer() if there else _no_answer(IndexFailure.ABSENT)
    login, _, host = parts.netloc.rpartition("@")
    url = urlunsplit(parts._replace(netloc=host))
    request = urllib.request.Request(url, headers=_HEADERS)  # noqa: S310 (http or https)
    if login := unquote(login) or _netrc_login(place.host, environment):
        # Where a redirection leads is no business of these credentials.
        token = base64.b64encode(login.encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    answer = IndexAnswer()
    try:
        proxies = urllib.request.ProxyHandler(_proxies(place, environment))
        for context in _contexts(place, environment):
            answer = _open(
                request, [proxies, urllib.request.HTTPSHandler(context=context)], place, timeout
            )
            if answer.failure is not IndexFailure.TLS:
                break
    except (OSError, ValueError) as error:
        # A file of certificates that can't be read.
        return _no_answer(IndexFailure.TLS, str(error)[:200])
    return answer


def _open(
    request: urllib.request.Request,
    handlers: Sequence[urllib.request.BaseHandler],
    place: Place,
    timeout: float,
) -> IndexAnswer:
    began = time.monotonic()
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as response:
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


def _contexts(place: Place, environment: Mapping[str, str]) -> Iterator[ssl.SSLContext]:
    """What is trusted: the file that is named, and then the system's store, as uv is asked to."""
    named = environment.get("SSL_CERT_FILE")
    for file in (named, None) if named else (None,):
        context = ssl.create_default_context(cafile=file)
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
