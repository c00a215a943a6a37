"""Opens uv for the environments of a store: its cache, its environment, the journal of its runs."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from xinference_venv.errors import InvalidSource
from xinference_venv.planning.pip_config import PipConnection
from xinference_venv.planning.uv_files import IndexSettings
from xinference_venv.service.pip_files import pip_config_of, talking_settings_of
from xinference_venv.service.places import Places
from xinference_venv.store.file_system import known_file_system
from xinference_venv.store.metadata_files import parse_fields
from xinference_venv.store.store import Store
from xinference_venv.uv.environment import (
    LINK_MODE_VARIABLE,
    scrubbed_environment,
    version_manager_directories,
)
from xinference_venv.uv.program import find_uv, is_of_package

if TYPE_CHECKING:
    from xinference_venv.uv.subprocess import Uv

_PROGRAM = "xinference-venv"


def open_uv(
    places: Places,
    store: Store,
    ambient: Mapping[str, str],
    index_settings: IndexSettings | None = None,
) -> Uv:
    """Uv for the environments of a store, with what crashes left of it ended; blocks.

    `ambient` are the process's variables. Without `index_settings`, those of how to talk to
    indexes count that the user's and the system's files of uv have. Raises `UvNotFound`.
    """
    # What starts processes is not imported where only their variables are wanted.
    from xinference_venv.store.process_journal import ProcessJournal
    from xinference_venv.uv.subprocess import ProcessRunner, Uv

    journal = ProcessJournal(layout=store.layout, disk=store.disk)
    journal.sweep()
    environment = uv_environment(places, ambient)
    tried = known_file_system(store.layout.store, store.disk)
    if tried is not None:
        environment.setdefault(LINK_MODE_VARIABLE, tried.link_mode)
    door = ProcessRunner(
        environment={**environment, **journal.variables},
        slots=places.settings.uv_processes,
        started=journal.started,
        ended=journal.ended,
        patience=float(places.settings.patience),
    )
    if places.temporary == str(store.layout.temporary):
        store.disk.make_directory(store.layout.temporary, mode=0o700)
    program = find_uv(places.settings.uv_path)
    needed = None if is_of_package(program) else needed_versions("uv")
    if index_settings is None:
        index_settings = talking_settings_of(ambient)
    return Uv(program=program, door=door, needed=needed, index_settings=index_settings)


@cache
def _own_requirements() -> tuple[Requirement, ...]:
    found = importlib.metadata.distribution(_PROGRAM)
    # In a folder of sources it is an ``.egg-info``.
    fields = parse_fields(found.read_text("METADATA") or found.read_text("PKG-INFO") or "")
    return tuple(map(Requirement, fields.all("Requires-Dist")))


def needed_versions(name: str) -> SpecifierSet:
    """The versions of a dependency that this program needs, as its own metadata says."""
    return next(each.specifier for each in _own_requirements() if each.name == name)


def uv_environment(places: Places, ambient: Mapping[str, str]) -> dict[str, str]:
    """The variables of uv, and of what it builds, for a process in these places.

    How pip reaches its indexes counts where no variable of uv's own says it.
    """
    try:
        connection = pip_config_of(ambient).connection
    except InvalidSource:
        # Each launch that inherits pip's configuration says what is wrong with it.
        connection = PipConnection()
    from_pip = connection.uv_variables(keyring=shutil.which("keyring") is not None)
    return scrubbed_environment(
        {**from_pip, **ambient},
        cache_dir=places.uv_cache,
        temporary=places.temporary,
        python_directories=version_manager_directories(ambient, places.user_home),
    )
