"""The table of metrics keeps the conventions, and the page and the dashboard name what is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xinference_venv.observability.metrics import OF_SUPERVISOR, OF_WORKER, PREFIX
from xinference_venv.observability.registry import Kind, Metric

DOCS = Path(__file__).parents[2] / "docs"
ALL = [*OF_WORKER.values(), *OF_SUPERVISOR.values()]
UNITS = ("_seconds", "_bytes", "_seconds_total", "_bytes_total")
# What each may be is known beforehand, or is one of the workers.
BOUNDED = {
    *("worker", "host_name", "release", "state", "holder", "phase", "outcome", "source", "code"),
    *("resource", "command", "how", "reason", "method"),
}
_NAME = re.compile(rf"\b{PREFIX}\w+")


def expressions(dashboard: Any) -> Iterator[str]:
    """Every query of a dashboard: of its panels, variables and annotations."""
    match dashboard:
        case dict():
            for key, value in dashboard.items():
                if key in ("expr", "query") and isinstance(value, str):
                    yield value
                else:
                    yield from expressions(value)
        case list():
            for each in dashboard:
                yield from expressions(each)


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((DOCS / "grafana-dashboard.json").read_text("utf-8"))
    return read


def names_in(text: str) -> set[str]:
    """The names of samples in a query."""
    return set(_NAME.findall(text)) - {PREFIX.rstrip("_")}


def sample_names(metric: Metric) -> set[str]:
    if metric.kind is Kind.HISTOGRAM:
        return {f"{metric.name}_{part}" for part in ("bucket", "count", "sum")}
    return {metric.name}


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_a_metric_is_named_as_prometheus_wants_it(metric: Metric) -> None:
    assert re.fullmatch(rf"{PREFIX}[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert not metric.name.endswith(("_count", "_sum", "_bucket"))
    if metric.help.startswith(("How long", "Bytes", "Free bytes", "When")):
        assert metric.name.endswith(UNITS)
    assert metric.help.endswith(".")
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_no_label_may_have_values_without_limit_and_every_metric_is_one() -> None:
    assert {label for metric in ALL for label in metric.labels} == BOUNDED
    assert len({metric.name for metric in ALL}) == len(ALL)
    assert all("worker" not in metric.labels for metric in OF_WORKER.values())


def test_the_page_has_the_table_of_all_metrics() -> None:
    page = (DOCS / "metrics.md").read_text("utf-8")
    rows = [
        *(_row(metric, ("worker", *metric.labels)) for metric in OF_WORKER.values()),
        *(_row(metric, metric.labels) for metric in OF_SUPERVISOR.values()),
    ]
    assert [line for line in page.splitlines() if line.startswith(f"| `{PREFIX}")] == rows


def _row(metric: Metric, labels: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{label}`" for label in labels)
    return f"| `{metric.name}` | {metric.kind} | {shown} | {metric.help} |"


def test_the_page_names_no_metric_that_is_not_there() -> None:
    page = (DOCS / "metrics.md").read_text("utf-8")
    there = {metric.name for metric in ALL}.union(*map(sample_names, ALL))
    assert names_in(page) <= there


def test_the_dashboard_can_be_imported_anywhere_and_asks_for_each_metric_once_at_least() -> None:
    read = dashboard()
    data_source, worker = read["templating"]["list"]
    assert (data_source["type"], data_source["query"]) == ("datasource", "prometheus")
    assert worker["name"] == "worker" and worker["multi"] and worker["includeAll"]
    rows = [panel["title"] for panel in read["panels"] if panel["type"] == "row"]
    assert rows == ["Cluster", "Launches", "uv", "Store", "Faults"]
    assert len({panel["id"] for panel in read["panels"]}) == len(read["panels"])
    for panel in read["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["targets"]
    asked = set().union(*map(names_in, expressions(read)))
    assert asked <= set().union(*map(sample_names, ALL))
    unasked = {metric.name for metric in ALL if asked.isdisjoint(sample_names(metric))}
    assert unasked == {f"{PREFIX}cluster_complete"}
