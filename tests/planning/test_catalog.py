from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv.errors import InvalidModelSpec, UnknownModel
from xinference_venv.planning.catalog import (
    Catalog,
    EngineEntry,
    ModelEntry,
    find_engine,
    parse_model_spec,
)
from xinference_venv.planning.request import ModelVirtualEnv

ENGINES = {name: EngineEntry(name=name) for name in ("llama.cpp", "sentence_transformers")}


def model(name: str, origin: str = "built-in") -> ModelEntry:
    return ModelEntry(model_name=name, virtualenv=ModelVirtualEnv(), origin=origin)


def catalog(*names: str) -> Catalog:
    return Catalog(engines=ENGINES, models={}).with_models(map(model, names))


@pytest.mark.parametrize("spelling", ["llama.cpp", "llama_cpp", "Llama-CPP"])
def test_an_engine_is_found_whatever_the_spelling(spelling: str) -> None:
    assert find_engine(ENGINES, spelling) is ENGINES["llama.cpp"]


@pytest.mark.parametrize("name", [None, "", "transformers"])
def test_an_engine_that_is_not_there_is_not_found(name: str | None) -> None:
    assert find_engine(ENGINES, name) is None


def test_an_unknown_model_is_answered_with_similar_ones_and_the_way_to_add_it() -> None:
    known = catalog("magika-1", "magika-0.5", "qwen2.5-omni")
    with pytest.raises(UnknownModel) as caught:
        known.model("Magika_1")
    assert "'Magika_1'" in caught.value.message
    assert "magika-1" in (caught.value.hint or "")
    assert "--spec FILE" in (caught.value.hint or "")
    with pytest.raises(UnknownModel) as caught:
        known.model("something else")
    assert "Did you mean" not in (caught.value.hint or "")


def test_a_later_model_replaces_an_earlier_one_of_its_name() -> None:
    earlier = catalog("magika-1", "other")
    later = earlier.with_models([model("magika-1", "first"), model("magika-1", "second")])
    assert later.model("magika-1").origin == "second"
    assert later.model("other").origin == "built-in"
    assert earlier.model("magika-1").origin == "built-in"
    assert later.engines == ENGINES


def test_a_specification_is_one_model_or_a_list_and_other_keys_are_ignored() -> None:
    one = {
        "version": 2,
        "model_name": "mine",
        "model_type": "image",
        "model_description": "Mine",
        "model_specs": [{"model_format": "pytorch"}],
        "virtualenv": {"packages": ["numpy<2"], "no_build_isolation": True},
    }
    expected = ModelEntry(
        model_name="mine",
        model_type="image",
        description="Mine",
        virtualenv=ModelVirtualEnv(packages=("numpy<2",), no_build_isolation=True),
        origin="mine.json",
    )
    assert parse_model_spec(json.dumps(one), "mine.json") == (expected,)
    plain = {"model_name": "plain", "virtualenv": None}
    first, second = parse_model_spec(json.dumps([one, plain]), "mine.json")
    assert first == expected
    assert second.virtualenv == ModelVirtualEnv()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "line 1, column 1"),
        ('{"model_name": "a",\n  "virtualenv": }', "line 2, column 17"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "number"),
        ("3", "type int"),
        ('["a"]', "[0] is of type str"),
        ("{}", "model_name is missing"),
        ('[{"model_name": "a"}, {}]', "[1].model_name is missing"),
        ('{"model_name": 3}', "model name"),
        ('{"model_name": ".."}', "model name"),
        ('{"model_name": "a", "model_type": 3}', "model_type is of type int"),
        ('{"model_name": "a", "model_description": []}', "model_description is of type list"),
        ('{"model_name": "a", "virtualenv": []}', "virtualenv"),
        ('[{"model_name": "a", "virtualenv": {"packages": "b"}}]', "[0].virtualenv.packages"),
        ('{"model_name": "a", "virtualenv": {"packages": [3]}}', "virtualenv.packages[0]"),
    ],
)
def test_a_damaged_specification_is_named_with_the_place_and_what_is_expected(
    text: str, where: str
) -> None:
    with pytest.raises(InvalidModelSpec) as caught:
        parse_model_spec(text, "my models.json")
    assert "my models.json" in caught.value.message
    assert where in caught.value.message
    assert caught.value.hint


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["model_name", "model_type", "virtualenv", "packages"]), inner
        )
    ),
)


@given(st.text() | values.map(json.dumps))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        for entry in parse_model_spec(text, "x.json"):
            assert entry.origin == "x.json"
    except InvalidModelSpec as error:
        assert "x.json" in error.message
