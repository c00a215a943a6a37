"""Opens uv for the environments of a store: its cache, its environment, the journal of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xinference_venv.settings import Settings
from xinference_venv.store.host_files import same_file_system
from xinference_venv.store.paths import Layout
from xinference_venv.store.process_journal import ProcessJournal
from xinference_venv.store.store import Store
from xinference_venv.uv.argv import scrubbed_environment
from xinference_venv.uv.interpreters import find_uv, version_manager_directories
from xinference_venv.uv.subprocess import ProcessDoor, Uv


def open_uv(settings: Settings, store: Store, ambient: Mapping[str, str], home: str) -> Uv:
    """Uv for the environments of a store, with what crashes left of it ended; blocks.

    `ambient` are the process's variables, `home` is the user's. Raises `UvNotFound`.
    """
    journal = ProcessJournal(layout=store.layout, disk=store.disk)
    journal.sweep()
    environment = uv_environment(settings, store.layout.root, ambient, home)
    door = ProcessDoor(
        environment={**environment, **journal.variables},
        slots=settings.uv_processes,
        started=journal.started,
        ended=journal.ended,
    )
    return Uv(program=find_uv(settings.uv_path), door=door)


def uv_environment(
    settings: Settings, root: Path, ambient: Mapping[str, str], home: str
) -> dict[str, str]:
    """The variables of uv for environments below `root`."""
    return scrubbed_environment(
        ambient,
        cache_dir=cache_dir(settings, root, ambient, home),
        python_directories=version_manager_directories(ambient, home),
    )


def cache_dir(settings: Settings, root: Path, ambient: Mapping[str, str], home: str) -> str:
    """Uv's cache: as configured, else uv's own, else in the home, whose environments are at `root`.

    Across file systems uv silently copies every file instead of linking it.
    """
    if settings.uv_cache_dir is not None:
        return settings.uv_cache_dir
    default = Path(ambient.get("XDG_CACHE_HOME") or Path(home, ".cache"), "uv")
    if same_file_system(default, root):
        return str(default)
    return str(Layout(root).store / "uv-cache")
