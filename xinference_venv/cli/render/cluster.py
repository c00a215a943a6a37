"""What people read of a cluster: its workers, a launch on several of them, who did not answer.

Comes in: nouns and the supervisor's answers. Goes out: text and tables of rich.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from xinference_venv._util.humanize import counted, duration_text, printable, size_text
from xinference_venv.cli.render.environments import new_table
from xinference_venv.errors import WorkerUnavailable, error_from_dict
from xinference_venv.inventory.gathered import is_whole, silent_workers
from xinference_venv.inventory.jobs import Phase, PreparedEnvironment
from xinference_venv.inventory.replicas import Replica
from xinference_venv.inventory.skipped import SkippedItem
from xinference_venv.planning.key import EnvKey

_NONE = "-"
# What is shown of a lock's digest.
_SHOWN = 12
_OF_A_REPLICA = ("enabled", "python", "env_id", "path", "real_path", "lock_digest", "uv_calls")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterOutcome:
    """What a launch on a cluster gave on each worker; `elapsed` is in seconds."""

    model_name: str
    model_engine: str | None
    replicas: tuple[Replica, ...]
    elapsed: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the keys that the documentation of the command line promises."""
        return {
            "model_name": self.model_name,
            "model_engine": self.model_engine,
            "workers": [
                {
                    "worker_address": each.worker_address,
                    "state": each.phase.value,
                    "environment": None if each.result is None else _environment(each.result),
                    "error": each.error,
                }
                for each in self.replicas
            ],
            "elapsed_seconds": round(self.elapsed, 3),
        }

    @property
    def not_ready(self) -> list[str]:
        """The addresses of the workers that failed."""
        return [each.worker_address for each in self.replicas if each.phase is not Phase.READY]


def _environment(result: Mapping[str, Any]) -> dict[str, Any]:
    prepared = PreparedEnvironment.from_dict(result).to_dict()
    return {**{key: prepared[key] for key in _OF_A_REPLICA}, "warnings": prepared["warnings"]}


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
        made = PreparedEnvironment.from_dict(each.result)
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
    error = error_from_dict(replica.error)
    return error.message if error.phase is None else f"{error.phase}: {error.message}"


def workers_of(listed: Iterable[Mapping[str, Any]]) -> list[RenderableType]:
    """The workers of a cluster; jobs and free disk are as of when each was last heard."""
    table = new_table("Worker", "Host", "State", "Release", "Jobs", "Free disk", "Last heartbeat")
    for each in listed:
        snapshot = each["snapshot"] or {}
        age = each["snapshot_age"]
        table.add_row(
            printable(each["worker_address"]),
            printable(each["host_name"]),
            each["state"],
            printable(each["release"]),
            str(snapshot.get("jobs", _NONE)),
            size_text(snapshot.get("free_bytes")),
            _NONE if age is None else f"{duration_text(age)} ago",
        )
    return [table] if table.row_count else [Text("No worker is registered.")]


def differing(answer: Mapping[str, Any]) -> list[Text]:
    """The models of a listing whose replicas were not built from one lock."""
    shown = []
    for each in answer["differing"]:
        locks = "; ".join(
            f"lock {digest[:_SHOWN]} on {', '.join(addresses)}"
            for digest, addresses in each["locks"].items()
        )
        shown.append(Text(f"replicas differ: {EnvKey.from_dict(each)}: {locks}"))
    return shown


def skipped(answer: Mapping[str, Any], *, workers: bool) -> list[Text]:
    """What of the stores could not be read, judged or deleted, each with its path and reason."""
    shown = []
    for each in answer["skipped"]:
        where = f"{each['worker_address']}: " if workers else ""
        shown.append(Text(f"skipped: {where}{printable(str(SkippedItem.from_dict(each)))}"))
    return shown


def unreachable(answer: Mapping[str, Any]) -> list[Text]:
    """The workers that did not answer: their state, how old what they last told is, and why."""
    lines = [
        f"unreachable: {each['worker_address']}{_standing(each)}: {error_from_dict(each['error'])}"
        for each in answer["unreachable"]
    ]
    if not answer.get("complete", True):
        lines.append("the supervisor was started just now: workers may be missing here")
    return list(map(Text, lines))


def unreachable_error(answer: Mapping[str, Any]) -> WorkerUnavailable | None:
    """The error of a command that was to be done on every worker, while some did not answer."""
    if is_whole(answer):
        return None
    return WorkerUnavailable(
        f"not known to be done on {silent_workers(answer)}: no answer from there",
        {"hint": "the others have answered; do it again when these are back"},
    )


def _standing(member: Mapping[str, Any]) -> str:
    if "state" not in member:
        return ""
    age = member["snapshot_age"]
    snapshot = "no snapshot yet" if age is None else f"last snapshot {duration_text(age)} old"
    return f" ({member['state']}, {snapshot})"
