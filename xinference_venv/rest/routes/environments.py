"""The routes of environments: list, packages, explain, remove."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from xinference_venv.inventory.gathered import check_found
from xinference_venv.planning.lock import Role
from xinference_venv.planning.provenance import as_tree
from xinference_venv.rest.base import Route, Supervisor, gathered, removed
from xinference_venv.rest.schemas import responses
from xinference_venv.rest.schemas.parts import OwnPackage
from xinference_venv.rest.schemas.requests import (
    DryRun,
    Force,
    ModelEngine,
    ModelName,
    NeededModelName,
    PythonVersion,
    WorkerIp,
)
from xinference_venv.rest.tokens import Scope


async def list_virtual_envs(
    supervisor: Supervisor,
    model_name: ModelName = None,
    model_engine: ModelEngine = None,
    python_version: PythonVersion = None,
    worker_ip: WorkerIp = None,
) -> Response:
    """List environments: all, or those that match."""
    return gathered(
        await supervisor.list_virtual_envs(model_name, model_engine, worker_ip, python_version)
    )


async def list_virtual_env_packages(
    supervisor: Supervisor,
    model_name: NeededModelName,
    model_engine: ModelEngine = None,
    python_version: PythonVersion = None,
    worker_ip: WorkerIp = None,
) -> Response:
    """List the packages of a model's environments, each with where it is from and why."""
    answer = await _packages(supervisor, model_name, model_engine, python_version, worker_ip)
    return gathered(answer, **_as_xinference(answer["list"]))


async def explain_virtual_env(
    supervisor: Supervisor,
    model_name: NeededModelName,
    model_engine: ModelEngine = None,
    python_version: PythonVersion = None,
    worker_ip: WorkerIp = None,
) -> Response:
    """Explain a model's environments: the tree of what requires what, and what is not shown."""
    answer = await _packages(supervisor, model_name, model_engine, python_version, worker_ip)
    return gathered({**answer, "list": [_explained(each) for each in answer["list"]]})


async def remove_virtual_env(
    supervisor: Supervisor,
    model_name: NeededModelName,
    model_engine: ModelEngine = None,
    python_version: PythonVersion = None,
    worker_ip: WorkerIp = None,
    dry_run: DryRun = False,
    force: Force = False,
) -> Response:
    """Remove a model's environments; what is in use is refused, with who uses it.

    Each worker removes all of its own that match, or none. `result` is true when all that
    matches is gone: a worker that does not answer may still have some.
    """
    answer = await supervisor.remove_virtual_env(
        model_name, model_engine, python_version, worker_ip, dry_run=dry_run, force=force
    )
    return removed(answer, dry_run=dry_run)


async def _packages(
    supervisor: Any,
    model_name: str,
    model_engine: str | None,
    python_version: str | None,
    worker_ip: str | None,
) -> dict[str, Any]:
    answer: dict[str, Any] = await supervisor.list_virtual_env_packages(
        model_name, model_engine, python_version, worker_ip
    )
    check_found(answer, answer["list"], "environment")
    return answer


def _as_xinference(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """What Xinference says of the packages of one environment; nothing of several."""
    if len(entries) != 1:
        return {}
    [entry] = entries
    own = [each for each in entry["packages"] if each["role"] == Role.INSTALLED]
    return {
        **{name: entry[name] for name in ("model_name", "model_engine", "python_version")},
        "worker_ip": entry["actor_ip_address"],
        "packages": [{name: each.get(name) for name in OwnPackage.model_fields} for each in own],
    }


def _explained(entry: dict[str, Any]) -> dict[str, Any]:
    document = {name: value for name, value in entry.items() if name != "packages"}
    return {**document, **as_tree(entry["packages"])}


_PATH = "/v1/virtualenvs"
ROUTES = (
    Route(
        method="GET",
        path=_PATH,
        endpoint=list_virtual_envs,
        scope=Scope.LIST,
        reply=responses.Environments,
        refused=(404,),
    ),
    Route(
        method="DELETE",
        path=_PATH,
        endpoint=remove_virtual_env,
        scope=Scope.DELETE,
        reply=responses.Removal,
        refused=(404, 409),
    ),
    Route(
        method="GET",
        path=f"{_PATH}/packages",
        endpoint=list_virtual_env_packages,
        scope=Scope.LIST,
        reply=responses.Packages,
        refused=(404,),
    ),
    Route(
        method="GET",
        path=f"{_PATH}/explain",
        endpoint=explain_virtual_env,
        scope=Scope.LIST,
        reply=responses.Explained,
        refused=(404,),
    ),
)
