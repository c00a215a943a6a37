"""The web page: the files of `ui/` at ``/`` and ``/ui/...``.

Anyone may load them: they hold no data, and ask the API for it with the token that the user enters.
Their headers let a browser load nothing from other hosts and make no markup or script of text, so a
hostile name of a model stays a text.
"""

from __future__ import annotations

import os

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

PATHS = ("/", "/ui/{name}")
METHODS = ("GET", "HEAD")

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


class _PageFiles(StaticFiles):
    """The files of the page, each with its headers."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        # Starlette before 0.50 lets the system refuse it, and answers with 500.
        return ("", None) if "\0" in path else super().lookup_path(path)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        return response


def add_page(app: FastAPI) -> None:
    """Serve the page; it is no part of the API, and not described as one."""
    # Some installers make each file a link to their cache: uv with `link-mode = "symlink"`,
    # https://github.com/astral-sh/uv/pull/21376
    files = _PageFiles(packages=[(__package__, "ui")], follow_symlink=True)

    async def index(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    app.add_route("/", index, methods=list(METHODS), include_in_schema=False)
    app.mount("/ui", files)
