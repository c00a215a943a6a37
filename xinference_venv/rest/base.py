"""Answers of the supervisor as HTTP answers: JSON, workers that are missing, results of removals.

Comes in: an answer of the supervisor. Comes out: a response, or an error with its status.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from starlette.responses import JSONResponse, Response

from xinference_venv._util.humanize import printable
from xinference_venv._util.records import Plain, Record
from xinference_venv.actors.protocols import SupervisorProtocol
from xinference_venv.inventory.gathered import Gathered, T, check_found
from xinference_venv.inventory.inventory import removal_error
from xinference_venv.inventory.reports import RemovalReport
from xinference_venv.rest.tokens import Scope

UNREACHABLE_HEADER = "X-Virtualenv-Unreachable"
RELEASE_HEADER = "X-Virtualenv-Release"


class Json(JSONResponse):
    """JSON in ASCII: names on disk may hold what has no encoding in UTF-8."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def known_etags(request: Request) -> list[str]:
    """The ETags of the answers that the asker has (RFC 9110, 13.1.2)."""
    known = request.headers.get("If-None-Match", "").split(",")
    return [each.strip().removeprefix("W/") for each in known]


def etag_of(answer: Json) -> str:
    """The ETag of an answer, by its content."""
    return f'"{hashlib.sha256(bytes(answer.body)).hexdigest()[:32]}"'


def not_modified(headers: Mapping[str, str]) -> Response:
    """304, with those of an answer's headers that go with it."""
    kept = {name: headers[name] for name in ("ETag", UNREACHABLE_HEADER) if name in headers}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result(Record, name="result"):
    """Whether all that was asked for is done, or would be."""

    result: bool


def gathered(answer: Gathered[T], *more: Record) -> Json:
    """What was gathered of several workers; those that did not answer are named in a header too.

    The keys of further records are among its own.
    """
    unreachable = ", ".join(
        printable(each.status.worker_address).encode("ascii", "backslashreplace").decode()
        for each in answer.unreachable
    )
    content: dict[str, Plain] = {}
    for each in (*more, answer):
        content.update(each.to_dict())
    return Json(content, headers={UNREACHABLE_HEADER: unreachable} if unreachable else None)


def removed(answer: Gathered[RemovalReport], *, dry_run: bool) -> Json:
    """What a removal came to, or would: `result` says whether all that matches is gone.

    Raises `NotFound`, `WorkerUnavailable` and, unless it is a dry run, `InUse` with the holders;
    workers that refused nothing have removed theirs, which `reports` of its details tell.
    """
    matching = [entry for report in answer.list for entry in report.matching]
    check_found(answer, matching, "environment")
    refused = [
        (f"{printable(report.worker_address)}: " if len(answer.list) > 1 else "", entry)
        for report in answer.list
        for entry in report.plan.refuse
    ]
    refusal = removal_error(refused, force="force=true")
    if refusal is not None and not dry_run:
        raise refusal.with_details(
            reports=[report.to_dict() for report in answer.list],
            unreachable=[each.to_dict() for each in answer.unreachable],
        )
    return gathered(answer, Result(result=refusal is None and answer.is_whole))


async def _supervisor(request: Request) -> SupervisorProtocol:
    return cast(SupervisorProtocol, request.app.state.supervisor)


Supervisor = Annotated[SupervisorProtocol, Depends(_supervisor)]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the API: what is asked, the scope that it takes (None: anybody), the answers.

    Without a `reply` it answers with a text of one of the media types `texts`, or with server-sent
    events. `refused` are the statuses of errors, besides those that any route may have.
    """

    method: str
    path: str
    endpoint: Callable[..., Awaitable[Response]]
    scope: Scope | None
    reply: type[Record] | None
    _: KW_ONLY
    more: type[Record] | None = None
    """What else is among the keys of the reply."""
    perhaps: type[Record] | None = None
    """What may be among them."""
    texts: tuple[str, ...] = ()
    status: HTTPStatus = HTTPStatus.OK
    refused: tuple[int, ...] = ()
