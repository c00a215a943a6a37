"""`gc`: clear away what nothing needs, and what goes beyond limits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from xinference_venv._util.humanize import age_text, counted, parse_duration, parse_size, size_text
from xinference_venv.cli import session
from xinference_venv.cli.common import json_option, look, on_cluster, on_workers, show, with_client
from xinference_venv.cli.render.cluster import unreachable_error
from xinference_venv.cli.render.text import Part, where_of
from xinference_venv.inventory.eviction import EnvUsage, Eviction, EvictionReason
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.reports import CollectionReport

if TYPE_CHECKING:
    from xinference_venv.client import Client
    from xinference_venv.service.this_host import ThisHost


@click.command()
@click.option(
    "--max-bytes",
    metavar="SIZE",
    callback=lambda _, __, text: None if text is None else parse_size(text),
    help="What all environments may take together, like 500GB or 20GiB; beyond it the least"
    " recently used are evicted.",
)
@click.option(
    "--older-than",
    metavar="AGE",
    callback=lambda _, __, text: None if text is None else parse_duration(text),
    help="Evict what was not used for so long, like 30d or 12h.",
)
@click.option("--prune-uv-cache", is_flag=True, help="Run `uv cache prune` as well.")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@on_workers
@json_option
def gc(
    max_bytes: int | None,
    older_than: float | None,
    prune_uv_cache: bool,
    dry_run: bool,
    worker_ip: str | None,
    as_json: bool,
) -> int:
    """Delete what nothing needs and what exceeds the limits; never what is in use."""

    async def collected(client: Client) -> Gathered[CollectionReport]:
        return await client.supervisor.collect_garbage(
            worker=worker_ip,
            max_bytes=max_bytes,
            older_than=older_than,
            prune_uv_cache=prune_uv_cache,
            dry_run=dry_run,
        )

    def planned(here: ThisHost) -> Gathered[CollectionReport]:
        return session.run(here.planned_collection(max_bytes=max_bytes, older_than=older_than))

    answer = look(planned, collected) if dry_run else with_client(collected)
    code = show(
        answer,
        lambda: _collected(answer, time.time(), workers=on_cluster()),
        as_json,
        unreachable_error(answer, only_looks=dry_run),
    )
    failures = [report.uv_cache.error for report in answer.list]
    return max((each.error().exit_code for each in failures if each is not None), default=code)


def _collected(
    answer: Gathered[CollectionReport], now: float, *, workers: bool = False
) -> Sequence[Part]:
    shown: list[str] = []
    for report in answer.list:
        went = _went(report, now)
        went = went or ["There is nothing to delete."]
        where = where_of(report, workers)
        shown += [f"{where}{line}" for line in (*went, *_stayed(report), *_totals(report))]
    return list(shown)


def _went(report: CollectionReport, now: float) -> list[str]:
    gone, frees = ("would be deleted", "would free") if report.dry_run else ("deleted", "freed")
    shown = []
    for each in report.evict:
        freed, linked = size_text(each.freed_bytes), each.linked_bytes
        stays = f"; {size_text(linked)} stay, linked from uv's cache or elsewhere" if linked else ""
        shown.append(
            f"{gone}: {_named(each.eviction.usage)}, {_why(each.eviction, report, now)}:"
            f" {frees} {freed}{stays}"
        )
    for left in report.unneeded:
        size = size_text(left.size_bytes)
        shown.append(f"{gone}: {left.path}, a {left.kind} that nothing needs: {frees} {size}")
    return shown


def _why(evicted: Eviction, report: CollectionReport, now: float) -> str:
    used = f"last used {age_text(evicted.usage.last_used, now)}"
    match evicted.reason:
        case EvictionReason.UNNEEDED:
            return "which no model refers to and no process uses"
        case EvictionReason.UNUSED:
            return used
        case EvictionReason.OVER_LIMIT:
            return f"{used}, to come down to {_limit(report)}"


def _stayed(report: CollectionReport) -> list[str]:
    shown = []
    for each in report.in_use:
        users = list(map(str, each.leases))
        use = "in use by " + "; ".join(users) if users else "being launched"
        shown.append(f"kept: {_named(each)}, {size_text(each.size_bytes)}: {use}")
    return shown + [f"kept: {_named(each.eviction.usage)}: {each.why}" for each in report.skipped]


def _totals(report: CollectionReport) -> list[str]:
    after, cache, left = report.bytes_after, report.uv_cache, report.unmanaged
    would = "would be " if report.dry_run else ""
    over = report.max_bytes is not None and after > report.max_bytes
    limit = f", more than {_limit(report)}" if over else ""
    before = size_text(report.bytes_before)
    shown = [
        f"{would}freed in all: {size_text(report.freed_bytes)}",
        f"environments: {before} before, {size_text(after)} after{limit}",
    ]
    if left.count:
        what = counted(left.count, "environment")
        size = size_text(left.size_bytes)
        shown.append(f"not collected: {what} of older versions, {size}")
    if (there := report.in_place).count:
        what = counted(there.count, "environment")
        size = size_text(there.size_bytes)
        shown.append(f"not collected: {what} of Xinference, {size}; `remove` deletes them")
    if cache.usage.path is not None:
        pruned = f"{size_text(cache.pruned_bytes)} pruned, " if cache.pruned_bytes else ""
        size, shared = size_text(cache.usage.size_bytes), size_text(cache.usage.shared_bytes)
        shown.append(f"uv's cache: {pruned}{size}, {shared} of it linked from environments")
    if cache.error is not None:
        shown.append(f"uv's cache could not be pruned: {cache.error.error()}")
    return shown


def _limit(report: CollectionReport) -> str:
    return size_text(report.max_bytes)


def _named(usage: EnvUsage) -> str:
    keys = ", ".join(map(str, usage.keys))
    return f"{keys or 'environment'} [{usage.env_id[:12]}]"
