"""Who may ask for what: the check that a route makes, and the route that tells it beforehand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import Response

from xinference_venv._util.records import Record
from xinference_venv.rest.base import Json, Route
from xinference_venv.rest.tokens import Scope, Tokens
from xinference_venv.sentences import sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class Access(Record, name="access"):
    """The scopes of who asks: those of the token, all where no tokens are needed."""

    scopes: tuple[Scope, ...]


_bearer = HTTPBearer(auto_error=False, description="A token of the token file.")


def allowing(tokens: Tokens, scope: Scope) -> Callable[..., Awaitable[None]]:
    """A dependency that lets only those through whose token has a scope."""

    async def check(
        given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    ) -> None:
        if given is None:
            none = sentence("no token came along: send Authorization: Bearer TOKEN")
            raise HTTPException(401, none, {"WWW-Authenticate": "Bearer"})
        scopes = tokens.scopes_of(given.credentials)
        if scopes is None:
            unknown = sentence("the token is not in the token file")
            wrong = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            raise HTTPException(401, unknown, wrong)
        if scope not in scopes:
            lacks = sentence(
                "the token's line in the token file does not have {scope}", scope=scope
            )
            needed = f'Bearer error="insufficient_scope", scope="{scope}"'
            raise HTTPException(403, lacks, {"WWW-Authenticate": needed})

    return check


async def scopes_of(request: Request) -> frozenset[Scope]:
    """What the token of a request allows: all where none is needed, nothing without."""
    tokens: Tokens | None = request.app.state.tokens
    if tokens is None:
        return frozenset(Scope)
    given = await _bearer(request)
    return (None if given is None else tokens.scopes_of(given.credentials)) or frozenset()


async def asker_of(request: Request) -> str | None:
    """Who asks: the name of the token, else the address of the client."""
    tokens: Tokens | None = request.app.state.tokens
    given = None if tokens is None else await _bearer(request)
    name = None if tokens is None or given is None else tokens.name_of(given.credentials)
    if name is not None:
        return f"token {name}"
    return None if request.client is None else request.client.host


async def may_name_any_source(request: Request) -> bool:
    """Whether launches of this request may name sources that the worker does not know."""
    return Scope.SOURCES in await scopes_of(request)


async def show_access(request: Request) -> Response:
    """Tell what the token of this request allows: all where none is needed, nothing without."""
    return Json(Access(scopes=tuple(sorted(await scopes_of(request)))).to_dict())


ROUTES = (Route("GET", "/v1/access", show_access, None, Access),)
