"""`workers`: the workers of a cluster, forgetting one that is gone, draining one."""

from __future__ import annotations

import click

from xinference_venv._util.humanize import printable
from xinference_venv._util.records import to_plain
from xinference_venv.cli import shell_complete
from xinference_venv.cli.common import (
    cluster_option,
    json_option,
    on_cluster,
    show,
    wide_option,
    with_client,
)
from xinference_venv.cli.help import SUPERVISOR_VARIABLE
from xinference_venv.cli.render.cluster import workers_of


@click.group(invoke_without_command=True)
@cluster_option
@wide_option
@json_option
@click.pass_context
def workers(ctx: click.Context, as_json: bool) -> int:
    """List the workers of a cluster: state, release, jobs, free disk, when last heard.

    A worker is suspect when some of its heartbeats did not come, and gone after half a minute
    without any. Gone for a minute, no command asks it or counts it as missing; after a day it is
    forgotten.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    _check_cluster()
    listed = with_client(lambda client: client.supervisor.list_workers())
    document = {"list": to_plain(listed)}
    return show(document, lambda: workers_of(listed), as_json)


@workers.command(short_help="Take a worker that is not alive out of the cluster.")
@click.argument("worker", metavar="ID|ADDRESS|IP", shell_complete=shell_complete.workers)
@cluster_option
@json_option
def forget(worker: str, as_json: bool) -> int:
    """Take a worker that is not alive out of the cluster; should it come back, it joins again.

    Of several workers at an IP it is the one that is not alive.
    """
    _check_cluster()
    forgotten = with_client(lambda client: client.supervisor.forget_worker(worker))
    text = f"forgotten: {printable(forgotten.worker_address)}"
    return show(forgotten.to_dict(), lambda: [text], as_json)


@workers.command(short_help="Give a worker no new launches but those that name it.")
@click.argument("worker", metavar="ID|ADDRESS|IP", shell_complete=shell_complete.workers)
@click.option("--undo", is_flag=True, help="Give it such launches again as others get.")
@cluster_option
@json_option
def drain(worker: str, undo: bool, as_json: bool) -> int:
    """Give a worker no new launches but those that name it: what runs there goes on.

    It lasts until --undo, or until the supervisor is restarted.
    """
    _check_cluster()
    changed = with_client(lambda client: client.supervisor.drain_worker(worker, draining=not undo))
    state = "not drained any more" if undo else "drained"
    text = f"{state}: {printable(changed.worker_address)}"
    return show(changed.to_dict(), lambda: [text], as_json)


def _check_cluster() -> None:
    if not on_cluster():
        raise click.UsageError(
            f"Name the cluster's --supervisor HOST:PORT, or set {SUPERVISOR_VARIABLE}."
        )
