"""`workers`: who is in the cluster, and when each was last heard."""

from __future__ import annotations

import click

from xinference_venv.cli.common import (
    cluster_option,
    json_option,
    on_cluster,
    show,
    with_client,
)
from xinference_venv.console_cluster import workers_of


@click.command()
@cluster_option
@json_option
def workers(as_json: bool) -> int:
    """List the workers of a cluster: state, release, jobs, free disk, when last heard.

    A worker is suspect when some of its heartbeats did not come, and gone after half a minute
    without any; after a day it is forgotten.
    """
    if not on_cluster():
        raise click.UsageError("Name the --supervisor of the cluster.")
    listed = with_client(lambda client: client.supervisor.list_workers())
    return show({"list": listed}, lambda: workers_of(listed), as_json)
