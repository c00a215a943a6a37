"""`verify`: is what is listed as ready really whole, and if not, rebuild it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from xinference_venv.cli import session, shell_complete
from xinference_venv.cli.common import (
    check_found,
    echo,
    json_option,
    look,
    on_cluster,
    selection,
    show,
    with_client,
)
from xinference_venv.cli.render.cluster import unreachable_error
from xinference_venv.cli.render.text import Part, where_of
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.reports import VerifiedEnvironment
from xinference_venv.inventory.selection import Selection

if TYPE_CHECKING:
    from xinference_venv.client import Client


@click.command()
@click.argument("model", shell_complete=shell_complete.models, required=False)
@selection
@click.option("--hashes", is_flag=True, help="Compare the contents of all files as well.")
@click.option(
    "--repair",
    is_flag=True,
    help="Rebuild broken environments by launching them again, and delete what processes wrote next"
    " to modules.",
)
@json_option
def verify(wanted: Selection, hashes: bool, repair: bool, as_json: bool) -> int:
    """Check every file of the environments that are there: of all, or of those of MODEL.

    What is broken is listed as broken from then on, and the next launch rebuilds it.
    """

    async def verified(client: Client) -> Gathered[VerifiedEnvironment]:
        return await client.supervisor.verify_virtual_env(wanted, hashes=hashes, repair=repair)

    # To repair is to launch.
    answer = (
        with_client(verified)
        if repair
        else look(lambda here: session.run(here.verify(wanted, hashes=hashes)), verified)
    )
    if (model := wanted.model_name) is not None:
        check_found(answer, answer.list, f"environment of {model!r}", model)
    code = show(answer, lambda: _verified(answer, on_cluster()), as_json, unreachable_error(answer))
    broken = [
        f"{where_of(each.environment, on_cluster())}{each.environment.entry.key}"
        for each in answer.list
        if each.is_broken
    ]
    if broken:
        echo(f"error: broken: {'; '.join(broken)}", err=True)
        if not repair:
            echo("hint: launch again, or verify with --repair", err=True)
    return 1 if broken else code


def _verified(answer: Gathered[VerifiedEnvironment], workers: bool) -> Sequence[Part]:
    lines = []
    for each in answer.list:
        heading, *rest = _lines(each)
        lines += [where_of(each.environment, workers) + heading, *rest]
    return list(lines or ["No environment found."])


def _lines(verified: VerifiedEnvironment) -> list[str]:
    entry, finding = verified.environment.entry, verified.finding
    if finding.faults is None:
        return [f"{entry.key}: not checked, it is {entry.state}"]
    added = [f"  {each} does not belong to its package" for each in finding.additions]
    if not finding.faults:
        return [f"{entry.key}: ok", *added]
    lines = [f"{entry.key}: {'repaired, it was broken' if finding.repaired else 'broken'}"]
    lines += [f"  {fault}" for fault in finding.faults]
    if finding.not_repaired is not None:
        lines.append(f"  not repaired: {finding.not_repaired}")
    return [*lines, *added]
