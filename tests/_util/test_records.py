from __future__ import annotations

import json
import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv._util.records import Fields, canonical_json, digest_of
from xinference_venv.errors import InvalidRecord

plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Lone surrogates are what undecodable bytes of paths become.
    | st.text(st.characters(exclude_categories=()), max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(each) for each in value] if isinstance(value, list) else value


def test_the_canonical_form_is_sorted_compact_utf_8() -> None:
    value = {"b": [1, 2.5, None, True], "a": {"é": "ü\n", "E": ""}}
    assert canonical_json(value) == '{"a":{"E":"","é":"ü\\n"},"b":[1,2.5,null,true]}'.encode()


def test_a_digest_is_the_same_in_every_process() -> None:
    # Python's own hashes of strings and sets differ from process to process.
    assert digest_of({"name": "numpy", "versions": ["1.26.4", None]}) == (
        "86d3d481b37a2460404fa533735b5ab6bf87fd46ea4b8ac9ca7b1ee1a553fa9e"
    )


@given(plain_values)
def test_the_order_of_keys_is_no_part_of_the_identity(value: Any) -> None:
    assert digest_of(reordered(value)) == digest_of(value)
    assert digest_of(json.loads(json.dumps(value))) == digest_of(value)


@given(plain_values, plain_values)
def test_different_values_have_different_canonical_forms(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (canonical_json(one) == canonical_json(other)) is same


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_json_has_no_word_for_has_no_identity(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


@pytest.mark.parametrize("data", [None, "text", 3, ["key"], {"key"}])
def test_what_is_no_mapping_is_refused_with_its_type(data: object) -> None:
    with pytest.raises(InvalidRecord, match=f"lease must be a mapping, not {type(data).__name__}"):
        Fields("lease", data)


READERS: dict[str, Callable[[Fields], object]] = {
    "text": lambda fields: fields.text("key"),
    "integer": lambda fields: fields.integer("key"),
    "number": lambda fields: fields.number("key"),
    "mapping": lambda fields: fields.mapping("key"),
    "text_mapping": lambda fields: fields.text_mapping("key"),
    "texts": lambda fields: fields.texts("key", required=True),
    "each": lambda fields: fields.each("key", str, required=True),
    "choice": lambda fields: fields.choice("key", Colour, Colour),
}
VALUES: dict[str, Any] = {
    "text": "red",
    "integer": 3,
    "number": 0.5,
    "mapping": {"a": 1},
    "text_mapping": {"a": "b"},
    "texts": ["a", "b"],
}


WRONG_VALUES: dict[str, list[Any]] = {
    "text": [3, True, [], {}, b"text"],
    "integer": ["3", 3.0, True, [], {}],
    "number": ["3", True, math.nan, math.inf, -math.inf, 10**400],
    "mapping": ["text", 3, [], ["a"]],
    "text_mapping": [[], {"a": None}, {"a": 1}, {1: "a"}, {"a": []}],
    "texts": ["text", 3, {}, {"a": 1}, ["a", None], [["a"]]],
    "each": ["text", 3, {}, True],
    "choice": ["green", "", "RED", 3, []],
}


def test_what_is_right_is_read() -> None:
    found = {name: READERS[name](Fields("lease", {"key": value})) for name, value in VALUES.items()}
    assert found == {**VALUES, "texts": ("a", "b")}
    assert READERS["choice"](Fields("lease", {"key": "red"})) is Colour.RED
    assert READERS["each"](Fields("lease", {"key": [1, 2]})) == ("1", "2")
    number = READERS["number"](Fields("lease", {"key": 3}))
    assert type(number) is float
    assert number == 3


@pytest.mark.parametrize("reader", READERS)
def test_what_is_missing_or_null_is_named_with_the_record(reader: str) -> None:
    for data in ({}, {"key": None}):
        with pytest.raises(InvalidRecord, match="lease: 'key' must be"):
            READERS[reader](Fields("lease", data))


@pytest.mark.parametrize(
    ("reader", "value"),
    [(reader, value) for reader, values in WRONG_VALUES.items() for value in values],
)
def test_what_has_the_wrong_type_is_refused(reader: str, value: object) -> None:
    with pytest.raises(InvalidRecord, match="lease: 'key' must"):
        READERS[reader](Fields("lease", {"key": value}))


def test_a_refusal_does_not_show_a_value_of_the_wrong_type() -> None:
    with pytest.raises(InvalidRecord) as caught:
        Fields("sources", {"key": ["https://user:password@index.example"]}).text("key")
    assert "password" not in caught.value.message


def test_a_refused_choice_says_what_is_allowed() -> None:
    with pytest.raises(InvalidRecord, match="one of red, blue, but is 'green'"):
        READERS["choice"](Fields("lease", {"key": "green"}))


@pytest.mark.parametrize("data", [{}, {"version": None}, {"version": 1}, {"version": 2}])
def test_a_record_of_a_version_that_is_known_is_read(data: dict[str, object]) -> None:
    Fields("lease", data).check_version(2)


def test_a_record_of_a_later_version_is_refused_with_what_can_be_read() -> None:
    expected = "lease is of a later version 3 of this program, which reads up to 2"
    with pytest.raises(InvalidRecord, match=expected) as caught:
        Fields("lease", {"version": 3}).check_version(2)
    assert "or a later one" in str(caught.value.hint)
    with pytest.raises(InvalidRecord, match="lease: 'version' must be an integer"):
        Fields("lease", {"version": "3"}).check_version(2)


@pytest.mark.parametrize("data", [{}, {"key": None}])
def test_what_may_be_absent_has_its_default(data: dict[str, None]) -> None:
    fields = Fields("lease", data)
    assert fields.optional_text("key") is None
    assert fields.optional_integer("key") is None
    assert fields.optional_number("key") is None
    assert fields.integer("key", 7) == 7
    assert fields.flag("key", default=True) is True
    assert fields.flag("key", default=False) is False
    assert fields.texts("key") == ()
    assert fields.each("key", str) == ()


@pytest.mark.parametrize("value", [[], {}, object()])
def test_what_may_be_absent_is_refused_when_it_is_wrong(value: object) -> None:
    fields = Fields("lease", {"key": value})
    for read in (fields.optional_text, fields.optional_integer, fields.optional_number):
        with pytest.raises(InvalidRecord):
            read("key")
    with pytest.raises(InvalidRecord):
        fields.integer("key", 7)
    with pytest.raises(InvalidRecord):
        fields.flag("key", default=True)
