"""Who uses which environment, and how to release what is stuck: `leases`, `release`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from xinference_venv._util.humanize import age_text, parse_duration
from xinference_venv.cli import shell_complete
from xinference_venv.cli.common import (
    check_found,
    json_option,
    look,
    on_cluster,
    on_workers,
    selection,
    show,
    wide_option,
    with_client,
)
from xinference_venv.cli.render.cluster import unreachable_error
from xinference_venv.cli.render.text import Column, Part, Table
from xinference_venv.errors import InvalidInput
from xinference_venv.inventory import gathered
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.inventory import is_release_refused, release_error, short_id
from xinference_venv.inventory.lease import Holder, LeaseEntry, ReleaseReport, WorkerLease
from xinference_venv.inventory.selection import Selection

if TYPE_CHECKING:
    from xinference_venv.client import Client

_SHORTEST_PREFIX = 6


@click.command()
@click.argument("model", shell_complete=shell_complete.models, required=False)
@selection
@wide_option
@json_option
def leases(wanted: Selection, as_json: bool) -> int:
    """List who uses which environment: all leases, or those on MODEL's environments."""
    answer = look(
        lambda here: here.leases(wanted), lambda client: client.supervisor.list_leases(wanted)
    )
    if (model := wanted.model_name) is not None:
        check_found(
            answer,
            answer.list,
            f"lease on an environment of {model!r}",
            model,
            listing="`xinference-venv leases` lists all leases",
        )
    return show(answer, lambda: _listed(answer, time.time(), on_cluster()), as_json)


@click.command()
@click.argument("lease_ids", metavar="[LEASE_ID...]", nargs=-1)
@click.option(
    "--stale",
    metavar="AGE",
    callback=lambda _, __, text: None if text is None else parse_duration(text),
    help="Release leases older than this, like 12h or 30d, whose holder may or may not live.",
)
@click.option("--force", is_flag=True, help="Release leases of living processes as well.")
@on_workers
@json_option
def release(
    lease_ids: tuple[str, ...],
    stale: float | None,
    force: bool,
    worker_ip: str | None,
    as_json: bool,
) -> int:
    """Release leases that are still there although their process has ended.

    That happens where the end of a process can't be seen, as when its container was started again:
    such leases keep environments from being removed. `xinference-venv leases` lists the ids; their
    first characters are enough. Nothing is released when any of the leases is held by a living
    process. An environment that neither a model nor a lease needs then is deleted.
    """
    if not lease_ids and stale is None:
        raise InvalidInput(
            "no lease is named",
            {
                "hint": "name leases by their ids, which `xinference-venv leases` lists,"
                " or give --stale AGE"
            },
        )
    answer = with_client(
        lambda client: _release(client, lease_ids, worker_ip, stale=stale, force=force)
    )
    # A process may have got one of them in between.
    refusal = release_error(
        [each for report in answer.list for each in report.refused], force="--force"
    )
    return show(answer, lambda: _released(answer), as_json, refusal or unreachable_error(answer))


async def _release(
    client: Client,
    named: Sequence[str],
    worker_ip: str | None,
    *,
    stale: float | None,
    force: bool,
) -> Gathered[ReleaseReport]:
    known = await client.supervisor.list_leases(Selection(worker=worker_ip))
    entries = _meant(named, known)
    if stale is not None:
        entries += _stale(known, time.time() - stale)
    alive = [each for each in entries if is_release_refused(each.holder, force=force)]
    if (refusal := release_error(alive, force="--force")) is not None:
        raise refusal
    ids = tuple(entry.lease.lease_id for entry in entries)
    return await client.supervisor.release_leases(ids, worker=worker_ip, force=force)


def _meant(named: Sequence[str], known: Gathered[WorkerLease]) -> list[LeaseEntry]:
    """The leases that ids or the beginnings of ids mean; raises when one means none or several."""
    # Workers that share a home know the same leases, and not all of them can judge a holder.
    entries = (each.entry for each in known.list)
    judged_last = sorted(entries, key=lambda entry: entry.holder is Holder.ALIVE)
    there = {entry.lease.lease_id: entry for entry in judged_last}
    selected: dict[str, LeaseEntry] = {}
    for name in named:
        if name in there:
            found = [name]
        elif len(name) < _SHORTEST_PREFIX:
            raise InvalidInput(
                f"{name!r} is too short for the beginning of a lease's id,"
                f" which has at least {_SHORTEST_PREFIX} characters"
            )
        else:
            found = sorted(each for each in there if each.startswith(name))
        if len(found) > 1:
            raise InvalidInput(
                f"{name!r} is the beginning of {len(found)} leases: {', '.join(found)}"
            )
        gathered.check_found(
            known, found, f"lease {name!r}", hint="`xinference-venv leases` lists them"
        )
        selected[found[0]] = there[found[0]]
    return list(selected.values())


def _stale(known: Gathered[WorkerLease], before: float) -> list[LeaseEntry]:
    """The leases that were taken before a time, and of which no worker knows the holder."""
    judged: dict[str, list[LeaseEntry]] = {}
    for each in known.list:
        judged.setdefault(each.entry.lease.lease_id, []).append(each.entry)
    return [
        entries[0]
        for entries in judged.values()
        if entries[0].lease.created < before
        and all(entry.holder is Holder.UNKNOWN for entry in entries)
    ]


def _listed(answer: Gathered[WorkerLease], now: float, workers: bool) -> Sequence[Part]:
    if not answer.list:
        return ["No environment is in use."]
    table = Table(
        *(["Worker"] if workers else []),
        *("Lease", "Model", "Process", Column("Host", 3), Column("Holder", 1)),
        *(Column("Since", 4), Column("Environment", 2, prose=True)),
    )
    for each in answer.list:
        entry, lease = each.entry, each.entry.lease
        table.add_row(
            *([each.worker_address] if workers else []),
            short_id(lease),
            lease.model_uid or lease.model_name,
            str(lease.process.pid),
            lease.process.host,
            entry.holder.value,
            age_text(lease.created or None, now),
            "; ".join(map(str, entry.keys)) or f"{lease.env_id}, which no model refers to any more",
        )
    return [table]


def _released(answer: Gathered[ReleaseReport]) -> Sequence[Part]:
    lines = [
        f"released: {short_id(entry.lease)} of {entry.lease}"
        for report in answer.list
        for entry in report.released
    ]
    lines += [
        f"deleted: the environment {each}" for report in answer.list for each in report.deleted
    ]
    if not lines and not any(report.refused for report in answer.list):
        lines = ["There is nothing to release, or it has been released already."]
    return list(lines)
