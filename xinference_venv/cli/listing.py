"""`list`: the environments that are there, and who uses them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from xinference_venv.cli import shell_complete
from xinference_venv.cli.common import (
    did_you_mean,
    json_option,
    look,
    on_cluster,
    selection,
    show,
    wide_option,
)
from xinference_venv.cli.render import environments
from xinference_venv.cli.render.cluster import differing, skipped
from xinference_venv.cli.render.text import Part
from xinference_venv.inventory.selection import EVERY, Selection


@click.command("list")
@click.argument("model", shell_complete=shell_complete.models, required=False)
@selection
@wide_option
@json_option
def list_(wanted: Selection, as_json: bool) -> int:
    """List the environments that are there: all, or those of MODEL."""
    answer = look(
        lambda here: here.environments(wanted),
        lambda client: client.supervisor.list_virtual_envs(wanted),
    )

    def rendered() -> Sequence[Part]:
        if wanted != EVERY and answer.is_whole and not answer.list:
            every = "`xinference-venv list` lists all environments"
            return [f"No environment found that matches: {did_you_mean(wanted.model_name)}{every}"]
        listed = environments.listed(answer, time.time(), workers=on_cluster())
        return [*listed, *differing(answer), *skipped(answer, workers=on_cluster())]

    return show(answer, rendered, as_json)
