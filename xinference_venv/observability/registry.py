"""What a process counts of its own doing, as plain data: counters, gauges and histograms.

Comes in: events, as they happen, and the measures of others. Comes out: plain JSON values, and
the samples from which Prometheus's text is made. A state object, without clock, loop or wire:
each worker and each supervisor holds its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from xinference_venv._util.records import Record
from xinference_venv.errors import InvalidRecord


class Kind(StrEnum):
    """The types of Prometheus: what only grows, what goes up and down, how values are spread."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """What a number means; `name` as Prometheus has it, with unit and ``_total``.

    `buckets` are the upper bounds of a histogram's, ascending, without the infinite one.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


@dataclass(kw_only=True, slots=True)
class Spread:
    """A histogram's values: how many in each bucket (the last is infinite), and their sum."""

    counts: list[int]
    sum: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One number, or one histogram, of a metric; `labels` are the values in its order."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Spread


@dataclass(kw_only=True, slots=True)
class _Family:
    metric: Metric
    series: dict[tuple[str, ...], float | Spread] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class MetricRegistry:
    """All that one process has measured; not for several threads at once."""

    _families: dict[str, _Family] = field(default_factory=dict)

    def add(self, metric: Metric, *labels: str, by: float = 1.0) -> None:
        """Add to a counter or a gauge."""
        series = self._series(metric)
        before = series.get(labels, 0.0)
        assert not isinstance(before, Spread)
        series[labels] = before + by

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        """Say what a gauge stands at."""
        self._series(metric)[labels] = value

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        """Put a value into its bucket of a histogram: the first whose bound is not below it."""
        spread = self._spread(metric, labels)
        spread.counts[bisect_left(metric.buckets, value)] += 1
        spread.sum += value

    @contextmanager
    def during(self, metric: Metric, *labels: str) -> Iterator[None]:
        """Let a gauge stand one higher as long as something goes on."""
        self.add(metric, *labels)
        try:
            yield
        finally:
            self.add(metric, *labels, by=-1.0)

    def samples(self) -> Iterator[Sample]:
        """Everything, metric by metric."""
        for family in self._families.values():
            for labels, value in family.series.items():
                yield Sample(metric=family.metric, labels=labels, value=value)

    def keep_only(self, label: str, values: Mapping[str, object]) -> None:
        """Forget the series in which a label has another value; others stay."""
        for family in self._families.values():
            if label in family.metric.labels:
                place = family.metric.labels.index(label)
                family.series = {
                    labels: value
                    for labels, value in family.series.items()
                    if labels[place] in values
                }

    @classmethod
    def merged(cls, *parts: MetricRegistry) -> Self:
        """The sum of several, which stay as they are."""
        whole = cls()
        for part in parts:
            for sample in part.samples():
                if isinstance(sample.value, Spread):
                    spread = whole._spread(sample.metric, sample.labels)
                    spread.counts = [
                        a + b for a, b in zip(spread.counts, sample.value.counts, strict=True)
                    ]
                    spread.sum += sample.value.sum
                else:
                    whole.add(sample.metric, *sample.labels, by=sample.value)
        return whole

    def report(self) -> MeasuresReport:
        """What crosses to other processes; `of` reads it."""
        return MeasuresReport(
            families=tuple(
                MetricReport(
                    name=family.metric.name,
                    kind=family.metric.kind.value,
                    labels=family.metric.labels,
                    buckets=family.metric.buckets,
                    series=tuple(
                        _written_series(labels, value).to_dict()
                        for labels, value in family.series.items()
                    ),
                )
                for family in self._families.values()
            )
        )

    @classmethod
    def of(cls, report: MeasuresReport, known: Mapping[str, Metric]) -> Self:
        """Read the metrics that are `known` by name; raises `InvalidRecord`.

        What another release knows, or means otherwise, is left out.
        """
        read = cls()
        for family in report.families:
            metric = known.get(family.name)
            if metric is None or not family.is_of(metric):
                continue
            for each in family.series:
                labels, value = _read_series(metric, each)
                read._series(metric)[labels] = value
        return read

    def _series(self, metric: Metric) -> dict[tuple[str, ...], float | Spread]:
        family = self._families.get(metric.name)
        if family is None:
            family = self._families[metric.name] = _Family(metric=metric)
        return family.series

    def _spread(self, metric: Metric, labels: tuple[str, ...]) -> Spread:
        series = self._series(metric)
        spread = series.get(labels)
        if spread is None:
            spread = series[labels] = Spread(counts=[0] * (len(metric.buckets) + 1))
        assert isinstance(spread, Spread)
        return spread


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricReport(Record, name="metric"):
    """A metric with its series, whose form depends on its kind."""

    name: str
    kind: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    series: tuple[object, ...] = ()

    def is_of(self, metric: Metric) -> bool:
        """Whether it was counted as this release counts it."""
        return (self.kind, self.labels, self.buckets) == (
            metric.kind,
            metric.labels,
            metric.buckets,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuresReport(Record, name="measures"):
    """All that one process has measured, as it crosses to others."""

    families: tuple[MetricReport, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _WrittenNumber(Record, name="series of a metric"):
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _WrittenSpread(Record, name="series of a histogram"):
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    sum: float


def _written_series(labels: tuple[str, ...], value: float | Spread) -> Record:
    if isinstance(value, Spread):
        return _WrittenSpread(labels=labels, counts=tuple(value.counts), sum=value.sum)
    return _WrittenNumber(labels=labels, value=value)


def _read_series(metric: Metric, data: object) -> tuple[tuple[str, ...], float | Spread]:
    value: float | Spread
    if metric.kind is not Kind.HISTOGRAM:
        number = _WrittenNumber.from_dict(data)
        labels, value = number.labels, number.value
    else:
        spread = _WrittenSpread.from_dict(data)
        labels, value = spread.labels, Spread(counts=list(spread.counts), sum=spread.sum)
        if len(spread.counts) != len(metric.buckets) + 1:
            raise InvalidRecord(f"a series of {metric.name} must count each of its buckets")
    if len(labels) != len(metric.labels):
        raise InvalidRecord(f"a series of {metric.name} must have the labels {metric.labels}")
    return labels, value
