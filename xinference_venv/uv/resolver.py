"""Resolve a spec with uv, the host in sight: stubs alone, host versions hard, then soft.

The passes, each only when the one before has no solution:

1. the host's stubs without any index: when the host satisfies everything, nothing leaves the
   machine;
2. an index, with every host version as a hard constraint, but those that the request itself
   contradicts;
3. host versions as preferences; then the hard constraints that this solution kept, and of the
   others as many as still allow a solution, so that as little as possible of the host gives way.

A solution that does without a package instead of keeping the host's version of it is none: some
ancient release that declares no requirements always fits.

What comes out is judged by `overlay`: an inherited distribution that could not be shown with
what is to be installed is resolved afresh, without its stub, until all that is inherited can be.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import tomli_w

from xinference_venv._util.redact import secrets_of
from xinference_venv._util.tasks import cancel, ignore
from xinference_venv.errors import ResolutionFailed, UvFailed
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.overlay import hidden_by
from xinference_venv.planning.provenance import edges_of
from xinference_venv.planning.pylock import Resolution, read_resolution, strip_credentials
from xinference_venv.planning.sources import PYPI, PackageSources
from xinference_venv.planning.spec import PROCESS_DISTRIBUTION, EnvSpec
from xinference_venv.settings import InheritMode
from xinference_venv.uv import argv
from xinference_venv.uv.resolution_errors import has_no_solution, way_out
from xinference_venv.uv.satisfies import contradicted, may_be_satisfied
from xinference_venv.uv.search import fewest_builds, keep_most
from xinference_venv.uv.stub_wheels import STUB_BUILD_TAG, stub_file_name, stub_wheel
from xinference_venv.uv.subprocess import Uv

_WITHOUT_LIST = "it has no list of its files"


def write_stubs(host: HostFacts, folder: Path) -> None:
    """Write a stub wheel of every host distribution into an empty folder."""
    tag = host.interpreter.best_tag
    for each in host.distributions:
        content = stub_wheel(
            each, tag, host_versions=host.versions, markers=host.interpreter.markers
        )
        (folder / stub_file_name(each, tag)).write_bytes(content)


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

    _fresh: dict[str, str] = field(default_factory=dict, init=False)
    """The host distributions that may not serve, each with the reason."""

    async def resolve(self) -> tuple[Resolution, Mapping[str, str]]:
        """The resolution, and the host distributions to hide with it, each with the reason.

        Raises `ResolutionFailed` with uv's own explanation.
        """
        if self.spec.inherit is InheritMode.EXACT:
            unknown = (each.name for each in self.host.distributions if not each.recorded)
            self._fresh = dict.fromkeys(unknown, _WITHOUT_LIST)
        ahead = self._ahead()
        resolving = None if ahead is None else asyncio.ensure_future(ahead._resolve_with_backend())
        try:
            while True:
                try:
                    if ahead and resolving and self._fresh.keys() == ahead._fresh.keys():
                        found = await resolving
                    else:
                        found = await self._resolve_with_backend()
                except UvFailed as error:
                    raise self._unsolvable(error) from error
                if not self.spec.sees_host:
                    return found, {}
                hidden = hidden_by(found.installed, self.host, exempt=self.spec.alone)
                needed = {*found.inherited, *self.spec.roots} - found.installed.keys()
                again = {name: hidden[name] for name in sorted(needed & hidden.keys())}
                if not again:
                    return found, hidden
                self.say(f"resolving afresh, since the host's can't be shown: {', '.join(again)}")
                self._fresh |= again
        finally:
            if resolving is not None:
                await cancel(resolving)

    def _ahead(self) -> Resolver | None:
        """A second resolver, with the roots afresh that the request will likely break.

        Without stubs the request often replaces what a root of the host requires, which only
        its solution tells: so both questions are asked at once.
        """
        if self.stubs is not None or not self.spec.sees_host:
            return None
        asked = {line.name for line in self.spec.requirements}
        fresh = {
            name: ""
            for name in self.spec.roots
            if name in self.host.by_name and not asked.isdisjoint(self.host.closure(name))
        }
        if not fresh:
            return None
        ahead = replace(self, scratch=self.scratch / "ahead", say=ignore)
        ahead.scratch.mkdir()
        ahead._fresh = {**self._fresh, **fresh}
        return ahead

    def _unsolvable(self, error: UvFailed) -> ResolutionFailed:
        unusable = [name for name in self._fresh if self._is_needed(name)]
        message = str(error)
        if unusable:
            reasons = "; ".join(
                f"the host's {name} {self.host.versions[name]} can't be used,"
                f" since {self._fresh[name]}"
                for name in unusable
            )
            message = (
                f"{reasons}; and installing it together with what is requested fails:\n{error}"
            )
        hint = way_out(str(error), over_host=self.spec.sees_host, unusable=bool(unusable))
        return ResolutionFailed(
            message, {**({} if hint is None else {"hint": hint}), **error.details}
        )

    def _is_needed(self, name: str) -> bool:
        asked = {*self.spec.roots, *(line.name for line in self.spec.requirements)}
        return name in asked or self._fresh[name] != _WITHOUT_LIST

    async def _resolve_with_backend(self) -> Resolution:
        found = await self._resolve(self.spec.sources_without_backend())
        if self.spec.sources.torch_backend is not None and "torch" in found.installed:
            # Asked only now: the backend's index is asked even for a torch of the host.
            found = await self._resolve(self.spec.sources)
            return await self._with_fewest_builds(found, self.spec.sources)
        return await self._with_fewest_builds(found, self.spec.sources_without_backend())

    async def _with_fewest_builds(self, found: Resolution, sources: PackageSources) -> Resolution:
        """The same with less of it built from source; what is inherited from the host stays."""
        kept = [
            name
            for name in (self.host.by_name if self.stubs is not None else ())
            if name not in found.installed and name not in self._fresh
        ]

        async def building(names: Sequence[str]) -> Resolution | None:
            self.say(f"resolving with {', '.join(names) or 'nothing'} built from source")
            return await self._try(sources, constrained=kept, built=names)

        asked = {*self.spec.roots, *(line.name or "" for line in self.spec.requirements)}
        return await fewest_builds(found, building, asked=asked)

    async def _resolve(self, sources: PackageSources) -> Resolution:
        if self.stubs is None:
            return await self._attempt(sources)
        if not self._fresh and all(
            may_be_satisfied(line, self.host) for line in self.spec.requirements
        ):
            self.say("resolving with what the host has")
            found = await self._try(sources, stubs_only=True)
            if found is not None:
                return found
        self.say("resolving with every host version kept")
        kept = [
            name
            for name in self.host.by_name
            if name not in self._fresh
            and not contradicted(name, self.host.versions[name], self.spec.requirements)
        ]
        found = await self._try(sources, constrained=kept)
        if found is not None and len(kept) == len(self.host.by_name):
            return found
        self.say("resolving with as many host versions kept as fit")
        soft = await self._attempt(sources, seeded=True)
        if found is not None and not _is_evasive(found, kept, soft):
            return found
        changed = soft.installed.keys() & set(kept)
        solutions = [soft]

        async def solvable(names: Sequence[str]) -> bool:
            if len(names) == len(kept):
                return False  # as the pass before found
            found = await self._try(sources, constrained=names)
            if found is None or _is_evasive(found, names, soft):
                return False
            solutions.append(found)
            return True

        stable = [name for name in kept if name not in changed]
        await keep_most(stable, sorted(changed), solvable)
        return solutions[-1]

    async def _try(
        self,
        sources: PackageSources,
        *,
        stubs_only: bool = False,
        constrained: Sequence[str] = (),
        built: Sequence[str] | None = None,
    ) -> Resolution | None:
        """One pass; None when it has no solution. Any other failure is the caller's."""
        try:
            return await self._attempt(
                sources, stubs_only=stubs_only, constrained=constrained, built=built
            )
        except UvFailed as error:
            if stubs_only or has_no_solution(str(error)):
                return None
            raise

    async def _attempt(
        self,
        sources: PackageSources,
        *,
        stubs_only: bool = False,
        constrained: Sequence[str] = (),
        seeded: bool = False,
        built: Sequence[str] | None = None,
    ) -> Resolution:
        """One pass; `built` is all that may be built from source, None for anything."""
        output = self.scratch / "pylock.resolution.toml"
        requirements = self.scratch / "requirements.txt"
        constraints = self.scratch / "constraints.txt"
        requirements.write_text(self._requirements_text(sources, stubs_only=stubs_only), "utf-8")
        pins = [f"{name}=={self.host.versions[name]}" for name in constrained]
        constraints.write_text("\n".join(pins), "utf-8")
        output.unlink(missing_ok=True)
        if seeded:
            output.write_text(tomli_w.dumps(self._seed()), "utf-8")
        await self.uv(
            argv.resolve(
                requirements=str(requirements),
                output=str(output),
                python=self._python(),
                sources=sources,
                stubs=self._offered_stubs(),
                constraints=str(constraints) if pins else None,
                stubs_only=stubs_only,
                allow_source_builds=self.spec.allow_source_builds and built is None,
                built=built or (),
                secrets=self._secrets(sources),
            ),
            deadline=self.deadline,
            on_line=self.note,
            working_directory=str(self.scratch),
        )
        indexes = [*sources.extra_index_urls, sources.index_url or PYPI]
        return read_resolution(
            tomllib.loads(output.read_text("utf-8")),
            stub_build_tag=STUB_BUILD_TAG,
            tags=self.spec.interpreter.tags,
            indexes=[strip_credentials(url) for url in indexes],
        )

    async def explain(self, resolution: Resolution) -> Mapping[str, tuple[str, ...]]:
        """Who requires each distribution of a resolution; see `edges_of`.

        Resolves to the same once more, from uv's cache alone. A cache that lost meanwhile what
        that takes is no reason to fail: nothing is known then, and the log says why.
        """
        of_host_alone = self.stubs is not None and not resolution.installed
        sources = self.spec.sources
        if "torch" not in resolution.installed:
            sources = self.spec.sources_without_backend()
        requirements = self.scratch / "requirements.txt"
        constraints = self.scratch / "constraints.txt"
        requirements.write_text(self._requirements_text(sources, stubs_only=of_host_alone), "utf-8")
        versions = {**resolution.installed, **resolution.inherited}
        pins = [f"{name}=={version}" for name, version in versions.items() if version is not None]
        constraints.write_text("\n".join(pins), "utf-8")
        try:
            finished = await self.uv(
                argv.explain(
                    requirements=str(requirements),
                    constraints=str(constraints),
                    python=self.spec.interpreter.base_executable,
                    sources=sources,
                    stubs=self._offered_stubs(),
                    stubs_only=of_host_alone,
                    allow_source_builds=self.spec.allow_source_builds,
                    secrets=self._secrets(sources),
                ),
                deadline=self.deadline,
                on_line=self.note,
                working_directory=str(self.scratch),
            )
        except UvFailed:
            self.note("what requires what could not be found out")
            return {}
        return edges_of(finished.output)

    def _python(self) -> str:
        """The interpreter; what is built without isolation sees the host's packages."""
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

    def _offered_stubs(self) -> str | None:
        """The folder of the stubs that may serve."""
        if self.stubs is None or not self._fresh:
            return None if self.stubs is None else str(self.stubs)
        folder = self.scratch / "offered"
        folder.mkdir(exist_ok=True)
        tag = self.host.interpreter.best_tag
        for each in self.host.distributions:
            link = folder / stub_file_name(each, tag)
            if each.name in self._fresh:
                link.unlink(missing_ok=True)
            elif not link.exists():
                link.symlink_to(self.stubs / link.name)
        return str(folder)

    def _requirements_text(self, sources: PackageSources, *, stubs_only: bool) -> str:
        """The requirements file; it holds credentials, so the scratch folder is private."""
        places = [] if stubs_only else map(argv.find_links_url, sources.find_links)
        lines = [f"--find-links {place}" for place in places]
        lines += [line.text for line in self.spec.requirements]
        lines += [self._root_text(name) for name in self.spec.roots if self._is_asked(name)]
        return "\n".join(lines) + "\n"

    def _is_asked(self, name: str) -> bool:
        """Whether a root takes part: without stubs only if the host's copy does not serve."""
        return self.stubs is not None or name in self._fresh or name not in self.host.by_name

    def _root_text(self, name: str) -> str:
        """A model process talks to the host's own xoscar; any other root may be any version."""
        return f"{name}=={self.host.versions[name]}" if name == PROCESS_DISTRIBUTION else name

    def _seed(self) -> dict[str, object]:
        assert self.stubs is not None
        tag = self.host.interpreter.best_tag
        return {
            "lock-version": "1.0",
            "created-by": "xinference_venv",
            "packages": [
                {
                    "name": each.name,
                    "version": each.version,
                    "wheels": [
                        {
                            "url": (self.stubs / stub_file_name(each, tag)).as_uri(),
                            # Preferences are read by name and version alone.
                            "hashes": {"sha256": "0" * 64},
                        }
                    ],
                }
                for each in self.host.distributions
            ],
        }


def _is_evasive(found: Resolution, kept: Iterable[str], soft: Resolution) -> bool:
    """Whether a solution keeps host versions by doing without the packages that they are of.

    Where the newest releases need a package, an ancient one that declares no requirements fits
    whatever is kept. `soft` is the solution in which the host's versions are preferences only.
    """
    return any(name in soft.installed and name not in found.inherited for name in kept)
