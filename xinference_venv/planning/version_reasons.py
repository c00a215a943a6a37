"""Why each distribution of a resolution has the version that it has.

Comes in: a resolution, the one without the host where that is known, facts of the host. Goes out:
a text for each distribution that is installed or inherited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from packaging.version import Version

from xinference_venv.planning.displacement import older_than
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.overlay import hidden_by
from xinference_venv.planning.pylock import ANY_LATER, REQUEST, Dependency, Resolution


def version_reasons(
    found: Resolution,
    *,
    fresh: Resolution | None,
    host: HostFacts,
    unusable: Mapping[str, str],
) -> dict[str, str]:
    """Why each distribution has its version, by name.

    `fresh` is the solution without the host, `unusable` what of the host may not serve, each with
    the reason.
    """
    older = {} if fresh is None else older_than(fresh, found)
    newest_of = {} if fresh is None else fresh.installed
    required = {} if fresh is None else fresh.requires
    reasons = {}
    for name, kept in found.inherited.items():
        newest = newest_of.get(name)
        reasons[name] = "kept from the host"
        if newest is not None and Version(newest) > Version(kept):
            reasons[name] += f"; without the host there would be {newest}"
    for name, version in found.installed.items():
        held = _who_excludes(ANY_LATER, name, found)
        if name in host.by_name:
            reasons[name] = _why_not_the_hosts(name, version, found, host, unusable)
        elif name in older:
            each = older[name]
            by = "" if each.by is None else f", {each.by.days} days newer"
            keeping = _kept_instead(required.get(name, ()), found)
            because = f", which does not fit the host's {keeping}" if keeping else ""
            reasons[name] = f"there is {each.newest}{by}{because}"
        elif held:
            reasons[name] = f"the newest that fits, since {held}"
        else:
            reasons[name] = "the newest that fits"
    return reasons


def _why_not_the_hosts(
    name: str,
    version: str | None,
    found: Resolution,
    host: HostFacts,
    unusable: Mapping[str, str],
) -> str:
    """Why something is installed although the host has it."""
    has = host.versions[name]
    others = {other: each for other, each in found.installed.items() if other != name}
    # What would be wrong with the host's, were it not replaced.
    broken = hidden_by(others, host).get(name)
    why = _who_excludes(has, name, found) or unusable.get(name) or broken
    if version == has:
        return f"the host has the same, which can't serve, since {why or 'it is another build'}"
    return f"the host's {has} gives way, since {why or 'what is asked for would be older with it'}"


def _who_excludes(version: str, name: str, found: Resolution) -> str:
    """The requirements that do not allow a version of something."""
    texts = [
        f"{'the request' if requirer == REQUEST else requirer} requires {name}{dependency.ranges}"
        for requirer, dependencies in sorted(found.requires.items())
        for dependency in dependencies
        if dependency.name == name != requirer and not dependency.allows(version)
    ]
    return ", ".join(dict.fromkeys(texts))


def _kept_instead(dependencies: Iterable[Dependency], found: Resolution) -> str:
    """What is inherited in a version that the newest of something, by these, does not allow."""
    return ", ".join(
        f"{dependency.name} {found.inherited[dependency.name]}"
        for dependency in dependencies
        if dependency.name in found.inherited
        and not dependency.allows(found.inherited[dependency.name])
    )
