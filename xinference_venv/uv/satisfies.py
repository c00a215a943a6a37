"""Does what the host has meet what is asked for? As far as the requirement lines alone tell."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement

from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.requirements import RequirementLine


def may_be_satisfied(line: RequirementLine, host: HostFacts) -> bool:
    """Whether the host could serve a requirement."""
    name = line.name
    if name is None or name not in host.by_name or line.is_direct:
        return False
    return not contradicted(name, host.versions[name], [line])


def contradicted(name: str, version: str, lines: Iterable[RequirementLine]) -> bool:
    """Whether the request itself excludes the host's version of a package."""
    for line in lines:
        if line.name != name:
            continue
        if line.is_direct:
            return True
        try:
            requirement = Requirement(line.text)
        except InvalidRequirement:
            return True
        if not requirement.specifier.contains(version, prereleases=True):
            return True
    return False


def is_exact(line: RequirementLine) -> bool:
    """Whether a requirement leaves no choice of the version."""
    if line.is_direct:
        return True
    try:
        specifier = Requirement(line.text).specifier
    except InvalidRequirement:
        return True
    return any(
        each.operator in ("==", "===") and not each.version.endswith(".*") for each in specifier
    )
