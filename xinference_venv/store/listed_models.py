"""The models of the catalogue as a listing shows them, without reading every specification again.

Comes in: where specifications lie. Comes out: what `load_catalog` makes of them. It is kept in the
store with the stamps of all that it was read from, this program's own files included, and made
again when one of these differs.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.clock import Clock
from xinference_venv._util.records import Record, digest_of
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.planning.listed_model import ListedModel
from xinference_venv.store.atomic import Disk
from xinference_venv.store.model_files import InstalledFiles, spec_files_in
from xinference_venv.store.paths import StorePaths
from xinference_venv.store.stamp import Stamp, stamp_of
from xinference_venv.store.stat_cache import SETTLED_NANOSECONDS

_PROGRAM = Path(__file__).parents[1]
# What understands a specification, and the models that are built in.
_READERS = ("_util", "planning", "store", "catalog")


@dataclass(frozen=True, kw_only=True, slots=True)
class _ModelIndex(Record, name="index of models", version=1):
    """Models, and the digest of the paths and stamps that they were read from."""

    sources: str
    models: tuple[ListedModel, ...]


def listed_models(
    layout: StorePaths,
    disk: Disk,
    spec_folder: Path,
    installed: InstalledFiles | None,
    clock: Clock = time,
) -> tuple[ListedModel, ...]:
    """The models that `load_catalog` knows of these places; raises what that raises.

    Where the store is there and can be written, the next call finds them kept.
    """
    # The stamps come first: what changes while it is read is read again the next time.
    stamps = _stamps(spec_folder, installed)
    sources = digest_of([[path, *stamp] for path, stamp in stamps.items()])
    kept = _kept(layout, disk)
    if kept is not None and kept.sources == sources:
        return kept.models
    from xinference_venv.store.catalog import load_catalog
    from xinference_venv.store.installed_models import InstalledModels

    skipped = len(disk.skipped.all())
    models = None if installed is None else InstalledModels(installed)
    catalog = load_catalog(spec_folder, [], disk.skipped, models)
    listed = tuple(each.listed for each in catalog.models.values())
    settled = clock.time_ns() - SETTLED_NANOSECONDS
    whole = len(disk.skipped.all()) == skipped
    if whole and all(max(each[2:], default=0) < settled for each in stamps.values()):
        index = _ModelIndex(sources=sources, models=listed)
        # A disk that is full or read-only is no reason not to list.
        with suppress(StoreError):
            if layout.store.is_dir():
                disk.write_json(layout.model_index, index.to_dict(), durable=False)
    return listed


def _stamps(spec_folder: Path, installed: InstalledFiles | None) -> dict[str, Stamp]:
    """The stamp of each file that a listing rests on, by path, in the order in which they count."""
    program = sorted(str(each) for name in _READERS for each in (_PROGRAM / name).glob("*.*"))
    found = () if installed is None else installed.files()
    own = map(str, spec_files_in(spec_folder))
    return {path: stamp_of(path) for path in (*program, *found, *own)}


def _kept(layout: StorePaths, disk: Disk) -> _ModelIndex | None:
    try:
        data = disk.read_json(layout.model_index)
        return None if data is None else _ModelIndex.from_dict(data)
    except (InvalidRecord, StoreError):
        return None
