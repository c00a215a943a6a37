"""A launch with what a specification file says of its model: `launch --spec`, `prefetch --spec`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xinference_venv.errors import UnknownModel
from xinference_venv.planning.catalog import Catalog
from xinference_venv.planning.model_choice import choose_model
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.store.catalog import built_in_catalog, read_model_spec


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
