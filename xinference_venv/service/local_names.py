"""What this machine knows by name, for looking without an actor: models and environments.

Comes in: settings. Comes out: names, read from the catalogue and from the home's own folders.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from xinference_venv.errors import UnknownModel, VirtualEnvError
from xinference_venv.planning.catalog import Catalog
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.model_choice import choose_model
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.service.places import Places
from xinference_venv.settings import Settings
from xinference_venv.store.catalog import built_in_catalog, load_catalog, read_model_spec
from xinference_venv.store.installed_models import InstalledModels, find_xinference
from xinference_venv.store.keys import key_places
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.store import Store


def local_model_names(settings: Settings | None) -> list[str]:
    """The models of the catalogue; only the built-in ones where the others can't be read."""
    try:
        folder = installed = None
        if settings is not None:
            folder = Path(settings.spec_dir)
            package = None if settings.host_python else find_xinference(sys.path)
            if package is not None:
                installed = InstalledModels(package, Path(settings.home))
        return list(load_catalog(folder, (), installed=installed).models)
    except (VirtualEnvError, OSError):
        return list(built_in_catalog().models)


def catalog_of(places: Places, store: Store, environ: Mapping[str, str]) -> Catalog:
    """The catalogue that a launch on this host chooses from.

    Blocks on the disk, and where the settings name another host interpreter on that.
    """
    settings = places.settings
    package = find_xinference(_search_path(places, store, environ))
    installed = None if package is None else InstalledModels(package, Path(settings.home))
    return load_catalog(Path(settings.spec_dir), [], store.skipped, installed)


def _search_path(places: Places, store: Store, environ: Mapping[str, str]) -> Sequence[str]:
    if places.settings.host_python is None:
        return sys.path
    # What asks an interpreter is not imported where none is asked.
    import asyncio

    from xinference_venv.service.host_facts import HostFactsReader
    from xinference_venv.service.open_uv import open_uv

    uv = open_uv(places, store, environ)
    reader = HostFactsReader(store=store, uv=uv, settings=places.settings, environ=environ)
    return asyncio.run(reader.search_path())


def local_environment_keys(settings: Settings) -> list[EnvKey]:
    """The keys that have an environment in this machine's home; none where it can't be read."""
    try:
        return [each.key for each in key_places(StorePaths(Path(settings.virtualenv_dir)))]
    except OSError:
        return []


def with_spec_file(request: LaunchRequest, spec_file: Path) -> LaunchRequest:
    """The same request with what a specification file says of its model.

    Raises `UnknownModel`, which lists the models that the file has, `InvalidModelSpec`, and the
    errors of `choose_model`.
    """
    models = {each.model_name: each for each in read_model_spec(spec_file)}
    if request.model_name not in models:
        raise UnknownModel(
            f"{spec_file} has no model {request.model_name!r}",
            {"hint": f"it has: {', '.join(models) or 'none'}"},
        )
    catalog = Catalog(engines=built_in_catalog().engines, models=models)
    chosen = choose_model(request, catalog)
    return replace(
        request,
        virtualenv=chosen.block,
        model_engine=chosen.engine,
        model_format=chosen.model_format,
        # They were checked here, with all that the file knows of the model.
        any_engine=True,
    )
