"""What this machine knows by name, for looking without an actor: models and environments.

Comes in: settings. Comes out: names, read from the catalogue and from the home's own folders.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from xinference_venv.errors import VirtualEnvError
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.listed_model import ListedModel
from xinference_venv.service.places import Places
from xinference_venv.settings import Settings
from xinference_venv.store.atomic import Disk
from xinference_venv.store.keys import key_places
from xinference_venv.store.listed_models import listed_models
from xinference_venv.store.model_files import InstalledFiles, find_xinference
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.store import Store


def local_model_names(settings: Settings | None) -> list[str]:
    """The models of the catalogue; only the built-in ones where the others can't be read."""
    try:
        if settings is not None:
            layout = StorePaths(Path(settings.virtualenv_dir))
            # Another interpreter would have to be asked where its packages are.
            installed = None if settings.host_python else _installed(settings, sys.path)
            listed = listed_models(layout, Disk(), Path(settings.spec_dir), installed)
            return [each.model_name for each in listed]
    except (VirtualEnvError, OSError):
        pass
    from xinference_venv.store.catalog import built_in_catalog

    return list(built_in_catalog().models)


def local_models(
    places: Places, store: Store, environ: Mapping[str, str]
) -> tuple[ListedModel, ...]:
    """The models of the catalogue that a launch on this host chooses from.

    Blocks on the disk, and where the settings name another host interpreter on that.
    """
    settings = places.settings
    installed = _installed(settings, _search_path(places, store, environ))
    return listed_models(store.layout, store.disk, Path(settings.spec_dir), installed)


def _installed(settings: Settings, search_path: Sequence[str]) -> InstalledFiles | None:
    package = find_xinference(search_path)
    return None if package is None else InstalledFiles(package, Path(settings.home))


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
