from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import fakes
from xinference_venv.errors import InvalidModelSpec, UnknownFormat, UnknownModel
from xinference_venv.planning.catalog import (
    Catalog,
    ModelEntry,
    ModelVariant,
    parse_model_spec,
)
from xinference_venv.planning.engines import EngineEntry, find_engine
from xinference_venv.planning.request import ModelVirtualEnv
from xinference_venv.sentences import Sentence

ENGINES = {name: EngineEntry(name=name) for name in ("llama.cpp", "sentence_transformers")}


def model(name: str, origin: str = "built-in") -> ModelEntry:
    variant = ModelVariant(virtualenv=ModelVirtualEnv())
    return ModelEntry(model_name=name, variants=(variant,), origin=origin)


def catalog(*names: str) -> Catalog:
    return Catalog(engines=ENGINES, models={name: model(name) for name in names})


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


def test_a_model_is_found_by_its_exact_name() -> None:
    known = catalog("magika", "Magika")
    assert known.model("Magika") is known.models["Magika"]


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
        variants=(
            ModelVariant(
                virtualenv=ModelVirtualEnv(packages=("numpy<2",), no_build_isolation=True),
                model_format="pytorch",
            ),
        ),
        origin="mine.json",
    )
    assert parse_model_spec(json.dumps(one), "mine.json") == (expected,)
    plain = {"model_name": "plain", "virtualenv": None}
    first, second = parse_model_spec(json.dumps([one, plain]), "mine.json")
    assert first == expected
    assert second.variants == (ModelVariant(virtualenv=ModelVirtualEnv()),)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "line 1, column 1: it is not JSON: Expecting value"),
        ('{"model_name": "a",\n  "virtualenv": }', "line 2, column 17: it is not JSON: Expecting"),
        ("[" * 100_000, "it is nested too deeply"),
        ("9" * 5000, "it contains a number that is too long"),
        ("3", "it is of type int"),
        ('["a"]', "[0] is of type str"),
        ("{}", "model_name is missing"),
        ('[{"model_name": "a"}, {}]', "[1].model_name is missing"),
        ('{"model_name": 3}', "Invalid model name 3: "),
        ('{"model_name": ".."}', "Invalid model name '..': "),
        ('{"model_name": "a", "model_type": 3}', "model_type is of type int"),
        ('{"model_name": "a", "model_description": []}', "model_description is of type list"),
        ('{"model_name": "a", "virtualenv": []}', "virtualenv"),
        ('[{"model_name": "a", "virtualenv": {"packages": "b"}}]', "[0].virtualenv.packages is"),
        ('{"model_name": "a", "virtualenv": {"packages": [3]}}', "virtualenv.packages[0]"),
        ('{"model_name": "a", "model_specs": {}}', "model_specs is not a list"),
        ('{"model_name": "a", "model_specs": [3]}', "model_specs is not a list"),
        ('{"model_name": "a", "engine": 3}', "engine is of type int"),
        ('{"model_specs": [{"model_name": "b"}, {}]}', "model_name is missing"),
    ],
)
def test_a_damaged_specification_is_named_with_the_place_and_what_is_expected(
    text: str, where: str
) -> None:
    with pytest.raises(InvalidModelSpec) as caught:
        parse_model_spec(text, "my models.json")
    assert caught.value.message.startswith(f"Invalid model specification my models.json: {where}")
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


# Several entries of one name


def entries(*of: dict[str, object]) -> ModelEntry:
    """A model with one entry for each of these, whose packages tell which it is."""
    data = [
        {"model_name": "m", **each, "virtualenv": {"packages": [f"entry-{position}"]}}
        for position, each in enumerate(of)
    ]
    (entry,) = parse_model_spec(json.dumps(data), "m.json")
    return entry


def chosen(entry: ModelEntry, **given: object) -> tuple[str, str | None]:
    found = entry.choose(fakes.request("m", **given))
    (line,) = found.variant.virtualenv.packages
    return line, found.warning


IRODORI = entries(
    {"engine": "PyTorch", "model_format": "pytorch", "quantization": "none"},
    {"engine": "PyTorch", "model_format": "pytorch", "quantization": "INT8"},
    {"engine": "MLX", "model_format": "mlx"},
)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"model_engine": "pytorch"}, "entry-0"),
        ({"model_engine": "PyTorch", "quantization": "int8"}, "entry-1"),
        ({"model_engine": "mlx"}, "entry-2"),
        ({"model_format": "MLX"}, "entry-2"),
        ({"quantization": "INT8", "model_format": "pytorch"}, "entry-1"),
    ],
)
def test_of_several_entries_the_one_for_engine_format_and_quantization_is_taken(
    given: dict[str, object], line: str
) -> None:
    assert chosen(IRODORI, **given) == (line, None)


def test_without_an_engine_the_first_entry_is_taken_and_a_warning_says_so() -> None:
    line, warning = chosen(IRODORI)
    assert line == "entry-0"
    assert warning is not None
    assert "that for PyTorch" in warning
    assert "not MLX" in warning


def test_an_engine_without_an_entry_gets_the_one_for_any_else_the_first_with_a_warning() -> None:
    open_to_all = entries({"engine": "MLX"}, {})
    assert chosen(open_to_all, model_engine="vllm") == ("entry-1", None)
    assert chosen(IRODORI, model_engine="vllm") == (
        "entry-0",
        "m has no entry for the engine vllm, only for PyTorch, MLX:"
        " that for PyTorch, pytorch, none is taken",
    )


def test_entries_that_nothing_tells_apart_give_the_first_with_a_warning() -> None:
    line, warning = chosen(entries({}, {}))
    assert line == "entry-0"
    assert "several entries" in (warning or "")
    assert chosen(entries({})) == ("entry-0", None)


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ({"model_format": "gptq"}, ["pytorch", "mlx"]),
        ({"quantization": "int4", "model_engine": "pytorch"}, ["none", "INT8"]),
    ],
)
def test_a_format_or_quantization_that_no_entry_has_is_refused_with_those_there_are(
    given: dict[str, object], known: list[str]
) -> None:
    what, wanted = next(iter(given.items()))
    with pytest.raises(UnknownFormat) as caught:
        chosen(IRODORI, **given)
    assert caught.value.message == f"m has no {what.removeprefix('model_')} {wanted!r}"
    assert caught.value.details["known"] == known
    # Which quantization is taken decides more than the engine, so that no option lets it pass.
    more = " --any-engine lets any other format pass." if what == "model_format" else ""
    assert caught.value.hint == f"Known are {', '.join(known)}.{more}"


def test_any_engine_lets_a_format_of_no_entry_pass() -> None:
    assert chosen(entries({"model_format": "mlx"}), model_format="own", any_engine=True)[0]


def test_specs_tell_sizes_formats_and_quantizations_and_may_have_a_block_of_their_own() -> None:
    hub = {"huggingface": {"quantizations": ["none", "Int4"]}}
    own = {"packages": ["own"]}
    data = {
        "model_name": "m",
        "virtualenv": {"packages": ["shared"]},
        "model_specs": [
            {"model_format": "pytorch", "model_size_in_billions": "0_5", "model_src": hub},
            {"model_format": "gptq", "model_size_in_billions": 7, "virtualenv": own},
        ],
    }
    (entry,) = parse_model_spec(json.dumps(data), "m.json")
    assert entry.formats == ("pytorch", "gptq")
    assert chosen(entry, model_size_in_billions="0.5", quantization="int4")[0] == "shared"
    assert chosen(entry, model_size_in_billions="7") == ("own", None)
    with pytest.raises(UnknownFormat, match="no size '3'") as caught:
        chosen(entry, model_size_in_billions=3)
    assert "Known are 0.5, 7." in (caught.value.hint or "")


def test_a_family_may_name_its_models_in_its_specs() -> None:
    data = [
        {
            "model_family": "world",
            "virtualenv": {"packages": ["numpy"]},
            "model_specs": [{"model_name": "world-14B"}, {"model_name": "world-1.3B"}],
        }
    ]
    read = parse_model_spec(json.dumps(data), "m.json")
    assert [each.model_name for each in read] == ["world-14B", "world-1.3B"]
    assert {each.variants[0].virtualenv.packages for each in read} == {("numpy",)}


def test_specs_may_be_for_engines_of_their_own() -> None:
    specs = [{"engine": "MLX"}, {"model_format": "pytorch"}]
    data = {"model_name": "m", "engine": "PyTorch", "model_specs": specs}
    (entry,) = parse_model_spec(json.dumps(data), "m.json")
    assert [each.engine for each in entry.variants] == ["MLX", "PyTorch"]


def test_a_listing_names_the_engines_of_entries_markers_and_placeholders_and_the_formats() -> None:
    data = {
        "model_name": "m",
        "engine": "PyTorch",
        "model_format": "pytorch",
        "virtualenv": {
            "packages": [
                '#llama_cpp_dependencies# ; #engine# == "llama.cpp"',
                "#vllm_dependencies#",
                'flag ; #model_engine# in "flag, Transformers"',
                "broken ; #engine# ==",
            ]
        },
    }
    (entry,) = parse_model_spec(json.dumps(data), "m.json")
    assert entry.listed.engines == ("pytorch", "llama.cpp", "flag", "transformers", "vllm")
    assert entry.listed.formats == ("pytorch",)


def test_a_listing_shows_the_first_entrys_packages_without_their_credentials() -> None:
    entry = entries({}, {})
    first = ModelVariant(
        virtualenv=ModelVirtualEnv(packages=("lamp @ https://u:hunter22@h/lamp-1.0.tar.gz", "six"))
    )
    listed = replace(
        entry, model_type="LLM", description="Mine", variants=(first, *entry.variants)
    ).listed
    assert listed.packages == ("lamp @ https://****@h/lamp-1.0.tar.gz", "six")
    assert (listed.model_name, listed.model_type, listed.description, listed.origin) == (
        "m",
        "LLM",
        "Mine",
        "m.json",
    )


def test_of_entries_of_one_name_the_first_that_has_a_type_and_a_description_gives_it() -> None:
    data = [
        {"model_name": "m"},
        {"model_name": "other", "model_type": "audio"},
        {"model_name": "m", "model_type": "LLM", "model_description": "Mine"},
        {"model_name": "m", "model_type": "image", "model_description": "Yours"},
    ]
    entry, other = parse_model_spec(json.dumps(data), "m.json")
    assert (entry.model_type, entry.description, len(entry.variants)) == ("LLM", "Mine", 3)
    assert (other.model_type, other.description) == ("audio", None)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ({}, "the first"),
        ({"engine": "MLX"}, "that for MLX"),
        ({"model_format": "gptq", "quantization": "none"}, "that for gptq, none"),
        ({"quantization": "int8", "quantizations": ["int4"]}, "that for int8"),
    ],
)
def test_a_warning_describes_the_entry_that_is_taken_by_what_it_is_for(
    first: dict[str, object], words: str
) -> None:
    _, warning = chosen(entries(first, first))
    assert warning == f"m has several entries that fit: {words} is taken"
    # A front end can have it in its language.
    assert isinstance(warning, Sentence)
    assert isinstance(warning.values["taken"], Sentence)


def test_up_to_three_similar_models_are_named_and_the_way_to_add_one_in_any_case() -> None:
    with pytest.raises(UnknownModel) as caught:
        catalog(*(f"magika-{number}" for number in range(9))).model("magika-x")
    assert caught.value.message == "The catalogue has no model 'magika-x'"
    hint = caught.value.hint or ""
    assert hint.startswith("Did you mean magika-")
    assert hint.count("magika-") == 3
    with pytest.raises(UnknownModel) as alone:
        catalog().model("magika-x")
    assert (alone.value.hint or "").startswith("Give its specification with --spec FILE")


@pytest.mark.parametrize(
    ("of_model", "of_spec", "quantizations"),
    [
        ({"quantization": "int8"}, {}, ("int8",)),
        ({"quantization": "int8"}, {"quantizations": ["int4", "none"]}, ("int4", "none")),
        ({}, {"quantization": "a", "quantizations": ["b", "a"]}, ("a", "b")),
        ({}, {"model_src": {"hub": {"quantization": "c"}, "other": 3}}, ("c",)),
        ({}, {"model_src": ["hub"], "quantizations": "d"}, ()),
    ],
)
def test_quantizations_of_a_spec_count_before_those_of_its_model(
    of_model: dict[str, object], of_spec: dict[str, object], quantizations: tuple[str, ...]
) -> None:
    data = {"model_name": "m", "model_specs": [{"model_format": "x", **of_spec}], **of_model}
    (entry,) = parse_model_spec(json.dumps(data), "m.json")
    assert entry.variants[0].quantizations == quantizations
