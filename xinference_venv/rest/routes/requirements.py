"""The route of requirements: whether a package line is valid, while it is typed."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from xinference_venv._util.records import Record
from xinference_venv.planning.requirements import read_line
from xinference_venv.rest.base import Json, Route
from xinference_venv.rest.schemas.requests import RequirementText
from xinference_venv.rest.tokens import Scope


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirement(Record, name="requirement"):
    """A package line that can be meant: its normalized `name`, where it tells one, and itself."""

    name: str | None
    text: str


async def check_requirement(wanted: RequirementText) -> Response:
    """Read a package line: its name, and the line as it is understood; asks no disk or network.

    It is not part of a URL, which logs keep: it may hold a credential, which the answer hides.
    """
    name, text = read_line(wanted.text)
    return Json(Requirement(name=name, text=text).to_dict())


ROUTES = (Route("POST", "/v1/requirements", check_requirement, Scope.LIST, Requirement),)
