"""Errors as HTTP answers: which status each class of errors has, and the one shape of the body.

Comes in: what a request raised. Comes out: a status and ``{code, message, details, detail}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from xinference_venv import errors
from xinference_venv._util.records import Plain, Record
from xinference_venv.rest.base import Json
from xinference_venv.rest.malformed import describe_error, place_of
from xinference_venv.sentences import joined, sentence

STATUSES: Mapping[type[errors.VirtualEnvError], HTTPStatus] = {
    errors.VirtualEnvError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InvalidInput: HTTPStatus(422),
    # What is damaged is ours, not the caller's.
    errors.InvalidRecord: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    # The same: nothing that the caller names is missing.
    errors.UvNotFound: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InUse: HTTPStatus.CONFLICT,
    # Well meant, and in conflict with what the host and the indexes have.
    errors.ResolutionFailed: HTTPStatus.CONFLICT,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.JobCancelled: HTTPStatus.CONFLICT,
    errors.WorkerUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.IncompatibleVersion: HTTPStatus.BAD_GATEWAY,
}
"""A class that is not named here has the status of its nearest parent."""


def status_of(error: errors.VirtualEnvError) -> HTTPStatus:
    """The status of an error, by the nearest class of its tree that has one."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorReply(Record, name="error of the API"):
    """What went wrong: `code` for programs, `message` for people, `details` that say more.

    `detail`, the message with what to do about it, is where clients of Xinference look.
    """

    code: str
    message: str
    details: Mapping[str, object]
    detail: str


def body_of(
    code: str, message: str, details: Mapping[str, object] | None = None
) -> dict[str, Plain]:
    """The body of an error."""
    described = errors.VirtualEnvError(message, details)
    hint = described.hint
    return ErrorReply(
        code=code,
        message=str(message),
        details=described.details,
        detail=f"{message} ({hint})" if hint else message,
    ).to_dict()


def refusal(
    status: HTTPStatus, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Json:
    """The answer to a request that never reaches what it asks for."""
    return Json(body_of(code, message), status_code=status, headers=dict(headers or {}))


def add_handlers(app: FastAPI, methods: Mapping[str, Iterable[str]]) -> None:
    """Let an app answer errors in our shape; `methods` are those of each path template."""

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, errors.VirtualEnvError)
        document = error.to_dict()
        return Json(
            body_of(document["code"], document["message"], document["details"]),
            status_code=status_of(error),
        )

    async def of_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        headers = dict(error.headers or {})
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            # The framework names those of the first route of the path only.
            headers["Allow"] = ", ".join(sorted(_allowed(request.url.path, methods)))
        code = status.phrase.lower().replace(" ", "_")
        # By itself it says no more than the phrase.
        given = error.detail != status.phrase
        message = error.detail if given else f"{request.method} {request.url.path}: {status.phrase}"
        return refusal(status, code, message, headers)

    async def malformed(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # Without what was given: it may hold a credential.
        wrong = [(place_of(each["loc"]), describe_error(each)) for each in error.errors()]
        message = joined(
            sentence("{where}: {what}", where=where, what=what) for where, what in wrong
        )
        listed = [{"where": where, "what": str(what)} for where, what in wrong]
        return Json(
            body_of(errors.InvalidInput.code, message, {"errors": listed}),
            status_code=STATUSES[errors.InvalidInput],
        )

    async def unforeseen(_: Request, __: Exception) -> Response:
        # The server's log has it; a stranger need not read our insides.
        return refusal(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            errors.VirtualEnvError.code,
            sentence("an internal error"),
        )

    app.add_exception_handler(errors.VirtualEnvError, ours)
    app.add_exception_handler(HTTPException, of_framework)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(Exception, unforeseen)


def _allowed(path: str, methods: Mapping[str, Iterable[str]]) -> set[str]:
    """The methods of a path; an app that is mounted in another one has a prefix."""
    found: set[str] = set()
    for template, those in methods.items():
        if re.search(re.sub(r"\{\w+\}", "[^/]+", template) + "$", path):
            found |= set(those)
    return found
