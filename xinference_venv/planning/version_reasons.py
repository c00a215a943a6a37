"""Why each distribution of a resolution has the version that it has.

Comes in: a resolution, the one without the host where that is known, facts of the host. Goes out:
a text for each distribution that is installed or inherited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from packaging.version import Version

from xinference_venv.planning.displacement import Older, older_than, why_excluded
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.overlay import hidden_by
from xinference_venv.planning.pylock import ANY_LATER, Dependency, Resolution
from xinference_venv.sentences import joined, sentence


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
        if newest is not None and Version(newest) > Version(kept):
            reasons[name] = sentence(
                "kept from the host; without the host there would be {newest}", newest=newest
            )
        else:
            reasons[name] = sentence("kept from the host")
    for name, version in found.installed.items():
        held = why_excluded(ANY_LATER, name, found)
        if name in host.by_name:
            reasons[name] = _why_not_the_hosts(name, version, found, host, unusable)
        elif name in older:
            reasons[name] = _why_older(older[name], required.get(name, ()), found)
        elif held:
            reasons[name] = sentence("the newest that fits, since {why}", why=held)
        else:
            reasons[name] = sentence("the newest that fits")
    return reasons


def _why_older(older: Older, dependencies: Iterable[Dependency], found: Resolution) -> str:
    """Why something is installed in an older version than there would be without the host."""
    parts = [sentence("there is {newest}", newest=older.newest)]
    if older.by is not None:
        parts.append(sentence("{count} days newer", count=older.by.days))
    if keeping := _kept_instead(dependencies, found):
        parts.append(sentence("which does not fit the host's {keeping}", keeping=keeping))
    return joined(parts, ", ")


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
    why = why_excluded(has, name, found) or unusable.get(name) or broken
    if version == has:
        return sentence(
            "the host has the same, which can't serve, since {why}",
            why=why or sentence("it is another build"),
        )
    return sentence(
        "the host's {version} gives way, since {why}",
        version=has,
        why=why or sentence("what is asked for would be older with it"),
    )


def _kept_instead(dependencies: Iterable[Dependency], found: Resolution) -> str:
    """What is inherited in a version that the newest of something, by these, does not allow."""
    return ", ".join(
        f"{dependency.name} {found.inherited[dependency.name]}"
        for dependency in dependencies
        if dependency.name in found.inherited
        and not dependency.allows(found.inherited[dependency.name])
    )
