"""Resolve a spec with uv, the host in sight: as much of it is kept as soundness and the age of what
is asked for allow, at the least cost.

uv sees the host's distributions as metadata-only wheels ("stubs"), which constraints name by
their URLs. So they count for what is resolved and never for what a source needs to be built: From a
find-links folder uv would take them for build requirements as well, without any code in them.

1. When the host may satisfy everything: its stubs without any index; nothing leaves the machine.
   Where it has nothing but pip and the like: the request by itself, in one process.
2. Every host version kept, but those that the request itself contradicts; and alongside, at the
   same time, the request without the host, which tells what is newest and how large it is.
3. Where the first has no solution, or brings what is asked for in an older version than is
   allowed: the newest of what is asked for, with what of the host can serve with it.
4. Where that fails, or brings much: what else can be kept, by what the failures tell
   (`planning/displacement.py`).

What comes out is judged by `overlay`: an inherited distribution that could not be shown with
what is to be installed gives way for good, and the search goes on from there.
"""

from __future__ import annotations

import asyncio
import shutil
import time
import tomllib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from xinference_venv._util.files import write_private_file
from xinference_venv._util.redact import secrets_of
from xinference_venv._util.tasks import cancel, ignore
from xinference_venv.errors import DeadlineExceeded, ResolutionFailed, UvFailed
from xinference_venv.planning.displacement import (
    INSTALLER_TOOLS,
    HostSearch,
    Older,
    combine,
    cost_of,
    displaced_by,
    kept_warning,
    lowest_allowed,
    names_in,
    older_kept,
    older_than,
    older_warning,
    too_old,
)
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.overlay import hidden_by
from xinference_venv.planning.package import Release
from xinference_venv.planning.pylock import (
    REQUEST,
    Resolution,
    read_resolution,
    strip_credentials,
)
from xinference_venv.planning.requirements import Origin, RequirementLine
from xinference_venv.planning.source_builds import older_in, sources_by_choice
from xinference_venv.planning.sources import (
    BUILT_AS_TORCH,
    PYPI,
    TORCH_FAMILY,
    TORCH_INDEX,
    PackageSources,
)
from xinference_venv.planning.spec import (
    PROCESS_DISTRIBUTION,
    WIRE_DISTRIBUTIONS,
    EnvSpec,
    wire_bound,
)
from xinference_venv.planning.version_reasons import version_reasons
from xinference_venv.sentences import joined, sentence
from xinference_venv.settings import InheritMode
from xinference_venv.uv import argv
from xinference_venv.uv.git_credentials import git_logins, git_variables, without_git_login
from xinference_venv.uv.messages import (
    ResolverLog,
    has_no_solution,
    is_unreachable,
    missing_in,
    readable_warning,
    way_out,
)
from xinference_venv.uv.satisfies import contradicted, is_exact, may_be_satisfied
from xinference_venv.uv.search import fewest_builds
from xinference_venv.uv.stub_wheels import STUB_BUILD_TAG, stub_file_name, stub_wheel
from xinference_venv.uv.subprocess import Uv

_WITHOUT_LIST = "it has no list of its files"
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


def write_stubs(host: HostFacts, folder: Path) -> None:
    """Write a stub wheel of every host distribution into an empty folder."""
    tag = host.interpreter.best_tag
    for each in host.distributions:
        content = stub_wheel(
            each, tag, host_versions=host.versions, markers=host.interpreter.markers
        )
        write_private_file(folder / stub_file_name(each, tag), content)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """A solution, and the host distributions whose versions were given."""

    resolution: Resolution
    kept: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    """What other versions of what was found would need, and no place has."""
    seconds: float = 0.0
    """How long uv took."""
    output: Path | None = None
    """uv's lock file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Question:
    """All that decides the answer of a pass; `files` are names and lines."""

    files: tuple[tuple[str, tuple[str, ...]], ...] = field(repr=False)
    sources: PackageSources
    of_host_alone: bool
    wheels: tuple[str, ...]


def _write_files(folder: Path, files: Mapping[str, Sequence[str]]) -> argv.ResolutionFiles:
    """Write the files of a pass; they hold credentials, so the folder is private."""

    def write(name: str, lines: Sequence[str]) -> str | None:
        if not lines:
            return None
        path = folder / f"{name}.txt"
        write_private_file(path, "".join(f"{line}\n" for line in lines).encode())
        return str(path)

    return argv.ResolutionFiles(
        requirements=write("requirements", files["requirements"] or ["#"]) or "",
        constraints=write("constraints", files["constraints"]),
        overrides=write("overrides", files["overrides"]),
        excludes=write("excludes", files["excludes"]),
        build_constraints=write("build-constraints", files["build-constraints"]),
    )


def _is_older(other: Resolution, before: Resolution, name: str) -> bool:
    """Whether one has an older release of a package than the other, whatever its build."""
    versions = [{**each.inherited, **each.installed}.get(name) for each in (other, before)]
    first, second = (Version(str(version)).public for version in versions)
    return Version(first) < Version(second)


def _hint_for_builds(build: str | None) -> str:
    """What to do where no index that answers has the builds that fit the host's torch."""
    return sentence(
        "add {torch_index}/{build} or a mirror of it to the extra index URLs,"
        " install the package on the host, or launch with --inherit none",
        torch_index=TORCH_INDEX,
        build=build,
    )


@dataclass(kw_only=True)
class Resolver:
    """One resolution, in a private scratch folder; `stubs` is the folder of the host's stubs.

    `say` hears what is tried, `note` every line of uv: that a pass has no solution is no error.
    """

    uv: Uv
    spec: EnvSpec
    host: HostFacts
    stubs: Path | None
    scratch: Path
    deadline: float
    say: Callable[[str], None]
    note: Callable[[str], None]
    build_python: str | None = None
    """The interpreter whose packages a build without isolation sees, if not the host's."""
    refresh: bool = False
    """Whether indexes are asked again even if their last answers still hold."""
    unfit: Mapping[Release, str] = field(default_factory=dict)
    """Releases that do not allow this Python, with their ``Requires-Python``."""

    unusable: Mapping[str, str] = field(default_factory=dict)
    """The host distributions that may not serve from the start, each with the reason."""

    _unusable: dict[str, str] = field(default_factory=dict, init=False)
    """The host distributions that may not serve, each with the reason."""
    _relaxed: set[str] = field(default_factory=set, init=False)
    """The names whose ``#system_NAME#`` gives way."""
    _builds: tuple[str, ...] = field(default=(), init=False)
    """Pins of what has to be built as the host's torch is."""
    _passes: int = field(default=0, init=False)
    _answers: dict[_Question, _Found | UvFailed] = field(default_factory=dict, init=False)
    """What uv answered already; no longer than this resolution, as an index may get releases."""

    _newest: Path | None = field(default=None, init=False)
    """uv's lock file of what there would be without the host: what later passes try first."""

    _kept_alone: frozenset[str] = field(default=frozenset(), init=False)
    """What of the host was kept where it was asked what there would be without the host."""

    _fresh: Resolution | None = field(default=None, init=False)
    """What there would be without the host, where that was asked."""

    async def resolve(self) -> tuple[Resolution, Mapping[str, str]]:
        """The resolution, and the host distributions to hide with it, each with the reason.

        Raises `ResolutionFailed` with uv's own explanation.
        """
        if self.spec.inherit is InheritMode.EXACT:
            unknown = (each.name for each in self.host.distributions if not each.recorded)
            self._unusable = dict.fromkeys(unknown, _WITHOUT_LIST)
        self._unusable |= self.unusable
        while True:
            try:
                found = await (
                    self._over_nothing() if self.stubs is None else self._with_backend(self._search)
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
                self._relaxed |= {*named}
        warnings = (*self._relaxed_warnings(found), *found.warnings, *self._kept_warnings(found))
        reasons = version_reasons(
            found, fresh=self._fresh, host=self._seen_host(), unusable=self._unusable
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
                if ahead and resolving and self._unusable.keys() == ahead._unusable.keys():
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
        async def resolve(sources: PackageSources) -> _Found:
            return await self._attempt(sources)

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
        ahead = replace(self, scratch=self.scratch / "ahead", say=ignore)
        ahead.scratch.mkdir(exist_ok=True)
        ahead._unusable = {**self._unusable, **again}
        ahead._relaxed = self._relaxed
        return ahead

    # What all ways have in common

    async def _with_backend(
        self, resolve: Callable[[PackageSources], Awaitable[_Found]]
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
                raise self._without_torch_index(error, sources.torch_backend) from error
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

    def _without_torch_index(self, error: UvFailed, backend: str) -> ResolutionFailed:
        """What to say where the builds that must be can't be had from where they are."""
        torch = self._seen_host().versions.get("torch")
        builds = (
            sentence("builds for {backend}, as torch's backend is set,", backend=backend)
            if torch is None
            else sentence("builds that fit the host's torch {torch}", torch=torch)
        )
        message = sentence(
            "{builds} are at {place}, which can't be reached:\n{error}",
            builds=builds,
            place=f"{TORCH_INDEX}/{backend}",
            error=error,
        )
        hint = (
            sentence(
                "add a mirror of {place} to the extra index URLs, or set"
                " XINFERENCE_VIRTUAL_ENV_TORCH_BACKEND=none",
                place=f"{TORCH_INDEX}/{backend}",
            )
            if torch is None
            else _hint_for_builds(backend)
        )
        return ResolutionFailed(message, {**error.details, "hint": hint})

    def _with_backend_warning(self, found: _Found, sources: PackageSources) -> _Found:
        """The same with a warning of which build of torch a host without an accelerator gets."""
        torch = found.resolution.installed.get("torch")
        if torch is None or not self.spec.assumed_backend or not self.spec.sources.torch_backend:
            return found
        warning = (
            sentence(
                "torch {torch} is the build for CPUs, since the host has no accelerator;"
                " XINFERENCE_VIRTUAL_ENV_TORCH_BACKEND names another one",
                torch=torch,
            )
            if sources.torch_backend
            else sentence(
                "torch {torch} may be a build for CUDA although the host has no accelerator,"
                " since {torch_index} can't be reached",
                torch=torch,
                torch_index=TORCH_INDEX,
            )
        )
        every = (*found.resolution.warnings, warning)
        return replace(found, resolution=replace(found.resolution, warnings=every))

    async def _with_builds_as_torch(
        self,
        found: _Found,
        sources: PackageSources,
        resolve: Callable[[PackageSources], Awaitable[_Found]],
    ) -> _Found:
        """The same with what is installed next to the host's torch in builds like that.

        The public index has builds for CUDA: next to a torch ``+cpu`` they fail at import. Raises
        `ResolutionFailed` where no index has the builds.
        """
        torch = self._visible_torch(found.resolution)
        build = Version(torch).local
        pins = [
            f"{name}=={Version(version).public}+{build}"
            for name, version in sorted(found.resolution.installed.items())
            if name in BUILT_AS_TORCH
            and version is not None
            and build is not None
            and Version(version).local != build
        ]
        if not pins:
            return found
        self.say(
            sentence(
                "resolving with {pins}, as the host's torch {torch} is built",
                pins=", ".join(pins),
                torch=torch,
            )
        )
        self._builds = tuple(pins)
        try:
            return await self._go_on(found, sources) or await resolve(sources)
        except UvFailed as error:
            raise ResolutionFailed(
                sentence(
                    "the host's torch {torch} works only with {pins}, which no index that is"
                    " asked has:\n{error}",
                    torch=torch,
                    pins=" and ".join(pins),
                    error=error,
                ),
                {"hint": _hint_for_builds(build), **error.details},
            ) from error

    def _visible_torch(self, found: Resolution) -> str:
        """The version of the host's torch where the process sees that, required or not; else 0."""
        version = found.inherited.get("torch")
        if version is None and self.spec.inherit is InheritMode.HOST:
            is_gone = "torch" in found.installed or "torch" in self._hidden_by(found)
            version = None if is_gone else self.host.versions.get("torch")
        return version or "0"

    async def _go_on(self, found: _Found, sources: PackageSources) -> _Found | None:
        """What was found with as much of the host, from other sources or in other builds.

        None where that has no solution or an older one: then the search has to start again.
        """
        if self.stubs is None:
            return None
        before = found.resolution
        other = await self._try(sources, kept=found.kept - before.installed.keys())
        if isinstance(other, UvFailed) or self._not_to_be_shown(other.resolution):
            return None
        older = older_in(other.resolution, than=before).keys()
        if any(_is_older(other.resolution, before, name) for name in older):
            return None
        warnings = dict.fromkeys((*before.warnings, *other.resolution.warnings))
        return replace(other, resolution=replace(other.resolution, warnings=tuple(warnings)))

    def _may_serve(self, line: RequirementLine) -> bool:
        return self.stubs is not None and may_be_satisfied(line, self.host)

    async def _with_fewest_builds(self, found: _Found, sources: PackageSources) -> Resolution:
        """The same with less of it built from source; what is inherited from the host stays."""
        asked = self._asked()
        kept = found.kept - found.resolution.installed.keys()
        limit = min(self.deadline, max(_LEAST_SECONDS, _MOST_PASSES_LONG * found.seconds))

        exact = {*asked, *sources_by_choice(found.resolution)}

        async def with_wheels(names: Sequence[str]) -> Resolution | UvFailed | None:
            self.say(
                sentence("resolving with {names} not built from source", names=", ".join(names))
            )
            # Nothing else serves instead, so nothing else is searched for.
            floors = [
                f"{name}>={version if name in exact else lowest_allowed(version)}"
                for name, version in found.resolution.installed.items()
                if version is not None
            ]
            try:
                outcome = await self._try(
                    sources, kept=kept, floors=floors, wheels=names, deadline=limit
                )
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
        self._unusable |= again

    # Over the host

    async def _search(self, sources: PackageSources) -> _Found:
        """What fits best over the host; raises `UvFailed` when nothing does."""
        offered = frozenset(
            name
            for name, version in self.host.versions.items()
            if name not in self._unusable
            and name not in self.spec.excludes
            and not contradicted(name, version, (*self._lines(), *self._bounds()))
        )
        if not self._unusable and all(may_be_satisfied(line, self.host) for line in self._lines()):
            self.say(sentence("resolving with the host's packages"))
            found = await self._try(sources, kept=offered, of_host_alone=True)
            if not isinstance(found, UvFailed):
                return found
        if offered <= INSTALLER_TOOLS:
            self.say(sentence("resolving what is requested"))
            found = await self._try(sources, kept=frozenset())
            if not isinstance(found, UvFailed):
                self._fresh = found.resolution
                return self._combine(found.resolution, offered) or found
        started = time.monotonic()
        alone = asyncio.ensure_future(self._without_host(sources))
        keeping = asyncio.ensure_future(self._try(sources, kept=offered))
        try:
            self.say(sentence("resolving with every host version kept"))
            await asyncio.wait({alone, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if alone.done() and (whole := self._with_whole_host(await alone, offered)) is not None:
                return whole
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
            await cancel(keeping)
        if self._relaxed and isinstance(fresh, Resolution):
            more = self._contradicted_pins(fresh) - self._relaxed
            if more:
                self.say(
                    sentence(
                        "resolving without the placeholders of {more}", more=", ".join(sorted(more))
                    )
                )
                self._relaxed |= more
        try:
            try:
                return await self._choose(sources, offered, first, fresh)
            except UvFailed:
                if not isinstance(newest, Resolution) or not isinstance(first, UvFailed):
                    raise
                # Why nothing near the newest fits says nothing of what is older.
                first = await self._try(sources, kept=offered)
                return await self._choose(sources, offered, first, fresh)
        except UvFailed as error:
            # Whatever was tried after it, the first explanation is of what was asked for.
            if isinstance(first, UvFailed) and has_no_solution(str(error)):
                raise first from None
            raise

    async def _keeping_not_much_older(
        self, sources: PackageSources, offered: frozenset[str], fresh: Resolution
    ) -> _Found | UvFailed:
        """All of the host with what is asked for in versions near the newest.

        Without floors uv tries every old release of it, and builds those that are sources.
        """
        self.say(sentence("resolving with every host version kept, without old versions"))
        floors = [
            f"{line.name}>={lowest_allowed(version)}"
            for line in self._lines()
            if not is_exact(line) and (version := fresh.installed.get(line.name or "")) is not None
        ]
        return await self._try(sources, kept=offered, floors=floors)

    async def _choose(
        self,
        sources: PackageSources,
        offered: frozenset[str],
        first: _Found | UvFailed,
        alone: Resolution | UvFailed,
    ) -> _Found:
        """The best there is, by what keeping all of the host and none of it give."""
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
                only_pins = names_in(str(alone)) & offered <= self._pins()
                if only_pins or search.next(displaced) is None:
                    raise alone
        else:
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
            floors = [f"{each.name}>={each.newest}" for each in lower.values()]
            # An older one that works, with a warning, rather than none.
            with suppress(UvFailed):
                newest = await self._settle(sources, search, displaced, floors)
        best = await self._cheaper(sources, search, newest, fresh) or newest
        return self._with_warnings(best, fresh, displaced)

    def _displaced(self, fresh: Resolution, offered: frozenset[str]) -> frozenset[str]:
        """What of the host can't serve with the newest of what is asked for."""
        asked = self._asked()
        return displaced_by(fresh, self.host, offered=offered, asked=asked, exempt=self.spec.alone)

    def _with_whole_host(
        self, fresh: Resolution | UvFailed, offered: frozenset[str]
    ) -> _Found | None:
        """The newest of what is asked for over all of the host, where that is a solution."""
        if isinstance(fresh, UvFailed) or self._displaced(fresh, offered):
            return None
        return self._combine(fresh, offered)

    def _combine(self, fresh: Resolution, serving: frozenset[str]) -> _Found | None:
        """The newest of what is asked for over the host, where that needs no further pass."""
        nameless = any(line.name is None for line in self.spec.requirements)
        if nameless or self.spec.overrides or self.spec.excludes:
            # These change what is required of the host's distributions, too.
            return None
        found = combine(
            fresh,
            self.host,
            serving=serving,
            roots=[name for name in self.spec.roots if self._is_asked(name)],
            exempt=self.spec.alone,
        )
        if found is None or self._not_to_be_shown(found):
            return None
        return _Found(resolution=found, kept=serving)

    async def _settle(
        self,
        sources: PackageSources,
        search: HostSearch,
        displaced: frozenset[str],
        floors: Sequence[str] = (),
    ) -> _Found:
        """A solution of which all that is inherited can be shown; raises `UvFailed`.

        `displaced` is expected to give way, as long as what is learned doesn't say otherwise.
        """
        kept = search.next(displaced)
        failures = 0
        while True:
            assert kept is not None  # what was learned until now can be satisfied
            found = await self._try(sources, kept=kept, floors=floors)
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
        self, sources: PackageSources, search: HostSearch, newest: _Found, fresh: Resolution
    ) -> _Found | None:
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
        floors = [
            f"{name}>={lowest_allowed(version)}"
            for name in loose
            if (version := fresh.installed.get(name or "")) is not None
        ]
        displaced = (search.offered - newest.kept) - dear
        kept: frozenset[str] | None = search.offered - displaced
        for _ in range(_CHEAPER_PASSES):
            if kept is None or not dear <= kept:
                return None
            found = await self._try(sources, kept=kept, floors=floors)
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
        self, found: _Found, fresh: Resolution | None, displaced: Collection[str]
    ) -> _Found:
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
        relaxed = self._pins() if self._relaxed else frozenset()
        kept = frozenset(
            line.name
            for line in self._lines(relaxed)
            if line.name in self.host.by_name
            and line.name not in self._unusable
            and is_exact(line)
            and may_be_satisfied(line, self.host)
        )
        offered = self.host.by_name.keys() - self._unusable.keys()
        outcome: _Found | UvFailed | None = None
        for _ in range(_FRESH_PASSES):
            self._kept_alone = kept
            outcome = await self._try(sources, kept=kept, roots=False, relaxed=relaxed)
            only_here = (
                missing_in(str(outcome)) if isinstance(outcome, UvFailed) else outcome.missing
            )
            if not only_here & offered - kept:
                break
            kept |= only_here & offered
        assert outcome is not None  # it is tried at least once
        if isinstance(outcome, UvFailed):
            return outcome
        self._newest = outcome.output
        self._fresh = outcome.resolution
        return outcome.resolution

    # One pass

    async def _try(
        self,
        sources: PackageSources,
        *,
        kept: Collection[str],
        floors: Sequence[str] = (),
        of_host_alone: bool = False,
        wheels: Sequence[str] = (),
        roots: bool = True,
        relaxed: Collection[str] | None = None,
        deadline: float | None = None,
    ) -> _Found | UvFailed:
        """One pass, or why it has no solution. Any other failure is the caller's."""
        try:
            return await self._attempt(
                sources,
                kept=kept,
                floors=floors,
                of_host_alone=of_host_alone,
                wheels=wheels,
                roots=roots,
                relaxed=relaxed,
                deadline=deadline,
            )
        except UvFailed as error:
            # Without the roots it only tells what would be newest, so nothing of it is fatal.
            if of_host_alone or not roots or has_no_solution(str(error)):
                return error
            raise

    async def _attempt(
        self,
        sources: PackageSources,
        *,
        kept: Collection[str] = (),
        floors: Sequence[str] = (),
        of_host_alone: bool = False,
        wheels: Sequence[str] = (),
        roots: bool = True,
        relaxed: Collection[str] | None = None,
        deadline: float | None = None,
    ) -> _Found:
        """One pass; of `wheels` no source is taken. What was asked before is not asked again."""
        files = self._files(
            sources,
            kept=kept,
            floors=floors,
            look=not of_host_alone,
            roots=roots,
            relaxed=self._relaxed if relaxed is None else relaxed,
        )
        question = _Question(
            files=tuple(files.items()),
            sources=sources,
            of_host_alone=of_host_alone,
            wheels=tuple(wheels),
        )
        answer = self._answers.get(question)
        if answer is None:
            try:
                answer = await self._ask(question, deadline or self.deadline)
            except UvFailed as error:
                answer = error
            self._answers[question] = answer
        if isinstance(answer, UvFailed):
            raise answer
        return replace(answer, kept=frozenset(kept))

    async def _ask(self, question: _Question, deadline: float) -> _Found:
        """Ask uv; raises `UvFailed`."""
        self._passes += 1
        folder = self.scratch / f"pass-{self._passes}"
        folder.mkdir()
        output = folder / "pylock.resolution.toml"
        sources = question.sources
        log = ResolverLog()

        def hear(line: str) -> None:
            if not log.read(line):
                self.note(line)

        command = argv.resolve(
            files=_write_files(folder, dict(question.files)),
            output=str(output),
            python=self._python(),
            sources=sources,
            of_host_alone=question.of_host_alone,
            allow_source_builds=self.spec.allow_source_builds,
            wheels=question.wheels,
            refresh=self.refresh and not question.of_host_alone,
            secrets=self._secrets(sources),
        )
        logins = git_logins(line.text for line in self.spec.requirements)
        git = git_variables(logins, folder, self.uv.door.environment)
        if self._newest is not None:
            shutil.copyfile(self._newest, output)
        started = time.monotonic()
        await self.uv(
            replace(command, environment={**command.environment, **git}),
            deadline=deadline,
            on_line=hear,
            working_directory=str(folder),
        )
        indexes = [*sources.extra_index_urls, sources.index_url or PYPI]
        found = read_resolution(
            tomllib.loads(output.read_text("utf-8")),
            stub_build_tag=STUB_BUILD_TAG,
            tags=self.spec.interpreter.tags,
            indexes=[strip_credentials(url) for url in indexes],
        )
        return _Found(
            resolution=replace(
                found,
                requires=log.requires(found),
                warnings=tuple(map(readable_warning, log.warnings)),
            ),
            missing=frozenset(log.missing - found.installed.keys()),
            seconds=time.monotonic() - started,
            output=output,
        )

    def _files(
        self,
        sources: PackageSources,
        *,
        kept: Collection[str],
        floors: Sequence[str],
        look: bool,
        roots: bool,
        relaxed: Collection[str],
    ) -> dict[str, tuple[str, ...]]:
        """The lines of the files of a pass.

        Where the host's version is kept a placeholder for it says nothing more, so that the
        question is the same when it gives way.
        """
        spec = self.spec
        links = map(argv.find_links_url, sources.find_links) if look else ()
        asked = [self._root_text(name) for name in spec.roots if roots and self._is_asked(name)]
        stubs = [self._stub_line(name) for name in sorted(kept)]
        return {
            "requirements": (
                *(f"--find-links {place}" for place in links),
                *(without_git_login(line.text) for line in self._lines({*kept, *relaxed})),
                *asked,
            ),
            "constraints": (
                *(*spec.constraints, *self._wire_bounds(), *self._builds, *floors, *stubs),
                *(f"{name}!={version}" for name, version in sorted(self.unfit)),
            ),
            "overrides": spec.overrides,
            "excludes": spec.excludes,
            "build-constraints": spec.build_constraints,
        }

    def _stub_line(self, name: str) -> str:
        """A host distribution as the one that serves, by the place of its stub."""
        assert self.stubs is not None
        tag = self.host.interpreter.best_tag
        stub = self.stubs / stub_file_name(self.host.by_name[name], tag)
        return f"{name} @ {argv.find_links_url(str(stub))}"

    def _lines(self, relaxed: Collection[str] | None = None) -> tuple[RequirementLine, ...]:
        """What the request asks for, without the placeholders that gave way."""
        relaxed = self._relaxed if relaxed is None else relaxed
        return tuple(
            replace(line, text=line.name)
            if line.name is not None and line.name in relaxed and line.is_system_pin
            else line
            for line in self.spec.requirements
        )

    def _pins(self) -> set[str]:
        """The names of the placeholders for the host's version."""
        return {
            line.name
            for line in self.spec.requirements
            if line.is_system_pin and line.name is not None
        }

    def _bounds(self) -> list[RequirementLine]:
        """Constraints and overrides that apply here, as what they mean for the host's versions."""
        bounds = map(Requirement, (*self.spec.constraints, *self.spec.overrides))
        return [
            RequirementLine(
                text=f"{each.name}{each.specifier}",
                name=canonicalize_name(each.name),
                origin=Origin.LAUNCH,
                written=str(each),
            )
            for each in bounds
            if each.marker is None or each.marker.evaluate(dict(self.spec.interpreter.markers))
        ]

    def _python(self) -> str:
        """The interpreter; what is built without isolation sees the host's packages."""
        if self.build_python is not None:
            return self.build_python
        if self.spec.sources.no_build_isolation and self.spec.sees_host:
            return self.host.interpreter.executable
        return self.spec.interpreter.base_executable

    def _secrets(self, sources: PackageSources) -> frozenset[str]:
        return secrets_of(
            [
                *(line.text for line in self.spec.requirements),
                *filter(None, [sources.index_url]),
                *sources.extra_index_urls,
                *sources.find_links,
            ]
        )

    def _is_asked(self, name: str) -> bool:
        """Whether a root takes part: without stubs only if the host's copy does not serve."""
        return self.stubs is not None or name in self._unusable or name not in self.host.by_name

    def _root_text(self, name: str) -> str:
        """A model process talks to the host's own xoscar; any other root may be any version."""
        return f"{name}=={self.host.versions[name]}" if name == PROCESS_DISTRIBUTION else name

    # Explanations

    def _system_pins_in(self, words: str) -> list[str]:
        """The names of placeholders for the host's version that an explanation names."""
        if not has_no_solution(words):
            return []
        return sorted(self._pins() & names_in(words) - self._relaxed)

    def _contradicted_pins(self, fresh: Resolution) -> set[str]:
        """The placeholders whose version something of a solution without them excludes."""
        return {
            dependency.name
            for requirer, dependencies in fresh.requires.items()
            for dependency in dependencies
            if requirer != REQUEST
            and dependency.name in self._pins()
            and not dependency.allows(self.host.versions[dependency.name])
        }

    def _relaxed_warnings(self, found: Resolution) -> list[str]:
        """Which placeholders gave way, and to what."""
        warnings = []
        for name in sorted(self._relaxed & found.installed.keys()):
            version = self.host.versions[name]
            requirers = [
                f"{requirer} requires {name}{dependency.ranges}"
                for requirer, dependencies in sorted(found.requires.items())
                for dependency in dependencies
                if dependency.name == name != requirer and not dependency.allows(version)
            ]
            why = ", ".join(dict.fromkeys(requirers)) or "nothing requested fits it"
            warnings.append(
                sentence(
                    "#system_{name}#: the host's {name} {version} gives way to {installed},"
                    " since {why}",
                    name=name,
                    version=version,
                    installed=found.installed[name],
                    why=why,
                )
            )
        return warnings

    def _kept_warnings(self, found: Resolution) -> list[str]:
        """What is asked for and kept from the host in a release that is older than it may be.

        Nothing else is taken for it: that the host has it is why it is asked for without a version.
        """
        if self._fresh is None:
            return []
        free = {line.name or "" for line in self._lines() if not is_exact(line)}
        older = older_kept(self._fresh, found, asked=free)
        return [kept_warning(older[name]) for name in sorted(older)]

    def _wire_bounds(self) -> list[str]:
        """Versions with which a model process and the worker understand each other."""
        if PROCESS_DISTRIBUTION not in self.host.by_name:
            return []
        return [
            wire_bound(name, self.host.versions[name], parts)
            for name, parts in WIRE_DISTRIBUTIONS.items()
            if name in self.host.by_name
        ]

    def _unsolvable(self, error: UvFailed) -> ResolutionFailed:
        unusable = [name for name in self._unusable if self._is_needed(name)]
        message = str(error)
        if unusable:
            reasons = joined(
                sentence(
                    "the host's {name} {version} can't be used, since {why}",
                    name=name,
                    version=self.host.versions[name],
                    why=self._unusable[name],
                )
                for name in unusable
            )
            message = sentence(
                "{reasons}; and installing it together with what is requested fails:\n{error}",
                reasons=reasons,
                error=error,
            )
        named = names_in(str(error))
        for (name, version), allowed in sorted(self.unfit.items()):
            if name in named:
                message = sentence(
                    "{message}\n{name} {version} is for Python {allowed}, and this is Python"
                    " {python}",
                    message=message,
                    name=name,
                    version=version,
                    allowed=allowed,
                    python=self.spec.interpreter.version,
                )
        for bound in self._wire_bounds():
            name = canonicalize_name(Requirement(bound).name)
            if name in named:
                message = sentence(
                    "{message}\n{bound} is required since a model process and its worker, which has"
                    " {name} {version}, send each other what {name} writes",
                    message=message,
                    bound=bound,
                    name=name,
                    version=self.host.versions[name],
                )
        hint = way_out(str(error), over_host=self.spec.sees_host, unusable=bool(unusable))
        return ResolutionFailed(
            message, {**({} if hint is None else {"hint": hint}), **error.details}
        )

    def _is_needed(self, name: str) -> bool:
        return name in self._asked() or self._unusable[name] != _WITHOUT_LIST
