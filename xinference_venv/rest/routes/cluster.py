"""The routes of the cluster: workers, models, logs, health and readiness."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from xinference_venv.errors import DeadlineExceeded, WorkerUnavailable
from xinference_venv.inventory.cluster_state import WorkerState
from xinference_venv.rest.base import Json, Route, Supervisor, gathered
from xinference_venv.rest.schemas import responses
from xinference_venv.rest.schemas.requests import (
    Count,
    LogId,
    ModelEngine,
    NeededModelName,
    Offset,
    PythonVersion,
    WorkerAddress,
    WorkerIp,
)
from xinference_venv.rest.tokens import Scope

# Who asks whether we are ready asks again soon, and waits no longer.
_READY_SECONDS = 5.0


async def list_workers(supervisor: Supervisor) -> Response:
    """List the workers, each with its state and what its last heartbeat had."""
    return Json({"list": await supervisor.list_workers()})


async def list_models(supervisor: Supervisor, worker_ip: WorkerIp = None) -> Response:
    """List the models that are known: those that one of the workers knows."""
    return Json({"list": await supervisor.list_models(worker_ip)})


async def disk_usage(supervisor: Supervisor, worker_ip: WorkerIp = None) -> Response:
    """Measure the disks of the workers: environments, uv's cache, what older versions left."""
    return gathered(await supervisor.disk_usage(worker_ip))


async def diagnose(supervisor: Supervisor, worker_ip: WorkerIp = None) -> Response:
    """Let each worker examine its host: what is wrong there, and what to do about it."""
    return gathered(await supervisor.diagnose(worker_ip))


async def list_logs(
    supervisor: Supervisor,
    model_name: NeededModelName,
    model_engine: ModelEngine = None,
    python_version: PythonVersion = None,
    worker_ip: WorkerIp = None,
    count: Count = 1,
) -> Response:
    """List the newest logs of a model's launches, with their text."""
    return gathered(
        await supervisor.logs(model_name, model_engine, python_version, worker_ip, count)
    )


async def read_log(
    supervisor: Supervisor, log_id: LogId, worker_address: WorkerAddress, offset: Offset = 0
) -> Response:
    """Read on in a log of a worker: ask again from the `offset` of the answer until `ended`."""
    return Json(await supervisor.read_log(worker_address, log_id, offset))


async def health() -> Response:
    """Tell that this process lives."""
    return Json({"status": "alive"})


async def ready(supervisor: Supervisor) -> Response:
    """Tell that the supervisor answers, and that there are workers."""
    try:
        async with asyncio.timeout(_READY_SECONDS):
            workers = await supervisor.list_workers()
    except TimeoutError:
        raise DeadlineExceeded(
            f"the supervisor did not answer within {_READY_SECONDS:g} s"
        ) from None
    states = [each["state"] for each in workers]
    if all(each == WorkerState.GONE for each in states):
        raise WorkerUnavailable("there is no worker", {"workers": workers})
    alive = states.count(WorkerState.ALIVE)
    return Json({"status": "ready", "workers": len(states), "alive": alive})


ROUTES = (
    Route(
        method="GET",
        path="/v1/workers",
        endpoint=list_workers,
        scope=Scope.LIST,
        reply=responses.Workers,
    ),
    Route(
        method="GET",
        path="/v1/models",
        endpoint=list_models,
        scope=Scope.LIST,
        reply=responses.Models,
        refused=(404,),
    ),
    Route(
        method="GET",
        path="/v1/disk",
        endpoint=disk_usage,
        scope=Scope.LIST,
        reply=responses.Disk,
        refused=(404,),
    ),
    Route(
        method="GET",
        path="/v1/diagnosis",
        endpoint=diagnose,
        scope=Scope.LIST,
        reply=responses.Diagnoses,
        refused=(404,),
    ),
    Route(
        method="GET",
        path="/v1/logs",
        endpoint=list_logs,
        scope=Scope.LIST,
        reply=responses.Logs,
        refused=(404,),
    ),
    Route(
        method="GET",
        path="/v1/logs/{log_id}",
        endpoint=read_log,
        scope=Scope.LIST,
        reply=responses.LogPart,
        refused=(404,),
    ),
    Route(method="GET", path="/health", endpoint=health, scope=None, reply=responses.Alive),
    Route(method="GET", path="/ready", endpoint=ready, scope=None, reply=responses.Ready),
)
