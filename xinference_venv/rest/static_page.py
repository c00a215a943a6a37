"""The web page: the files of `ui/` at ``/`` and ``/ui/...``, held in memory since they are few.

Anybody may load them: they hold no data, and ask the API for it with the token that somebody
enters. They run in a browser that is told to load nothing of other hosts and to make no markup or
script of text, so a hostile name of a model stays a text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

PATHS = ("/", "/ui/{name}")
METHODS = ("GET", "HEAD")

_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}
_POLICY = "; ".join(
    [
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors")),
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept, and asked for each time: a new release shows at once.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file of the page; `etag` is of its content (RFC 9110, 8.8.3)."""

    content: bytes
    media_type: str
    etag: str

    def answer(self, known: str | None) -> Response:
        """The file, or 304 for who has it: `known` is the header ``If-None-Match``."""
        headers = {**_HEADERS, "ETag": self.etag}
        tags = [each.strip().removeprefix("W/") for each in (known or "").split(",")]
        if self.etag in tags or tags == ["*"]:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def read_files() -> Mapping[str, File]:
    """The files of the page, by name."""
    found = {}
    for each in files("xinference_venv.rest").joinpath("ui").iterdir():
        media_type = _MEDIA_TYPES.get(each.name.rpartition(".")[2])
        if media_type is not None:
            content = each.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[each.name] = File(content=content, media_type=media_type, etag=etag)
    return found


def add_page(app: FastAPI) -> None:
    """Serve the page; it is no part of the API, and not described as one."""
    known = read_files()

    async def page(request: Request) -> Response:
        found = known.get(request.path_params.get("name", "index.html"))
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return found.answer(request.headers.get("if-none-match"))

    for path in PATHS:
        app.add_route(path, page, methods=list(METHODS), include_in_schema=False)
