"""`models`: what the catalogue knows."""

from __future__ import annotations

import click

from xinference_venv._util.records import to_plain
from xinference_venv.cli.common import json_option, look, on_workers, show, wide_option
from xinference_venv.cli.render import environments


@click.command()
@on_workers
@wide_option
@json_option
def models(worker_ip: str | None, as_json: bool) -> int:
    """List the models of the catalogue: built in, and of your own specification files.

    On a cluster, those that one of its workers knows.
    """
    entries = look(
        lambda here: here.models(), lambda client: client.supervisor.list_models(worker_ip)
    )
    return show({"list": to_plain(entries)}, lambda: environments.models(entries), as_json)
