"""The metrics of the whole cluster, as Prometheus scrapes them: one place for all workers.

Comes in: the `MetricRegistry` of the supervisor and of each worker that answered in time. Comes
out: Prometheus's text, or OpenMetrics where that is asked for. Nothing is kept between two scrapes.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator

from fastapi import Request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.responses import Response

from xinference_venv.observability.cluster_measures import ClusterMeasures
from xinference_venv.observability.metrics import OF_SUPERVISOR, OF_WORKER
from xinference_venv.observability.registry import Kind, Metric, MetricRegistry, Sample, Spread
from xinference_venv.rest.base import Route, Supervisor
from xinference_venv.rest.tokens import Scope


async def scrape(request: Request, supervisor: Supervisor) -> Response:
    """Tell the metrics of the cluster, as Prometheus's text or (by `Accept`) as OpenMetrics."""
    answer = await supervisor.measure()
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    text = await asyncio.to_thread(encode, registry_of(answer))
    return Response(text, headers={"Content-Type": media_type})


def registry_of(answer: ClusterMeasures) -> CollectorRegistry:
    """A registry of what a supervisor's `measure` says; raises `InvalidRecord`."""
    samples = list(MetricRegistry.of(answer.supervisor, OF_SUPERVISOR).samples())
    for each in answer.list:
        address = each.worker_address
        for sample in MetricRegistry.of(each.measures, OF_WORKER).samples():
            samples.append(_of(address, sample))
    registry = CollectorRegistry()
    registry.register(_Cluster(samples))
    return registry


def exposed(metric: Metric) -> Metric:
    """A metric of a worker as a scrape has it, with the worker as its first label."""
    return Metric(
        name=metric.name,
        kind=metric.kind,
        help=metric.help,
        labels=("worker", *metric.labels),
        buckets=metric.buckets,
    )


_EXPOSED = {name: exposed(metric) for name, metric in OF_WORKER.items()}


def _of(worker: str, sample: Sample) -> Sample:
    metric = _EXPOSED[sample.metric.name]
    return Sample(metric=metric, labels=(worker, *sample.labels), value=sample.value)


class _Cluster(Collector):
    """The samples of one scrape."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = sorted(samples, key=lambda sample: sample.metric.name)

    def collect(self) -> Iterator[Family]:
        for _, samples in itertools.groupby(self._samples, key=lambda each: each.metric.name):
            yield _family(list(samples))


def _family(samples: list[Sample]) -> Family:
    metric = samples[0].metric
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for sample in samples:
            assert isinstance(sample.value, Spread)
            histogram.add_metric(
                sample.labels, _buckets(metric, sample.value), sum_value=sample.value.sum
            )
        return histogram
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for sample in samples:
        assert not isinstance(sample.value, Spread)
        family.add_metric(sample.labels, sample.value)
    return family


def _buckets(metric: Metric, spread: Spread) -> list[tuple[str, float]]:
    """The bounds as Prometheus writes them, and how many values are not above each."""
    bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
    return [
        (bound, float(count))
        for bound, count in zip(bounds, itertools.accumulate(spread.counts), strict=True)
    ]


ROUTES = (
    Route(
        "GET",
        "/metrics",
        scrape,
        Scope.LIST,
        None,
        texts=("text/plain", "application/openmetrics-text"),
    ),
)
