"""The routes of launches: prepare, plan, follow, cancel."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request
from starlette.responses import Response

from xinference_venv._util.records import Record
from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.reports import ExplainedPlan, JobReport, JobSummary
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.rest.base import Json, Route, Supervisor
from xinference_venv.rest.errors import refusal
from xinference_venv.rest.listings import Changes, JobName, Listings
from xinference_venv.rest.routes.access import asker_of, may_name_any_source
from xinference_venv.rest.schemas.requests import (
    JobId,
    LastEventId,
    OnlyChanges,
    PlanRequest,
    PrefetchRequest,
    PrepareRequest,
    Since,
    Wait,
    WorkerIp,
)
from xinference_venv.rest.sse import END, EventStream, Streams, event_stream
from xinference_venv.rest.tokens import Scope
from xinference_venv.sentences import sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted(Record, name="accepted launch"):
    """A launch that has begun; `GET /v1/jobs/{job_id}` tells how it goes."""

    job_id: str


async def prepare_virtual_env(
    request: Request, supervisor: Supervisor, launch: PrepareRequest
) -> Response:
    """Start to make the environment of a launch; answers at once, with the id to follow it by.

    That prepares workers for the launches to come: nothing is left in use.
    """
    job_id = await supervisor.prepare(
        launch.request(restricted=not await may_name_any_source(request)),
        workers=tuple(launch.workers),
        count=launch.count,
        everywhere=launch.everywhere,
        require=launch.require,
        background=launch.background,
        asked_by=await asker_of(request),
    )
    request.app.state.lease_returner.after(job_id)
    return Json(
        Accepted(job_id=job_id).to_dict(),
        status_code=HTTPStatus.ACCEPTED,
        headers={"Location": f"/v1/jobs/{job_id}"},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefetchBegun(Record, name="prefetch of a model"):
    """A launch ahead of need: its id, or why it could not begin."""

    model_name: str
    job_id: str | None
    error: Failure | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefetchesBegun(Record, name="accepted prefetch"):
    """The launches of a prefetch, in the order of its models; each is followed by its id."""

    list: tuple[PrefetchBegun, ...]


async def prefetch_virtual_envs(
    request: Request, supervisor: Supervisor, wanted: PrefetchRequest
) -> Response:
    """Start to bring the environments of several models to workers, ahead of need.

    Answers at once, with an id for each model to follow and cancel it by; nothing is left in use.
    A model that can't be launched is an error in its place, unless it is so with all of them.
    """
    restricted = not await may_name_any_source(request)
    launches = [each.request(restricted=restricted) for each in wanted.models]
    asker = await asker_of(request)

    async def begin(launch: LaunchRequest) -> str | VirtualEnvError:
        try:
            return await supervisor.prepare(
                launch,
                workers=tuple(wanted.workers),
                count=wanted.count,
                everywhere=not wanted.workers and wanted.count is None,
                require=wanted.require,
                background=True,
                asked_by=asker,
            )
        except VirtualEnvError as error:
            return error

    begun = await asyncio.gather(*map(begin, launches))
    errors = [each for each in begun if isinstance(each, VirtualEnvError)]
    if len(errors) == len(begun):
        raise errors[0]
    listed = []
    for launch, each in zip(launches, begun, strict=True):
        job_id = each if isinstance(each, str) else None
        error = each if isinstance(each, VirtualEnvError) else None
        if job_id is not None:
            request.app.state.lease_returner.after(job_id)
        failure = None if error is None else Failure.of(error)
        listed.append(PrefetchBegun(model_name=launch.model_name, job_id=job_id, error=failure))
    return Json(PrefetchesBegun(list=tuple(listed)).to_dict(), status_code=HTTPStatus.ACCEPTED)


async def plan_virtual_env(
    request: Request, supervisor: Supervisor, launch: PlanRequest
) -> Response:
    """Resolve a launch on one worker and say what it would install, inherit and hide."""
    planned = await supervisor.plan(
        launch.request(restricted=not await may_name_any_source(request)), launch.worker_ip
    )
    return Json(planned.explained().to_dict())


async def list_jobs(
    request: Request,
    supervisor: Supervisor,
    worker_ip: WorkerIp = None,
    changes: OnlyChanges = False,
) -> Response:
    """List the launches that run or ended not long ago, on each of their workers.

    With an ETag, as the list of environments has it.
    """
    listed = await supervisor.list_jobs(worker_ip)
    listings: Listings[JobName, JobSummary] = request.app.state.jobs
    return listings.answer(request, listed, changes=changes)


async def show_job(
    supervisor: Supervisor, job_id: JobId, since: Since = 0, wait: Wait = 0.0
) -> Response:
    """Show how a launch fares; `since` and `wait` make it a long poll."""
    return Json((await supervisor.wait(job_id, since, wait)).to_dict())


async def follow_job(
    request: Request, supervisor: Supervisor, job_id: JobId, last_event_id: LastEventId = ""
) -> Response:
    """Follow a launch by server-sent events: `job` for each event, `end` at the end.

    After `lost` (the supervisor does not answer) ask again; who has seen the `end` gets 204.
    """
    if last_event_id == END:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    since = int(last_event_id or 0)
    streams: Streams = request.app.state.streams
    peer = request.client.host if request.client else ""
    if not streams.admits(peer):
        return refusal(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too_many_requests",
            sentence("too many launches are being followed"),
            {"Retry-After": "5"},
        )
    # Asked before the answer begins, so that an unknown job is an error like any other.
    answer = await supervisor.wait(job_id, since, 0.0)
    return EventStream(streams.counted(peer, event_stream(supervisor, job_id, since, answer)))


async def cancel_job(supervisor: Supervisor, job_id: JobId) -> Response:
    """Cancel a launch; answers when nothing of it is left. One that has ended stays as it is."""
    await supervisor.cancel(job_id)
    return Json((await supervisor.wait(job_id, 0, 0.0)).to_dict())


ROUTES = (
    Route(
        "POST",
        "/v1/virtualenvs",
        prepare_virtual_env,
        Scope.CREATE,
        Accepted,
        status=HTTPStatus.ACCEPTED,
        refused=(404, 409),
    ),
    Route(
        "POST",
        "/v1/prefetch",
        prefetch_virtual_envs,
        Scope.CREATE,
        PrefetchesBegun,
        status=HTTPStatus.ACCEPTED,
        refused=(404, 409),
    ),
    Route(
        "POST",
        "/v1/virtualenvs/plan",
        plan_virtual_env,
        Scope.CREATE,
        ExplainedPlan,
        refused=(404, 409),
    ),
    Route(
        "GET",
        "/v1/jobs",
        list_jobs,
        Scope.LIST,
        Gathered[JobSummary],
        perhaps=Changes[JobName],
        refused=(404,),
    ),
    Route("GET", "/v1/jobs/{job_id}", show_job, Scope.LIST, JobReport, refused=(404,)),
    Route("GET", "/v1/jobs/{job_id}/events", follow_job, Scope.LIST, None, refused=(404, 429)),
    Route("DELETE", "/v1/jobs/{job_id}", cancel_job, Scope.CREATE, JobReport, refused=(404,)),
)
