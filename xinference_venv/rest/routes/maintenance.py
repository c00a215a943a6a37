"""The routes of maintenance: garbage collection, verification, leases."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from xinference_venv.inventory.gathered import Gathered, check_found
from xinference_venv.inventory.inventory import release_error
from xinference_venv.inventory.lease import ReleaseReport, WorkerLease
from xinference_venv.inventory.reports import CollectionReport, VerifiedEnvironment
from xinference_venv.inventory.selection import EVERY
from xinference_venv.rest.base import Result, Route, Supervisor, gathered
from xinference_venv.rest.listings import Changes, LeaseName, Listings
from xinference_venv.rest.schemas.requests import (
    CollectRequest,
    Force,
    LeaseId,
    OnlyChanges,
    Selected,
    VerifyRequest,
)
from xinference_venv.rest.tokens import Scope


async def collect_garbage(supervisor: Supervisor, wanted: CollectRequest) -> Response:
    """Clear away what nothing needs, and what goes beyond the limits; never what is in use."""
    answer = await supervisor.collect_garbage(
        worker=wanted.worker_ip,
        max_bytes=wanted.max_bytes,
        older_than=wanted.older_than,
        prune_uv_cache=wanted.prune_uv_cache,
        dry_run=wanted.dry_run,
    )
    return gathered(answer)


async def verify_virtual_env(supervisor: Supervisor, wanted: VerifyRequest) -> Response:
    """Look closely at environments, and rebuild broken ones on request."""
    answer = await supervisor.verify_virtual_env(
        wanted.selection(), hashes=wanted.hashes, repair=wanted.repair
    )
    return gathered(answer)


async def list_leases(
    request: Request,
    supervisor: Supervisor,
    selection: Selected,
    changes: OnlyChanges = False,
) -> Response:
    """List who uses which environment.

    With an ETag, as the list of environments has it.
    """
    listed = await supervisor.list_leases(selection)
    listings: Listings[LeaseName, WorkerLease] = request.app.state.leases
    return listings.answer(request, listed, changes=changes)


async def release_lease(
    supervisor: Supervisor, lease_id: LeaseId, force: Force = False
) -> Response:
    """Release a lease that is still there although its process has ended.

    That of a living process is refused without `force`. An environment that neither a model nor a
    lease needs then is deleted.
    """
    known = await supervisor.list_leases(EVERY)
    there = [each for each in known.list if each.entry.lease.lease_id == lease_id]
    check_found(known, there, "lease")
    answer = await supervisor.release_leases((lease_id,), force=force)
    refused = [each for report in answer.list for each in report.refused]
    if (refusal := release_error(refused, force="force=true")) is not None:
        raise refusal
    gone = any(report.released for report in answer.list) or answer.is_whole
    return gathered(answer, Result(result=gone))


ROUTES = (
    Route(
        "POST",
        "/v1/virtualenvs/gc",
        collect_garbage,
        Scope.DELETE,
        Gathered[CollectionReport],
        refused=(404,),
    ),
    Route(
        "POST",
        "/v1/virtualenvs/verify",
        verify_virtual_env,
        Scope.CREATE,
        Gathered[VerifiedEnvironment],
        refused=(404,),
    ),
    Route(
        "GET",
        "/v1/leases",
        list_leases,
        Scope.LIST,
        Gathered[WorkerLease],
        perhaps=Changes[LeaseName],
        refused=(404,),
    ),
    Route(
        "DELETE",
        "/v1/leases/{lease_id}",
        release_lease,
        Scope.DELETE,
        Gathered[ReleaseReport],
        more=Result,
        refused=(404, 409),
    ),
)
