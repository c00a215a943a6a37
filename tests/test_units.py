from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv.units import age_text, counted, duration_text, size_text

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
