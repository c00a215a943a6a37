"""What people read of a lock: what brought each distribution, and what of the host is not shown.

Comes in: the distributions of a lock. Goes out: text and trees.
"""

from __future__ import annotations

from collections.abc import Sequence

from xinference_venv._util.humanize import counted, size_text
from xinference_venv.cli.render.text import Part, Tree
from xinference_venv.planning.lock import LockedDistribution, Role
from xinference_venv.planning.provenance import Branch, branches_of

_TITLES = {
    Role.INSTALLED: "Installed in the environment",
    Role.INHERITED: "Inherited from the host",
    Role.SHADOWED: "Shadowed: packages of the host that installed ones replace",
    Role.HIDDEN: "Hidden: packages of the host that the environment does not show",
}
_ELSEWHERE = " (*)"


def explanation(distributions: Sequence[LockedDistribution]) -> Sequence[Part]:
    """The tree of what is installed and inherited, then what is shadowed and hidden, and why."""
    by_role = {role: [each for each in distributions if each.role is role] for role in Role}
    present = [
        f"{_TITLES[role]}: {_total(by_role[role])}" for role in (Role.INSTALLED, Role.INHERITED)
    ]
    branches = branches_of(distributions)
    shown: list[Part] = ["", *present, _tree(branches)]
    if any(_is_elsewhere(branch) for branch in branches):
        shown.append(f"{_ELSEWHERE.strip()} its requirements are listed elsewhere")
    for role in (Role.SHADOWED, Role.HIDDEN):
        if by_role[role]:
            listed = Tree(f"{_TITLES[role]}: {_total(by_role[role])}")
            for each in sorted(by_role[role]):
                listed.add(f"{each.name} {each.version}: {each.why}")
            shown += ["", listed]
    return shown


def _tree(branches: Sequence[Branch]) -> Tree:
    top = Tree(None)
    places: list[Tree] = []
    for branch in branches:
        above = top if branch.parent is None else places[branch.parent]
        places.append(above.add(_label(branch)))
    return top


def _label(branch: Branch) -> str:
    each = branch.distribution
    label = f"{each.name} {each.version or 'as built'}"
    if each.role is Role.INHERITED:
        label += ", inherited"
    elif branch.first:  # So that the sizes of a tree add up.
        label += ", size unknown" if each.size is None else f", {size_text(each.size)}"
    if branch.parent is None:
        label += f" ({each.why})"
    if branch.first and each.why_version:
        label += f": {each.why_version}"
    return label + (_ELSEWHERE if _is_elsewhere(branch) else "")


def _is_elsewhere(branch: Branch) -> bool:
    return not branch.first and bool(branch.distribution.requires)


def _total(distributions: Sequence[LockedDistribution]) -> str:
    total = counted(len(distributions), "package")
    sizes = [each.size for each in distributions if each.size is not None]
    if not sizes:
        return total
    unknown = len(distributions) - len(sizes)
    return f"{total}, {size_text(sum(sizes))}" + (f" and {unknown} unknown" if unknown else "")
