"""The routes of environments: list, packages, explain, remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from xinference_venv._util.records import Record, inline
from xinference_venv.actors.protocols import SupervisorProtocol
from xinference_venv.inventory.environments import Environment, Environments
from xinference_venv.inventory.gathered import Gathered, check_found
from xinference_venv.inventory.packages import EnvironmentPackages, ExplainedEnvironment
from xinference_venv.inventory.reports import RemovalReport
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import Role
from xinference_venv.planning.provenance import Tree
from xinference_venv.rest.base import (
    Result,
    Route,
    Supervisor,
    gathered,
    removed,
)
from xinference_venv.rest.listings import Changes, EnvironmentName, Listings
from xinference_venv.rest.schemas.requests import (
    DryRun,
    Force,
    OnlyChanges,
    Selected,
    SelectedOfModel,
)
from xinference_venv.rest.tokens import Scope


async def list_virtual_envs(
    request: Request,
    supervisor: Supervisor,
    selection: Selected,
    changes: OnlyChanges = False,
) -> Response:
    """List environments: all, or those that match.

    The answer has an ETag: who asks again with it in If-None-Match gets 304 while nothing changed,
    and with `changes=true` only what did.
    """
    listed = await supervisor.list_virtual_envs(selection)
    listings: Listings[EnvironmentName, Environment] = request.app.state.environments
    return listings.answer(request, listed, changes=changes)


async def list_virtual_env_packages(
    supervisor: Supervisor,
    selection: SelectedOfModel,
) -> Response:
    """List the packages of a model's environments, each with where it is from and why."""
    answer = await _packages(supervisor, selection)
    return gathered(answer, *_as_xinference(answer.list))


async def explain_virtual_env(
    supervisor: Supervisor,
    selection: SelectedOfModel,
) -> Response:
    """Explain a model's environments: the tree of what requires what, and what is not shown."""
    answer = await _packages(supervisor, selection)
    explained = answer.of(
        ExplainedEnvironment(environment=each.environment, tree=Tree.of(each.distributions))
        for each in answer.list
    )
    return gathered(explained)


async def remove_virtual_env(
    supervisor: Supervisor,
    selection: SelectedOfModel,
    dry_run: DryRun = False,
    force: Force = False,
) -> Response:
    """Remove a model's environments; what is in use is refused, with who uses it.

    Each worker removes all of its own that match, or none. `result` is true when all that
    matches is gone: a worker that does not answer may still have some.
    """
    answer = await supervisor.remove_virtual_env(
        selection,
        dry_run=dry_run,
        force=force,
    )
    return removed(answer, dry_run=dry_run)


async def _packages(
    supervisor: SupervisorProtocol, selection: Selection
) -> Gathered[EnvironmentPackages]:
    answer = await supervisor.list_virtual_env_packages(selection)
    check_found(answer, answer.list, "environment")
    return answer


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnPackage(Record, name="own package"):
    """A package that was installed into an environment, as Xinference tells it."""

    name: str
    version: str | None
    size_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnPackages(Record, name="own packages"):
    """What Xinference says of the packages of one environment: which it is, and its own."""

    key: EnvKey = field(metadata=inline())
    worker_ip: str
    packages: tuple[OwnPackage, ...]


def _as_xinference(listed: Sequence[EnvironmentPackages]) -> list[OwnPackages]:
    """What Xinference says of the packages of one environment; nothing of several."""
    if len(listed) != 1:
        return []
    [only] = listed
    return [
        OwnPackages(
            key=only.environment.entry.key,
            worker_ip=only.environment.actor_ip_address,
            packages=tuple(
                OwnPackage(
                    name=each.distribution.name,
                    version=each.distribution.version,
                    size_bytes=each.size_bytes,
                )
                for each in only.packages
                if each.distribution.role is Role.INSTALLED
            ),
        )
    ]


_PATH = "/v1/virtualenvs"
ROUTES = (
    Route(
        "GET",
        _PATH,
        list_virtual_envs,
        Scope.LIST,
        Environments,
        perhaps=Changes[EnvironmentName],
        refused=(404,),
    ),
    Route(
        "DELETE",
        _PATH,
        remove_virtual_env,
        Scope.DELETE,
        Gathered[RemovalReport],
        more=Result,
        refused=(404, 409),
    ),
    Route(
        "GET",
        f"{_PATH}/packages",
        list_virtual_env_packages,
        Scope.LIST,
        Gathered[EnvironmentPackages],
        perhaps=OwnPackages,
        refused=(404,),
    ),
    Route(
        "GET",
        f"{_PATH}/explain",
        explain_virtual_env,
        Scope.LIST,
        Gathered[ExplainedEnvironment],
        refused=(404,),
    ),
)
