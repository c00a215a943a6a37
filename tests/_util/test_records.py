from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv._util.records import canonical_json, digest_of

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
