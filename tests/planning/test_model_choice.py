from __future__ import annotations

from dataclasses import replace

import pytest

from tests import fakes
from xinference_venv.errors import UnknownEngine, UnknownFormat
from xinference_venv.planning.catalog import Catalog, parse_model_spec
from xinference_venv.planning.engines import EngineEntry
from xinference_venv.planning.model_choice import ChosenModel, choose_model
from xinference_venv.planning.request import ModelVirtualEnv

PLAIN = fakes.catalog(
    {"m": ModelVirtualEnv(packages=('a ; #engine# == "acme"',))},
    EngineEntry(name="vllm", formats={"own": ("x",)}),
)
BY_ENGINE = Catalog(
    engines=PLAIN.engines,
    models={
        each.model_name: each
        for each in parse_model_spec(
            '[{"model_name": "m", "engine": "MLX", "model_format": "mlx"}]', "m.json"
        )
    },
)


@pytest.mark.parametrize("engine", ["vllm", "VLLM", "acme", "pytorch", "flag", None])
def test_engines_of_the_catalogue_of_the_model_and_of_xinference_are_known(
    engine: str | None,
) -> None:
    chosen = choose_model(fakes.request("m", model_engine=engine), PLAIN)
    assert chosen.engine == (engine and engine.lower())
    assert chosen.block.packages


def test_an_unknown_engine_is_refused_with_those_that_are_known_and_the_way_to_have_it() -> None:
    with pytest.raises(UnknownEngine, match="nor m knows the engine 'vlm'") as caught:
        choose_model(fakes.request("m", model_engine="vlm"), PLAIN)
    assert caught.value.details["known"] == ["acme", "deepdoc", "flag", "pytorch", "vllm"]
    assert "acme, deepdoc, flag, pytorch, vllm" in (caught.value.hint or "")
    assert "--any-engine" in (caught.value.hint or "")
    passed = choose_model(fakes.request("m", model_engine="vlm", any_engine=True), PLAIN)
    assert passed.engine == "vlm"


def test_the_engines_of_a_block_that_comes_with_the_launch_are_known() -> None:
    block = {"packages": ["#acme_dependencies#", 'b ; "other" == #engine#']}
    for engine in ("acme", "other"):
        chosen = choose_model(fakes.request("x", model_engine=engine, virtualenv=block), PLAIN)
        assert chosen.engine == engine
    with pytest.raises(UnknownEngine, match="'third'"):
        choose_model(fakes.request("x", model_engine="third", virtualenv=block), PLAIN)


@pytest.mark.parametrize("model_format", ["gptq", "GPTQ", "ggufv2", "own", None])
def test_formats_of_xinference_and_of_engines_are_known(model_format: str | None) -> None:
    chosen = choose_model(fakes.request("m", model_format=model_format), PLAIN)
    assert chosen.model_format == model_format


def test_an_unknown_format_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnknownFormat, match="'gptqq'") as caught:
        choose_model(fakes.request("m", model_format="gptqq"), PLAIN)
    assert "gptq, mlx, own, pytorch" in (caught.value.hint or "")
    assert {"gptq", "own"} <= {*caught.value.details["known"]}
    passed = choose_model(fakes.request("m", model_format="gptqq", any_engine=True), PLAIN)
    assert passed.model_format == "gptqq"
    with pytest.raises(UnknownFormat, match="m has no format 'gptq'"):
        choose_model(fakes.request("m", model_format="gptq"), BY_ENGINE)


def test_a_block_that_comes_with_a_launch_runs_on_the_engine_and_in_the_format_it_names() -> None:
    asked = fakes.request(
        "x", model_engine="vllm", model_format="own", virtualenv={"packages": ["lamp"]}
    )
    assert choose_model(asked, PLAIN) == ChosenModel(
        block=ModelVirtualEnv(packages=("lamp",)), engine="vllm", model_format="own"
    )
    with pytest.raises(UnknownFormat, match="'gptqq'"):
        choose_model(replace(asked, model_format="gptqq"), PLAIN)


def test_a_launch_on_an_engine_without_an_entry_is_warned_of_the_entry_that_is_taken() -> None:
    chosen = choose_model(fakes.request("m", model_engine="vllm"), BY_ENGINE)
    assert (chosen.engine, chosen.model_format) == ("vllm", "mlx")
    [warning] = chosen.warnings
    assert warning.startswith("m has no entry for the engine vllm, only for MLX")


def test_engine_and_format_of_the_entry_count_where_the_launch_names_none() -> None:
    chosen = choose_model(fakes.request("m"), BY_ENGINE)
    assert (chosen.engine, chosen.model_format) == ("mlx", "mlx")
    assert chosen.warnings == ()
