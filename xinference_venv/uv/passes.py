"""The passes of a resolution: each asks uv for a solution with a part of the host kept.

Comes in: the spec, the host, and for each pass how much of the host is kept and from which sources
the rest comes. Comes out: what uv found, or why there is no solution. What was asked before is not
asked again, for as long as this resolution takes: an index may get releases.
"""

from __future__ import annotations

import shutil
import time
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from xinference_venv._util.files import write_private_file
from xinference_venv._util.redact import secrets_of
from xinference_venv.errors import UvFailed
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.package import Release
from xinference_venv.planning.pylock import Resolution, read_resolution, strip_credentials
from xinference_venv.planning.requirements import Origin, RequirementLine
from xinference_venv.planning.sources import PYPI, PackageSources
from xinference_venv.planning.spec import PROCESS_DISTRIBUTION, EnvSpec, wire_bounds
from xinference_venv.uv import argv
from xinference_venv.uv.git_credentials import git_logins, git_variables, without_git_login
from xinference_venv.uv.messages import ResolverLog, has_no_solution, readable_warning
from xinference_venv.uv.stub_wheels import STUB_BUILD_TAG, stub_file_name
from xinference_venv.uv.subprocess import Uv


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """What one pass asks.

    `kept` are the host distributions that serve, `floors` further constraints, `wheels` the names
    of which no source is taken. With `of_host_alone` no index is asked; without `roots` only the
    request counts, not what the process itself needs. `relaxed` are the placeholders that give way,
    None for those that did until now. With `pins` these are asked for instead of the request,
    without what they require.
    """

    sources: PackageSources
    kept: frozenset[str] = frozenset()
    floors: tuple[str, ...] = ()
    of_host_alone: bool = False
    wheels: tuple[str, ...] = ()
    roots: bool = True
    relaxed: frozenset[str] | None = None
    pins: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
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
    dependencies: bool


@dataclass(kw_only=True)
class Passes:
    """The passes of one resolution, in a private scratch folder.

    `stubs` is the folder of the host's stub wheels, None where nothing of the host may serve the
    request. `note` hears every line of uv: that a pass has no solution is no error.
    """

    uv: Uv
    spec: EnvSpec
    host: HostFacts
    stubs: Path | None
    scratch: Path
    deadline: float
    note: Callable[[str], None]
    build_python: str | None = None
    """The interpreter whose packages a build without isolation sees, if not the host's."""
    refresh: bool = False
    """Whether indexes are asked again even if their last answers still hold."""
    unfit: Mapping[Release, str] = field(default_factory=dict)
    """Releases that do not allow this Python, with their ``Requires-Python``."""

    unusable: dict[str, str] = field(default_factory=dict)
    """The host distributions that may not serve, each with the reason."""
    relaxed: set[str] = field(default_factory=set)
    """The names whose ``#system_NAME#`` gives way."""
    builds: tuple[str, ...] = ()
    """Pins of what has to be built as the host's torch is."""
    first_tried: Path | None = None
    """uv's lock file of a solution whose versions are tried first."""

    _count: int = field(default=0, init=False)
    _answers: dict[_Question, Found | UvFailed] = field(default_factory=dict, init=False)

    async def outcome(self, what: Pass, deadline: float | None = None) -> Found | UvFailed:
        """The solution of a pass, or why there is none. Any other failure is raised."""
        try:
            return await self.find(what, deadline)
        except UvFailed as error:
            # Without the roots it only tells what would be newest, so nothing of it is fatal.
            if what.of_host_alone or not what.roots or has_no_solution(str(error)):
                # The log has uv's words, which read like the end.
                self.note(
                    "there are other ways to resolve: a launch fails when none has a solution"
                )
                return error
            raise

    async def find(self, what: Pass, deadline: float | None = None) -> Found:
        """The solution of a pass; raises `UvFailed`."""
        question = _Question(
            files=tuple(self._files(what).items()),
            sources=what.sources,
            of_host_alone=what.of_host_alone,
            wheels=what.wheels,
            dependencies=not what.pins,
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
        return replace(answer, kept=what.kept)

    async def _ask(self, question: _Question, deadline: float) -> Found:
        """Ask uv; raises `UvFailed`."""
        self._count += 1
        folder = self.scratch / f"pass-{self._count}"
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
            dependencies=question.dependencies,
            refresh=self.refresh and not question.of_host_alone,
            secrets=self._secrets(sources),
        )
        logins = git_logins(line.text for line in self.spec.requirements)
        git = git_variables(logins, folder, self.uv.door.environment)
        if self.first_tried is not None:
            shutil.copyfile(self.first_tried, output)
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
        return Found(
            resolution=replace(
                found,
                requires=log.requires(found),
                warnings=tuple(map(readable_warning, log.warnings)),
            ),
            missing=frozenset(log.missing - found.installed.keys()),
            seconds=time.monotonic() - started,
            output=output,
        )

    def _files(self, what: Pass) -> dict[str, tuple[str, ...]]:
        """The lines of the files of a pass.

        Where the host's version is kept a placeholder for it says nothing more, so that the
        question is the same when it gives way.
        """
        spec = self.spec
        relaxed = self.relaxed if what.relaxed is None else what.relaxed
        links = () if what.of_host_alone else map(argv.find_links_url, what.sources.find_links)
        roots = [self._root_text(name) for name in spec.roots if self.is_asked(name)]
        lines = [without_git_login(line.text) for line in self.lines({*what.kept, *relaxed})]
        stubs = [self._stub_line(name) for name in sorted(what.kept)]
        return {
            "requirements": (
                *(f"--find-links {place}" for place in links),
                *(what.pins or (*lines, *(roots if what.roots else ()))),
            ),
            "constraints": (
                *(*spec.constraints, *wire_bounds(self.host), *self.builds),
                *(*what.floors, *stubs),
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

    def lines(self, relaxed: Collection[str] | None = None) -> tuple[RequirementLine, ...]:
        """What the request asks for, without the placeholders that gave way."""
        relaxed = self.relaxed if relaxed is None else relaxed
        return tuple(
            replace(line, text=line.name)
            if line.name is not None and line.name in relaxed and line.is_system_pin
            else line
            for line in self.spec.requirements
        )

    def pins(self) -> dict[str, str]:
        """The version of the host by name, for each placeholder for it of what the host has.

        The host that is offered here may lack it: a request may have it installed all the same.
        """
        return {
            line.name: version
            for line in self.spec.requirements
            if line.is_system_pin and line.name is not None
            if (version := line.text.partition("==")[2])
        }

    def bounds(self) -> list[RequirementLine]:
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

    def is_asked(self, root: str) -> bool:
        """Whether a root takes part: without stubs only if the host's copy does not serve."""
        return self.stubs is not None or root in self.unusable or root not in self.host.by_name

    def _root_text(self, name: str) -> str:
        """A model process talks to the host's own xoscar; any other root may be any version."""
        return f"{name}=={self.host.versions[name]}" if name == PROCESS_DISTRIBUTION else name

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
