"""Asks the places of packages whether they are there, all at once, each under a deadline.

Comes in: places. Comes out: an `IndexAnswer` for each, whatever happens. No credential goes
anywhere but to its own host, and none comes out.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from xinference_venv._util.redact import redact_text, secrets_of
from xinference_venv.diagnosis.index_checks import IndexAnswer, IndexFailure, Place

_SECONDS = 5.0
_T = TypeVar("_T")


async def answers_of(places: Sequence[Place], deadline: float = _SECONDS) -> list[IndexAnswer]:
    """The answer of each place, in order; none takes longer than `deadline` seconds."""

    async def ask(place: Place) -> IndexAnswer:
        try:
            async with asyncio.timeout(deadline):
                return await _left_behind(lambda: _ask(place, deadline))
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


def _ask(place: Place, timeout: float) -> IndexAnswer:
    parts = urlsplit(place.url)
    if parts.scheme == "file":
        there = os.path.exists(unquote(parts.path))
        return IndexAnswer() if there else _no_answer(IndexFailure.ABSENT)
    user, at, host = parts.netloc.rpartition("@")
    url = urlunsplit(parts._replace(netloc=host))
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (checked: http or https)
    if at:
        # Where a redirection leads is no business of these credentials.
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    context = ssl.create_default_context()
    if place.trusted:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    began = time.monotonic()
    try:
        with opener.open(request, timeout=timeout) as response:
            return _answered(response.status, response.headers, began)
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
