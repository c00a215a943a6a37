"""The routes of the cluster: workers, models, logs, health and readiness."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fastapi import Request
from starlette.responses import Response

from xinference_venv._util.records import Record, to_plain
from xinference_venv.diagnosis.checks import Diagnoses
from xinference_venv.errors import DeadlineExceeded, WorkerUnavailable
from xinference_venv.inventory.cluster_state import WorkerState, WorkerStatus
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.job_log import LogPart, WholeLog
from xinference_venv.inventory.reports import DiskUsage
from xinference_venv.observability.history import History
from xinference_venv.planning.listed_model import ListedModel
from xinference_venv.rest.base import Json, Route, Supervisor, gathered
from xinference_venv.rest.listings import Changes, Listings, WorkerName, without_heartbeat
from xinference_venv.rest.schemas.requests import (
    Count,
    DrainRequest,
    LogId,
    Offset,
    OnlyChanges,
    SelectedOfModel,
    WorkerAddress,
    WorkerIdOrAddress,
    WorkerIp,
)
from xinference_venv.rest.tokens import Scope
from xinference_venv.sentences import sentence

# Who asks whether we are ready asks again soon, and waits no longer.
_READY_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers(Record, name="workers"):
    """The workers of the cluster."""

    list: tuple[WorkerStatus, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Models(Record, name="models"):
    """The models of one worker's catalogue."""

    list: tuple[ListedModel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Alive(Record, name="health"):
    """The process lives: `status` is ``alive``."""

    status: str = "alive"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready(Record, name="readiness"):
    """Launches can be asked for: so many workers are there, so many of them alive.

    `status` is ``ready``.
    """

    status: str = "ready"
    workers: int
    alive: int


def write_workers(listed: Gathered[WorkerStatus], *more: Record) -> Json:
    """The workers as an answer, with the keys of further records."""
    content = Workers(list=listed.list).to_dict()
    for each in more:
        content.update(each.to_dict())
    return Json(content)


async def list_workers(
    request: Request, supervisor: Supervisor, changes: OnlyChanges = False
) -> Response:
    """List the workers, each with its state and the facts of its last heartbeat.

    With `changes=true` only those that fare otherwise, as in the list of environments. Then what is
    alive has no `snapshot_age`, and `free_bytes` is less exact: neither is news.
    """
    workers = await supervisor.list_workers()
    if not changes:
        return Json(Workers(list=workers).to_dict())
    listed = Gathered(list=tuple(map(without_heartbeat, workers)))
    listings: Listings[WorkerName, WorkerStatus] = request.app.state.workers
    return listings.answer(request, listed, changes=True)


async def forget_worker(supervisor: Supervisor, worker: WorkerIdOrAddress) -> Response:
    """Take a worker that is not alive out of the cluster; should it come back, it joins again."""
    return Json((await supervisor.forget_worker(worker)).to_dict())


async def drain_worker(
    supervisor: Supervisor, worker: WorkerIdOrAddress, wanted: DrainRequest
) -> Response:
    """Give a worker no new launches but those that name it, or end that; what runs goes on.

    It is not kept when the supervisor is restarted.
    """
    drained = await supervisor.drain_worker(worker, draining=wanted.draining)
    return Json(drained.to_dict())


async def list_models(supervisor: Supervisor, worker_ip: WorkerIp = None) -> Response:
    """List the models that are known: those that one of the workers knows."""
    return Json(Models(list=await supervisor.list_models(worker_ip)).to_dict())


async def disk_usage(supervisor: Supervisor, worker_ip: WorkerIp = None) -> Response:
    """Measure the disks of the workers: environments, uv's cache, what older versions left."""
    return gathered(await supervisor.disk_usage(worker_ip))


async def diagnose(supervisor: Supervisor, worker_ip: WorkerIp = None) -> Response:
    """Let each worker examine its host: what is wrong there, and what to do about it."""
    return gathered(await supervisor.diagnose(worker_ip))


async def show_history(supervisor: Supervisor) -> Response:
    """Show what the cluster did since its supervisor was started, a day of it at most: what was
    free on the disks, which launches ended, how long their phases lasted.
    """
    return Json((await supervisor.history()).to_dict())


async def list_logs(
    supervisor: Supervisor,
    selection: SelectedOfModel,
    count: Count = 1,
) -> Response:
    """List the newest logs of a model's launches, with their text."""
    return gathered(await supervisor.logs(selection, count))


async def read_log(
    supervisor: Supervisor, log_id: LogId, worker_address: WorkerAddress, offset: Offset = 0
) -> Response:
    """Read on in a log of a worker: ask again from the `offset` of the answer until `ended`."""
    part = await supervisor.read_log(worker_address, log_id, offset)
    return Json(part.to_dict())


async def health() -> Response:
    """Tell that this process lives."""
    return Json(Alive().to_dict())


async def ready(supervisor: Supervisor) -> Response:
    """Tell that the supervisor answers, and that there are workers."""
    try:
        async with asyncio.timeout(_READY_SECONDS):
            workers = await supervisor.list_workers()
    except TimeoutError:
        raise DeadlineExceeded(
            sentence(
                "the supervisor did not answer within {ready_seconds} s",
                ready_seconds=f"{_READY_SECONDS:g}",
            )
        ) from None
    states = [each.state for each in workers]
    if all(each is WorkerState.GONE for each in states):
        raise WorkerUnavailable(sentence("there is no worker"), {"workers": to_plain(workers)})
    alive = states.count(WorkerState.ALIVE)
    return Json(Ready(workers=len(states), alive=alive).to_dict())


ROUTES = (
    Route("GET", "/v1/workers", list_workers, Scope.LIST, Workers, perhaps=Changes[WorkerName]),
    Route(
        "DELETE", "/v1/workers/{worker}", forget_worker, Scope.DELETE, WorkerStatus, refused=(404,)
    ),
    Route(
        "PUT",
        "/v1/workers/{worker}/drain",
        drain_worker,
        Scope.DELETE,
        WorkerStatus,
        refused=(404,),
    ),
    Route("GET", "/v1/models", list_models, Scope.LIST, Models, refused=(404,)),
    Route("GET", "/v1/disk", disk_usage, Scope.LIST, Gathered[DiskUsage], refused=(404,)),
    Route("GET", "/v1/diagnosis", diagnose, Scope.LIST, Diagnoses, refused=(404,)),
    Route("GET", "/v1/history", show_history, Scope.LIST, History),
    Route("GET", "/v1/logs", list_logs, Scope.LIST, Gathered[WholeLog], refused=(404,)),
    Route("GET", "/v1/logs/{log_id}", read_log, Scope.LIST, LogPart, refused=(404,)),
    Route("GET", "/health", health, None, Alive),
    Route("GET", "/ready", ready, None, Ready),
)
