"""Reading the catalogue: the package's own data, a folder of specifications, single files.

The only part of the catalogue that touches the disk; `planning.catalog` understands what is read.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from functools import cache
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

from xinference_venv.errors import InvalidModelSpec
from xinference_venv.planning.catalog import (
    Catalog,
    ModelEntry,
    model_entries,
    parse_model_spec,
)
from xinference_venv.planning.engines import EngineEntry
from xinference_venv.sentences import sentence
from xinference_venv.store.model_files import spec_files_in
from xinference_venv.store.visit import SkippedItems, read_regular

BUILT_IN = "built-in"
_DATA = resources.files("xinference_venv") / "catalog"


@cache
def built_in_catalog() -> Catalog:
    """The engines and models that come with this package."""
    engines = _package_data("engines.toml")
    models = model_entries(_package_data("models.toml")["models"], BUILT_IN)
    return Catalog(
        engines={name: _engine_entry(name, data) for name, data in engines.items()},
        models={each.model_name: each for each in models},
    )


class LayeredModels(Mapping[str, ModelEntry]):
    """Models by name from several places; a name is looked up in the first that has it."""

    def __init__(self, *layers: Mapping[str, ModelEntry]) -> None:
        self._layers = layers

    def __getitem__(self, name: str) -> ModelEntry:
        for layer in self._layers:
            if (found := layer.get(name)) is not None:
                return found
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(chain.from_iterable(reversed(self._layers))))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def values(self) -> ValuesView[ModelEntry]:
        """All of them, each layer looked at once."""
        models: dict[str, ModelEntry] = {}
        for layer in reversed(self._layers):
            models.update(layer.items())
        return models.values()


def load_catalog(
    spec_folder: Path | None,
    spec_files: Sequence[Path],
    skipped: SkippedItems | None = None,
    installed: Mapping[str, ModelEntry] | None = None,
) -> Catalog:
    """The built-in catalogue, then what is `installed`, then the folder's ``*.json``, then files.

    Of models of one name the last one counts; the folder's files go by their names. The folder
    need not exist. Raises `InvalidModelSpec`, which names the file, for one that can't be read or
    understood; of the folder, one that the system does not let us read is kept in `skipped` if
    that is given.
    """
    own: dict[str, ModelEntry] = {}
    in_folder = () if spec_folder is None else spec_files_in(spec_folder)
    for path in in_folder:
        try:
            models = read_model_spec(path)
        except InvalidModelSpec as error:
            if not isinstance(error.__cause__, OSError) or skipped is None:
                raise
            # What can't be read is no model of anybody's; the others are.
            skipped.keep(path, error.__cause__)
            continue
        own |= {each.model_name: each for each in models}
    for path in spec_files:
        own |= {each.model_name: each for each in read_model_spec(path)}
    built_in = built_in_catalog()
    # Asked for its truth, what is installed would be counted: every file of it looked at.
    layers = (own, *(() if installed is None else (installed,)), built_in.models)
    return Catalog(engines=built_in.engines, models=LayeredModels(*layers))


def read_model_spec(path: Path) -> tuple[ModelEntry, ...]:
    """The models of a JSON file; raises `InvalidModelSpec` as `parse_model_spec` does."""
    try:
        text = read_regular(path).decode("utf-8-sig")
    except OSError as error:
        raise InvalidModelSpec(
            sentence(
                "The model specification {path} can't be read: {error}",
                path=path,
                error=error.strerror,
            ),
            {"hint": sentence("Expected is the path of a JSON file that this process may read.")},
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidModelSpec(
            sentence(
                "Invalid model specification {path}: byte {start} is not UTF-8",
                path=path,
                start=error.start,
            ),
            {"hint": sentence("Expected is JSON in Xinference's model format, encoded as UTF-8.")},
        ) from error
    return parse_model_spec(text, str(path))


def _package_data(name: str) -> dict[str, Any]:
    return tomllib.loads((_DATA / name).read_text(encoding="utf-8"))


def _engine_entry(name: str, data: Mapping[str, Any]) -> EngineEntry:
    return EngineEntry(
        name=name,
        packages=tuple(data["packages"]),
        formats={key: tuple(lines) for key, lines in data.get("formats", {}).items()},
        distributions=tuple(data.get("distributions", ())),
        extra_index_urls=tuple(data.get("extra_index_urls", ())),
        index_strategy=data.get("index_strategy"),
        cuda_indexes=data.get("cuda_indexes", {}),
        always=data.get("always", False),
    )
