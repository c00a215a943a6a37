"""What the catalogue knows: the packages of engines, and models with their ``virtualenv`` block.

In comes the text of specifications in Xinference's model format, already read; out goes a
`Catalog` that answers by name.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.utils import canonicalize_name

from xinference_venv._util.humanize import quoted
from xinference_venv._util.records import Record
from xinference_venv._util.redact import redact_text
from xinference_venv.errors import InvalidInput, InvalidModelSpec, UnknownModel
from xinference_venv.planning.request import ModelVirtualEnv, check_model_name


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineEntry:
    """What an engine needs: requirement lines, more of them by model format, and indexes."""

    name: str
    packages: tuple[str, ...] = ()
    formats: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Requirement lines that a model format needs in addition, by its name in lower case."""
    extra_index_urls: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    """What the engine itself is called where that is not its name: ``tensorrt_llm``."""
    index_strategy: str | None = None
    """A value of uv's ``--index-strategy``."""

    @property
    def names(self) -> frozenset[str]:
        """The normalized names by which a model may ask for the engine itself."""
        own = canonicalize_name(self.name)
        return frozenset({own, *(map(canonicalize_name, self.distributions))})


def find_engine(engines: Mapping[str, EngineEntry], name: str | None) -> EngineEntry | None:
    """The engine of this name, whatever its case and whether ``-``, ``_`` or ``.`` is written."""
    if name is None:
        return None
    wanted = canonicalize_name(name)
    return next((each for each in engines.values() if canonicalize_name(each.name) == wanted), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """A model and what its environment needs; ``origin`` is ``built-in`` or the file's path."""

    model_name: str
    model_type: str | None = None
    """As Xinference has it: ``LLM``, ``image``, ``audio`` ..."""
    description: str | None = None
    virtualenv: ModelVirtualEnv
    origin: str

    @property
    def listed(self) -> ListedModel:
        """What a listing shows of it."""
        return ListedModel(
            model_name=self.model_name,
            model_type=self.model_type,
            description=self.description,
            packages=tuple(redact_text(line) for line in self.virtualenv.packages),
            origin=self.origin,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedModel(Record, name="model"):
    """A model as a listing shows it, without the credentials of its packages."""

    model_name: str
    model_type: str | None = None
    description: str | None = None
    packages: tuple[str, ...]
    origin: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """Engines and models by name; engine names are in lower case."""

    engines: Mapping[str, EngineEntry]
    models: Mapping[str, ModelEntry]

    def model(self, name: str) -> ModelEntry:
        """The model of exactly this name; raises `UnknownModel`, which names similar ones."""
        found = self.models.get(name)
        if found is not None:
            return found
        by_folded = {each.casefold(): each for each in self.models}
        close = difflib.get_close_matches(name.casefold(), by_folded, n=3)
        similar = ", ".join(by_folded[each] for each in close)
        hint = "Give its specification with --spec FILE (JSON in Xinference's model format)."
        raise UnknownModel(
            f"The catalogue has no model {quoted(name)}",
            {"hint": f"Did you mean {similar}? {hint}" if similar else hint},
        )

    def with_models(self, entries: Iterable[ModelEntry]) -> Catalog:
        """The catalogue with these models as well; of one name, the later one counts."""
        added = {entry.model_name: entry for entry in entries}
        return Catalog(engines=self.engines, models={**self.models, **added})


def parse_model_spec(text: str, origin: str) -> tuple[ModelEntry, ...]:
    """Read one model or a list of models from JSON in Xinference's model format.

    Read are ``model_name``, ``model_type``, ``model_description`` and ``virtualenv``; other keys
    are ignored. Raises `InvalidModelSpec`, which names ``origin``, the line or the key, and what
    is expected there.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _invalid(origin, f"{where}: it is not JSON: {error.msg}") from None
    except RecursionError:
        raise _invalid(origin, "it is nested too deeply") from None
    except ValueError:  # Python refuses to convert numbers of thousands of digits
        raise _invalid(origin, "it contains a number that is too long") from None
    return model_entries(data, origin)


def model_entries(data: object, origin: str) -> tuple[ModelEntry, ...]:
    """The models of a decoded specification; raises `InvalidModelSpec` like `parse_model_spec`."""
    if isinstance(data, Mapping):
        return (_model_entry(data, origin, ""),)
    if isinstance(data, list):
        return tuple(
            _model_entry(each, origin, f"[{position}]") for position, each in enumerate(data)
        )
    raise _invalid(origin, f"it is of type {type(data).__name__}")


def _model_entry(data: object, origin: str, place: str) -> ModelEntry:
    if not isinstance(data, Mapping):
        raise _invalid(origin, f"{place} is of type {type(data).__name__}")
    where = f"{place}." if place else ""
    if "model_name" not in data:
        raise _invalid(origin, f"{where}model_name is missing")
    virtualenv = data.get("virtualenv")
    try:
        return ModelEntry(
            model_name=check_model_name(data["model_name"]),
            model_type=_text(data, "model_type"),
            description=_text(data, "model_description"),
            virtualenv=ModelVirtualEnv.from_dict({} if virtualenv is None else virtualenv),
            origin=origin,
        )
    except InvalidInput as error:
        message = f"Invalid model specification {origin}: {where}{error.message}"
        raise InvalidModelSpec(message, error.details) from None


def _text(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    if value is None or isinstance(value, str):
        return value
    raise InvalidModelSpec(
        f"{key} is of type {type(value).__name__}", {"hint": "Allowed is a string."}
    )


def _invalid(origin: str, wrong: str) -> InvalidModelSpec:
    return InvalidModelSpec(
        f"Invalid model specification {origin}: {wrong}",
        {
            "hint": "Expected is JSON in Xinference's model format: an object, or a list of"
            ' objects, like {"model_name": "my-model", "virtualenv": {"packages": ["numpy<2"]}}.'
        },
    )
