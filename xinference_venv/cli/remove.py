"""`remove`: remove environments, unless they are in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xinference_venv.cli import shell_complete
from xinference_venv.cli.common import (
    check_found,
    json_option,
    look,
    on_cluster,
    selection,
    show,
    with_client,
)
from xinference_venv.cli.render import environments
from xinference_venv.cli.render.cluster import unreachable_error
from xinference_venv.cli.render.text import where_of
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.inventory import removal_error
from xinference_venv.inventory.reports import RemovalReport
from xinference_venv.inventory.selection import Selection

if TYPE_CHECKING:
    from xinference_venv.client import Client


@click.command()
@click.argument("model", shell_complete=shell_complete.models, required=False)
@click.option("--all", "everything", is_flag=True, help="Remove the environments of every model.")
@selection
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option(
    "--force",
    is_flag=True,
    help="Remove what is in use as well; its files stay until its last process has ended.",
)
@json_option
def remove(
    wanted: Selection,
    everything: bool,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Remove the environments of MODEL, without confirmation; refused while they are in use.

    On a cluster each worker removes all of its own or refuses.
    """
    model = wanted.model_name
    if (model is None) is not everything:
        raise click.UsageError("Give either MODEL or --all.")

    async def removed(client: Client) -> Gathered[RemovalReport]:
        return await client.supervisor.remove_virtual_env(wanted, dry_run=dry_run, force=force)

    answer = (
        look(lambda here: here.planned_removal(wanted, force=force), removed)
        if dry_run
        else with_client(removed)
    )
    if model is not None:
        touched = [entry for report in answer.list for entry in report.matching]
        check_found(answer, touched, f"environment of {model!r}", model)
    refused = [
        (where_of(report, on_cluster()), entry)
        for report in answer.list
        for entry in report.plan.refuse
    ]
    refusal = None if dry_run else removal_error(refused, force="--force")
    error = refusal or unreachable_error(answer, only_looks=dry_run)
    return show(answer, lambda: environments.removed(answer, workers=on_cluster()), as_json, error)
