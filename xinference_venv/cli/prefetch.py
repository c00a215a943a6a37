"""`prefetch`: bring the packages and environments of several models to hosts, ahead of need."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xinference_venv.cli import shell_complete
from xinference_venv.cli.common import (
    cluster_option,
    json_option,
    on_cluster,
    show,
    with_client,
    workers_option,
)
from xinference_venv.cli.render import prefetch as rendering
from xinference_venv.cli.render.prefetch import PrefetchedModel, PrefetchOutcome
from xinference_venv.cli.render.progress import ShowEvent, watching
from xinference_venv.errors import VirtualEnvError
from xinference_venv.inventory.failure import Failure
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.service.spec_file import with_spec_file

if TYPE_CHECKING:
    from xinference_venv.client import Client


@click.command()
@click.argument(
    "models", nargs=-1, required=True, metavar="MODEL...", shell_complete=shell_complete.models
)
@click.option("--engine", help="The engine that serves the models, like vllm or transformers.")
@click.option("--python-version", help="Like 3.11 or 3.11.7; by default that of this program.")
@click.option(
    "--spec",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON in Xinference's model format that describes the models.",
)
@workers_option(
    "Only to the workers of a cluster at this IP (all of them) or address; by default to all."
)
@click.option(
    "--workers",
    "count",
    metavar="N",
    type=click.IntRange(min=1),
    help="Only to N workers, the least busy ones first.",
)
@click.option(
    "--require",
    metavar="N",
    type=click.IntRange(min=1),
    help="At least N workers must have a model, or its prefetch fails; by default all.",
)
@cluster_option
@json_option
def prefetch(
    models: tuple[str, ...],
    engine: str | None,
    python_version: str | None,
    spec: Path | None,
    workers: tuple[str, ...],
    count: int | None,
    require: int | None,
    as_json: bool,
) -> int:
    """Bring packages and environments of each MODEL to this host, or to the workers of a cluster.

    At low priority: launches that come meanwhile go first. What fails for one model or on one
    worker stops no other; the exit code is that of the first model that failed.
    """
    if not on_cluster() and (workers or count or require):
        raise click.UsageError(
            "--worker, --workers and --require are for a cluster: name its --supervisor."
        )
    requests = []
    for model in dict.fromkeys(models):
        request = LaunchRequest.from_dict(
            {"model_name": model, "model_engine": engine, "python_version": python_version}
        )
        requests.append(request if spec is None else with_spec_file(request, spec))
    outcome = with_client(
        lambda client: _prefetch_all(
            client,
            requests,
            workers=workers,
            count=count,
            require=require,
            watching=watching(as_json=as_json),
        )
    )
    return show(
        outcome,
        lambda: rendering.prefetched(outcome, workers=on_cluster()),
        as_json,
        outcome.error(),
    )


async def _prefetch_all(
    client: Client,
    requests: list[LaunchRequest],
    *,
    workers: tuple[str, ...],
    count: int | None,
    require: int | None,
    watching: AbstractContextManager[ShowEvent],
) -> PrefetchOutcome:
    began = time.monotonic()

    async def prefetch_one(request: LaunchRequest, show_event: ShowEvent) -> PrefetchedModel:
        try:
            report = await client.prefetch(
                request,
                workers=workers,
                count=count,
                require=require,
                on_event=partial(show_event, model=request.model_name),
            )
        except VirtualEnvError as error:
            return PrefetchedModel.of(request, (), Failure.of(error))
        return PrefetchedModel.of(request, report.workers, report.error)

    with watching as show_event:
        # Cancelled, it ends when nothing of any of them is left.
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(prefetch_one(each, show_event)) for each in requests]
        except ExceptionGroup as failed:
            # Each of them ends when no one reads what it shows.
            raise failed.exceptions[0] from failed
    return PrefetchOutcome(
        models=tuple(each.result() for each in tasks),
        elapsed_seconds=round(time.monotonic() - began, 3),
    )
