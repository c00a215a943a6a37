"""Resolve a spec with uv, the host in sight: as much of it is kept as soundness and the age of what
is asked for allow, at the least cost.

uv sees the host's distributions as metadata-only wheels ("stubs"), which constraints name by
their URLs. So they count for what is resolved and never for what a source needs to be built: From a
find-links folder uv would take them for build requirements as well, without any code in them.

1. When the host may satisfy everything: its stubs without any index; nothing leaves the machine.
   Where it has nothing but pip and the like: the request by itself, in one process.
2. The request without the host, which tells what is newest and how large it is; what the host has
   serves with that, where all of it fits. Where it does not, or the answer takes more than a
   second: also every host version kept, but those that the request itself contradicts.
3. Where the first has no solution, or brings what is asked for in an older version than is
   allowed: the newest of what is asked for, with what of the host can serve with it.
4. Where that fails, or brings much: what else can be kept, by what the failures tell
   (`planning/displacement.py`).

What comes out is judged by `overlay`: an inherited distribution that could not be shown with
what is to be installed gives way for good, and the search goes on from there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from xinference_venv._util.tasks import cancel, ignore
from xinference_venv.errors import DeadlineExceeded, ResolutionFailed, UvFailed
from xinference_venv.planning.displacement import (
    INSTALLER_TOOLS,
    HostSearch,
    Older,
    bounds_named,
    combine,
    contradicted_pins,
    cost_of,
    displaced_by,
    kept_warning,
    lowest_allowed,
    names_in,
    older_kept,
    older_than,
    older_warning,
    relaxed_warning,
    too_old,
)
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.overlay import hidden_by
from xinference_venv.planning.pylock import Resolution, release_of
from xinference_venv.planning.requirements import RequirementLine
from xinference_venv.planning.source_builds import older_in, sources_by_choice
from xinference_venv.planning.sources import TORCH_FAMILY, TORCH_INDEX, PackageSources
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.planning.torch_builds import (
    assumed_build_warning,
    no_builds_as_torch,
    pins_as_torch,
    unreachable_torch_index,
)
from xinference_venv.planning.version_reasons import version_reasons
from xinference_venv.sentences import sentence
from xinference_venv.settings import InheritMode
from xinference_venv.uv.messages import has_no_solution, is_unreachable, missing_in
from xinference_venv.uv.passes import Found, Pass, Passes
from xinference_venv.uv.resolution_errors import unsolvable
from xinference_venv.uv.satisfies import contradicted, is_exact, may_be_satisfied
from xinference_venv.uv.search import fewest_builds

_WITHOUT_LIST = sentence("it has no list of its files")
# What a second, slightly older solution is looked for: a package for accelerators, mostly.
_DEAR_BYTES = 100_000_000
_CHEAPER_PASSES = 2
_FRESH_PASSES = 3
_CAREFUL_FAILURES = 3
# Far more than any real request took: each failure rules out what was tried.
_MOST_FAILURES = 100
# How long it may take to find out whether less can be built from source.
_LEAST_SECONDS = 5.0
_MOST_PASSES_LONG = 2.0


@dataclass(kw_only=True)
class Resolver:
    """One resolution, by passes of its own; `say` hears what is tried."""

    passes: Passes
    say: Callable[[str], None]
    head_start: float = 1.0
    """For how many seconds the request without the host is alone: most often its answer is enough,
    and a process that keeps the host would only ask the index for the same.
    """

    yielding: Mapping[str, str] = field(default_factory=dict)
    """Constraints by name that whoever asks takes back where they are in the way."""

    _kept_alone: frozenset[str] = field(default=frozenset(), init=False)
    """What of the host was kept where it was asked what there would be without the host."""

    _fresh: Resolution | None = field(default=None, init=False)
    """What there would be without the host, where that was asked."""

    _why_not_fresh: str | None = field(default=None, init=False)
    """Why there is no solution without the host, where that was asked."""

    @property
    def spec(self) -> EnvSpec:
        """What is to be resolved."""
        return self.passes.spec

    @property
    def host(self) -> HostFacts:
        """The host that it is resolved over."""
        return self.passes.host

    async def resolve(self) -> tuple[Resolution, Mapping[str, str]]:
        """The resolution, and the host distributions to hide with it, each with the reason.

        Raises `ResolutionFailed` with uv's own explanation.
        """
        if self.spec.inherit is InheritMode.EXACT:
            unknown = (each.name for each in self.host.distributions if not each.recorded)
            self.passes.unusable = {**dict.fromkeys(unknown, _WITHOUT_LIST), **self.passes.unusable}
        while True:
            try:
                found = await (
                    self._over_nothing()
                    if self.passes.stubs is None
                    else self._with_backend(self._search)
                )
                break
            except UvFailed as error:
                named = self._system_pins_in(str(error))
                if not named:
                    raise self._unsolvable(error) from error
                self.say(
                    sentence(
                        "resolving without the placeholders of {named}", named=", ".join(named)
                    )
                )
                self.passes.relaxed |= {*named}
        warnings = (*self._relaxed_warnings(found), *found.warnings, *self._kept_warnings(found))
        reasons = version_reasons(
            found, fresh=self._fresh, host=self._seen_host(), unusable=self.passes.unusable
        )
        found = replace(found, warnings=warnings, reasons=reasons)
        return found, self._hidden_by(found)

    # Without stubs: what of the host serves the process alone

    async def _over_nothing(self) -> Resolution:
        """The request by itself, and the roots of the process where the host's can't be shown."""
        ahead = self._ahead()
        resolving = None if ahead is None else asyncio.ensure_future(ahead._alone())
        try:
            while True:
                expected = {} if ahead is None else ahead.passes.unusable
                if resolving and self.passes.unusable.keys() == expected.keys():
                    found = await resolving
                else:
                    found = await self._alone()
                again = self._not_to_be_shown(found)
                if not again:
                    return found
                self._report(again)
        finally:
            if resolving is not None:
                await cancel(resolving)

    async def _alone(self) -> Resolution:
        async def resolve(sources: PackageSources) -> Found:
            return await self.passes.find(Pass(sources=sources))

        return await self._with_backend(resolve)

    def _ahead(self) -> Resolver | None:
        """A second resolver, with the roots afresh that the request will likely break.

        Without stubs the request often replaces what a root of the host requires, which only
        its solution tells: so both questions are asked at once.
        """
        if not self.spec.sees_host:
            return None
        asked = {line.name for line in self.spec.requirements}
        again = {
            name: ""
            for name in self.spec.roots
            if name in self.host.by_name and not asked.isdisjoint(self.host.closure(name))
        }
        if not again:
            return None
        scratch = self.passes.scratch / "ahead"
        scratch.mkdir(exist_ok=True)
        passes = replace(self.passes, scratch=scratch, unusable={**self.passes.unusable, **again})
        return replace(self, passes=passes, say=ignore)

    # What all ways have in common

    async def _with_backend(
        self, resolve: Callable[[PackageSources], Awaitable[Found]]
    ) -> Resolution:
        """Resolve with torch's backend where something of torch's family is to be installed."""
        sources = self.spec.sources_without_backend()
        wanted = self.spec.sources.torch_backend is not None
        if wanted and any(
            line.name in TORCH_FAMILY and not self._may_serve(line)
            for line in self.spec.requirements
        ):
            sources = self.spec.sources
        try:
            found = await resolve(sources)
            is_installed = not TORCH_FAMILY.isdisjoint(found.resolution.installed)
            if wanted and sources.torch_backend is None and is_installed:
                # Asked only now: the backend's index is asked even for a torch of the host.
                sources = self.spec.sources
                found = await self._go_on(found, sources) or await resolve(sources)
        except UvFailed as error:
            if sources.torch_backend is None or not is_unreachable(str(error), TORCH_INDEX):
                raise
            if not self.spec.assumed_backend:
                torch = self._seen_host().versions.get("torch")
                raise unreachable_torch_index(error, sources.torch_backend, torch) from error
            self.say(
                sentence(
                    "resolving without {torch_index}, which can't be reached",
                    torch_index=TORCH_INDEX,
                )
            )
            sources = self.spec.sources_without_backend()
            found = await resolve(sources)
        found = self._with_backend_warning(found, sources)
        found = await self._with_builds_as_torch(found, sources, resolve)
        return await self._with_fewest_builds(found, sources)

    def _with_backend_warning(self, found: Found, sources: PackageSources) -> Found:
        """The same with a warning of which build of torch a host without an accelerator gets."""
        torch = found.resolution.installed.get("torch")
        if torch is None or not self.spec.assumed_backend or not self.spec.sources.torch_backend:
            return found
        from_index = sources.torch_backend is not None
        warning = assumed_build_warning(torch, from_index=from_index)
        every = (*found.resolution.warnings, warning)
        return replace(found, resolution=replace(found.resolution, warnings=every))

    async def _with_builds_as_torch(
        self,
        found: Found,
        sources: PackageSources,
        resolve: Callable[[PackageSources], Awaitable[Found]],
    ) -> Found:
        """The same with what is installed next to the host's torch in builds like that.

        Raises `ResolutionFailed` where no index has the builds.
        """
        torch = self._visible_torch(found.resolution)
        pins = pins_as_torch(found.resolution, torch)
        if not pins:
            return found
        self.say(
            sentence(
                "resolving with {pins}, as the host's torch {torch} is built",
                pins=", ".join(pins),
                torch=torch,
            )
        )
        missing = await self._missing_builds(pins, sources)
        if missing is not None and self._is_asked_for(missing):
            raise no_builds_as_torch(missing, torch, pins) from missing
        self.passes.builds = pins
        try:
            if missing is not None and self.passes.stubs is not None:
                # What requires them may do without in another release. Where that gives nothing
                # even without the host, no part of the host needs to be tried.
                without_host = await self._without_host(sources)
                if isinstance(without_host, UvFailed):
                    raise missing
            return await self._go_on(found, sources) or await resolve(sources)
        except UvFailed as error:
            raise no_builds_as_torch(missing or error, torch, pins) from error

    async def _missing_builds(
        self, pins: tuple[str, ...], sources: PackageSources
    ) -> UvFailed | None:
        """Why builds can't be had; None where all can.

        Asked for by themselves: together with the rest, the reason is found late, and may not be
        what uv explains.
        """
        outcome = await self.passes.outcome(Pass(sources=sources, pins=pins))
        return outcome if isinstance(outcome, UvFailed) else None

    def _is_asked_for(self, missing: UvFailed) -> bool:
        """Whether a build that is missing is one of what the request itself asks for."""
        lines = self.passes.lines()
        return not names_in(str(missing)).isdisjoint(line.name or "" for line in lines)

    def _visible_torch(self, found: Resolution) -> str:
        """The version of the host's torch where the process sees that, required or not; else 0."""
        version = found.inherited.get("torch")
        if version is None and self.spec.inherit is InheritMode.HOST:
            is_gone = "torch" in found.installed or "torch" in self._hidden_by(found)
            version = None if is_gone else self.host.versions.get("torch")
        return version or "0"

    async def _go_on(self, found: Found, sources: PackageSources) -> Found | None:
        """What was found with as much of the host, from other sources or in other builds.

        None where that has no solution or an older one: then the search has to start again.
        """
        if self.passes.stubs is None:
            return None
        before = found.resolution
        kept = found.kept - before.installed.keys()
        other = await self.passes.outcome(Pass(sources=sources, kept=kept))
        if isinstance(other, UvFailed) or self._not_to_be_shown(other.resolution):
            return None
        if older_in(other.resolution, than=before):
            return None
        warnings = dict.fromkeys((*before.warnings, *other.resolution.warnings))
        return replace(other, resolution=replace(other.resolution, warnings=tuple(warnings)))

    def _may_serve(self, line: RequirementLine) -> bool:
        return self.passes.stubs is not None and may_be_satisfied(line, self.host)

    async def _with_fewest_builds(self, found: Found, sources: PackageSources) -> Resolution:
        """The same with less of it built from source; what is inherited from the host stays."""
        asked = self._asked()
        kept = found.kept - found.resolution.installed.keys()
        limit = min(self.passes.deadline, max(_LEAST_SECONDS, _MOST_PASSES_LONG * found.seconds))

        exact = {*asked, *sources_by_choice(found.resolution)}

        async def with_wheels(names: Sequence[str]) -> Resolution | UvFailed | None:
            self.say(
                sentence("resolving with {names} not built from source", names=", ".join(names))
            )
            # Nothing else serves instead, so nothing else is searched for.
            floors = tuple(
                f"{name}>={release_of(version) if name in exact else lowest_allowed(version)}"
                for name, version in found.resolution.installed.items()
                if version is not None
            )
            what = Pass(sources=sources, kept=kept, floors=floors, wheels=tuple(names))
            try:
                outcome = await self.passes.outcome(what, limit)
            except DeadlineExceeded:
                return None
            return outcome if isinstance(outcome, UvFailed) else outcome.resolution

        return await fewest_builds(found.resolution, with_wheels, asked=asked)

    def _asked(self) -> set[str]:
        return {*self.spec.roots, *(line.name or "" for line in self.spec.requirements)}

    def _seen_host(self) -> HostFacts:
        """The host as far as it may serve."""
        return self.host if self.spec.sees_host else replace(self.host, distributions=())

    def _hidden_by(self, found: Resolution) -> Mapping[str, str]:
        if not self.spec.sees_host:
            return {}
        return hidden_by(found.installed, self.host, exempt=self.spec.alone)

    def _not_to_be_shown(self, found: Resolution) -> dict[str, str]:
        """What is needed of the host and can't be shown with the rest, each with the reason."""
        hidden = self._hidden_by(found)
        needed = {*found.inherited, *self.spec.roots} - found.installed.keys()
        return {name: hidden[name] for name in sorted(needed & hidden.keys())}

    def _report(self, again: Mapping[str, str]) -> None:
        self.say(
            sentence(
                "resolving again, since these of the host don't fit: {again}",
                again=", ".join(again),
            )
        )
        self.passes.unusable |= again

    # Over the host

    async def _search(self, sources: PackageSources) -> Found:
        """What fits best over the host; raises `UvFailed` when nothing does."""
        lines = self.passes.lines()
        bounds = (*lines, *self.passes.bounds())
        offered = frozenset(
            name
            for name, version in self.host.versions.items()
            if name not in self.passes.unusable
            and name not in self.spec.excludes
            and not contradicted(name, version, bounds)
        )
        if not self.passes.unusable and all(may_be_satisfied(line, self.host) for line in lines):
            self.say(sentence("resolving with the host's packages"))
            found = await self.passes.outcome(
                Pass(sources=sources, kept=offered, of_host_alone=True)
            )
            if not isinstance(found, UvFailed):
                return found
        if offered <= INSTALLER_TOOLS:
            self.say(sentence("resolving what is requested"))
            found = await self.passes.outcome(Pass(sources=sources))
            if not isinstance(found, UvFailed):
                self._fresh = found.resolution
                return self._combine(found.resolution, offered) or found
        started = time.monotonic()
        alone = asyncio.ensure_future(self._without_host(sources))
        keeping: asyncio.Task[Found | UvFailed] | None = None
        try:
            self.say(sentence("resolving with every host version kept"))
            await asyncio.wait({alone}, timeout=self.head_start)
            if not alone.done():
                keeping = self._keeping(sources, offered)
                await asyncio.wait({alone, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if alone.done():
                fresh = await alone
                if (whole := self._with_whole_host(fresh, offered)) is not None:
                    return whole
                if self._is_out_of_question(fresh, offered):
                    # Where that has no solution, what keeps the host shows why.
                    with suppress(UvFailed):
                        return await self._choose(sources, offered, None, fresh)
            keeping = keeping or self._keeping(sources, offered)
            if alone.done():
                limit = max(_LEAST_SECONDS, _MOST_PASSES_LONG * (time.monotonic() - started))
                await asyncio.wait({keeping}, timeout=limit)
            newest = await alone if alone.done() and not keeping.done() else None
            if isinstance(newest, Resolution):
                await cancel(keeping)
                first = await self._keeping_not_much_older(sources, offered, newest)
            else:
                first = await keeping
            if not isinstance(first, UvFailed) and not first.resolution.installed:
                return first
            fresh = await alone
            if (whole := self._with_whole_host(fresh, offered)) is not None:
                return whole
        finally:
            await cancel(alone)
            if keeping is not None:
                await cancel(keeping)
        if self.passes.relaxed and isinstance(fresh, Resolution):
            more = contradicted_pins(fresh, self.passes.pins())
            more -= self.passes.relaxed
            if more:
                self.say(
                    sentence(
                        "resolving without the placeholders of {more}", more=", ".join(sorted(more))
                    )
                )
                self.passes.relaxed |= more
        try:
            try:
                return await self._choose(sources, offered, first, fresh)
            except UvFailed:
                if not isinstance(newest, Resolution) or not isinstance(first, UvFailed):
                    raise
                # Why nothing near the newest fits says nothing of what is older.
                first = await self.passes.outcome(Pass(sources=sources, kept=offered))
                return await self._choose(sources, offered, first, fresh)
        except UvFailed as error:
            # Whatever was tried after it, the first explanation is of what was asked for.
            if isinstance(first, UvFailed) and has_no_solution(str(error)):
                raise first from None
            raise

    def _keeping(
        self, sources: PackageSources, offered: frozenset[str]
    ) -> asyncio.Task[Found | UvFailed]:
        """The pass that keeps all of the host, from now on."""
        return asyncio.ensure_future(self.passes.outcome(Pass(sources=sources, kept=offered)))

    async def _keeping_not_much_older(
        self, sources: PackageSources, offered: frozenset[str], fresh: Resolution
    ) -> Found | UvFailed:
        """All of the host with what is asked for in versions near the newest.

        Without floors uv tries every old release of it, and builds those that are sources.
        """
        self.say(sentence("resolving with every host version kept, without old versions"))
        floors = tuple(
            f"{line.name}>={lowest_allowed(version)}"
            for line in self.passes.lines()
            if not is_exact(line) and (version := fresh.installed.get(line.name or "")) is not None
        )
        return await self.passes.outcome(Pass(sources=sources, kept=offered, floors=floors))

    async def _choose(
        self,
        sources: PackageSources,
        offered: frozenset[str],
        first: Found | UvFailed | None,
        alone: Resolution | UvFailed,
    ) -> Found:
        """The best there is, by what keeping all of the host and none of it give; the one is None
        where it `_is_out_of_question`.
        """
        fresh = None if isinstance(alone, UvFailed) else alone
        search = HostSearch(offered=offered, cost=cost_of(fresh, self.host))
        displaced = frozenset() if fresh is None else self._displaced(fresh, offered)
        if isinstance(first, UvFailed):
            if not search.learn(offered, str(first)):
                raise first
            if isinstance(alone, UvFailed) and has_no_solution(str(alone)):
                # What is asked for counts, too: the host's copy of a version may require less.
                search.learn(self._kept_alone, str(alone))
                # A placeholder gives way before its version comes from elsewhere.
                only_pins = names_in(str(alone)) & offered <= self.passes.pins().keys()
                # What takes a bound back finds more than any part of the host.
                is_bounded = bool(bounds_named(self.yielding, str(alone)))
                if only_pins or is_bounded or search.next(displaced) is None:
                    raise alone
        elif first is not None:
            again = self._not_to_be_shown(first.resolution)
            if again:
                self._report(again)
                search.give_up(again)
            elif not self._should_be_newer(first.resolution, fresh, displaced):
                return self._with_warnings(first, fresh, displaced)
        if fresh is None:
            self.say(sentence("resolving with as many host versions kept as fit"))
            return await self._settle(sources, search, displaced)
        displaced = self._displaced(fresh, search.offered)
        newest = self._combine(fresh, search.offered - displaced)
        if newest is None:
            self.say(sentence("resolving with as many host versions kept as fit"))
            newest = await self._settle(sources, search, displaced)
        lower = self._too_old(newest.resolution, fresh, newest.kept)
        if lower:
            floors = tuple(f"{each.name}>={each.newest}" for each in lower.values())
            # An older one that works, with a warning, rather than none.
            with suppress(UvFailed):
                newest = await self._settle(sources, search, displaced, floors)
        best = await self._cheaper(sources, search, newest, fresh) or newest
        best = await self._with_equal_of_host(sources, search, best)
        return self._with_warnings(best, fresh, displaced)

    def _displaced(self, fresh: Resolution, offered: frozenset[str]) -> frozenset[str]:
        """What of the host can't serve with the newest of what is asked for."""
        asked = self._asked()
        return displaced_by(fresh, self.host, offered=offered, asked=asked, exempt=self.spec.alone)

    def _with_whole_host(
        self, fresh: Resolution | UvFailed, offered: frozenset[str]
    ) -> Found | None:
        """The newest of what is asked for over all of the host, where that is a solution."""
        if isinstance(fresh, UvFailed) or self._displaced(fresh, offered):
            return None
        return self._combine(fresh, offered)

    def _is_out_of_question(self, fresh: Resolution | UvFailed, offered: frozenset[str]) -> bool:
        """Whether to ask for all of the host is in vain.

        What is asked for in one version requires the same in every solution.
        """
        if isinstance(fresh, UvFailed) or self.passes.relaxed:
            return False
        fixed = {line.name or "" for line in self.passes.lines() if is_exact(line)}
        return any(
            need.name in offered and not need.allows(self.host.versions[need.name])
            for name in fixed & fresh.installed.keys()
            for need in fresh.requires.get(name, ())
        )

    def _combine(self, fresh: Resolution, serving: frozenset[str]) -> Found | None:
        """The newest of what is asked for over the host, where that needs no further pass."""
        nameless = any(line.name is None for line in self.spec.requirements)
        if nameless or self.spec.overrides or self.spec.excludes:
            # These change what is required of the host's distributions, too.
            return None
        found = combine(
            fresh,
            self.host,
            serving=serving,
            roots=[name for name in self.spec.roots if self.passes.is_asked(name)],
            exempt=self.spec.alone,
        )
        if found is None or self._not_to_be_shown(found):
            return None
        return Found(resolution=found, kept=serving)

    async def _settle(
        self,
        sources: PackageSources,
        search: HostSearch,
        displaced: frozenset[str],
        floors: tuple[str, ...] = (),
    ) -> Found:
        """A solution of which all that is inherited can be shown; raises `UvFailed`.

        `displaced` is expected to give way, as long as what is learned doesn't say otherwise.
        """
        kept = search.next(displaced)
        failures = 0
        while True:
            assert kept is not None  # what was learned until now can be satisfied
            found = await self.passes.outcome(Pass(sources=sources, kept=kept, floors=floors))
            if isinstance(found, UvFailed):
                search.learn(kept, str(found))
                failures += 1
                if failures >= _CAREFUL_FAILURES:
                    # One by one takes too long: all that stood in the way so far gives way.
                    displaced |= search.named
                kept = search.next(displaced)
                if kept is None or failures > _MOST_FAILURES:
                    raise found
                continue
            again = self._not_to_be_shown(found.resolution)
            if not again:
                return found
            self._report(again)
            search.give_up(again)
            kept = kept - again.keys()

    async def _cheaper(
        self, sources: PackageSources, search: HostSearch, newest: Found, fresh: Resolution
    ) -> Found | None:
        """A solution with not quite the newest of what is asked for, and much less to download."""
        dear = {
            name
            for name in search.offered - newest.kept
            if name in newest.resolution.installed and search.cost(name) >= _DEAR_BYTES
        }
        loose = [
            line.name
            for line in self.spec.requirements
            if line.name in newest.resolution.installed and not is_exact(line)
        ]
        if not dear or not loose:
            return None
        self.say(sentence("resolving with the host's {dear} kept", dear=", ".join(sorted(dear))))
        floors = tuple(
            f"{name}>={lowest_allowed(version)}"
            for name in loose
            if (version := fresh.installed.get(name or "")) is not None
        )
        displaced = (search.offered - newest.kept) - dear
        kept: frozenset[str] | None = search.offered - displaced
        for _ in range(_CHEAPER_PASSES):
            if kept is None or not dear <= kept:
                return None
            found = await self.passes.outcome(Pass(sources=sources, kept=kept, floors=floors))
            if isinstance(found, UvFailed):
                search.learn(kept, str(found))
                kept = search.next(displaced)
                continue
            if self._not_to_be_shown(found.resolution):
                return None
            if self._too_old(found.resolution, fresh, found.kept):
                return None
            ours, theirs = found.resolution.sizes, newest.resolution.sizes
            return found if sum(ours.values()) < sum(theirs.values()) else None
        return None

    async def _with_equal_of_host(
        self, sources: PackageSources, search: HostSearch, found: Found
    ) -> Found:
        """The same with the host's copies of what it has in the very same versions.

        They were expected to give way to something newer than what was then found.
        """
        before = found.resolution
        equal = frozenset(
            name
            for name, version in before.installed.items()
            if name in search.offered and version == self.host.versions[name]
        )
        others = {name: each for name, each in before.installed.items() if name not in equal}
        equal -= hidden_by(others, self.host, exempt=self.spec.alone).keys()
        if not equal:
            return found
        kept = found.kept | equal
        if (combined := self._combine(before, kept)) is not None:
            return combined
        # Nothing else is searched for.
        floors = tuple(f"{name}=={version}" for name, version in others.items() if version)
        other = await self.passes.outcome(Pass(sources=sources, kept=kept, floors=floors))
        if isinstance(other, UvFailed) or self._not_to_be_shown(other.resolution):
            return found
        return other

    def _too_old(
        self, found: Resolution, fresh: Resolution, kept: Collection[str]
    ) -> dict[str, Older]:
        limit = timedelta(seconds=self.spec.max_age_gap)
        return too_old(fresh, found, asked=self._asked(), kept=kept, limit=limit)

    def _should_be_newer(
        self, found: Resolution, fresh: Resolution | None, displaced: Collection[str]
    ) -> bool:
        """Whether a solution that keeps all of the host is not good enough."""
        if fresh is None:
            return False
        if self._too_old(found, fresh, self.host.by_name):
            return True
        asked = self._asked()
        is_older = any(name in asked for name in older_than(fresh, found))
        return is_older and {*displaced} <= INSTALLER_TOOLS

    def _with_warnings(
        self, found: Found, fresh: Resolution | None, displaced: Collection[str]
    ) -> Found:
        """The same with a warning for all that is asked for and older than without the host."""
        if fresh is None:
            return found
        asked = self._asked()
        keeping = sorted({*displaced} & found.resolution.inherited.keys())
        warnings = [
            older_warning(each, keeping, self.host)
            for name, each in sorted(older_than(fresh, found.resolution).items())
            if name in asked
        ]
        every = (*found.resolution.warnings, *warnings)
        return replace(found, resolution=replace(found.resolution, warnings=every))

    async def _without_host(self, sources: PackageSources) -> Resolution | UvFailed:
        """What there would be without the host, or why that has no solution.

        What the request pins to the host's very version is the host's there, too, and so is what
        no index has. Where a placeholder gave way, all do: what they hold back shows at once.
        """
        relaxed = frozenset(self.passes.pins() if self.passes.relaxed else ())
        kept = frozenset(
            line.name
            for line in self.passes.lines(relaxed)
            if line.name in self.host.by_name
            and line.name not in self.passes.unusable
            and is_exact(line)
            and may_be_satisfied(line, self.host)
        )
        offered = self.host.by_name.keys() - self.passes.unusable.keys()
        outcome: Found | UvFailed | None = None
        for _ in range(_FRESH_PASSES):
            self._kept_alone = kept
            outcome = await self.passes.outcome(
                Pass(sources=sources, kept=kept, roots=False, relaxed=relaxed)
            )
            only_here = (
                missing_in(str(outcome)) if isinstance(outcome, UvFailed) else outcome.missing
            )
            if not only_here & offered - kept:
                break
            kept |= only_here & offered
        assert outcome is not None  # it is tried at least once
        if isinstance(outcome, UvFailed):
            self._why_not_fresh = str(outcome)
            return outcome
        self.passes.first_tried = outcome.output
        self._fresh = outcome.resolution
        return outcome.resolution

    # Explanations

    def _system_pins_in(self, words: str) -> list[str]:
        """The names of placeholders for the host's version that an explanation names."""
        if not has_no_solution(words):
            return []
        return sorted(self.passes.pins().keys() & names_in(words) - self.passes.relaxed)

    def _relaxed_warnings(self, found: Resolution) -> list[str]:
        """Which placeholders gave way, and to what."""
        pins = self.passes.pins()
        names = sorted(self.passes.relaxed & found.installed.keys())
        return [relaxed_warning(name, pins[name], found) for name in names]

    def _kept_warnings(self, found: Resolution) -> list[str]:
        """What is asked for and kept from the host in a release that is older than it may be.

        Nothing else is taken for it: that the host has it is why it is asked for without a version.
        """
        if self._fresh is None:
            return []
        free = {line.name or "" for line in self.passes.lines() if not is_exact(line)}
        older = older_kept(self._fresh, found, asked=free)
        return [kept_warning(older[name]) for name in sorted(older)]

    def _unsolvable(self, error: UvFailed) -> ResolutionFailed:
        needed = filter(self._is_needed, self.passes.unusable)
        unusable = {name: self.passes.unusable[name] for name in needed}
        return unsolvable(
            error,
            spec=self.spec,
            host=self.host,
            unusable=unusable,
            unfit=self.passes.unfit,
            without_host=self._why_not_fresh,
        )

    def _is_needed(self, name: str) -> bool:
        return name in self._asked() or self.passes.unusable[name] != _WITHOUT_LIST
