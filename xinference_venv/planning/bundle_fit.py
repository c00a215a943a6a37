"""Whether a bundle serves on this host.

Comes in: what a bundle holds, the spec of the launch here, the facts of the host. Comes out: the
lock of the launch, or an error that says what does not fit.
"""

from __future__ import annotations

from dataclasses import replace

from packaging.utils import parse_wheel_filename

from xinference_venv.errors import InvalidInput
from xinference_venv.planning.bundle import WHEELS, Bundle, Demand
from xinference_venv.planning.host import HostFacts, Interpreter
from xinference_venv.planning.lock import EnvLock, LockedDistribution, Role
from xinference_venv.planning.overlay import hidden_by, host_part
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.sentences import sentence

_PLATFORM = ("implementation_name", "sys_platform", "platform_machine")


def lock_for(bundle: Bundle, spec: EnvSpec, host: HostFacts) -> EnvLock:
    """The lock of a bundle for a launch on this host.

    Raises `InvalidInput` where it can't serve: for another Python or platform, for other
    requirements, or over packages that this host has not.
    """
    _check_platform(bundle, spec.interpreter)
    _check_demand(bundle, Demand.of(spec))
    lock = bundle.lock
    kept: list[LockedDistribution] = [*lock.with_role(Role.INSTALLED)]
    if spec.sees_host:
        inherited = lock.with_role(Role.INHERITED)
        hidden = hidden_by(lock.installed, host, exempt=spec.alone)
        wrong = [
            f"{each.name} {each.version} (here {host.versions.get(each.name, 'none')})"
            for each in inherited
            if host.versions.get(each.name) != each.version or each.name in hidden
        ]
        if wrong:
            raise _refused(
                bundle,
                sentence(
                    "it inherits from the host what this one has not: {wrong}",
                    wrong=", ".join(wrong),
                ),
                sentence("export it on a host that has the same packages, or with --inherit none"),
            )
        kept += [*inherited, *host_part(hidden, lock.installed, host)]
    return replace(
        lock,
        distributions=tuple(sorted(kept)),
        python_version=spec.interpreter.version,
        platform_digest=spec.interpreter.platform_digest,
        host_digest=host.digest if spec.sees_host else None,
        spec_digest=spec.digest,
    )


def _refused(bundle: Bundle, why: str, hint: str) -> InvalidInput:
    return InvalidInput(
        sentence(
            "the bundle of {model_name} does not fit this host: {why}",
            model_name=bundle.request.model_name,
            why=why,
        ),
        {"hint": hint},
    )


def _check_platform(bundle: Bundle, here: Interpreter) -> None:
    there = bundle.interpreter
    if there.minor_version != here.minor_version:
        raise _refused(
            bundle,
            sentence(
                "it is for Python {other_version}, and a launch here is for {version}",
                other_version=there.minor_version,
                version=here.version,
            ),
            sentence(
                "launch it there with Python {version}, then export it",
                version=here.minor_version,
            ),
        )
    for name in _PLATFORM:
        if there.markers.get(name) != here.markers.get(name):
            raise _refused(
                bundle,
                sentence(
                    "it is for {other_platform}, and this is {platform}",
                    other_platform=there.markers.get(name),
                    platform=here.markers.get(name),
                ),
                sentence("export it on a host of the same platform"),
            )
    supported = frozenset(here.tags)
    for each in bundle.wheels.values():
        name = each.path.removeprefix(WHEELS)
        tags = {str(tag) for tag in parse_wheel_filename(name)[3]}
        # A wheel that was built on the host that wrote it runs where that one's libraries do.
        own = all("-linux_" in tag for tag in tags)
        if supported.isdisjoint(tags) or (own and there.best_tag not in supported):
            raise _refused(
                bundle,
                sentence(
                    "{name} can't run here, where {tag} is what fits best",
                    name=name,
                    tag=here.best_tag,
                ),
                sentence("export it on a host of the same platform whose C library is not newer"),
            )


def _check_demand(bundle: Bundle, here: Demand) -> None:
    there = bundle.demand
    if there == here:
        return
    only_there = sorted({*there.requirements} - {*here.requirements})
    only_here = sorted({*here.requirements} - {*there.requirements})
    if only_there and only_here:
        why = sentence(
            "it was made for {only_there}, and a launch here asks for {only_here} instead",
            only_there=", ".join(only_there),
            only_here=", ".join(only_here),
        )
    elif only_here:
        why = sentence(
            "a launch here asks for {only_here}, too, which it was not made for",
            only_here=", ".join(only_here),
        )
    elif only_there:
        why = sentence(
            "it was made for {only_there}, too, which a launch here does not ask for",
            only_there=", ".join(only_there),
        )
    else:
        why = sentence(
            "the settings of requirements (inherit, constraints, overrides, exclude) differ"
        )
    raise _refused(bundle, why, sentence("let both sides have the same models and settings"))
