"""What a call means for what the drop-in notes inside an environment: what holds, what is asked.

A call that asks for nothing new is answered from the record alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from xinference_venv.inventory.in_place import InPlaceRecord
from xinference_venv.planning.host import HostDistribution, HostFacts
from xinference_venv.planning.requirements import Origin, RequirementLine


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A call: the digest of its spec, its lines, and what it has to respect of earlier calls."""

    digest: str
    lines: tuple[RequirementLine, ...]
    held: tuple[str, ...]


def still_asked(
    asked: Iterable[str], lines: Iterable[RequirementLine], seen: HostFacts
) -> tuple[str, ...]:
    """What earlier calls asked for that a call with these `lines` has to respect.

    Not what it asks for itself, and not what whoever uses the environment has changed or
    removed since: `seen` is what the environment sees now.
    """
    named = {line.name for line in lines}
    held = []
    for text in asked:
        requirement = Requirement(text)
        found = seen.versions.get(requirement.name)
        if requirement.name in named or found is None:
            continue
        if requirement.specifier.contains(found, prereleases=True):
            held.append(text)
    return tuple(held)


def unmet(asked: Iterable[str], own: Iterable[HostDistribution], seen: HostFacts) -> frozenset[str]:
    """What an environment lacks with what it sees, as PEP 508: of what was `asked`, and of what
    its `own` distributions require.
    """
    needed = [Requirement(text) for text in asked]
    needed += [need.requirement for each in own for need in seen.needs[each.name]]
    return frozenset(
        f"{each.name}{each.specifier}"
        for each in needed
        if (found := seen.versions.get(canonicalize_name(each.name))) is None
        or not each.specifier.contains(found, prereleases=True)
    )


def with_call(
    record: InPlaceRecord | None, call: Call, installed: Mapping[str, str | None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is asked, and the calls that hold, once a call is fulfilled by what is `installed`.

    Where it replaces what an earlier call asked for, no earlier one holds.
    """
    now = tuple(dict.fromkeys((*call.held, *_asked_by(call.lines, installed))))
    if record is None or not set(record.asked) <= set(now):
        return now, (call.digest,)
    return now, tuple(dict.fromkeys((*record.calls, call.digest)))


def _asked_by(
    lines: Iterable[RequirementLine], installed: Mapping[str, str | None]
) -> Iterator[str]:
    """Requirements to remember, without URLs and extras.

    What came from a URL is kept by its version, and what an extra brought is there; so
    nothing of a credential is kept.
    """
    for line in lines:
        if line.name is None or line.origin is Origin.PROCESS:
            continue
        if ":" in line.text:
            version = installed.get(line.name)
            yield line.name if version is None else f"{line.name}=={version}"
        else:
            yield f"{line.name}{Requirement(line.text).specifier}"


def without_missing(
    seen: HostFacts, own: Collection[str], lines: Iterable[RequirementLine]
) -> HostFacts:
    """The same facts, where what the environment's `own` distributions lack is not required.

    Whoever uses an environment may take out of it what a distribution requires, and a later
    call must not bring that back; unless the call asks for that distribution itself.
    """
    if not own:
        return seen
    wanted = {line.name for line in lines if line.name is not None}
    repaired = set[str]().union(*(seen.closure(name) for name in wanted))
    relaxed = frozenset(own) - repaired
    distributions = []
    for each in seen.distributions:
        if each.name in relaxed:
            missing = {
                str(need.requirement)
                for need in seen.needs[each.name]
                if need.name not in seen.by_name
            }
            kept = tuple(text for text in each.requires if str(Requirement(text)) not in missing)
            each = replace(each, requires=kept)
        distributions.append(each)
    return replace(seen, distributions=tuple(distributions))
