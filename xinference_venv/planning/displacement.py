"""Which distributions of the host give way to a request, and what that is worth.

Comes in: resolutions with the host's versions kept and without the host, the resolver's explanation
where there was none, facts of the host. Goes out: the host distributions to keep next, and what
of the request is older than it would be without the host.

The search keeps as much of the host as has a solution. Each failure is a clause: of those host
distributions that the resolver's explanation names, one that was kept has to give way, or one
that gave way has to be kept. What satisfies all clauses at the least cost is tried next.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.overlay import hidden_by
from xinference_venv.planning.pylock import REQUEST, Dependency, Resolution, release_of
from xinference_venv.sentences import joined, sentence

INSTALLER_TOOLS = frozenset({"pip", "setuptools", "wheel"})
"""Tools of the host's own environment: nothing is kept older for their sake."""

_NAME = re.compile(r"[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*")
# A name with a range of versions, as uv's explanations have it.
_BOUND = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*[<>][0-9.,<>=!*]*[0-9*]")
_MINOR_VERSIONS = 2
_BRANCHES = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Older:
    """A version that is older than without the host; `by` is None where no index tells when.

    `newest` is without its build, so that it may be asked for by ``>=``.
    """

    name: str
    version: str
    newest: str
    by: timedelta | None

    def exceeds(self, limit: timedelta) -> bool:
        """Whether it is older than allowed: by time, else by two minor versions."""
        if self.by is not None:
            return self.by > limit
        ours, theirs = Version(self.version), Version(self.newest)
        if (ours.epoch, ours.major) != (theirs.epoch, theirs.major):
            return True
        return theirs.minor - ours.minor > _MINOR_VERSIONS


def older_than(fresh: Resolution, found: Resolution) -> dict[str, Older]:
    """What `found` installs in an older release than `fresh` does, whatever the builds, by name."""
    older = {}
    for name, version in found.installed.items():
        newest = fresh.installed.get(name)
        if version is None or newest is None or release_of(version) >= release_of(newest):
            continue
        times = (found.uploaded.get(name), fresh.uploaded.get(name))
        by = None if None in times else fresh.uploaded[name] - found.uploaded[name]
        release = str(release_of(newest))
        older[name] = Older(name=name, version=version, newest=release, by=by)
    return older


def older_kept(fresh: Resolution, found: Resolution, *, asked: Collection[str]) -> dict[str, Older]:
    """What of `asked` is inherited although `fresh` has a release that is newer by more than two
    minor versions; no index tells when the host's was made.
    """
    older = {}
    for name in asked:
        version, newest = found.inherited.get(name), fresh.installed.get(name)
        if version is None or newest is None or release_of(version) >= release_of(newest):
            continue
        each = Older(name=name, version=version, newest=str(release_of(newest)), by=None)
        if each.exceeds(timedelta.max):
            older[name] = each
    return older


def kept_warning(older: Older) -> str:
    """What a lock says of something that is asked for and kept from the host in an old release."""
    return sentence(
        "the host's {name} {version} is kept although there is {newest}; ask for"
        " {name}>={newest} to have it, or launch with --inherit none",
        name=older.name,
        version=older.version,
        newest=older.newest,
    )


def too_old(
    fresh: Resolution,
    found: Resolution,
    *,
    asked: Collection[str],
    kept: Collection[str],
    limit: timedelta,
) -> dict[str, Older]:
    """What makes a resolution unacceptable next to the one without the host, by name.

    Of what is asked for nothing may be older than `limit`. Of the rest only what evades: an
    ancient release that declares no requirements fits whatever is kept, so where the newest needs
    a package of the host and `found` does without it, nothing at all may be older.
    """
    older = older_than(fresh, found)
    present = {*found.installed, *found.inherited}
    evades = any(name in fresh.installed and name not in present for name in kept)
    return {
        name: each
        for name, each in older.items()
        if (evades or name in asked) and each.exceeds(limit)
    }


def older_warning(older: Older, keeping: Iterable[str], host: HostFacts) -> str:
    """What a lock says of something that is asked for and older than without the host."""
    by = "" if older.by is None else sentence(", {count} days later", count=older.by.days)
    kept = ", ".join(f"{name} {host.versions[name]}" for name in keeping)
    if not kept:
        because = sentence("it fits")
    elif ", " in kept:
        because = sentence("the host's {kept} are kept", kept=kept)
    else:
        because = sentence("the host's {kept} is kept", kept=kept)
    return sentence(
        "{name} {version} is taken although there is {newest}{by}, since"
        " {because}; ask for {name}>={newest} to have it, or launch with"
        " --inherit none",
        name=older.name,
        version=older.version,
        newest=older.newest,
        by=by,
        because=because,
    )


def contradicted_pins(fresh: Resolution, pins: Mapping[str, str]) -> set[str]:
    """The names of `pins` whose version something of a solution without them excludes."""
    return {
        dependency.name
        for requirer, dependencies in fresh.requires.items()
        for dependency in dependencies
        if requirer != REQUEST
        and dependency.name in pins
        and not dependency.allows(pins[dependency.name])
    }


def relaxed_warning(name: str, version: str, found: Resolution) -> str:
    """What a lock says of a placeholder for the host's `version` that gave way."""
    why = why_excluded(version, name, found) or sentence("nothing requested fits it")
    return sentence(
        "#system_{name}#: the host's {name} {version} gives way to {installed}, since {why}",
        name=name,
        version=version,
        installed=found.installed[name],
        why=why,
    )


def lowest_allowed(version: str) -> str:
    """The oldest version that is two minor versions from this one at most."""
    parsed = release_of(version)
    epoch = f"{parsed.epoch}!" if parsed.epoch else ""
    lowest = Version(f"{epoch}{parsed.major}.{max(parsed.minor - _MINOR_VERSIONS, 0)}")
    # A first pre-release is older than the release that it leads to.
    return str(min(parsed, lowest))


def why_excluded(version: str, name: str, found: Resolution) -> str:
    """The requirements that do not allow a version of something; empty where there is none."""
    texts = [
        sentence("the request requires {requirement}", requirement=f"{name}{dependency.specifier}")
        if requirer == REQUEST
        else sentence(
            "{requirer} requires {requirement}",
            requirer=requirer,
            requirement=f"{name}{dependency.specifier}",
        )
        for requirer, dependencies in sorted(found.requires.items())
        for dependency in dependencies
        if dependency.name == name != requirer and not dependency.allows(version)
    ]
    return joined(dict.fromkeys(texts), ", ")


def names_in(explanation: str) -> set[str]:
    """The normalized names, among other words, in what uv says of a failure."""
    return {canonicalize_name(each) for each in _NAME.findall(in_whole_lines(explanation))}


def bounds_named(bounds: Mapping[str, str], explanation: str) -> set[str]:
    """The names of the bounds that uv's explanation of a failure has word for word."""
    named = set()
    for text in _BOUND.findall(in_whole_lines(explanation)):
        with suppress(InvalidRequirement):
            named.add(_as_bound(text))
    return {name for name, text in bounds.items() if _as_bound(text) in named}


def _as_bound(text: str) -> tuple[str, SpecifierSet]:
    bound = Requirement(text)
    return canonicalize_name(bound.name), bound.specifier


def in_whole_lines(explanation: str) -> str:
    """What uv says of a failure, with no name broken in two."""
    # uv breaks long lines, also after the hyphen of a name (measured with uv 0.13).
    return re.sub(r"-\n\s*", "-", explanation)


def cost_of(fresh: Resolution | None, host: HostFacts) -> Callable[[str], int]:
    """What it costs in bytes to download when a host distribution gives way, by name.

    Its own wheel, and those of what else could not be shown then. Where the solution without the
    host is not known, or does without it, that is nothing.
    """
    sizes = {} if fresh is None else fresh.sizes
    versions = {} if fresh is None else fresh.installed

    @cache
    def cost(name: str) -> int:
        if versions.get(name) is None or name in INSTALLER_TOOLS:
            return 0
        gone = {name, *hidden_by({name: versions[name]}, host)}
        return sum(sizes.get(each, 0) for each in gone)

    return cost


def displaced_by(
    fresh: Resolution,
    host: HostFacts,
    *,
    offered: Collection[str],
    asked: Collection[str],
    exempt: Collection[str] = (),
) -> frozenset[str]:
    """Of the host distributions `offered`, those that can't serve together with the newest
    release of what is `asked` for.

    From what is asked for on, each is the host's where its version meets what was found so far,
    else the one of `fresh`, the solution without the host.
    """
    displaced: set[str] = set()
    while True:
        serving = set(offered) - displaced
        reached: set[str] = set()
        waiting = list(asked)
        while waiting:
            name = waiting.pop()
            if name in reached:
                continue
            reached.add(name)
            if name in serving:
                waiting += [need.name for need in host.needs[name] if need.name in host.by_name]
                continue
            for dependency in fresh.requires.get(name, ()):
                other = dependency.name
                if other in serving and not dependency.allows(host.versions[other]):
                    serving.discard(other)
                    displaced.add(other)
                    reached.discard(other)
                waiting.append(other)
        installed = {n: v for n, v in fresh.installed.items() if n in reached - serving}
        hidden = hidden_by(installed, host, exempt=exempt)
        again = reached & serving & hidden.keys()
        if not again:
            return frozenset(displaced)
        displaced |= again


def combine(
    fresh: Resolution,
    host: HostFacts,
    *,
    serving: Collection[str],
    roots: Collection[str],
    exempt: Collection[str] = (),
) -> Resolution | None:
    """What `fresh`, the solution without the host, becomes when the distributions `serving` of the
    host serve wherever it needs them; a solution by itself, so that no resolver has to be asked.

    None where it is none: something does not fit, or only a resolver can tell, as what an extra of
    a host distribution requires. `roots` must be there besides what the request asks for.
    """
    waiting = [*roots]
    for dependency in fresh.requires.get(REQUEST, ()):
        if not _is_served_by(dependency, host, serving):
            return None
        waiting.append(dependency.name)
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        if name in serving:
            needs = host.needs[name]
            if any(need.name not in host.by_name for need in needs):
                return None
            waiting += [need.name for need in needs]
        elif name in fresh.installed:
            for dependency in fresh.requires.get(name, ()):
                if not _is_served_by(dependency, host, serving):
                    return None
                waiting.append(dependency.name)
        else:
            return None
    inherited = {name: host.versions[name] for name in sorted(reached & set(serving))}
    packages = [each for each in fresh.packages if each["name"] in reached - inherited.keys()]
    found = Resolution(
        packages=tuple(packages),
        inherited=inherited,
        warnings=tuple(
            each for each in fresh.warnings if not names_in(each).isdisjoint(reached - {*inherited})
        ),
        uploaded={name: at for name, at in fresh.uploaded.items() if name in reached},
        requires={
            **{name: each for name, each in fresh.requires.items() if name in {REQUEST, *reached}},
            **{name: _dependencies_of(name, host) for name in inherited},
        },
    )
    hidden = hidden_by(found.installed, host, exempt=exempt)
    return None if hidden.keys() & inherited.keys() else found


def _is_served_by(dependency: Dependency, host: HostFacts, serving: Collection[str]) -> bool:
    """Whether a host distribution, should it be the one that serves, meets a requirement."""
    if dependency.name not in serving:
        return True
    return not dependency.extras and dependency.allows(host.versions[dependency.name])


def _dependencies_of(name: str, host: HostFacts) -> tuple[Dependency, ...]:
    return tuple(
        Dependency(
            name=need.name,
            ranges=str(need.requirement.specifier) or "*",
            extras=bool(need.requirement.extras),
        )
        for need in host.needs[name]
    )


@dataclass(kw_only=True)
class HostSearch:
    """What of the host to keep next, by what was learned from failures.

    `offered` are the host distributions that may serve, `cost` what it costs when one gives way.
    """

    offered: frozenset[str]
    cost: Callable[[str], int]
    _clauses: list[tuple[frozenset[str], frozenset[str]]] = field(default_factory=list, init=False)

    def learn(self, kept: Collection[str], explanation: str) -> bool:
        """Learn why nothing fits with `kept`; False when nothing of the host is concerned."""
        concerned = self.offered & names_in(explanation)
        self._clauses.append((concerned & frozenset(kept), concerned - frozenset(kept)))
        return bool(concerned)

    @property
    def named(self) -> frozenset[str]:
        """All that may give way and that a failure named."""
        return frozenset().union(*(release for release, _ in self._clauses))

    def give_up(self, names: Iterable[str]) -> None:
        """These can't be shown together with what is left: they give way for good."""
        gone = frozenset(names)
        self.offered -= gone
        self._clauses = [
            (release, keep - gone) for release, keep in self._clauses if release.isdisjoint(gone)
        ]

    def next(self, displaced: frozenset[str]) -> frozenset[str] | None:
        """What to keep next; None when no choice satisfies what was learned.

        What is expected to be `displaced` is not kept, unless that can't be.
        """
        released = self._cheapest(displaced & self.offered)
        if released is None and displaced:
            released = self._cheapest(frozenset())
        return None if released is None else self.offered - released

    def _cheapest(self, start: frozenset[str]) -> frozenset[str] | None:
        """The cheapest to release, `start` among it, that satisfies all clauses."""
        best: list[tuple[tuple[int, int], frozenset[str]]] = []
        branches = 0

        def branch(released: frozenset[str]) -> None:
            nonlocal branches
            branches += 1
            price = (sum(map(self.cost, released)), len(released))
            if best and (price >= best[0][0] or branches > _BRANCHES):
                return
            broken = next(
                (
                    release
                    for release, keep in self._clauses
                    if release.isdisjoint(released) and keep <= released
                ),
                None,
            )
            if broken is None:
                best[:] = [(price, released)]
                return
            for each in sorted(broken, key=lambda name: (self.cost(name), name)):
                branch(released | {each})

        branch(start)
        return best[0][1] if best else None
