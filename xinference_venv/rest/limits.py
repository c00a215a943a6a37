"""What stands before the application: whose requests, and how large.

Comes in: every HTTP request. Comes out: the request, its body read up to a bound, or a refusal.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xinference_venv.rest.base import RELEASE_HEADER
from xinference_venv.rest.errors import refusal
from xinference_venv.rest.tokens import Tokens
from xinference_venv.sentences import sentence

# Who still sends hears no answer: a body is read, and thrown away, up to so many bounds.
_READ_BOUNDS = 4
_RELEASE = version("xinference_venv")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of bodies, in bytes: of one, and of all together that are being read."""

    body_bytes: int = 4 << 20
    all_bodies_bytes: int = 12 << 20


class Guard:
    """ASGI middleware that lets a request through, or answers 400, 401, 403, 413 or 503.

    With `tokens` nothing of a body is read that comes without one that is known.

    `hosts` are the names a request may call this server by (None: any): a page of another site
    whose name was rebound to this address has its own name in `Host`. A browser says in
    `Origin` which site makes it send something; none but our own may.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        hosts: Collection[str] | None,
        tokens: Tokens | None,
    ) -> None:
        self._app = app
        self._limits = limits
        self._hosts = hosts
        self._tokens = tokens
        self._reading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        headers = Headers(scope=scope)
        try:
            self._check(scope["method"], headers)
            body = await self._body(headers, receive)
        except _RefusedError as error:
            await refusal(*error.args)(scope, receive, send)
        else:
            await self._app(scope, _replaying(body, receive), send)

    def _check(self, method: str, headers: Headers) -> None:
        """Raise `_RefusedError` for a request of which no body is read."""
        # Most releases of Starlette's TrustedHostMiddleware refuse [::1], and all answer in plain
        # text: https://github.com/Kludex/starlette/issues/3357
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            raise _RefusedError(
                HTTPStatus.BAD_REQUEST,
                "unknown_host",
                sentence("the Host header does not name this server"),
            )
        origin = headers.get("origin")
        if method not in _SAFE and origin is not None and _site(origin) != host.lower():
            raise _RefusedError(
                HTTPStatus.FORBIDDEN,
                "cross_origin",
                sentence("requests from pages of other sites are refused"),
            )
        if _has_body(headers) and not self._is_known(headers):
            raise _RefusedError(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized",
                sentence("a request with a body needs a valid token"),
                {"WWW-Authenticate": "Bearer", "Connection": "close"},
            )

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body; of one that is too large never more than the bound is kept."""
        most = self._limits.body_bytes
        too_large = _RefusedError(
            HTTPStatus(413),
            "too_large",
            sentence("the body has more than {limit} bytes", limit=most),
            {"Connection": "close"},
        )
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:18]) > _READ_BOUNDS * most:
            raise too_large
        body = bytearray()
        size = 0
        more = True
        try:
            while more and size <= _READ_BOUNDS * most:
                message = await receive()
                part = message.get("body", b"")
                size += len(part)
                if size <= most:
                    body += part
                    self._reading += len(part)
                    if self._reading > self._limits.all_bodies_bytes:
                        raise _RefusedError(
                            HTTPStatus.SERVICE_UNAVAILABLE,
                            "busy",
                            sentence("too many request bodies are being read at once"),
                            {"Retry-After": "5", "Connection": "close"},
                        )
                more = message["type"] == "http.request" and message.get("more_body", False)
        finally:
            self._reading -= len(body)
        if size > most:
            raise too_large
        return bytes(body)

    def _is_known(self, headers: Headers) -> bool:
        if self._tokens is None:
            return True
        kind, _, token = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self._tokens.scopes_of(token.strip()) is not None


class _RefusedError(Exception):
    """A request is refused; the arguments are those of `refusal`."""


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _with_headers(send: Send) -> Send:
    """Send answers that browsers neither guess the type of nor keep, and that name the release."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Cache-Control", "no-store")
            headers[RELEASE_HEADER] = _RELEASE
        await send(message)

    return sending


def _replaying(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _name_of(host: str) -> str:
    """The name in a Host header, without the port and in lower case; brackets of IPv6 stay."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdecimal() else host).lower()


def _site(origin: str) -> str:
    """Host and port of an Origin header, as a Host header has them."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
