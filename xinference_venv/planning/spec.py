"""A request that met the facts of a host: exactly what is to be resolved, with which sources.

Comes in: `LaunchRequest`, the catalogue, `HostFacts`, the target `Interpreter`. Comes out: an
`EnvSpec`, or None when the answer is the host's own interpreter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from xinference_venv._util.records import Record, digest_of
from xinference_venv._util.redact import redact_url
from xinference_venv.planning.catalog import Catalog
from xinference_venv.planning.engines import EngineEntry, cuda_index, find_engine
from xinference_venv.planning.host import HostFacts, Interpreter
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.markers import MarkerFacts
from xinference_venv.planning.model_choice import choose_model
from xinference_venv.planning.pip_config import PipConfig
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.planning.requirements import (
    Origin,
    RequirementLine,
    plan_requirements,
)
from xinference_venv.planning.sources import PackageSources, combine_sources
from xinference_venv.sentences import sentence
from xinference_venv.settings import DEFAULT_MAX_AGE_GAP, InheritMode, Settings, ViewKind

# What a model process needs besides its model's packages: it is an xoscar sub pool.
PROCESS_DISTRIBUTION = "xoscar"
# What writes and reads the messages between a worker and its model processes, and how many parts
# of the version must agree.
_WIRE_DISTRIBUTIONS = {"xoscar": 2, "cloudpickle": 1}
# What only builds need: a version of it in a request is one for its builds.
BUILD_TOOLS = frozenset(
    {
        *("cmake", "cython", "flit-core", "hatchling", "maturin", "meson", "meson-python"),
        *("ninja", "pdm-backend", "poetry-core", "pybind11", "scikit-build", "scikit-build-core"),
        *("setuptools", "setuptools-rust", "setuptools-scm", "wheel"),
    }
)

_NO_BOUNDS: list[object] = [DEFAULT_MAX_AGE_GAP, (), (), (), ()]
_CUDA_BUILD = re.compile(r"/cu([0-9]+)([0-9])(?=/|$)")
_CUDA_LOCAL = re.compile("cu[0-9]+")


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """What to build.

    `inherit` is the mode that applies: another Python minor version than the host's inherits
    nothing, whatever was asked for. With `skip_installed` the host's packages serve where they
    fit. `roots` are distributions that must be importable together with what is requested, `alone`
    those of the host that stay visible whatever becomes of their requirements. `import_check`
    are modules that a fresh interpreter must import before anything is published; with
    `prove_imports` what is compiled against the host's packages, too. Of the host what is `afresh`
    never serves. For the host's sake nothing that is asked for is older by more than `max_age_gap`
    seconds. With `assumed_backend` torch's backend is that of a host without an accelerator, and
    gives way where its index can't be reached.
    """

    key: EnvKey
    requirements: tuple[RequirementLine, ...]
    sources: PackageSources
    interpreter: Interpreter
    inherit: InheritMode
    skip_installed: bool
    roots: tuple[str, ...]
    alone: tuple[str, ...] = ()
    import_check: tuple[str, ...] = ()
    afresh: tuple[str, ...] = ()
    allow_source_builds: bool
    prove_imports: bool = True
    max_age_gap: float = DEFAULT_MAX_AGE_GAP
    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    build_constraints: tuple[str, ...] = ()
    view: ViewKind = ViewKind.LINKS
    assumed_backend: bool = False
    warnings: tuple[str, ...]

    @property
    def sees_host(self) -> bool:
        """Whether anything of the host is shown to the model."""
        return self.inherit is not InheritMode.NONE

    @cached_property
    def digest(self) -> str:
        """Equal for requests of the same environment; the key is no part of it."""
        return digest_of(
            [
                [_identity(line.text) for line in self.requirements],
                self.sources.identity(),
                self.interpreter.platform_digest,
                self.inherit.value,
                self.skip_installed,
                self.roots,
                self.alone,
                self.import_check,
                self.allow_source_builds,
                # What is as ever is left out, so that a new field changes no digest.
                *([] if self._bounds == _NO_BOUNDS else self._bounds),
                *([] if self.prove_imports else ["no proof"]),
                *([["afresh", *self.afresh]] if self.afresh else []),
                *([] if self.view is ViewKind.LINKS else [self.view.value]),
            ]
        )

    @property
    def demand(self) -> str:
        """Equal for specs that ask for the same, be it of other indexes."""
        return replace(self, sources=PackageSources()).digest

    @property
    def _bounds(self) -> list[object]:
        return [
            self.max_age_gap,
            self.constraints,
            self.overrides,
            self.excludes,
            self.build_constraints,
        ]

    def sources_without_backend(self) -> PackageSources:
        """The sources for a resolution that leaves torch to the host."""
        return replace(self.sources, torch_backend=None)

    def reasons(self) -> dict[str, str]:
        """Why each named package is in the request, by normalized name."""
        reasons = {name: sentence("{name} must be importable", name=name) for name in self.roots}
        for line in self.requirements:
            if line.name is not None:
                reasons[line.name] = line.origin.reason(redact_url(line.text))
        return reasons


def _identity(text: str) -> list[str]:
    """A requirement without its credentials; a URL's query may name the file."""
    _, _, query = text.partition("?")
    return [redact_url(text), digest_of(query) if query else ""]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanningFacts:
    """All that a spec depends on besides the request itself."""

    catalog: Catalog
    host: HostFacts
    interpreter: Interpreter
    pip: PipConfig
    settings: Settings
    public_pins: bool = False
    """Whether pins to the host's versions leave their local parts out."""
    folders: bool = False
    """Whether a requirement may name a folder of sources."""


def wants_environment(request: LaunchRequest, settings: Settings) -> bool:
    """The toggle: the launch's word, else the setting's."""
    if request.enable_virtual_env is None:
        return settings.enable_virtual_env
    return request.enable_virtual_env


def plan_spec(
    request: LaunchRequest, around: PlanningFacts, *, find_links: tuple[str, ...]
) -> EnvSpec | None:
    """The spec of a request, or None when there is nothing to install.

    `find_links` are the launch's find-links folders, proved to be allowed. Raises the errors of
    `InvalidInput` and `UnknownModel`.
    """
    chosen = choose_model(request, around.catalog)
    block = chosen.block
    engine = find_engine(around.catalog.engines, chosen.engine)
    planned = plan_requirements(
        engine=chosen.engine,
        model_format=chosen.model_format,
        model_packages=block.packages,
        launch_packages=request.virtual_env_packages,
        catalog_engines=around.catalog.engines,
        facts=_marker_facts(around),
        host_versions=around.host.versions,
        # Where nothing of the host serves, its own builds are of no use.
        public_pins=around.public_pins or not around.settings.skip_installed,
        folders=around.folders,
    )
    if not planned.lines:
        return None
    host, interpreter = around.host, around.interpreter
    inherit = request.inherit or around.settings.inherit
    warnings = [*chosen.warnings, *planned.warnings]
    if interpreter.minor_version != host.interpreter.minor_version:
        if inherit is not InheritMode.NONE:
            warnings.append(
                sentence(
                    "Python {minor_version} inherits nothing, since the host's is another version",
                    minor_version=interpreter.minor_version,
                )
            )
        inherit = InheritMode.NONE
    pip = around.pip if block.inherit_pip_config else PipConfig()
    warnings += [
        sentence("pip's setting {key} is not honoured", key=key) for key in pip.not_honoured
    ]
    warnings += [
        sentence("the variable {name} is not honoured", name=each)
        for each in pip.variables_not_honoured
    ]
    warnings += [
        sentence("uv's setting {key} is not honoured", key=each)
        for each in pip.uv_settings_not_honoured
    ]
    settings = around.settings
    must_import = (*settings.must_import, *block.must_import, *request.must_import)
    lines, roots = _with_roots(planned.lines, must_import, host, inherit)
    sources = _sources(block, engine, around, find_links, lines, inherit)
    return EnvSpec(
        key=EnvKey(
            model_name=request.model_name,
            model_engine=chosen.engine,
            python_version=request.python_version or interpreter.minor_version,
        ),
        requirements=lines,
        sources=sources,
        interpreter=interpreter,
        inherit=inherit,
        skip_installed=around.settings.skip_installed and inherit is not InheritMode.NONE,
        roots=roots,
        alone=settings.must_import_alone if inherit is not InheritMode.NONE else (),
        import_check=tuple(dict.fromkeys((*block.import_check, *request.import_check))),
        afresh=_afresh(engine, sources, around),
        allow_source_builds=around.settings.allow_source_builds,
        prove_imports=settings.prove_imports and not request.no_proof,
        max_age_gap=around.settings.max_age_gap,
        view=request.view or block.view or settings.view,
        assumed_backend=_is_assumed_cpu(around, inherit),
        constraints=_together(
            settings.constraints, pip.constraints, block.constraints, request.constraints
        ),
        overrides=_latest(settings.overrides, pip.overrides, block.overrides, request.overrides),
        excludes=_together(settings.exclude, block.exclude, request.exclude),
        build_constraints=_together(
            settings.build_constraints,
            pip.build_constraints,
            block.build_constraints,
            request.build_constraints,
            # A pin of a build tool is meant for the builds of the request as well.
            (
                line.text
                for line in lines
                if line.name in BUILD_TOOLS and not line.is_direct and line.text != line.name
            ),
        ),
        warnings=tuple(warnings),
    )


def wire_bounds(host: HostFacts) -> list[str]:
    """Versions with which a model process and a worker on this host understand each other."""
    if PROCESS_DISTRIBUTION not in host.by_name:
        return []
    return [
        _wire_bound(name, host.versions[name], parts)
        for name, parts in _WIRE_DISTRIBUTIONS.items()
        if name in host.by_name
    ]


def _wire_bound(name: str, version: str, parts: int) -> str:
    """The versions of a distribution that understand this one."""
    parsed = Version(version)
    epoch = f"{parsed.epoch}!" if parsed.epoch else ""
    return f"{name}=={epoch}{'.'.join(map(str, parsed.release[:parts]))}.*"


def _together(*lists: Iterable[str]) -> tuple[str, ...]:
    """All that is in any of the lists, once."""
    return tuple(dict.fromkeys(chain.from_iterable(lists)))


def _latest(*lists: Iterable[str]) -> tuple[str, ...]:
    """Of each name the requirements of the last list that has any."""
    chosen: dict[str, list[str]] = {}
    for each in lists:
        by_name: dict[str, list[str]] = {}
        for line in each:
            by_name.setdefault(canonicalize_name(Requirement(line).name), []).append(line)
        chosen |= by_name
    return tuple(chain.from_iterable(chosen.values()))


def _marker_facts(around: PlanningFacts) -> MarkerFacts:
    settings, accelerator = around.settings, around.host.accelerator
    cuda_version = settings.cuda_version or accelerator.cuda_version
    cuda_arch = settings.cuda_arch or accelerator.cuda_arch
    return MarkerFacts(
        environment=around.interpreter.markers,
        has_cuda=accelerator.has_cuda or settings.cuda_version is not None,
        cuda_version=cuda_version,
        cuda_arch=cuda_arch,
        has_npu=accelerator.has_npu if settings.has_npu is None else settings.has_npu,
    )


def _with_roots(
    lines: tuple[RequirementLine, ...],
    must_import: tuple[str, ...],
    host: HostFacts,
    inherit: InheritMode,
) -> tuple[tuple[RequirementLine, ...], tuple[str, ...]]:
    """Add what must be importable, xoscar always, unless the request names it.

    Where the host is seen, its copies are roots of the resolution. Where it is not, they are
    installed: xoscar in the host's exact version, since actor calls between the two must be
    understood. (A host without xoscar has no worker that calls would come from.)
    """
    named = {line.name for line in lines}
    process = (PROCESS_DISTRIBUTION,) if PROCESS_DISTRIBUTION in host.versions else ()
    roots = tuple(name for name in dict.fromkeys((*process, *must_import)) if name not in named)
    if inherit is not InheritMode.NONE:
        return lines, roots
    needed = []
    for name in roots:
        text = f"{name}=={host.versions[name]}" if name == PROCESS_DISTRIBUTION else name
        needed.append(RequirementLine(text=text, name=name, origin=Origin.PROCESS, written=text))
    return (*lines, *needed), ()


def _sources(
    block: ModelVirtualEnv,
    engine: EngineEntry | None,
    around: PlanningFacts,
    find_links: tuple[str, ...],
    lines: tuple[RequirementLine, ...],
    inherit: InheritMode,
) -> PackageSources:
    cuda = around.settings.cuda_version or around.host.accelerator.cuda_version
    if engine is not None and not any(
        line.origin is Origin.ENGINE or line.name in engine.names for line in lines
    ):
        engine = None
    sources = combine_sources(
        model=replace(block, extra_index_url=_fitting(block.extra_index_url, cuda)),
        engine_extra_index_urls=() if engine is None else _fitting(engine.extra_index_urls, cuda),
        engine_index_strategy=None if engine is None else engine.index_strategy,
        engine_index_first=None if engine is None else cuda_index(engine, cuda),
        pip=around.pip,
        launch_find_links=find_links,
        offline=around.settings.offline_install,
    )
    backend = _torch_backend(around, inherit)
    configured = sources.index_url or sources.extra_index_urls or sources.no_index
    return sources if configured or backend is None else replace(sources, torch_backend=backend)


def _afresh(
    engine: EngineEntry | None, sources: PackageSources, around: PlanningFacts
) -> tuple[str, ...]:
    """The host distributions that don't serve, since they may be builds for processors alone."""
    cuda = around.settings.cuda_version or around.host.accelerator.cuda_version
    first = None if engine is None else cuda_index(engine, cuda)
    if engine is None or first not in sources.extra_index_urls:
        return ()
    return tuple(sorted(engine.names & around.host.by_name.keys()))


def _fitting(urls: tuple[str, ...], cuda_version: str | None) -> tuple[str, ...]:
    """The indexes without those of builds for a CUDA that the host does not have.

    A driver runs builds for its own and for earlier minor versions; of several indexes that differ
    in that alone, the one with the latest serves.
    """
    driver = _cuda_build(cuda_version)
    serving: dict[str, tuple[int, int]] = {}
    for url in urls:
        build = _cuda_build_of(url)
        if build is None or driver is None:
            continue
        if build[0] == driver[0] and build <= driver:
            family = _CUDA_BUILD.sub("", url)
            serving[family] = max(serving.get(family, build), build)
    return tuple(
        url for url in urls if _cuda_build_of(url) in (None, serving.get(_CUDA_BUILD.sub("", url)))
    )


def _cuda_build_of(url: str) -> tuple[int, int] | None:
    """Major and minor version of an index of builds for one CUDA, ``.../cu128``."""
    found = _CUDA_BUILD.search(url)
    return None if found is None else (int(found[1]), int(found[2]))


def _cuda_build(version: str | None) -> tuple[int, int] | None:
    """Major and minor version of ``12.8`` or ``12.8.1``."""
    if version is None:
        return None
    major, _, rest = version.partition(".")
    return int(major), int(rest.partition(".")[0] or 0)


def _torch_backend(around: PlanningFacts, inherit: InheritMode) -> str | None:
    """Uv's --torch-backend: after the build of the host's torch that is seen, ``+cu128``, ``+cpu``.

    Where none is seen it is the setting's, else that of a host without an accelerator: the
    public index has builds for CUDA, of some gigabytes. Else it is again that of the host's
    torch, whose CUDA the driver runs.
    """
    settings = around.settings
    _, _, local = around.host.versions.get("torch", "").partition("+")
    is_cuda = _CUDA_LOCAL.fullmatch(local) is not None
    if _sees_torch(around, inherit):
        return local if is_cuda or local == "cpu" else None
    if settings.torch_backend is not None:
        return None if settings.torch_backend == "none" else settings.torch_backend
    if _is_assumed_cpu(around, inherit):
        return "cpu"
    return local if is_cuda else None


def _sees_torch(around: PlanningFacts, inherit: InheritMode) -> bool:
    return inherit is not InheritMode.NONE and "torch" in around.host.versions


def _is_assumed_cpu(around: PlanningFacts, inherit: InheritMode) -> bool:
    """Whether nothing but the lack of an accelerator says which build of torch serves."""
    host, settings = around.host, around.settings
    has_any = host.accelerator.has_cuda or host.accelerator.has_npu or settings.has_npu
    return (
        not _sees_torch(around, inherit)
        and settings.torch_backend is None
        and settings.cuda_version is None
        and not has_any
        and around.interpreter.markers.get("sys_platform") == "linux"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRequirement(Record, name="planned requirement"):
    """A line of the request, without credentials, and where it comes from."""

    requirement: str
    origin: Origin


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecSummary(Record, name="summary of a spec"):
    """What a dry run shows of a spec, without credentials."""

    key: EnvKey
    python: str
    inherit: InheritMode
    skip_installed: bool
    requirements: tuple[PlannedRequirement, ...]
    sources: PackageSources
    warnings: tuple[str, ...]


def describe(spec: EnvSpec) -> SpecSummary:
    """What a dry run shows of a spec, without credentials."""
    return SpecSummary(
        key=spec.key,
        python=spec.interpreter.version,
        inherit=spec.inherit,
        skip_installed=spec.skip_installed,
        requirements=tuple(
            PlannedRequirement(requirement=redact_url(line.text), origin=line.origin)
            for line in spec.requirements
        ),
        sources=spec.sources.redacted(),
        warnings=spec.warnings,
    )
