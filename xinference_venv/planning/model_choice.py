"""Which model a launch runs: its block, engine and format, from the request or the catalogue.

Comes in: a `LaunchRequest` and the catalogue. Comes out: a `ChosenModel`, or an error that lists
the engines or formats that are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from xinference_venv._util.humanize import quoted
from xinference_venv.errors import UnknownEngine, UnknownFormat
from xinference_venv.planning.catalog import Catalog
from xinference_venv.planning.engines import ENGINES_WITHOUT_SET, MODEL_FORMATS
from xinference_venv.planning.request import LaunchRequest, ModelVirtualEnv
from xinference_venv.planning.requirements import engines_named
from xinference_venv.sentences import sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenModel:
    """What a launch runs: the model's block, and the engine and format of its entry."""

    block: ModelVirtualEnv
    engine: str | None
    model_format: str | None
    warnings: tuple[str, ...] = ()


def choose_model(request: LaunchRequest, catalog: Catalog) -> ChosenModel:
    """The block that comes with a launch, else that of the entry of the catalogue's model.

    Where the launch names no engine or format, those of the entry count. Raises `UnknownModel`,
    `UnknownEngine` and `UnknownFormat`, which list what is known.
    """
    if (block := request.virtualenv) is not None:
        _check_engine(request, catalog, engines_named(block.packages))
        _check_format(request, catalog)
        return ChosenModel(
            block=block, engine=request.model_engine, model_format=request.model_format
        )
    model = catalog.model(request.model_name)
    _check_engine(request, catalog, model.engines)
    if not model.formats:
        _check_format(request, catalog)
    chosen = model.choose(request)
    engine = chosen.variant.engine
    return ChosenModel(
        block=chosen.variant.virtualenv,
        engine=request.model_engine or (None if engine is None else engine.lower()),
        model_format=request.model_format or chosen.variant.model_format,
        warnings=() if chosen.warning is None else (chosen.warning,),
    )


def _check_engine(request: LaunchRequest, catalog: Catalog, of_model: Iterable[str]) -> None:
    """Raise `UnknownEngine` for one that neither catalogue nor model knows."""
    if request.model_engine is None or request.any_engine:
        return
    known = {canonicalize_name(name): name.lower() for name in of_model}
    known |= {canonicalize_name(name): name for name in (*catalog.engines, *ENGINES_WITHOUT_SET)}
    if canonicalize_name(request.model_engine) not in known:
        raise UnknownEngine(
            sentence(
                "Neither the catalogue nor {model_name} knows the engine {model_engine}",
                model_name=request.model_name,
                model_engine=quoted(request.model_engine),
            ),
            {
                "known": sorted(known.values()),
                "hint": sentence(
                    "Known are {known}. --any-engine (any_engine in a request) lets any other"
                    " pass.",
                    known=", ".join(sorted(known.values())),
                ),
            },
        )


def _check_format(request: LaunchRequest, catalog: Catalog) -> None:
    """Raise `UnknownFormat` for one that is none of Xinference's or of the catalogue's engines."""
    if request.model_format is None or request.any_engine:
        return
    known = {*MODEL_FORMATS}.union(*(each.formats for each in catalog.engines.values()))
    if request.model_format.lower() not in known:
        raise UnknownFormat(
            sentence(
                "Unknown model format {model_format}", model_format=quoted(request.model_format)
            ),
            {
                "known": sorted(known),
                "hint": sentence(
                    "Known are {known}. --any-engine (any_engine in a request) lets any other"
                    " pass.",
                    known=", ".join(sorted(known)),
                ),
            },
        )
