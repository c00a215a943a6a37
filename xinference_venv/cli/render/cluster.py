"""What people read of a cluster: its workers, whose replicas differ, who did not answer.

Comes in: nouns and the supervisor's answers. Goes out: lines and tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from xinference_venv._util.humanize import duration_text, printable, size_text
from xinference_venv.cli.render.text import NOTHING, Column, Part, Table
from xinference_venv.errors import WorkerUnavailable
from xinference_venv.inventory.cluster_state import WorkerState, WorkerStatus
from xinference_venv.inventory.gathered import Gathered, T, UnreachableWorker

if TYPE_CHECKING:
    from xinference_venv.inventory.environments import Environments

DIGEST_SHOWN = 12
"""So many characters of a lock's digest are shown."""


def workers_of(listed: Iterable[WorkerStatus]) -> Sequence[Part]:
    """The workers of a cluster; jobs and free disk are as of when each was last heard."""
    table = Table(
        *("Worker", Column("Host", 2), Column("Id", 5), "State", Column("Release", 4)),
        *(Column("Jobs", 1), Column("Free disk", 1), Column("Last heartbeat", 3)),
    )
    for each in listed:
        snapshot, age = each.snapshot, each.snapshot_age
        table.add_row(
            each.worker_address,
            each.host_name,
            each.worker_id or NOTHING,
            _state(each),
            each.release,
            NOTHING if snapshot is None else str(snapshot.jobs),
            size_text(None if snapshot is None else snapshot.free_bytes),
            NOTHING if age is None else f"{duration_text(age)} ago",
        )
    return [table] if table.rows else ["No worker is registered."]


def _state(worker: WorkerStatus) -> str:
    is_drained = worker.draining and worker.state is WorkerState.ALIVE
    return "drained" if is_drained else worker.state.value


def differing(answer: Environments) -> list[str]:
    """The models of a listing whose replicas were not built from one lock."""
    shown = []
    for each in answer.differing:
        locks = "; ".join(
            f"lock {digest[:DIGEST_SHOWN]} on {', '.join(addresses)}"
            for digest, addresses in each.locks.items()
        )
        shown.append(f"replicas differ: {each.key}: {locks}")
    return shown


def skipped(answer: Environments, *, workers: bool) -> list[str]:
    """What of the stores could not be read, judged or deleted, each with its path and reason."""
    shown = []
    for each in answer.skipped:
        where = f"{each.worker_address}: " if workers else ""
        shown.append(f"skipped: {where}{printable(str(each.item))}")
    return shown


def unreachable(answer: Gathered[T]) -> list[str]:
    """The workers that did not answer: state, age of their last report, and why."""
    lines = [*unreachable_workers(answer.unreachable), *_gone(answer.gone)]
    if not answer.complete:
        lines.append("the supervisor was started just now: workers may be missing here")
    return lines


def unreachable_workers(workers: Iterable[UnreachableWorker]) -> list[str]:
    """Workers that did not answer: why, and of each its state and the age of its last report."""
    by_reason: dict[str, list[str]] = {}
    for each in workers:
        named = f"{each.status.worker_address} ({each.status.state}, {_snapshot_age(each.status)})"
        # An address in the reason is the worker's own, which is named before it.
        address = each.status.worker_address
        reason = str(each.error.error()).replace(f"the worker at {address}", "it")
        reason = reason.replace(address, "it")
        by_reason.setdefault(reason, []).append(named)
    return [f"unreachable: {', '.join(named)}: {why}" for why, named in by_reason.items()]


def _gone(workers: Iterable[WorkerStatus]) -> list[str]:
    """Workers that were not asked."""
    return [
        (
            f"gone, and not asked: {printable(each.worker_address)} ({_snapshot_age(each)});"
            f" if it does not come back: `xinference-venv workers forget {each.worker_address}`"
        )
        for each in workers
    ]


def unreachable_error(answer: Gathered[T], *, only_looks: bool = False) -> WorkerUnavailable | None:
    """The error of a command that was to be done on every worker, while some did not answer.

    A command that `only_looks`, as a dry run does, changed nothing on any.
    """
    if answer.is_whole:
        return None
    if only_looks:
        return WorkerUnavailable(
            f"no answer from {answer.missing}",
            {"hint": "the others answered; repeat it when these are back"},
        )
    return WorkerUnavailable(
        f"it is not known whether this was done on {answer.missing}: no answer",
        {"hint": "it was done on the others; repeat it when these are back"},
    )


def _snapshot_age(worker: WorkerStatus) -> str:
    age = worker.snapshot_age
    return "no snapshot yet" if age is None else f"last snapshot {duration_text(age)} old"
