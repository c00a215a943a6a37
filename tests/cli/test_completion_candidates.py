"""Names for shells: right, quick, and nothing but names whatever happens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.index import black_hole, dead_port
from xinference_venv.cli.completion_candidates import environment_names, model_names, worker_names
from xinference_venv.store.catalog import built_in_catalog

BUILT_IN = sorted(built_in_catalog().models)


def environment(environ: Mapping[str, str], *parts: str) -> None:
    Path(environ["XINFERENCE_HOME"], "virtualenv", *parts).mkdir(parents=True)


def test_models_of_the_catalogue_and_those_that_have_environments_are_named(
    environ: Mapping[str, str], tmp_path: Path
) -> None:
    assert model_names(environ, None) == BUILT_IN
    environment(environ, "v4", "qwen", "vllm", "3.11")
    environment(environ, "v3", "glow", "3.12")
    assert model_names(environ, None) == sorted([*BUILT_IN, "qwen", "glow"])
    assert environment_names(environ, None) == ["glow/-/3.12", "qwen/vllm/3.11"]


def test_settings_and_specifications_that_are_damaged_only_cost_names(
    environ: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "damaged.json").write_text("{")
    variables = {**environ, "XINFERENCE_VIRTUAL_ENV_SPEC_DIR": str(tmp_path)}
    assert model_names(variables, None) == BUILT_IN
    variables = {**environ, "XINFERENCE_VIRTUAL_ENV_UV_PROCESSES": "many"}
    assert model_names(variables, None) == BUILT_IN
    assert environment_names(variables, None) == []


def test_without_a_cluster_there_are_no_workers() -> None:
    assert worker_names(None) == []


@pytest.mark.parametrize("supervisor", ["nonsense", "nowhere.invalid:1", "127.0.0.1:port"])
def test_a_supervisor_that_can_not_be_costs_names_alone(
    environ: Mapping[str, str], supervisor: str
) -> None:
    assert worker_names(supervisor) == []
    assert model_names(environ, supervisor) == BUILT_IN


def test_a_supervisor_that_is_dead_or_swallows_all_costs_names_alone(
    environ: Mapping[str, str],
) -> None:
    assert model_names(environ, f"127.0.0.1:{dead_port()}") == BUILT_IN
    with black_hole() as port:
        assert worker_names(f"127.0.0.1:{port}") == []
