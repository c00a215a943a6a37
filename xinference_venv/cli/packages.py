"""`packages`, `show`, `explain`: what environments have, from where, and why."""

from __future__ import annotations

import click

from xinference_venv.cli import shell_complete
from xinference_venv.cli.common import (
    check_found,
    json_option,
    look,
    on_cluster,
    selection,
    show,
    wide_option,
)
from xinference_venv.cli.render import packages as rendering
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.packages import EnvironmentPackages, ExplainedPackages
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.provenance import Tree


@click.command()
@click.argument("model", shell_complete=shell_complete.models)
@selection
@wide_option
@json_option
def packages(wanted: Selection, as_json: bool) -> int:
    """List the packages of MODEL's environments, each with where it is from and why."""
    answer = _packages(wanted)
    return show(answer, lambda: rendering.packages_of(answer, workers=on_cluster()), as_json)


def _packages(wanted: Selection) -> Gathered[EnvironmentPackages]:
    """The packages of a model's environments; raises `NotFound` when there are none."""
    answer = look(
        lambda here: here.packages(wanted),
        lambda client: client.supervisor.list_virtual_env_packages(wanted),
    )
    model = wanted.model_name
    check_found(answer, answer.list, f"environment of {model!r}", model)
    return answer


@click.command("show")
@click.argument("model", shell_complete=shell_complete.models)
@selection
@json_option
def show_(wanted: Selection, as_json: bool) -> int:
    """Draw where the packages of MODEL's environments lie, and who shares them."""
    answer = _packages(wanted)
    return show(answer, lambda: rendering.drawn(answer, workers=on_cluster()), as_json)


@click.command()
@click.argument("model", shell_complete=shell_complete.models)
@selection
@json_option
def explain(wanted: Selection, as_json: bool) -> int:
    """Show what brought each package of MODEL's environments, and which of the host are hidden."""
    answer = _packages(wanted)
    explained = answer.of(
        ExplainedPackages(listed=each, tree=Tree.of(each.distributions)) for each in answer.list
    )
    return show(explained, lambda: rendering.explained(answer, workers=on_cluster()), as_json)
