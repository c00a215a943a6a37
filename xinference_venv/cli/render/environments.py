"""What people read of the environments that are there: listings, removals, the catalogue.

Comes in: nouns, the supervisor's answers, the time. Goes out: lines and tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from xinference_venv._util.humanize import age_text, printable, size_text
from xinference_venv.cli.render.text import NOTHING, Column, OfWorker, Part, Table, where_of
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.lease import Holder, JudgedLease

if TYPE_CHECKING:
    from xinference_venv.inventory.reports import RemovalReport
    from xinference_venv.planning.listed_model import ListedModel


def listed(answer: Gathered[Environment], now: float, *, workers: bool = False) -> Sequence[Part]:
    """The environments of a listing, each with its worker if `workers` is set."""
    entries = [each.entry for each in answer.list]
    if not entries and answer.unreachable:
        return ["No worker that answered has such an environment."]
    if not entries:
        return ["No environment found. Make one: xinference-venv launch MODEL"]
    table = Table(
        *(["Worker"] if workers else []),
        *("Model", Column("Engine", 1), Column("Python", 3), "State"),
        *(Column("Own", 8), Column("Shared", 9), Column("Total", 4), Column("Packages", 7)),
        *(Column("In use by", 2, prose=True), Column("Last used", 6)),
    )
    for entry, where in zip(entries, _where(answer.list, workers), strict=True):
        users = [
            *map(_holder, entry.leases),
            *(f"pid {user.pid}" for user in entry.users),
        ]
        table.add_row(
            *([where.removesuffix(": ")] if workers else []),
            entry.key.model_name,
            entry.key.model_engine or NOTHING,
            entry.python or entry.key.python_version,
            ", ".join(filter(None, (entry.state.value, entry.layout))),
            *map(size_text, (entry.size_bytes, entry.shared_bytes, entry.total_bytes)),
            f"{entry.installed} own, {entry.inherited} host",
            "; ".join(users) or NOTHING,
            age_text(entry.last_used, now),
        )
    broken = [
        f"{where}{entry.key} is broken: {entry.reason}"
        for entry, where in zip(entries, _where(answer.list, workers), strict=True)
        if entry.state is EnvState.BROKEN
    ]
    changed = [
        f"{where}{entry.key} inherits packages that have changed on the host since it was made"
        f" ({', '.join(entry.changed_on_host)}): launch it again"
        for entry, where in zip(entries, _where(answer.list, workers), strict=True)
        if entry.changed_on_host
    ]
    return [table, *broken, *changed, *_unmanaged(entries)]


def _unmanaged(entries: Iterable[EnvEntry]) -> list[str]:
    """The directories that older versions left, and how many processes can't be looked at."""
    left = [entry for entry in entries if entry.state is EnvState.UNMANAGED]
    unknown = max((entry.unknown_users for entry in left), default=0)
    shown = [f"unmanaged: {printable(entry.path)}{_linked(entry)}" for entry in left]
    if unknown:
        shown.append(f"processes that can't be looked at, and may use them: {unknown}")
    return shown


def _linked(entry: EnvEntry) -> str:
    return "" if entry.reason is None else f", {printable(entry.reason)}"


def removed(answer: Gathered[RemovalReport], *, workers: bool = False) -> Sequence[Part]:
    """What a removal did, or with a dry run would do; what was refused is an error, not here."""
    shown: list[str] = []
    refused = False
    for report in answer.list:
        plan, dry_run = report.plan, report.dry_run
        where, would = where_of(report, workers), "would be " if dry_run else ""
        unlinked = {each.path for each in plan.unlink}
        done = (each.entry for each in report.done)
        for entry in (*plan.remove, *plan.unlink) if dry_run else done:
            if entry.path in unlinked:
                shown.append(
                    f"{where}{would}unlinked: {entry.key}; its files stay until the last holder"
                    f" is gone: {entry.hindrance}"
                )
            else:
                size = size_text(entry.size_bytes)
                shown.append(f"{where}{would}removed: {entry.key}, {size}")
        for entry in plan.refuse:
            refused = True
            if dry_run:
                shown.append(
                    f"{where}would be refused: {entry.key}, {entry.hindrance or entry.reason}"
                )
    if not shown and not refused:
        shown.append("There is nothing to remove.")
    return shown


def models(entries: Iterable[ListedModel]) -> Sequence[Part]:
    """The models of the catalogue."""
    table = Table(
        *("Model", Column("Type", 3), Column("Engines", 1), Column("Formats", 5)),
        *(Column("Packages", 2, prose=True), Column("Origin", 4)),
        Column("Description", 6, prose=True),
    )
    for each in entries:
        table.add_row(
            each.model_name,
            each.model_type or NOTHING,
            ", ".join(each.engines) or NOTHING,
            ", ".join(each.formats) or NOTHING,
            ", ".join(each.packages),
            each.origin,
            each.description or "",
        )
    return [table]


def _where(reports: Iterable[OfWorker], workers: bool) -> list[str]:
    return [where_of(each, workers) for each in reports]


def _holder(lease: JudgedLease) -> str:
    judged = " (unknown)" if lease.holder is Holder.UNKNOWN else ""
    return f"{lease.model_uid or lease.model_name}, pid {lease.process.pid}{judged}"
