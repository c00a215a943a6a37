"""What this machine knows by name, for looking without an actor: models and environments.

Comes in: settings. Comes out: names, read from the catalogue and from the home's own folders.
"""

from __future__ import annotations

from pathlib import Path

from xinference_venv.errors import UnknownModel, VirtualEnvError
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.request import ModelVirtualEnv
from xinference_venv.settings import Settings
from xinference_venv.store.catalog import built_in_catalog, load_catalog, read_model_spec
from xinference_venv.store.keys import key_places
from xinference_venv.store.paths import StorePaths


def local_model_names(settings: Settings | None) -> list[str]:
    """The models of the catalogue; only the built-in ones where the others can't be read."""
    try:
        folder = None if settings is None else Path(settings.spec_dir)
        return list(load_catalog(folder, ()).models)
    except (VirtualEnvError, OSError):
        return list(built_in_catalog().models)


def local_environment_keys(settings: Settings) -> list[EnvKey]:
    """The keys that have an environment in this machine's home; none where it can't be read."""
    try:
        return [each.key for each in key_places(StorePaths(Path(settings.virtualenv_dir)))]
    except OSError:
        return []


def virtualenv_block(spec_file: Path, model_name: str) -> ModelVirtualEnv:
    """The block of a model in a specification file.

    Raises `UnknownModel`, which lists the models that the file has, and `InvalidModelSpec`.
    """
    by_name = {entry.model_name: entry for entry in read_model_spec(spec_file)}
    if model_name not in by_name:
        raise UnknownModel(
            f"{spec_file} has no model {model_name!r}",
            {"hint": f"it has: {', '.join(by_name) or 'none'}"},
        )
    return by_name[model_name].virtualenv
