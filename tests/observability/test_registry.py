"""Counters, gauges and histograms as data: how they count, add up, and go through JSON."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import through_json
from xinference_venv.errors import InvalidRecord
from xinference_venv.observability.registry import (
    Kind,
    MeasuresReport,
    Metric,
    MetricRegistry,
    Spread,
)

EVENTS = Metric(name="events_total", kind=Kind.COUNTER, help="Events.", labels=("kind",))
LEVEL = Metric(name="level", kind=Kind.GAUGE, help="A level.")
TOOK = Metric(
    name="took_seconds", kind=Kind.HISTOGRAM, help="How long.", labels=("what",), buckets=(0.1, 1.0)
)
KNOWN = {metric.name: metric for metric in (EVENTS, LEVEL, TOOK)}


def values(measures: MetricRegistry) -> dict[tuple[str, tuple[str, ...]], Any]:
    return {(each.metric.name, each.labels): each.value for each in measures.samples()}


def read(measures: MetricRegistry) -> MetricRegistry:
    return MetricRegistry.of(
        MeasuresReport.from_dict(through_json(measures.report().to_dict())), KNOWN
    )


# Whole numbers, which add up to the same in any order.
_numbers = st.integers(0, 1 << 40).map(float)
_words = st.text(max_size=5)
_deeds = st.one_of(
    st.tuples(st.just(EVENTS), st.tuples(_words), _numbers),
    st.tuples(st.just(LEVEL), st.just(()), _numbers),
    st.tuples(st.just(TOOK), st.tuples(_words), _numbers),
)


@st.composite
def measured(draw: st.DrawFn) -> MetricRegistry:
    found = MetricRegistry()
    for metric, labels, value in draw(st.lists(_deeds, max_size=10)):
        if metric is TOOK:
            found.observe(metric, *labels, value=value)
        else:
            found.add(metric, *labels, by=value)
    return found


def test_a_counter_adds_up_for_each_of_its_labels() -> None:
    measures = MetricRegistry()
    measures.add(EVENTS, "a")
    measures.add(EVENTS, "b", by=2.5)
    measures.add(EVENTS, "a")
    assert values(measures) == {("events_total", ("a",)): 2.0, ("events_total", ("b",)): 2.5}


def test_a_gauge_stands_higher_as_long_as_something_goes_on_however_that_ends() -> None:
    measures = MetricRegistry()
    with pytest.raises(KeyError), measures.during(LEVEL):
        assert values(measures) == {("level", ()): 1.0}
        raise KeyError
    assert values(measures) == {("level", ()): 0.0}
    measures.set(LEVEL, value=7.0)
    assert values(measures) == {("level", ()): 7.0}


@pytest.mark.parametrize(
    ("value", "counts"),
    [(0.0, [1, 0, 0]), (0.1, [1, 0, 0]), (0.11, [0, 1, 0]), (1.0, [0, 1, 0]), (1.1, [0, 0, 1])],
)
def test_a_value_is_in_the_first_bucket_whose_bound_is_not_below_it(
    value: float, counts: list[int]
) -> None:
    measures = MetricRegistry()
    measures.observe(TOOK, "work", value=value)
    assert values(measures) == {("took_seconds", ("work",)): Spread(counts=counts, sum=value)}


def test_what_belongs_to_a_label_that_is_gone_is_forgotten() -> None:
    measures = MetricRegistry()
    measures.add(EVENTS, "gone")
    measures.add(EVENTS, "here")
    measures.observe(TOOK, "gone", value=1.0)
    measures.keep_only("kind", {"here": None})
    assert set(values(measures)) == {("events_total", ("here",)), ("took_seconds", ("gone",))}


@given(measured())
def test_json_and_back_is_the_same(measures: MetricRegistry) -> None:
    assert read(measures) == measures


@given(measured(), measured(), measured())
def test_merging_is_adding_in_any_order_and_changes_no_part(
    one: MetricRegistry, two: MetricRegistry, three: MetricRegistry
) -> None:
    before = read(one)
    left = MetricRegistry.merged(MetricRegistry.merged(one, two), three)
    right = MetricRegistry.merged(three, MetricRegistry.merged(two, one))
    assert values(left) == values(right) == values(MetricRegistry.merged(one, two, three))
    assert values(MetricRegistry.merged(one)) == values(one)
    assert one == before
    for name, value in values(left).items():
        parts = [values(each).get(name) for each in (one, two, three)]
        there = [each for each in parts if each is not None]
        if isinstance(value, Spread):
            assert value.sum == sum(each.sum for each in there)
            assert sum(value.counts) == sum(sum(each.counts) for each in there)
        else:
            assert value == sum(there)


def test_what_another_release_says_more_or_means_otherwise_is_left_out() -> None:
    measures = MetricRegistry()
    measures.add(EVENTS, "a")
    data = through_json(measures.report().to_dict())
    known = data["families"][0]
    data["families"] += [
        {**known, "name": "unheard_of_total"},
        {**known, "name": "level"},
        {**known, "name": "took_seconds", "kind": "histogram", "labels": ["what"], "buckets": [5]},
    ]
    known["unit"] = "events"
    known["series"][0]["exemplar"] = {"trace": 1}
    data["uptime"] = 3
    assert read(measures) == MetricRegistry.of(MeasuresReport.from_dict(through_json(data)), KNOWN)


@pytest.mark.parametrize(
    "damage",
    [
        {"labels": ["a", "b"]},
        {"labels": None},
        {"value": "1"},
        {"value": float("inf")},
        {"value": None},
    ],
)
def test_a_damaged_number_is_refused(damage: dict[str, Any]) -> None:
    measures = MetricRegistry()
    measures.add(EVENTS, "a")
    data = through_json(measures.report().to_dict())
    data["families"][0]["series"][0].update(damage)
    with pytest.raises(InvalidRecord):
        MetricRegistry.of(MeasuresReport.from_dict(data), KNOWN)


@pytest.mark.parametrize("counts", [[1, 0], [1, 0, 0, 0], ["many", 0, 0], [True, 0, 0], None])
def test_a_histogram_that_does_not_count_its_buckets_is_refused(counts: Any) -> None:
    measures = MetricRegistry()
    measures.observe(TOOK, "work", value=1.0)
    data = through_json(measures.report().to_dict())
    data["families"][0]["series"][0]["counts"] = counts
    with pytest.raises(InvalidRecord):
        MetricRegistry.of(MeasuresReport.from_dict(data), KNOWN)


@pytest.mark.parametrize("data", [None, [], {"families": 1}, {"families": [1]}, {"families": [{}]}])
def test_what_are_no_measures_is_refused(data: object) -> None:
    with pytest.raises(InvalidRecord):
        MetricRegistry.of(MeasuresReport.from_dict(data), KNOWN)
