"""The application: the routes with their scopes, descriptions and errors, behind the guard.

Comes in: a client of the actors and the tokens. Comes out: an ASGI application, which a serving
cluster can also mount in its own.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI
from starlette.responses import Response

from xinference_venv.rest.base import UNREACHABLE_HEADER, Json, Route
from xinference_venv.rest.errors import ErrorReply, add_handlers
from xinference_venv.rest.limits import Guard, Limits
from xinference_venv.rest.listings import (
    EnvironmentName,
    JobName,
    LeaseName,
    Listings,
    WorkerName,
)
from xinference_venv.rest.routes import (
    access,
    cluster,
    environments,
    launches,
    maintenance,
    metrics,
    requirements,
)
from xinference_venv.rest.routes.access import allowing
from xinference_venv.rest.schemas.of_records import model_of
from xinference_venv.rest.sse import EventStream, Streams
from xinference_venv.rest.static_page import METHODS, PATHS, add_page
from xinference_venv.rest.supervisor_proxy import LeaseReturner, SupervisorProxy
from xinference_venv.rest.tokens import Tokens

if TYPE_CHECKING:
    from xinference_venv.client import Client

ROUTES: tuple[Route, ...] = (
    *environments.ROUTES,
    *launches.ROUTES,
    *maintenance.ROUTES,
    *cluster.ROUTES,
    *requirements.ROUTES,
    *access.ROUTES,
    *metrics.ROUTES,
)
# What the guard, the framework and the way to the supervisor may answer anywhere.
_ANYWHERE = {
    400: "The request can't be read, or its Host header does not name this server.",
    413: "The body is too large.",
    422: "Invalid input: `details` say what is wrong.",
    500: "An internal error; `code` says of which kind.",
    502: "A part of the cluster is of a release that can't work with the others.",
    503: "The supervisor, or every worker that could tell, does not answer.",
    504: "It took longer than allowed.",
}
_SOMEWHERE = {
    404: "What the request names does not exist.",
    409: "It is in use (`details.holders`, `details.users`), or the requirements have no solution.",
    429: "Too many launches are being followed: `Retry-After` says how many seconds to wait.",
}


def create_app(
    client: Client,
    *,
    tokens: Tokens | None,
    hosts: Collection[str] | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """The API over a client's supervisor.

    Without `tokens` anybody may do anything: bind it to the loopback address only, and name the
    `hosts` by which a request may call it there.
    """
    app = FastAPI(
        title="xinference_venv",
        summary="The Python environments of a serving cluster's models.",
        version=version("xinference_venv"),
        # They would load scripts of other hosts.
        docs_url=None,
        redoc_url=None,
        # Its redirections would go wherever `Host` says.
        redirect_slashes=False,
    )
    app.state.supervisor = SupervisorProxy(supervisor=client.supervisor)
    app.state.tokens = tokens
    app.state.lease_returner = LeaseReturner(supervisor=client.supervisor)
    app.state.streams = Streams()
    app.state.environments = Listings(name_of=EnvironmentName.of)
    app.state.jobs = Listings(name_of=JobName.of)
    app.state.leases = Listings(name_of=LeaseName.of)
    app.state.workers = Listings(name_of=WorkerName.of, write=cluster.write_workers)
    app.add_middleware(Guard, limits=limits or Limits(), hosts=hosts, tokens=tokens)
    methods: dict[str, list[str]] = {path: list(METHODS) for path in PATHS}
    for route in ROUTES:
        methods.setdefault(route.path, []).append(route.method)
        _add(app, route, tokens)
    add_page(app)
    add_handlers(app, methods)
    return app


def _add(app: FastAPI, route: Route, tokens: Tokens | None) -> None:
    checks = [] if tokens is None or route.scope is None else [allowing(tokens, route.scope)]
    app.add_api_route(
        route.path,
        route.endpoint,
        methods=[route.method],
        status_code=route.status,
        # The answers go out as they came: checking them again would cost more than making them.
        response_model=None,
        response_class=Response if route.reply is None else Json,
        responses=_responses(route, guarded=bool(checks)),
        dependencies=list(map(Depends, checks)),
        operation_id=route.endpoint.__name__,
    )


def _responses(route: Route, *, guarded: bool) -> dict[int | str, dict[str, Any]]:
    """The answers of a route as OpenAPI describes them."""
    found: dict[int | str, dict[str, Any]] = {
        status: {"model": model_of(ErrorReply), "description": text}
        for status, text in _ANYWHERE.items()
    }
    for status in route.refused:
        found[status] = {"model": model_of(ErrorReply), "description": _SOMEWHERE[status]}
    if guarded:
        found[401] = {
            "model": model_of(ErrorReply),
            "description": "No token, or one that is not known.",
        }
    # Also for a page of another site, whatever its token.
    found[403] = {
        "model": model_of(ErrorReply),
        "description": "The token lacks the scope, or a page of another site asks.",
    }
    ok: dict[str, Any] = {"description": route.status.phrase}
    if route.texts:
        ok["content"] = {each: {"schema": {"type": "string"}} for each in route.texts}
    elif route.reply is None:
        text = {"type": "string"}
        event = {"event": {"enum": ["job", "end", "lost"]}, "id": text, "data": text}
        ok["content"] = {
            EventStream.media_type: {"itemSchema": {"type": "object", "properties": event}}
        }
        found[204] = {"description": "It has ended, and the last event was sent."}
    else:
        model = model_of(route.reply, more=route.more, perhaps=route.perhaps)
        ok["model"] = model
        if "unreachable" in model.model_fields:
            ok["headers"] = {
                UNREACHABLE_HEADER: {
                    "description": "The workers that did not answer; `unreachable` says more.",
                    "schema": {"type": "string"},
                }
            }
    found[int(route.status)] = ok
    return found
