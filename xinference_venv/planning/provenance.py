"""Why each distribution of a lock is there: who requires it, from the request down.

Comes in: who requires what in a resolution, the reasons of what the request names, what the
host's distributions require. Goes out: for each distribution of the lock the shortest chain of
requirements that forced it, and the tree that they form.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Self

from xinference_venv._util.records import Record, inline
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.lock import LockedDistribution, Role
from xinference_venv.planning.pylock import REQUEST
from xinference_venv.sentences import joined, sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch(Record, name="branch"):
    """A place in the tree of what requires what.

    `parent` is the position in the list of branches of what stands above, None at the top.
    What a distribution requires stands below its `first` branch only.
    """

    distribution: LockedDistribution = field(metadata=inline())
    parent: int | None
    first: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree(Record, name="tree"):
    """Distributions as the `tree` of what requires what, and what of the host is `not_shown`."""

    tree: tuple[Branch, ...]
    not_shown: tuple[LockedDistribution, ...]

    @classmethod
    def of(cls, distributions: Iterable[LockedDistribution]) -> Self:
        """The tree of the distributions of a lock."""
        every = sorted(distributions)
        return cls(
            tree=tuple(branches_of(every)),
            not_shown=tuple(each for each in every if not _is_present(each)),
        )


def chains(
    edges: Mapping[str, Collection[str]], roots: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """The shortest chain of names from the request to each distribution that it reaches.

    A chain begins with what the request asks for and ends with the distribution itself. Of
    equally long ones it is the first in the order of the names. What the request does not reach
    has one from what must be importable besides, the `roots`.
    """
    required = _required(edges)
    found: dict[str, tuple[str, ...]] = {REQUEST: ()}
    for root in (REQUEST, *sorted(roots)):
        waiting = deque([root])
        found.setdefault(root, (root,))
        while waiting:
            requirer = waiting.popleft()
            for name in required.get(requirer, ()):
                if name not in found:
                    found[name] = (*found[requirer], name)
                    waiting.append(name)
    del found[REQUEST]
    return found


def explain_distributions(
    distributions: Iterable[LockedDistribution],
    edges: Mapping[str, Collection[str]],
    *,
    reasons: Mapping[str, str],
    host: HostFacts,
) -> tuple[LockedDistribution, ...]:
    """The distributions of a lock, each with what forced it and what it requires itself.

    `reasons` says by name why something is in the request. A step of a chain is the requirement
    itself where the one before is the host's, whose metadata is known, else the version chosen.
    What is shadowed owes that to the chain of what replaces it. What `edges` does not reach
    keeps its reason.
    """
    every = sorted(distributions)
    present = {each.name: each for each in every if _is_present(each)}
    edges = {
        name: [each for each in requirers if each == REQUEST or each in present]
        for name, requirers in edges.items()
        if name in present
    }
    texts = {name: _requirements_of(each, host) for name, each in present.items()}

    def step(requirer: str, name: str) -> str:
        version = present[name].version
        return texts[requirer].get(name, name if version is None else f"{name}=={version}")

    why = {
        name: joined(
            [
                reasons.get(chain[0]) or sentence("the request: {name}, by its URL", name=chain[0]),
                *(step(*pair) for pair in pairwise(chain)),
            ],
            " -> ",
        )
        for name, chain in chains(edges, reasons.keys() & present.keys()).items()
    }
    required = _required(edges)
    return tuple(
        replace(
            each,
            why=why.get(each.name, each.why),
            asked=REQUEST in edges.get(each.name, ()),
            requires=tuple(required.get(each.name, ())),
        )
        if _is_present(each)
        else replace(each, why=_why_not(each, present, why))
        for each in every
    )


def branches_of(distributions: Iterable[LockedDistribution]) -> list[Branch]:
    """The tree of what is installed and inherited, each branch behind the one that it is on.

    At the top stands what the request asks for, then whatever nothing is known to require, then
    one of each circle that is left. What a distribution requires stands where its own chain
    leads, so that the tree is shallow.
    """
    present = {each.name: each for each in sorted(distributions) if _is_present(each)}
    branches: list[Branch] = []
    expanded: set[str] = set()

    def add(name: str, parent: int | None) -> None:
        first = name not in expanded
        expanded.add(name)
        branches.append(Branch(parent=parent, distribution=present[name], first=first))

    def grow(position: int) -> None:
        """Add what the branches from a position on require, until there are no more."""
        while position < len(branches):
            if branches[position].first:
                for name in branches[position].distribution.requires:
                    if name in present:
                        add(name, position)
            position += 1

    for name, each in present.items():
        if each.asked:
            add(name, None)
    grow(0)
    required = {name for each in present.values() for name in each.requires}
    for name in (*sorted(present.keys() - required), *present):
        if name not in expanded:
            add(name, None)
            grow(len(branches) - 1)
    return branches


def _required(edges: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """What each requires, in the order of the names: the edges the other way round."""
    required: dict[str, list[str]] = {}
    for name in sorted(edges):
        for requirer in edges[name]:
            required.setdefault(requirer, []).append(name)
    return required


def _is_present(each: LockedDistribution) -> bool:
    return each.role in (Role.INSTALLED, Role.INHERITED)


def _requirements_of(each: LockedDistribution, host: HostFacts) -> dict[str, str]:
    """What an inherited distribution requires, by name, without markers."""
    if each.role is not Role.INHERITED:
        return {}
    found: dict[str, str] = {}
    for need in host.needs[each.name]:
        extras = f"[{','.join(sorted(need.requirement.extras))}]" if need.requirement.extras else ""
        found.setdefault(need.name, f"{need.name}{extras}{need.requirement.specifier}")
    return found


def _why_not(
    each: LockedDistribution, present: Mapping[str, LockedDistribution], why: Mapping[str, str]
) -> str:
    """Why a distribution of the host is not shown: what is installed instead, and its chain."""
    if each.role is not Role.SHADOWED or each.name not in why:
        return each.why
    if (version := present[each.name].version) is None:
        return sentence("another one is installed: {why}", why=why[each.name])
    return sentence("{version} is installed: {why}", version=version, why=why[each.name])
