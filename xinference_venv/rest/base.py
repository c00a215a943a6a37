"""Answers of the supervisor as HTTP answers: JSON, who is missing, what a removal comes to.

Comes in: what the supervisor says. Comes out: a response, or the error that says it better.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from xinference_venv._util.humanize import printable
from xinference_venv.errors import InUse
from xinference_venv.inventory.gathered import check_found, is_whole
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.rest.tokens import Scope

UNREACHABLE_HEADER = "X-Virtualenv-Unreachable"


class Json(JSONResponse):
    """JSON in ASCII: names on disk may hold what has no encoding in UTF-8."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def gathered(answer: Mapping[str, Any], **more: Any) -> Json:
    """What was gathered of several workers; those that did not answer are named in a header too."""
    unreachable = ", ".join(
        printable(each["worker_address"]).encode("ascii", "backslashreplace").decode()
        for each in answer["unreachable"]
    )
    return Json(
        {**more, **answer}, headers={UNREACHABLE_HEADER: unreachable} if unreachable else None
    )


def removed(answer: Mapping[str, Any], *, dry_run: bool) -> Json:
    """What a removal came to, or would: `result` says whether all that matches is gone.

    Raises `NotFound`, `WorkerUnavailable` and, unless it is a dry run, `InUse` with the holders;
    workers that refused nothing have removed theirs, which `reports` of its details tell.
    """
    parts = ("remove", "detach", "refuse")
    matching = [entry for report in answer["list"] for part in parts for entry in report[part]]
    check_found(answer, matching, "environment")
    refused = [EnvEntry.from_dict(entry) for report in answer["list"] for entry in report["refuse"]]
    if refused and not dry_run:
        raise InUse(
            "; ".join(f"{entry.key} is {entry.hindrance}" for entry in refused),
            {
                "holders": [lease.to_dict() for entry in refused for lease in entry.leases],
                "users": [user.to_dict() for entry in refused for user in entry.users],
                "reports": answer["list"],
                "unreachable": answer["unreachable"],
                "hint": "end what uses it, or remove what leases hold with force=true",
            },
        )
    return gathered(answer, result=not refused and is_whole(answer))


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
