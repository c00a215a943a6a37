"""What people read of the packages of environments: a table, a drawing, what brought each.

Comes in: the supervisor's answers. Goes out: lines, tables and trees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from xinference_venv._util.humanize import size_text
from xinference_venv.cli.render.text import Column, Part, Table, warning_lines, where_of
from xinference_venv.cli.render.tree import explanation
from xinference_venv.cli.render.view import drawing_of, joined_places, places_text
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.packages import EnvironmentPackages
from xinference_venv.planning.lock import LockedDistribution


def packages_of(answer: Gathered[EnvironmentPackages], *, workers: bool = False) -> Sequence[Part]:
    """The packages of each environment, named with its worker if `workers` is set."""
    shown: list[Part] = []
    for each in answer.list:
        shown += [_heading(each.environment, workers), _packages(each)]
    return shown


def drawn(answer: Gathered[EnvironmentPackages], *, workers: bool = False) -> Sequence[Part]:
    """Each environment as a drawing: its view, the trees that it leads to, who shares them."""
    shown: list[Part] = []
    for each in answer.list:
        shown += [_heading(each.environment, workers), *drawing_of(each)]
    return shown


def explained(answer: Gathered[EnvironmentPackages], *, workers: bool = False) -> Sequence[Part]:
    """Of each environment what brought its packages, and what of the host it does not show."""
    shown: list[Part] = []
    for each in answer.list:
        entry = each.environment.entry
        shown.append(_heading(each.environment, workers))
        if entry.state in (EnvState.READY, EnvState.IN_PLACE):
            shown += explanation(sorted(_on_disk(each)))
            shown += warning_lines(() if each.view is None else each.view.warnings)
        else:
            shown.append(f"nothing is known of its packages: it is {entry.state}")
    return shown


def _on_disk(listed: EnvironmentPackages) -> Iterator[LockedDistribution]:
    """The packages with what they take here; the lock has the sizes of wheels to download."""
    for package in listed.packages:
        yield replace(package.distribution, size=package.size_bytes)


def _heading(environment: Environment, workers: bool) -> str:
    entry = environment.entry
    return f"{where_of(environment, workers)}{entry.key}: {entry.path}"


def _packages(listed: EnvironmentPackages) -> Table:
    table = Table(
        *("Package", "Version", Column("Role", 1), Column("Size", 2)),
        *(Column("Why", 3, prose=True), Column("Where", 4)),
    )
    by_hand = {each.name: each.version for each in listed.unlocked if each.by_hand}
    for package in sorted(listed.packages, key=lambda package: package.distribution):
        each = package.distribution
        table.add_row(
            each.name,
            each.version or "as built",
            each.role.value,
            size_text(package.size_bytes),
            each.why,
            places_text(package, by_hand.get(each.name)),
        )
    for other in listed.unlocked:
        table.add_row(
            other.name,
            other.version,
            "by hand" if other.by_hand else "visible",
            size_text(other.size_bytes),
            "installed by hand, it comes first"
            if other.by_hand
            else "all of the host that fits is shown",
            joined_places(other.places),
        )
    return table
