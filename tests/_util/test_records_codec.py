"""The codec: records go to plain JSON values and back by their type hints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv._util.records import (
    Misplaced,
    Record,
    from_plain,
    inline,
    read_as,
    read_by,
    to_plain,
)
from xinference_venv.errors import InvalidInput, InvalidRecord


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True, slots=True)
class Key(Record, name="key"):
    model: str
    engine: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing(Record, name="thing", version=2):
    key: Key = field(metadata=inline())
    weight: float
    count: int = 7
    colour: Colour = Colour.RED
    others: tuple[Key, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    anything: object = None
    is_light: bool = False

    def check_record(self) -> None:
        if self.weight < 0:
            raise InvalidRecord("thing: its weight is negative")


PLAIN = {"model": "m", "engine": None, "weight": 1}

keys = st.builds(Key, model=st.text(), engine=st.none() | st.text())
things = st.builds(
    Thing,
    key=keys,
    weight=st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    count=st.integers(),
    colour=st.sampled_from(Colour),
    others=st.lists(keys).map(tuple),
    sizes=st.dictionaries(st.text(), st.integers()),
    anything=st.none() | st.text() | st.lists(st.integers()),
    is_light=st.booleans(),
)


@given(things)
def test_what_was_written_is_read_again(thing: Thing) -> None:
    written = thing.to_dict()
    assert written["version"] == 2
    assert written["model"] == thing.key.model
    assert Thing.from_dict(written) == thing


def test_what_is_absent_or_null_is_the_default_and_unknown_keys_are_ignored() -> None:
    expected = Thing(key=Key(model="m", engine=None), weight=1.0)
    assert Thing.from_dict({**PLAIN, "count": None, "new": 1}) == expected
    assert type(Thing.from_dict(PLAIN).weight) is float


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "thing: it must be a mapping, not list"),
        ({}, "thing: 'model' must be a string, but is missing"),
        ({"model": "m"}, "thing: 'weight' must be a number, but is missing"),
        ({**PLAIN, "weight": True}, "thing: 'weight' must be a number, but is bool"),
        ({**PLAIN, "weight": 10**400}, "thing: 'weight' must be a finite number"),
        ({**PLAIN, "weight": float("nan")}, "thing: 'weight' must be a finite number"),
        ({**PLAIN, "count": True}, "thing: 'count' must be an integer, but is bool"),
        ({**PLAIN, "count": 1.0}, "thing: 'count' must be an integer, but is float"),
        ({**PLAIN, "is_light": 1}, "thing: 'is_light' must be true or false, but is int"),
        ({**PLAIN, "colour": "x"}, "thing: 'colour' must be one of red, blue, but is 'x'"),
        ({**PLAIN, "colour": 3}, "thing: 'colour' must be one of red, blue, but is int"),
        ({**PLAIN, "others": {}}, "thing: 'others' must be a list, but is dict"),
        (
            {**PLAIN, "others": [{"model": "a"}, {"model": 1}]},
            "thing: 'others[1].model' must be a string, but is int",
        ),
        ({**PLAIN, "others": ["a"]}, "thing: 'others[0]' must be a mapping, but is str"),
        ({**PLAIN, "sizes": {"a": "b"}}, "thing: \"sizes['a']\" must be an integer, but is str"),
        ({**PLAIN, "sizes": {1: 1}}, "thing: 'sizes key' must be a string, but is int"),
        ({**PLAIN, "version": "2"}, "thing: 'version' must be an integer, but is str"),
        ({**PLAIN, "version": 3}, "thing is of a later version 3"),
        ({**PLAIN, "weight": -1}, "thing: its weight is negative"),
    ],
)
def test_an_error_names_the_record_the_place_and_what_is_expected(
    given: object, message: str
) -> None:
    with pytest.raises(InvalidRecord) as caught:
        Thing.from_dict(given)
    assert str(caught.value).startswith(message)


def test_values_that_are_no_records_are_read_by_their_hint() -> None:
    hint = tuple[Key, ...]
    keys = (Key(model="a", engine=None), Key(model="b", engine="c"))
    assert from_plain(hint, to_plain(keys), "answer") == keys
    with pytest.raises(InvalidRecord, match=r"answer: '\[0\]' must be a mapping, but is int"):
        from_plain(hint, [1], "answer")


def test_what_is_no_plain_value_is_refused() -> None:
    with pytest.raises(TypeError, match="a set has no plain JSON values"):
        to_plain({1})


@pytest.mark.parametrize(
    ("hint", "wrong"),
    [
        (str, [3, True, [], {}, b"text", None]),
        (int, ["3", 3.0, True, [], {}, None]),
        (float, ["3", True, math.nan, math.inf, -math.inf, 10**400, None]),
        (bool, ["true", 1, [], {}, None]),
        (Mapping[str, str], ["text", 3, [], ["a"], {"a": None}, {"a": 1}, {1: "a"}, {"a": []}]),
        (tuple[str, ...], ["text", 3, {}, {"a": 1}, ["a", None], [["a"]], None]),
        (Colour, ["green", "", "RED", 3, [], None]),
        (Key | None, [[], "text", {}, 0, False]),
    ],
)
def test_what_has_the_wrong_type_is_refused(hint: object, wrong: list[object]) -> None:
    for value in wrong:
        with pytest.raises(InvalidRecord, match=r"answer: .*must be "):
            from_plain(hint, value, "answer")


def test_a_refusal_does_not_show_a_value_of_the_wrong_type() -> None:
    with pytest.raises(InvalidRecord) as caught:
        Thing.from_dict({**PLAIN, "model": ["https://user:password@index.example"]})
    assert "password" not in caught.value.message


def test_a_record_of_a_later_version_says_what_can_be_done() -> None:
    with pytest.raises(InvalidRecord, match=r"of a later version 3 .* reads up to 2") as caught:
        Thing.from_dict({**PLAIN, "version": 3})
    assert "or a later one" in str(caught.value.hint)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block(Record, name="block"):
    words: tuple[str, ...] = field(default=(), metadata=read_by(lambda value: (value.upper(),)))

    @classmethod
    def refusal(cls, error: Misplaced) -> InvalidInput:
        return InvalidInput(f"{error.place} is not {error.expected}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder(Record, name="holder"):
    block: Block | None = None
    number: int = field(default=0, metadata=read_by(lambda value: read_as(int, value["of"])))


def test_a_field_may_have_its_own_way_to_be_read() -> None:
    assert Block.from_dict({"words": "red"}) == Block(words=("RED",))
    assert Block.from_dict({"words": None}) == Block()
    with pytest.raises(InvalidRecord, match="holder: 'number' must be an integer, but is str"):
        Holder.from_dict({"number": {"of": "3"}})


def test_a_record_may_have_its_own_error_wherever_it_lies() -> None:
    with pytest.raises(InvalidInput, match=" is not a mapping"):
        Holder.from_dict({"block": 3})


@given(st.binary())
def test_bytes_are_base64(data: bytes) -> None:
    written = to_plain(data)
    assert isinstance(written, str)
    assert from_plain(bytes, written, "x") == data


@pytest.mark.parametrize("data", [None, 1, "no base64!", "eA"])
def test_what_is_no_base64_is_refused(data: object) -> None:
    with pytest.raises(InvalidRecord, match="base64"):
        from_plain(bytes, data, "x")
