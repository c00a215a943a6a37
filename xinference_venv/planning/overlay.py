"""What of the host an environment shows: hidden, reachable, sound. Pure, over facts alone.

Shown = installed + (host - hidden). Hidden is a least fixpoint: what the environment replaces;
what is broken by that, by its requirements or by its compiled files; and whatever requires
something hidden. Hiding costs nothing, so the rule is strict. What is hidden and yet reachable
from the request has to be resolved afresh, with the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from xinference_venv.planning.host import HostDistribution, HostFacts
from xinference_venv.planning.lock import EnvLock, LockedDistribution, Role
from xinference_venv.sentences import sentence
from xinference_venv.settings import InheritMode

_REPLACED = sentence("another one is installed in the environment")


def hidden_by(
    installed: Mapping[str, str | None],
    host: HostFacts,
    *,
    exempt: Collection[str] = (),
) -> dict[str, str]:
    """The host distributions that are not to be shown with `installed`, each with the reason.

    `installed` gives versions by name, None where unknown; `exempt` stays unless it is replaced.
    A requirement that the host by itself does not meet breaks nothing.
    """
    hidden = {name: _REPLACED for name in host.by_name if name in installed}
    grown = True
    while grown:
        grown = False
        for each in host.distributions:
            if each.name in hidden or each.name in exempt:
                continue
            why = next(_breaks(each, installed, hidden, host), None)
            if why is not None:
                hidden[each.name] = why
                grown = True
    return hidden


def _breaks(
    each: HostDistribution,
    installed: Mapping[str, str | None],
    hidden: Mapping[str, str],
    host: HostFacts,
) -> Iterator[str]:
    """Why a distribution can't be shown with what is installed and what is hidden so far."""
    for need in host.needs[each.name]:
        if need.name not in installed and need.name not in hidden:
            continue
        if need.name not in host.by_name or not need.allows(host.versions[need.name]):
            continue
        if need.name in installed:
            found = installed[need.name]
            if not need.allows(found):
                yield sentence(
                    "it requires {requirement}, the environment has {name} {version}",
                    requirement=need.requirement,
                    name=need.name,
                    version=found,
                )
        else:
            yield sentence(
                "it requires {requirement}, which is hidden", requirement=need.requirement
            )
    for name in each.bound_to:
        # At any difference of version, and at none: the libraries would be loaded twice.
        if name in installed:
            yield sentence(
                "its compiled files load those of the host's {name} {version}",
                name=name,
                version=host.versions.get(name),
            )
        elif name in hidden:
            yield sentence("its compiled files load those of {name}, which is hidden", name=name)
    for name in each.shares:
        if name in installed:
            yield sentence(
                "it shares a package with {name}, which is installed in the environment", name=name
            )
    if each.compiled:
        for name in _compiled_partners(each, installed, host):
            yield sentence(
                "it was compiled together with {name} {version}, the environment has {installed}",
                name=name,
                version=host.versions[name],
                installed=installed[name],
            )


def _compiled_partners(
    each: HostDistribution,
    installed: Mapping[str, str | None],
    host: HostFacts,
) -> Iterator[str]:
    """Replaced compiled distributions of another minor version that it requires and was built
    with: the metadata of a wheel does not say which versions its extensions were built for.

    Not those that require it: a replacement of theirs was resolved with it, and hiding it
    would have it resolved again to whatever is newest, under everything else built on it.
    """
    required = {need.name for need in host.needs[each.name]}
    if each.built_with is not None:
        required &= {*each.built_with}
    for name in installed:
        other = host.by_name.get(name)
        if other is None or not other.compiled or _same_minor(other.version, installed[name]):
            continue
        if name in required and not (name == "numpy" and _serves(each, installed[name])):
            yield name


def _serves(each: HostDistribution, numpy: str | None) -> bool:
    """Whether what a distribution's extensions were built for includes a version of NumPy."""
    if each.numpy_range is None or numpy is None:
        return False
    return SpecifierSet(each.numpy_range).contains(numpy)


def _same_minor(one: str, other: str | None) -> bool:
    if other is None:
        return False
    first, second = Version(one), Version(other)
    return (first.epoch, first.release[:2]) == (second.epoch, second.release[:2])


def host_part(
    hidden: Mapping[str, str], installed: Collection[str], host: HostFacts
) -> list[LockedDistribution]:
    """What a lock says of the host distributions that its environment does not show."""
    return sorted(
        LockedDistribution(
            name=name,
            role=Role.SHADOWED if name in installed else Role.HIDDEN,
            version=host.versions[name],
            why=why,
        )
        for name, why in hidden.items()
    )


def hidden_names(lock: EnvLock) -> frozenset[str]:
    """The host distributions that the environment's view does not show."""
    return frozenset(
        each.name for each in lock.distributions if each.role in (Role.SHADOWED, Role.HIDDEN)
    )


def shown_names(lock: EnvLock, host: HostFacts, alone: Collection[str]) -> frozenset[str]:
    """The host distributions that the environment's view shows."""
    hidden = hidden_names(lock)
    if lock.inherit is InheritMode.HOST:
        return frozenset(host.by_name) - hidden
    inherited = {each.name for each in lock.with_role(Role.INHERITED)}
    return frozenset({*inherited, *alone} & host.by_name.keys()) - hidden


def still_sound(lock: EnvLock, then: HostFacts, now: HostFacts) -> bool:
    """Whether an environment that was locked over the host `then` is right over the host `now`.

    It is when all that its view shows is still there, unmoved, unchanged and not installed again;
    what was added to the host since is simply not shown.
    """
    if now.interpreter.platform_digest != then.interpreter.platform_digest:
        return False
    return changed_names(then, now) <= hidden_names(lock)


def differing_names(then: HostFacts, now: HostFacts) -> frozenset[str]:
    """What of the host `then` is gone, moved or changed `now`; not what is only installed again.

    Neither is what lies in a layer of an image by now, where every inode is another one.
    """
    return frozenset(each.name for each in then.distributions if now.by_name.get(each.name) != each)


def changed_names(then: HostFacts, now: HostFacts) -> frozenset[str]:
    """What of the host `then` is gone, moved, changed or installed again `now`."""
    return frozenset(
        each.name for each in then.distributions if not _is_same(each, now.by_name.get(each.name))
    )


def _is_same(then: HostDistribution, now: HostDistribution | None) -> bool:
    # Facts that an older release kept have no inode.
    return now is not None and now == then and then.inode in (0, now.inode)
