"""Check that every model of a specification file has requirements that can be planned.

    python scripts/check_specs.py FILE

FILE is JSON in Xinference's model format. Each model is planned for every engine of the
catalogue and for none, with and without CUDA, for the running interpreter and a host without
packages. Prints a table; ends with 1 and the failures' names if there are any.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from packaging.markers import default_environment

from xinference_venv.errors import InvalidInput
from xinference_venv.planning.catalog import Catalog, ModelEntry
from xinference_venv.planning.markers import MarkerFacts
from xinference_venv.planning.request import ModelVirtualEnv
from xinference_venv.planning.requirements import Requirements, plan_requirements
from xinference_venv.store.catalog import built_in_catalog, read_model_spec

_ENVIRONMENT = cast(dict[str, str], default_environment())
_ACCELERATORS = {
    "CUDA": MarkerFacts(
        environment=_ENVIRONMENT, has_cuda=True, cuda_version="13.0", cuda_arch="sm_90"
    ),
    "no CUDA": MarkerFacts(environment=_ENVIRONMENT),
}


def _plan(
    block: ModelVirtualEnv, catalog: Catalog, engine: str | None, facts: MarkerFacts
) -> Requirements:
    return plan_requirements(
        engine=engine,
        model_format=None,
        model_packages=block.packages,
        launch_packages=(),
        catalog_engines=catalog.engines,
        facts=facts,
        host_versions={},
        public_pins=False,
    )


def _failures(models: tuple[ModelEntry, ...], catalog: Catalog) -> Iterator[str]:
    """Print a row for each engine and accelerator; give what failed, by name."""
    print(f"{'engine':<24}{'accelerator':<14}{'specs':>6}{'lines':>7}{'failures':>10}")
    for engine in (None, *catalog.engines):
        for accelerator, facts in _ACCELERATORS.items():
            lines = failures = 0
            for position, model in enumerate(models):
                try:
                    for block in model.blocks:
                        lines += len(_plan(block, catalog, engine, facts).lines)
                except InvalidInput as error:
                    failures += 1
                    where = f"[{position}] {model.model_name}, {engine or 'no engine'}"
                    yield f"{where}, {accelerator}: {error.message} {error.hint or ''}"
            row = f"{engine or '(none)':<24}{accelerator:<14}"
            print(f"{row}{len(models):>6}{lines:>7}{failures:>10}")


def main(arguments: list[str]) -> int:
    """Check the one file that is named; give the exit status."""
    if len(arguments) != 1:
        print("usage: python scripts/check_specs.py FILE", file=sys.stderr)
        return 2
    try:
        models = read_model_spec(Path(arguments[0]))
    except InvalidInput as error:
        print(f"{error.message} {error.hint or ''}", file=sys.stderr)
        return 1
    failures = list(_failures(models, built_in_catalog()))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
