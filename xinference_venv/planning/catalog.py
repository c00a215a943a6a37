"""What the catalogue knows: the packages of engines, and models with their ``virtualenv`` block.

In comes the text of specifications in Xinference's model format, already read; out goes a
`Catalog` that answers by name. A model may have several entries, by engine, format, size and
quantization: which of them a launch means, `ModelEntry.choose` decides as Xinference does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from packaging.utils import canonicalize_name

from xinference_venv._util.humanize import quoted, similar_names
from xinference_venv._util.redact import redact_text
from xinference_venv.errors import InvalidInput, InvalidModelSpec, UnknownFormat, UnknownModel
from xinference_venv.planning.engines import EngineEntry
from xinference_venv.planning.listed_model import ListedModel
from xinference_venv.planning.request import (
    LaunchRequest,
    ModelVirtualEnv,
    check_model_name,
    check_model_size,
)
from xinference_venv.planning.requirements import engines_named
from xinference_venv.sentences import sentence

_T = TypeVar("_T")

_NO_QUANTIZATION = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVariant:
    """One entry of a model, and what its environment needs; None and empty: any will do."""

    virtualenv: ModelVirtualEnv
    engine: str | None = None
    model_format: str | None = None
    size: str | None = None
    """In billions of parameters, like ``0.5``."""
    quantizations: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenVariant:
    """The entry of a model that a launch means; `warning` says what was not asked for."""

    variant: ModelVariant
    warning: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """A model and its entries, one at least; ``origin`` is ``built-in`` or the file's path."""

    model_name: str
    model_type: str | None = None
    """As Xinference has it: ``LLM``, ``image``, ``audio`` ..."""
    description: str | None = None
    variants: tuple[ModelVariant, ...]
    origin: str

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that its entries, their markers and placeholders name, in lower case."""
        named = [*_known(self.variants, _engine_of)]
        for block in self.blocks:
            named += engines_named(block.packages)
        engines: dict[str, str] = {}
        for name in named:
            engines.setdefault(canonicalize_name(name), name.lower())
        return tuple(engines.values())

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats that its entries name, each once."""
        return _known(self.variants, lambda each: (each.model_format,))

    @property
    def blocks(self) -> tuple[ModelVirtualEnv, ...]:
        """The different blocks of its entries."""
        return _unique(each.virtualenv for each in self.variants)

    @property
    def listed(self) -> ListedModel:
        """What a listing shows of it."""
        return ListedModel(
            model_name=self.model_name,
            model_type=self.model_type,
            description=self.description,
            packages=tuple(redact_text(line) for line in self.variants[0].virtualenv.packages),
            engines=self.engines,
            formats=self.formats,
            origin=self.origin,
        )

    def choose(self, request: LaunchRequest) -> ChosenVariant:
        """The entry for a launch's engine, format, size and quantization.

        Of several that fit it is the first, as in Xinference; the warning says so. Raises
        `UnknownFormat` for a format, a size or a quantization that no entry has.
        """
        fitting, warning = self._of_engine(request.model_engine)
        if not request.any_engine:
            wanted = request.model_format
            fitting = self._with("format", wanted, fitting, lambda each: (each.model_format,))
        size = request.model_size_in_billions
        fitting = self._with("size", size, fitting, lambda each: (each.size,))
        wanted = request.quantization
        fitting = self._with("quantization", wanted, fitting, _quantizations_of)
        if wanted is None:
            fitting = [e for e in fitting if _is_plain(e)] or fitting
        first = fitting[0]
        others = [name for name in _known(fitting, _engine_of) if name != first.engine]
        if request.model_engine is None and others:
            warning = sentence(
                "no engine is named: {taken} is taken, not {others}",
                taken=_describe(first),
                others=", ".join(others),
            )
        if warning is None and len(_unique(each.virtualenv for each in fitting)) > 1:
            warning = sentence(
                "{model_name} has several entries that fit: {taken} is taken",
                model_name=self.model_name,
                taken=_describe(first),
            )
        return ChosenVariant(variant=first, warning=warning)

    def _of_engine(self, engine: str | None) -> tuple[Sequence[ModelVariant], str | None]:
        """The entries for an engine; where there are none, all, and a warning."""
        named = _known(self.variants, _engine_of)
        if engine is None or not named:
            return self.variants, None
        wanted = canonicalize_name(engine)
        fitting = [e for e in self.variants if e.engine and canonicalize_name(e.engine) == wanted]
        fitting = fitting or [each for each in self.variants if each.engine is None]
        if fitting:
            return fitting, None
        return self.variants, sentence(
            "{model_name} has no entry for the engine {engine}, only for {named}: {taken} is taken",
            model_name=self.model_name,
            engine=engine,
            named=", ".join(named),
            taken=_describe(self.variants[0]),
        )

    def _with(
        self,
        what: str,
        wanted: str | None,
        variants: Sequence[ModelVariant],
        values: Callable[[ModelVariant], Iterable[str | None]],
    ) -> Sequence[ModelVariant]:
        """Those that have the wanted value, else those that leave it open."""
        if wanted is None:
            return variants
        folded = wanted.casefold()
        fitting = [e for e in variants if folded in {v.casefold() for v in values(e) if v}]
        fitting = fitting or [each for each in variants if None in values(each)]
        if fitting:
            return fitting
        known = list(_known(variants, values))
        hint = sentence("Known are {known}.", known=", ".join(known))
        if what == "format":
            hint = sentence("{hint} --any-engine lets any other format pass.", hint=hint)
        raise UnknownFormat(
            sentence(
                "{model_name} has no {what} {wanted}",
                model_name=self.model_name,
                what=what,
                wanted=quoted(wanted),
            ),
            {"known": known, "hint": hint},
        )


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
        similar = ", ".join(similar_names(name, self.models))
        hint = sentence(
            "Give its specification with --spec FILE (JSON in Xinference's model format)."
        )
        raise UnknownModel(
            sentence("The catalogue has no model {name}", name=quoted(name)),
            {
                "hint": (
                    sentence("Did you mean {similar}? {hint}", similar=similar, hint=hint)
                    if similar
                    else hint
                )
            },
        )


def parse_model_spec(text: str, origin: str) -> tuple[ModelEntry, ...]:
    """Read one model or a list of models from JSON in Xinference's model format.

    Read are ``model_name``, ``model_type``, ``model_description``, ``virtualenv``, and what tells
    several entries of one name apart: ``engine``, ``model_format``, ``quantization``, and these
    of ``model_specs``; other keys are ignored. Raises `InvalidModelSpec`, which names ``origin``,
    the line or the key, and what is expected there.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _invalid(
            origin, sentence("{where}: it is not JSON: {error}", where=where, error=error.msg)
        ) from None
    except RecursionError:
        raise _invalid(origin, sentence("it is nested too deeply")) from None
    except ValueError:  # Python refuses to convert numbers of thousands of digits
        raise _invalid(origin, sentence("it contains a number that is too long")) from None
    return model_entries(data, origin)


def model_entries(data: object, origin: str) -> tuple[ModelEntry, ...]:
    """The models of a decoded specification, entries of one name together.

    Raises `InvalidModelSpec` like `parse_model_spec`.
    """
    if isinstance(data, Mapping):
        found = _model_entries(data, origin)
    elif isinstance(data, list):
        found = [
            entry
            for position, each in enumerate(data)
            for entry in _model_entries(each, origin, f"[{position}]")
        ]
    else:
        raise _invalid(origin, sentence("it is of type {name}", name=type(data).__name__))
    by_name: dict[str, ModelEntry] = {}
    for entry in found:
        first = by_name.setdefault(entry.model_name, entry)
        if first is not entry:
            by_name[entry.model_name] = ModelEntry(
                model_name=first.model_name,
                model_type=first.model_type or entry.model_type,
                description=first.description or entry.description,
                variants=(*first.variants, *entry.variants),
                origin=origin,
            )
    return tuple(by_name.values())


def _model_entries(data: object, origin: str, place: str = "") -> list[ModelEntry]:
    """The models of one object: one, or where its ``model_specs`` have names, one for each."""
    if not isinstance(data, Mapping):
        raise _invalid(
            origin, sentence("{place} is of type {name}", place=place, name=type(data).__name__)
        )
    where = f"{place}." if place else ""
    specs = data.get("model_specs")
    specs = [{}] if specs in (None, []) else specs
    if not isinstance(specs, list) or not all(isinstance(each, Mapping) for each in specs):
        raise _invalid(origin, sentence("{where}model_specs is not a list of objects", where=where))
    # Xinference's families of world models name each of their models in its spec.
    named = [(spec.get("model_name", data.get("model_name")), spec) for spec in specs]
    if any(name is None for name, _ in named):
        raise _invalid(origin, sentence("{where}model_name is missing", where=where))
    try:
        block = _block(data)
        variants: dict[str, list[ModelVariant]] = {}
        for name, spec in named:
            variants.setdefault(check_model_name(name), []).append(_variant(data, spec, block))
        return [
            ModelEntry(
                model_name=name,
                model_type=_text(data, "model_type"),
                description=_text(data, "model_description"),
                variants=_unique(found),
                origin=origin,
            )
            for name, found in variants.items()
        ]
    except InvalidInput as error:
        message = sentence(
            "Invalid model specification {origin}: {where}{message}",
            origin=origin,
            where=where,
            message=error.message,
        )
        raise InvalidModelSpec(message, error.details) from None


def _variant(
    data: Mapping[str, Any], spec: Mapping[str, Any], block: ModelVirtualEnv
) -> ModelVariant:
    """An entry, where it has specs as one of them says it."""
    return ModelVariant(
        virtualenv=block if spec.get("virtualenv") is None else _block(spec),
        engine=_text(spec, "engine") or _text(data, "engine"),
        model_format=_text(spec, "model_format") or _text(data, "model_format"),
        size=_size(spec),
        quantizations=_quantizations(spec) or _quantizations(data),
    )


def _block(data: Mapping[str, Any]) -> ModelVirtualEnv:
    block = data.get("virtualenv")
    return ModelVirtualEnv.from_dict({} if block is None else block)


def _size(spec: Mapping[str, Any]) -> str | None:
    value = spec.get("model_size_in_billions")
    return None if value is None else check_model_size(value)


def _quantizations(data: Mapping[str, Any]) -> tuple[str, ...]:
    """One quantization, a list of them, or a list for each hub that has the files."""
    hubs = data.get("model_src")
    places = [data, *(hubs.values() if isinstance(hubs, Mapping) else ())]
    found: list[object] = []
    for place in places:
        if isinstance(place, Mapping):
            found.append(place.get("quantization"))
            several = place.get("quantizations")
            found += several if isinstance(several, list) else ()
    return _unique(each for each in found if isinstance(each, str))


def _text(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    if value is None or isinstance(value, str):
        return value
    raise InvalidModelSpec(
        sentence("{key} is of type {name}", key=key, name=type(value).__name__),
        {"hint": sentence("Allowed is a string.")},
    )


def _engine_of(variant: ModelVariant) -> tuple[str | None]:
    return (variant.engine,)


def _quantizations_of(variant: ModelVariant) -> Iterable[str | None]:
    return variant.quantizations or (None,)


def _is_plain(variant: ModelVariant) -> bool:
    return not variant.quantizations or _NO_QUANTIZATION in map(str.lower, variant.quantizations)


def _describe(variant: ModelVariant) -> str:
    """By what a person knows an entry."""
    parts = [variant.engine, variant.model_format, variant.size, *variant.quantizations[:1]]
    if not any(parts):
        return sentence("the first")
    return sentence("that for {parts}", parts=", ".join(filter(None, parts)))


def _known(
    variants: Iterable[ModelVariant], values: Callable[[ModelVariant], Iterable[str | None]]
) -> tuple[str, ...]:
    """All values of the entries, each once."""
    return _unique(value for each in variants for value in values(each) if value)


def _unique(items: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(items))


def _invalid(origin: str, wrong: str) -> InvalidModelSpec:
    return InvalidModelSpec(
        sentence("Invalid model specification {origin}: {wrong}", origin=origin, wrong=wrong),
        {
            "hint": sentence(
                "Expected is JSON in Xinference's model format: an object, or a list of"
                ' objects, like {"model_name": "my-model", "virtualenv": {"packages":'
                ' ["numpy<2"]}}.'
            )
        },
    )
