"""Asks the places of packages whether they are there, all at once, each under a deadline.

Comes in: places, and the variables by which uv would reach them: proxies, certificates,
``NETRC``. Comes out: an `IndexAnswer` for each, whatever happens. No credential goes anywhere but
to its own host, and none comes out.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

from xinference_venv._util.redact import redact_text, secrets_of
from xinference_venv.planning.index_answers import (
    IndexAnswer,
    IndexFailure,
    Place,
    is_login_page,
)
from xinference_venv.service.http_client import in_abandonable_thread, openers_for, request_to

_SECONDS = 5.0
_HEADERS = {"Accept": "text/html, */*;q=0.1"}
# The list of all projects is large; a page that asks for a login says so at its beginning.
_LOOKED_AT = 1 << 16


async def answers_of(
    places: Sequence[Place],
    environment: Mapping[str, str],
    deadline: float = _SECONDS,
    *,
    method: str = "GET",
) -> list[IndexAnswer]:
    """The answer of each place, in order; none takes longer than `deadline` seconds.

    `environment` are uv's own variables. With the method ``HEAD`` no content is sent.
    """

    async def ask(place: Place) -> IndexAnswer:
        try:
            async with asyncio.timeout(deadline):
                return await in_abandonable_thread(
                    lambda: _ask(place, environment, deadline, method)
                )
        except TimeoutError:
            return _no_answer(IndexFailure.TIMEOUT, f"{deadline:g} s")

    return await asyncio.gather(*map(ask, places))


def _ask(place: Place, environment: Mapping[str, str], timeout: float, method: str) -> IndexAnswer:
    parts = urlsplit(place.url)
    if parts.scheme == "file":
        there = os.path.exists(unquote(parts.path))
        return IndexAnswer() if there else _no_answer(IndexFailure.ABSENT)
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
