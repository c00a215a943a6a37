"""What people see of a view: where the files of each package really are, and the drawing of it.

Comes in: what workers answer of the packages of environments. Goes out: text and trees.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from xinference_venv._util.humanize import counted, printable, size_text
from xinference_venv.cli.render.text import NOTHING, Part, Tree
from xinference_venv.inventory.packages import (
    EnvironmentPackages,
    Package,
    PackagePlace,
    ShownTree,
    ShownView,
)
from xinference_venv.planning.lock import Role
from xinference_venv.planning.view import Place

_SHOWN_NAMES = 12
_SEEN = (Role.INSTALLED, Role.INHERITED)


def places_text(package: Package, by_hand: str | None = None) -> str:
    """Where the files of a package are that a process imports, for a column of a table.

    They are those of another version where one was installed `by_hand`.
    """
    if package.distribution.role in (Role.SHADOWED, Role.HIDDEN):
        return NOTHING
    return joined_places(package.places) if by_hand is None else f"behind {by_hand}, see below"


def joined_places(places: Sequence[PackagePlace]) -> str:
    """The directories in which files of a package are; without any they are the environment's."""
    paths = dict.fromkeys(place.path for place in places)
    return "; ".join(paths) or "in the environment itself"


def drawing_of(listed: EnvironmentPackages) -> Sequence[Part]:
    """An environment's view, the trees that it leads to, and who shares them."""
    entry, view = listed.environment.entry, listed.view
    if view is None:
        return [f"it has no view: its packages lie in {printable(entry.real_path)} itself"]
    by_hand = [each for each in listed.unlocked if each.by_hand]
    seen = sum(each.distribution.role in _SEEN for each in listed.packages)
    seen += len(listed.unlocked) - len(by_hand)
    top = Tree(
        f"view of {counted(seen, 'package')}: {size_text(entry.size_bytes)} of its own,"
        f" {size_text(entry.shared_bytes)} shared, {size_text(entry.total_bytes)} in total"
    )
    top.add(view.path)
    if by_hand:
        branch = top.add(f"{counted(len(by_hand), 'package')} installed by hand, before the view")
        for own in by_hand:
            branch.add(f"{own.name} {own.version}  {size_text(own.size_bytes)}")
    packages = [each for each in view.trees if each.place is Place.PACKAGE]
    alone = [each for each in packages if not each.shared_with]
    shared = [each for each in packages if each.shared_with]
    joined = [each for each in view.trees if each.place is Place.JOINED]
    for title, trees in (
        ("that no other environment shows", alone),
        ("that other environments show as well", shared),
    ):
        if trees:
            branch = top.add(f"{counted(len(trees), 'package')} {title}")
            for each in trees:
                branch.add(_tree(each))
    if joined:
        branch = top.add(f"{counted(len(joined), 'joined tree')}")
        for each in joined:
            branch.add(_joined_tree(each))
    _add_host(top, view)
    if entry.changed_on_host:
        names = ", ".join(entry.changed_on_host)
        top.add(f"changed on the host since: {names}; launch the model again")
    return [top]


def _add_host(top: Tree, view: ShownView) -> None:
    for site in view.host:
        branch = top.add(f"{counted(len(site.names), 'name')} of {site.path}")
        branch.add(_names(site.names))
    if view.search_path:
        branch = top.add("folders of the host behind the view")
        for path in view.search_path:
            branch.add(path)


def _tree(each: ShownTree) -> str:
    shared = [f"with {', '.join(map(str, each.shared_with))}"] if each.shared_with else []
    return "  ".join([each.label, size_text(each.size_bytes), each.path, *shared])


def _joined_tree(each: ShownTree) -> Tree:
    shared = f", with {', '.join(map(str, each.shared_with))}" if each.shared_with else ""
    size = f"{size_text(each.size_bytes)} more than its members"
    drawn = Tree(f"{each.path}: {size}{shared}")
    drawn.add(f"of {each.label}")
    drawn.add(f"shows {_names(each.names)}")
    for reason in each.reasons:
        drawn.add(f"because {reason}")
    return drawn


def _names(names: Sequence[str]) -> str:
    """The first names, without the folders of metadata, and how many more there are."""
    modules = [
        name for name in names if os.path.splitext(name)[1] not in (".dist-info", ".egg-info")
    ]
    shown = ", ".join(modules[:_SHOWN_NAMES])
    more = len(modules) - _SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
