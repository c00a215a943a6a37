from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv._util.humanize import (
    age_text,
    counted,
    duration_text,
    parse_duration,
    parse_size,
    printable,
    size_text,
)
from xinference_venv.errors import InvalidInput

_FACTORS = {"B": 1} | {
    unit: 1024**power
    for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"), start=1)
}


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1024, "1.00 KiB"),
        (29_320, "28.6 KiB"),
        (1023 * 1024, "0.999 MiB"),
        (500 * 1024**2, "500 MiB"),
        (5_500_000_000, "5.12 GiB"),
        (2**70, "1024 EiB"),
    ],
)
def test_sizes_have_three_significant_digits(size: int | None, text: str) -> None:
    assert size_text(size) == text


@given(st.integers(min_value=0, max_value=999 * 2**60))
def test_a_size_is_read_back_within_half_a_percent(size: int) -> None:
    number, unit = size_text(size).split(" ")
    assert abs(float(number) * _FACTORS[unit] - size) <= size * 0.005
    digits = re.sub(r"^0\.0*", "", number).replace(".", "")
    assert len(digits) == 3 or unit == "B"


@pytest.mark.parametrize(
    ("then", "text"),
    [
        (None, "never"),
        (100.0, "just now"),
        (107.0, "just now"),
        (99.0, "1 second ago"),
        (58.0, "42 seconds ago"),
        (-20.0, "2 minutes ago"),
        (-3500.0, "1 hour ago"),
        (-86_400.0 * 3, "3 days ago"),
    ],
)
def test_ages_are_in_their_largest_unit_and_never_in_the_future(
    then: float | None, text: str
) -> None:
    assert age_text(then, 100.0) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (12.34, "12.3 s"), (125.4, "2 min 5 s"), (7384, "2 h 3 min")],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_noun_is_in_the_plural_unless_there_is_one() -> None:
    assert [counted(number, "package") for number in (0, 1, 2)] == [
        "0 packages",
        "1 package",
        "2 packages",
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("1b", 1),
        ("500GB", 500 * 10**9),
        ("20GiB", 20 * 2**30),
        (" 1.5 tib ", 3 * 2**39),
        ("0.0000000001GB", 0),
        ("2kb", 2000),
        ("1EB", 10**18),
    ],
)
def test_sizes_are_read_with_units_of_1000_and_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", " ", "GB", "-1", "1G", "1 2", "1e3", "nan", "inf", "\u0663", "5GB5", "1.GB", "9" * 99],
)
def test_what_is_no_size_is_named_with_what_is_allowed(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_size(text)
    assert caught.value.message.startswith("Invalid size ")
    assert "20GiB" in str(caught.value.hint)


@given(st.integers(min_value=0, max_value=999 * 2**60))
def test_a_size_that_was_shown_is_read_back(size: int) -> None:
    assert abs(parse_size(size_text(size)) - size) <= size * 0.005 + 1
    assert parse_size(str(size)) == parse_size(f"{size}B") == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("30d", 30 * 86_400),
        ("12h", 43_200),
        ("2w", 1_209_600),
        ("1H 30Min", 5400),
        ("1d12h", 129_600),
        ("0.5s", 0.5),
    ],
)
def test_durations_are_read_in_weeks_days_hours_minutes_and_seconds(
    text: str, seconds: float
) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "30", "d", "-1d", "1y", "1m", "1d 2", "1e3s", "inf s", "1 d,"]
)
def test_what_is_no_duration_is_named_with_what_is_allowed(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_duration(text)
    assert caught.value.message.startswith("Invalid duration ")
    assert "30d" in str(caught.value.hint)


@given(st.floats(min_value=0, max_value=1e9))
def test_a_duration_that_was_shown_is_read_back(seconds: float) -> None:
    shown = duration_text(seconds)
    precision = 0.05 if seconds < 60 else 60 if "h" in shown else 1
    assert abs(parse_duration(shown) - seconds) <= precision + 1e-6


@given(st.text(max_size=30))
def test_no_text_is_read_as_anything_but_a_number_or_an_error(text: str) -> None:
    for parse in (parse_size, parse_duration):
        try:
            assert 0 <= parse(text) < math.inf
        except InvalidInput as error:
            assert error.hint is not None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a-model 模型", "a-model 模型"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        ("\udcff\u202e", "\\udcff\\u202e"),
        ("", ""),
    ],
)
def test_what_does_not_print_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
