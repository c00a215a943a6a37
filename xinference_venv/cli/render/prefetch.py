"""What a prefetch gave: of each model and worker whether it has it, and why not.

Comes in: how each model's launch ended. Goes out: a document, an error, lines and a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xinference_venv._util.humanize import counted, duration_text
from xinference_venv._util.records import Record
from xinference_venv.cli.render.documents import LaunchedWorker
from xinference_venv.cli.render.launch import cause_of, worker_document
from xinference_venv.cli.render.text import NOTHING, Column, Part, Table
from xinference_venv.errors import BuildFailed, VirtualEnvError
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.replicas import Replica
from xinference_venv.planning.request import LaunchRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefetchedModel(Record, name="prefetched model"):
    """One model: how each worker fared, and the error if not enough of them have it."""

    model_name: str
    model_engine: str | None
    workers: tuple[LaunchedWorker, ...]
    error: Failure | None

    @classmethod
    def of(
        cls, request: LaunchRequest, replicas: Iterable[Replica], error: Failure | None
    ) -> PrefetchedModel:
        """Of how its launch ended."""
        return cls(
            model_name=request.model_name,
            model_engine=request.model_engine,
            workers=tuple(map(worker_document, replicas)),
            error=error,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefetchOutcome(Record, name="prefetch"):
    """What a prefetch gave, model by model, in the order in which they were named."""

    models: tuple[PrefetchedModel, ...]
    elapsed_seconds: float

    def error(self) -> VirtualEnvError | None:
        """The error of the first model that failed, which names all of these; None without any."""
        failed = [(each.model_name, each.error) for each in self.models if each.error is not None]
        if not failed:
            return None
        errors = [error.error() for _, error in failed]
        if len(errors) == len(self.models) == 1:
            return errors[0]
        kind = type(errors[0]) if len({type(each) for each in errors}) == 1 else BuildFailed
        lines = (f"{name}: {error.message}" for name, error in failed)
        return kind(
            f"{len(failed)} of {counted(len(self.models), 'model')} failed: " + "; ".join(lines),
            errors[0].details,
        )


def prefetched(outcome: PrefetchOutcome, *, workers: bool) -> Sequence[Part]:
    """How each model fares; with `workers` on each of them."""
    done = sum(each.error is None for each in outcome.models)
    took = duration_text(outcome.elapsed_seconds)
    heading = f"{done} of {counted(len(outcome.models), 'model')} ready after {took}"
    columns = [Column("Worker", 1)] if workers else []
    table = Table("Model", *columns, "State", Column("Environment or cause", prose=True))
    for model in outcome.models:
        if not model.workers and model.error is not None:
            where = [NOTHING] if workers else []
            table.add_row(model.model_name, *where, Phase.FAILED.value, model.error.message)
        for each in model.workers:
            made = each.environment
            what = cause_of(each.error) if made is None else made.path or "the host's interpreter"
            where = [each.worker_address] if workers else []
            table.add_row(model.model_name, *where, each.state.value, what)
    return [heading, table]
