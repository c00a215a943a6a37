"""The route of requirements: whether a package line is valid, while it is typed."""

from __future__ import annotations

from starlette.responses import Response

from xinference_venv.planning.requirements import read_line
from xinference_venv.rest.base import Json, Route
from xinference_venv.rest.schemas import responses
from xinference_venv.rest.schemas.requests import RequirementText
from xinference_venv.rest.tokens import Scope


async def check_requirement(wanted: RequirementText) -> Response:
    """Read a package line: its name, and the line as it is understood; asks no disk or network.

    It is not part of a URL, which logs keep: it may hold a credential, which the answer hides.
    """
    name, text = read_line(wanted.text)
    return Json({"name": name, "text": text})


ROUTES = (
    Route(
        method="POST",
        path="/v1/requirements",
        endpoint=check_requirement,
        scope=Scope.LIST,
        reply=responses.Requirement,
    ),
)
