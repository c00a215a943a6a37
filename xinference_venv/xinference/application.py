"""What Xinference itself needs in the environment of a model, whose process imports much of it.

Comes in: facts of the host, what a call asks for and what came of it. Comes out: bounds for the
resolution, what contradicts them all the same, and whether Xinference works with that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement

from xinference_venv.errors import ResolutionFailed, VerificationFailed
from xinference_venv.planning.displacement import bounds_named, names_in
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.pylock import REQUEST, Dependency
from xinference_venv.planning.requirements import RequirementLine
from xinference_venv.service.import_prover import PROOF_SECONDS
from xinference_venv.uv.interpreters import import_modules
from xinference_venv.uv.messages import has_no_solution
from xinference_venv.uv.satisfies import is_exact
from xinference_venv.uv.subprocess import ProcessRunner

# Every model process imports it, at the version of the host: it is never hidden nor replaced.
APPLICATION = "xinference"
# The module of the actor that a model process runs, which imports the rest, xoscar too.
_IMPORTED_BY_MODELS = ("xinference.core.model",)
# How uv's resolver prints ``==1.0``.
_EXACT = re.compile(r">=(\S+), <\1\+")
OTHER_VERSIONS = (
    "ask for other versions: packages given at the launch, `--virtual-env-package NAME==VERSION` or"
    " virtual_env_packages of a request, replace the model's of the same name"
)
"""What a user of Xinference can do where packages don't fit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contradiction:
    """A version that the application does not allow; `requirers` say what asks for it."""

    name: str
    version: str
    need: str
    requirers: tuple[str, ...]

    def __str__(self) -> str:
        why = f", since {', '.join(self.requirers)}" if self.requirers else ""
        return f"Xinference requires {self.need}; the model gets {self.name} {self.version}{why}"


def application_needs(host: HostFacts) -> dict[str, str]:
    """What the application requires of a host that meets it, as PEP 508 by normalized name."""
    return {
        need.name: f"{need.name}{need.requirement.specifier}"
        for need in host.needs.get(APPLICATION, ())
        if need.name in host.by_name and need.allows(host.versions[need.name])
    }


def imported_by_models(needs: Mapping[str, str], host: HostFacts) -> tuple[str, ...]:
    """What of the application's needs a model's process has to find, at the least.

    Of what the host itself lacks a requirement of, at any depth, that part which it has whole:
    no launch installs the rest, unless its packages need that.
    """
    found = {
        each: None
        for name in needs
        for each in ((name,) if name in host.whole else sorted(host.closure(name)))
        if each in host.whole
    }
    return tuple(found)


def possible_bounds(needs: Mapping[str, str], lines: Sequence[RequirementLine]) -> dict[str, str]:
    """The needs that bound a resolution: not those that a line excludes by an exact version."""
    excluded = {
        line.name
        for line in lines
        if line.name is not None
        and line.name in needs
        and is_exact(line)
        and not _may_meet(line, needs[line.name])
    }
    return {name: text for name, text in needs.items() if name not in excluded}


def bounds_in_the_way(bounds: Mapping[str, str], error: ResolutionFailed) -> set[str]:
    """The names of the bounds by which a resolution may have no solution; empty where none is.

    A bound that uv's explanations have word for word is, as far as there is one. Else those of
    which the error names the package: uv shortens ranges to the versions that there are. Or all,
    since it may explain a bound by what requires it in turn: huggingface-hub, not its click.
    """
    without_host = str(error.details.get("without_host", ""))
    literally = bounds_named(bounds, str(error)) | bounds_named(bounds, without_host)
    if literally:
        return literally
    by_name = bounds.keys() & names_in(str(error))
    return by_name or ({*bounds} if has_no_solution(str(error)) else set())


def _may_meet(line: RequirementLine, need: str) -> bool:
    """Whether an exact line asks for a version that a need allows."""
    if line.is_direct:
        return True
    allowed = Requirement(need).specifier
    exact = (each for each in Requirement(line.text).specifier if each.operator in ("==", "==="))
    return all(allowed.contains(each.version, prereleases=True) for each in exact)


def find_contradictions(
    needs: Mapping[str, str],
    versions: Mapping[str, str | None],
    requires: Mapping[str, Sequence[Dependency]],
    host: HostFacts,
) -> tuple[Contradiction, ...]:
    """Where the `versions` that an environment has itself don't meet the needs, as the host does.

    `requires` is what each distribution of the resolution requires of the others.
    """
    found = []
    for name, need in sorted(needs.items()):
        version = versions.get(name)
        allowed = Requirement(need).specifier
        if version is None or allowed.contains(version, prereleases=True):
            continue
        found.append(
            Contradiction(
                name=name,
                version=version,
                need=need,
                requirers=_requirers(name, host.versions[name], requires),
            )
        )
    return tuple(found)


def _requirers(
    name: str, of_host: str, requires: Mapping[str, Sequence[Dependency]]
) -> tuple[str, ...]:
    """Who does not do with the host's version."""
    return tuple(
        "the model asks for it" if requirer == REQUEST else f"{requirer} requires {name}{ranges}"
        for requirer, dependencies in sorted(requires.items())
        for each in dependencies
        if each.name == name and not each.allows(of_host)
        for ranges in (_EXACT.sub(r"==\1", each.ranges),)
    )


async def prove_application(
    door: ProcessRunner, python: str, contradictions: Sequence[Contradiction]
) -> None:
    """Import what a model's process imports of Xinference; raises `VerificationFailed`."""
    failure = await import_modules(door, python, _IMPORTED_BY_MODELS, deadline=PROOF_SECONDS)
    if failure is None:
        return
    reasons = "; ".join(map(str, contradictions))
    raise VerificationFailed(
        f"{reasons}; and Xinference does not work with that: {failure.splitlines()[-1]}",
        {"output": failure, "hint": OTHER_VERSIONS},
    )
