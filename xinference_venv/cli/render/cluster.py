"""What people read of a cluster: its workers, a launch on several of them, who did not answer.

Comes in: nouns and the supervisor's answers. Goes out: text and tables of rich.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from xinference_venv._util.humanize import counted, duration_text, printable, size_text
from xinference_venv.cli.render.documents import (
    LaunchedEnvironment,
    LaunchedOnWorkers,
    LaunchedWorker,
)
from xinference_venv.cli.render.environments import new_table
from xinference_venv.errors import WorkerUnavailable
from xinference_venv.inventory.cluster_state import WorkerStatus
from xinference_venv.inventory.gathered import Gathered, T, UnreachableWorker
from xinference_venv.inventory.jobs import Phase, PreparedEnvironment
from xinference_venv.inventory.replicas import Replica
from xinference_venv.inventory.reports import Environments

_NONE = "-"
# What is shown of a lock's digest.
_SHOWN = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterOutcome:
    """What a launch on a cluster gave on each worker; `elapsed` is in seconds."""

    model_name: str
    model_engine: str | None
    replicas: tuple[Replica, ...]
    elapsed: float

    def document(self) -> LaunchedOnWorkers:
        """What is printed of it with ``--json``."""
        return LaunchedOnWorkers(
            model_name=self.model_name,
            model_engine=self.model_engine,
            workers=tuple(
                LaunchedWorker(
                    worker_address=each.worker_address,
                    state=each.phase,
                    environment=None if each.result is None else _environment(each.result),
                    error=each.error,
                )
                for each in self.replicas
            ),
            elapsed_seconds=round(self.elapsed, 3),
        )

    @property
    def not_ready(self) -> list[str]:
        """The addresses of the workers that failed."""
        return [each.worker_address for each in self.replicas if each.phase is not Phase.READY]


def _environment(result: PreparedEnvironment) -> LaunchedEnvironment:
    return LaunchedEnvironment(
        enabled=result.enabled,
        python=result.python,
        env_id=result.env_id,
        path=result.path,
        real_path=result.real_path,
        lock_digest=result.lock_digest,
        uv_calls=result.uv_calls,
        warnings=result.warnings,
    )


def launched_on(outcome: ClusterOutcome) -> list[RenderableType]:
    """How each worker fares after a launch."""
    count = len(outcome.replicas)
    ready = count - len(outcome.not_ready)
    took = duration_text(outcome.elapsed)
    heading = f"{outcome.model_name} is ready on {ready} of {counted(count, 'worker')} after {took}"
    table = new_table("Worker", "State", "Lock", "uv calls", "Environment")
    warnings: dict[str, list[str]] = {}
    for each in outcome.replicas:
        if each.result is None:
            table.add_row(each.worker_address, each.phase.value, _NONE, _NONE, _cause(each))
            continue
        made = each.result
        lock = (made.lock_digest or _NONE)[:_SHOWN]
        where = made.path or f"the host's interpreter, {made.python}"
        table.add_row(each.worker_address, each.phase.value, lock, str(made.uv_calls), where)
        for warning in made.warnings:
            warnings.setdefault(warning, []).append(each.worker_address)
    shown = [f"warning: {warning} ({', '.join(on)})" for warning, on in warnings.items()]
    return [Text(heading), table, *map(Text, shown)]


def _cause(replica: Replica) -> str:
    if replica.error is None:
        return _NONE
    error = replica.error.error()
    return error.message if error.phase is None else f"{error.phase}: {error.message}"


def workers_of(listed: Iterable[WorkerStatus]) -> list[RenderableType]:
    """The workers of a cluster; jobs and free disk are as of when each was last heard."""
    table = new_table(
        "Worker", "Host", "Id", "State", "Release", "Jobs", "Free disk", "Last heartbeat"
    )
    for each in listed:
        snapshot, age = each.snapshot, each.snapshot_age
        table.add_row(
            printable(each.worker_address),
            printable(each.host_name),
            printable(each.worker_id) or _NONE,
            each.state.value,
            printable(each.release),
            _NONE if snapshot is None else str(snapshot.jobs),
            size_text(None if snapshot is None else snapshot.free_bytes),
            _NONE if age is None else f"{duration_text(age)} ago",
        )
    return [table] if table.row_count else [Text("No worker is registered.")]


def differing(answer: Environments) -> list[Text]:
    """The models of a listing whose replicas were not built from one lock."""
    shown = []
    for each in answer.differing:
        locks = "; ".join(
            f"lock {digest[:_SHOWN]} on {', '.join(addresses)}"
            for digest, addresses in each.locks.items()
        )
        shown.append(Text(f"replicas differ: {each.key}: {locks}"))
    return shown


def skipped(answer: Environments, *, workers: bool) -> list[Text]:
    """What of the stores could not be read, judged or deleted, each with its path and reason."""
    shown = []
    for each in answer.skipped:
        where = f"{each.worker_address}: " if workers else ""
        shown.append(Text(f"skipped: {where}{printable(str(each.item))}"))
    return shown


def unreachable(answer: Gathered[T]) -> list[Text]:
    """The workers that did not answer: state, age of their last report, and why."""
    lines = [*unreachable_workers(answer.unreachable), *_gone(answer.gone)]
    if not answer.complete:
        lines.append(Text("the supervisor was started just now: workers may be missing here"))
    return lines


def unreachable_workers(workers: Iterable[UnreachableWorker]) -> list[Text]:
    """Workers that did not answer: state, age of their last report, and why."""
    return [
        Text(
            f"unreachable: {each.status.worker_address} ({each.status.state},"
            f" {_snapshot_age(each.status)}): {each.error.error()}"
        )
        for each in workers
    ]


def _gone(workers: Iterable[WorkerStatus]) -> list[Text]:
    """Workers that were not asked."""
    return [
        Text(
            f"gone, and not asked: {printable(each.worker_address)} ({_snapshot_age(each)});"
            f" if it does not come back: `xinference-venv workers forget {each.worker_address}`"
        )
        for each in workers
    ]


def unreachable_error(answer: Gathered[T]) -> WorkerUnavailable | None:
    """The error of a command that was to be done on every worker, while some did not answer."""
    if answer.is_whole:
        return None
    return WorkerUnavailable(
        f"it is not known whether this was done on {answer.missing}: no answer",
        {"hint": "it was done on the others; repeat it when these are back"},
    )


def _snapshot_age(worker: WorkerStatus) -> str:
    age = worker.snapshot_age
    return "no snapshot yet" if age is None else f"last snapshot {duration_text(age)} old"
