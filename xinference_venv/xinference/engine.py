"""The engine as one call of the drop-in uses it: store, uv and host, and what a call asks of them.

A call's keyword arguments come in; out go the spec to resolve and what of the arguments counts
for nothing here.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from xinference_venv.errors import StoreError
from xinference_venv.planning.catalog import Catalog
from xinference_venv.planning.host import HostFacts, Interpreter
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.sources import PackageSources
from xinference_venv.planning.spec import (
    PROCESS_DISTRIBUTION,
    EnvSpec,
    PlanningFacts,
    plan_spec,
)
from xinference_venv.planning.uv_files import (
    UvFiles,
    complete_sources,
    with_absolute_paths,
    with_named_indexes,
)
from xinference_venv.service.host_facts import HostFactsReader
from xinference_venv.service.open_uv import open_uv
from xinference_venv.service.pip_files import uv_config_of, uv_files_of
from xinference_venv.service.places import find_places
from xinference_venv.settings import InheritMode, Settings
from xinference_venv.store.host_files import same_file_system
from xinference_venv.store.store import Store
from xinference_venv.uv.subprocess import Uv
from xinference_venv.xinference.application import (
    APPLICATION,
    application_needs,
    imported_by_models,
)

_log = logging.getLogger(__name__)

_MODEL = "in-place"
_SOURCE_NAMES = (
    *("index_url", "extra_index_url", "find_links", "trusted_host", "index_strategy"),
    "no_build_isolation",
)
_ENGINE_NAMES = ("model_engine", "engine")


@dataclass(frozen=True, kw_only=True, slots=True)
class InstallOptions:
    """The keyword arguments of an install that mean something; those of sources may be secret."""

    engine: str | None
    skip_installed: bool
    sources: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, given: Mapping[str, Any], *, skip_installed: bool) -> Self:
        """Read the arguments; one without a meaning is ignored, and the log says so.

        `skip_installed` is what counts where none is given.
        """
        known = {*_SOURCE_NAMES, *_ENGINE_NAMES, "skip_installed", "log"}
        for name in sorted(given.keys() - known):
            _log.warning("ignored, since no requirement can ask for it: %s", name)
        engine = next((given[name] for name in _ENGINE_NAMES if given.get(name)), None)
        chosen = given.get("skip_installed")
        return cls(
            engine=engine,
            skip_installed=skip_installed if chosen is None else bool(chosen),
            # An empty one counts for nothing, as with xoscar: forms leave them.
            sources={
                name: _separate(name, given[name]) for name in _SOURCE_NAMES if given.get(name)
            },
        )


def _separate(name: str, value: Any) -> Any:
    """The values of what may be several in one text, as pip's configuration has them: Xinference
    hands that on as it is. A path may have blanks.
    """
    if not isinstance(value, str):
        return value
    if name in ("extra_index_url", "trusted_host"):
        return value.split()
    if name == "find_links":
        return [line.strip() for line in value.splitlines() if line.strip()]
    return value


def needs_of_process(host: HostFacts) -> tuple[str, ...]:
    """What every model process imports of the host, as PEP 508."""
    present = (APPLICATION, PROCESS_DISTRIBUTION)
    own = (f"{each}=={host.versions[each]}" for each in present if each in host.by_name)
    return (*own, *application_needs(host).values())


@cache
def _answers(root: str) -> dict[str, Any]:
    """What this process knows of the host, for all calls over one store: to read it, and to take
    apart what each distribution requires, takes longer than the rest of a call.
    """
    return {}


def check_place(store: Store, path: Path) -> None:
    """Raise `StoreError` for a place that no environment can be made in and replaced."""
    root = store.layout.root
    if path == root or path.is_relative_to(store.layout.store):
        raise StoreError(
            f"{path} belongs to the store of prepared environments, which never change",
            {"hint": "remove the environment of this name with `xinference-venv remove`"},
        )
    if not same_file_system(path, root):
        raise StoreError(
            f"{path} is not on the file system of {root}, where environments are built",
            {"hint": "set XINFERENCE_HOME to a folder on that file system"},
        )


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What a call needs of the engine, over the settings of now."""

    settings: Settings
    store: Store
    uv: Uv
    hosts: HostFactsReader
    uv_files: UvFiles

    @classmethod
    async def open(cls, environ: Mapping[str, str]) -> Self:
        """The engine of this host; raises the errors of settings, store, uv and its files."""
        return await asyncio.to_thread(cls._open, environ)

    @classmethod
    def _open(cls, environ: Mapping[str, str]) -> Self:
        # As uv reads them where it is started by Xinference itself.
        place = _working_directory()
        files = uv_files_of(environ, place)
        environ = with_named_indexes({**files.variables, **environ}, files)
        environ = with_absolute_paths(environ, place)
        places = find_places(environ)
        store = Store.open(places.root)
        uv = open_uv(places, store, environ, files.index_settings)
        settings = places.settings
        hosts = HostFactsReader(
            store=store, uv=uv, settings=settings, environ=environ, kept=_answers(str(places.root))
        )
        return cls(settings=settings, store=store, uv=uv, hosts=hosts, uv_files=files)

    def bare(self, host: HostFacts, interpreter: Interpreter) -> EnvSpec:
        """The spec of an environment in which nothing is installed yet."""
        same = interpreter.minor_version == host.interpreter.minor_version
        inherit = self.settings.inherit if same else InheritMode.NONE
        return EnvSpec(
            key=EnvKey(
                model_name=_MODEL, model_engine=None, python_version=interpreter.minor_version
            ),
            requirements=(),
            sources=PackageSources(),
            interpreter=interpreter,
            inherit=inherit,
            skip_installed=True,
            roots=(),
            alone=(*self.settings.must_import_alone, APPLICATION),
            allow_source_builds=self.settings.allow_source_builds,
            warnings=(),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Planner:
    """Plans what to resolve for packages, with the options of one call."""

    engine: Engine
    options: InstallOptions
    host: HostFacts
    interpreter: Interpreter

    def spec(self, packages: Sequence[str], *, earlier: Sequence[str] = ()) -> EnvSpec | None:
        """What to resolve for packages, and those of `earlier` calls that they don't replace.

        None when markers leave nothing to install. Raises the errors of `InvalidInput`.
        """
        environ, files = self.engine.hosts.environ, self.engine.uv_files
        request = LaunchRequest.from_dict(
            {
                "model_name": _MODEL,
                "model_engine": self.options.engine,
                # Xinference has checked it.
                "any_engine": True,
                "virtualenv": {
                    **complete_sources(self.options.sources, files, environ),
                    "packages": list(earlier or packages),
                },
                "virtual_env_packages": list(packages if earlier else ()),
            }
        )
        settings = self.engine.settings
        same = self.interpreter.minor_version == self.host.interpreter.minor_version
        needs = application_needs(self.host) if same else {}
        around = PlanningFacts(
            # Xinference has added what an engine needs, and what pip's configuration says.
            catalog=Catalog(engines={}, models={}),
            host=self.host,
            interpreter=self.interpreter,
            pip=uv_config_of(environ, files),
            settings=replace(
                settings,
                skip_installed=self.options.skip_installed,
                must_import=(*settings.must_import, *imported_by_models(needs, self.host)),
                must_import_alone=(*settings.must_import_alone, APPLICATION),
            ),
            # As Xinference has it; what of the host serves is of the host's own build all the same.
            public_pins=True,
            folders=True,
        )
        spec = plan_spec(request, around, find_links=())
        if spec is not None and any(line.is_direct for line in spec.requirements):
            # Xinference turns it off for these since xoscar can't do both.
            spec = replace(spec, skip_installed=spec.sees_host)
        return spec
