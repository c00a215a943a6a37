"""`diff`: which packages two environments don't have alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from xinference_venv._util.humanize import counted, printable
from xinference_venv.cli import shell_complete
from xinference_venv.cli.common import (
    cluster_option,
    json_option,
    look,
    on_cluster,
    print_parts,
    show,
)
from xinference_venv.cli.render.cluster import unreachable_workers
from xinference_venv.cli.render.text import Part, Table
from xinference_venv.inventory import gathered
from xinference_venv.inventory.diff import (
    Changed,
    Difference,
    EnvironmentDifference,
    PackageChange,
    PackageVersion,
    check_one,
    difference,
    is_meant,
    name_in,
    parse_name,
)
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.packages import EnvironmentPackages
from xinference_venv.inventory.selection import Selection

if TYPE_CHECKING:
    from xinference_venv.client import Client

_SIGNS = {
    PackageChange.ADDED: "+",
    PackageChange.REMOVED: "-",
    PackageChange.VERSION: "~",
    PackageChange.ORIGIN: "~",
}


@click.command()
@click.argument("a", metavar="A", shell_complete=shell_complete.environments)
@click.argument("b", metavar="B", shell_complete=shell_complete.environments)
@cluster_option
@json_option
def diff(a: str, b: str, as_json: bool) -> int:
    """Show which packages differ between the environments A and B.

    Each is named MODEL[/ENGINE[/PYTHON[/WORKER]]], as in qwen/vllm/3.11: as many parts as it
    takes to name exactly one. An empty part matches any, - stands for no engine: qwen/-/3.11, or
    qwen///10.0.0.2 for the one on that worker.
    """
    named = (parse_name(a), parse_name(b))
    listed = look(
        lambda here: [here.packages(_of_model(name)) for name in named],
        lambda client: _listed(client, named),
    )
    one, other = (
        _chosen(text, name, answer)
        for text, name, answer in zip((a, b), named, listed, strict=True)
    )
    found = difference(one.distributions, other.distributions)
    unreachable = {
        each.status.worker_address: each for answer in listed for each in answer.unreachable
    }
    document = EnvironmentDifference(
        a=one.environment,
        b=other.environment,
        difference=found,
        unreachable=tuple(unreachable.values()),
    )
    code = show(document, lambda: _rendered(one.environment, other.environment, found), as_json)
    if not as_json:
        print_parts(unreachable_workers(document.unreachable), err=True)
    return code


async def _listed(
    client: Client, meant: Sequence[Selection]
) -> list[Gathered[EnvironmentPackages]]:
    """What the supervisor lists of the model of each name."""
    import asyncio

    asked = (client.supervisor.list_virtual_env_packages(_of_model(name)) for name in meant)
    return list(await asyncio.gather(*asked))


def _of_model(name: Selection) -> Selection:
    return Selection(model_name=name.model_name, worker=name.worker)


def _chosen(
    text: str, name: Selection, answer: Gathered[EnvironmentPackages]
) -> EnvironmentPackages:
    every = [each.environment for each in answer.list]
    candidates = sorted({name_in(each, worker=on_cluster()) for each in every})
    found = [each for each in answer.list if is_meant(name, each.environment)]
    hint = (
        f"there are: {', '.join(candidates)}" if candidates else "`xinference-venv list` shows all"
    )
    gathered.check_found(answer, found, f"environment of {text!r}", hint=hint)
    check_one(text, [each.environment for each in found], workers=on_cluster())
    return found[0]


def _rendered(one: Environment, other: Environment, found: Difference) -> Sequence[Part]:
    shown: list[Part] = [
        f"{letter} {printable(name_in(each, worker=on_cluster()))}: {each.entry.path}"
        for letter, each in (("A", one), ("B", other))
    ]
    if found.changes:
        table = Table("", "Package", "A", "B")
        for each in found.changes:
            table.add_row(_SIGNS[each.change], each.name, *_sides(each))
        shown.append(table)
    alike = counted(found.same, "package")
    if not found.changes:
        return [*shown, f"No difference: {alike} alike."]
    return [*shown, f"{counted(len(found.changes), 'difference')}; {alike} alike"]


def _sides(changed: Changed) -> list[str]:
    return [_side(each) for each in (changed.a, changed.b)]


def _side(package: PackageVersion | None) -> str:
    if package is None:
        return "-"
    return f"{package.version or 'as built'}, {package.role.value}"
