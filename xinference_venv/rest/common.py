"""What the endpoints share: the supervisor they ask, and the description of one route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel
from starlette.responses import Response

from xinference_venv.rest.tokens import Scope


async def _supervisor(request: Request) -> Any:
    return request.app.state.supervisor


Supervisor = Annotated[Any, Depends(_supervisor)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One row of the API: what is asked, the scope that it takes (None: anybody), the answers.

    Without a `reply` it answers with a text of one of the media types `texts`, or with server-sent
    events. `refused` are the statuses of errors beside those that any route may have.
    """

    method: str
    path: str
    endpoint: Callable[..., Awaitable[Response]]
    scope: Scope | None
    reply: type[BaseModel] | None
    texts: tuple[str, ...] = ()
    status: HTTPStatus = HTTPStatus.OK
    refused: tuple[int, ...] = ()
