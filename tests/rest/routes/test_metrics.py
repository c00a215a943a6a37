"""The metrics of a real cluster, scraped through its web process; and the forms they have."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.daemons import Daemon, Daemons, daemons, eventually
from tests.fakes import through_json
from tests.index import Index
from tests.observability.test_metrics import dashboard, expressions, names_in
from tests.rest.fakes import ADDRESS, FakeSupervisor, app_of, browser
from tests.wheels import build_wheel
from xinference_venv.observability.metrics import OF_SUPERVISOR, OF_WORKER, STARTED, UP
from xinference_venv.observability.registry import Kind, MetricRegistry

OPEN_METRICS = "application/openmetrics-text"
PASSWORD = "pass-word-of-the-index"


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A cluster of two workers behind a web process."""

    ask: httpx.Client
    first: Daemon
    second: Daemon
    index: Index

    def launch(self, model: str, *packages: str, worker: Daemon, **more: Any) -> str:
        """The phase in which a launch on one worker ends; `more` goes into the request."""
        block = {"packages": packages, "index_url": self.index.url}
        body = {"model_name": model, "virtualenv": block, "workers": [worker.address], **more}
        accepted = self.ask.post("/v1/virtualenvs", json=body)
        assert accepted.status_code == 202, accepted.text
        # The stream ends with the launch.
        events = self.ask.get(f"/v1/jobs/{accepted.json()['job_id']}/events").text
        ended = events.rpartition("data: ")[2]
        phase: str = json.loads(ended)["phase"]
        return phase

    def scrape(self) -> Scrape:
        answer = self.ask.get("/metrics")
        assert answer.status_code == 200
        return Scrape.of(answer.text)


@dataclass(frozen=True, kw_only=True)
class Scrape:
    """The values by name and labels."""

    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def of(cls, text: str) -> Scrape:
        return cls(
            values={
                (each.name, frozenset(each.labels.items())): each.value
                for family in read_text(text)
                for each in family.samples
            }
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.values.get((f"xinference_venv_{name}", frozenset(labels.items())))

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """The values of what has these labels and one more, by that one; none that is 0."""
        found = {}
        for (each, have), value in self.values.items():
            event_stream = dict(have)
            which = event_stream.pop(label, None)
            if each == f"xinference_venv_{name}" and event_stream == labels and which and value:
                found[which] = value
        return found


@pytest.fixture
def serving(tmp_path: Path, environ: Mapping[str, str], index: Index) -> Iterator[Serving]:
    build_wheel(tmp_path / "wheels", "small", "1.0", requires=["smaller"])
    build_wheel(tmp_path / "wheels", "smaller", "2.0")
    cache = {"UV_CACHE_DIR": str(tmp_path / "cache")}
    with daemons(tmp_path / "d", environ) as running:
        supervisor = running.supervisor()
        first, second = (
            _worker(running, supervisor, host, **cache) for host in ("127.0.0.2", "127.0.0.3")
        )
        where = ("--supervisor", supervisor.address)
        web = running.start("web", "--port", "0", *where, "--log-format", "json").ready()
        with httpx.Client(base_url=web.address, timeout=60.0) as ask:
            yield Serving(ask=ask, first=first, second=second, index=index)
        assert web.end() == 0
        assert [json.loads(line)["logger"] for line in web.said.splitlines()]


def _worker(running: Daemons, supervisor: Daemon, host: str, **variables: str) -> Daemon:
    where = ("--supervisor", supervisor.address, "--host", host)
    return running.start("worker", *where, "--log-format", "json", **variables).ready()


def records(worker: Daemon) -> list[dict[str, Any]]:
    return [json.loads(line) for line in worker.said.splitlines()]


@pytest.mark.uv
def test_the_numbers_of_two_workers_are_those_of_what_they_did(serving: Serving) -> None:
    first, second = serving.first, serving.second
    assert serving.launch("one", "small", worker=first) == "ready"
    assert serving.launch("one", "small", worker=first) == "ready"
    assert serving.launch("two", "small", worker=first) == "ready"
    assert serving.launch("one", "small", worker=second) == "ready"
    assert serving.launch("off", "small", worker=first, enable_virtual_env=False) == "ready"
    assert serving.launch("bad", "no-such-package", worker=first) == "failed"

    def counted() -> bool:
        of_first = serving.scrape().by("code", "job_failures_total", worker=first.address)
        return of_first == {"resolution_failed": 1}

    # The last launch is counted when its log is written.
    eventually(counted)
    scrape = serving.scrape()
    jobs = "job_duration_seconds_count"
    here, there = {"worker": first.address}, {"worker": second.address}
    sources = scrape.by("source", jobs, outcome="ready", **here)
    assert sources == {"cold": 1, "relaunch": 1, "shared": 1, "host": 1}
    assert scrape.by("source", jobs, outcome="ready", **there) == {"warm": 1}
    assert scrape.value(jobs, outcome="failed", source="", **here) == 1
    assert scrape.value("job_phase_duration_seconds_count", phase="verifying", **here) == 1
    assert scrape.by("phase", "jobs", **here) == {}
    assert scrape.value("jobs", phase="resolving", **here) == 0

    assert scrape.by("state", "environments", **here) == {"ready": 1}
    assert scrape.value("environment_keys", **here) == 2
    assert scrape.value("environment_keys", **there) == 1
    [entry, *_] = serving.ask.get("/v1/virtualenvs", params={"worker_ip": first.address}).json()[
        "list"
    ]
    own = scrape.value("environment_bytes", **here)
    # The listing has the trees of packages as well.
    assert own is not None
    assert 0 < own < entry["size_bytes"]
    installed = scrape.by("how", "installed_bytes_total", **here)
    assert installed["linked"] > 0
    assert scrape.by("holder", "leases", **here) == {}
    assert (scrape.value("store_free_bytes", **here) or 0) > 0

    assert scrape.value("uv_duration_seconds_count", command="pip install", **here) == 1
    assert (scrape.value("uv_failures_total", command="pip compile", **here) or 0) >= 1
    assert scrape.by("resource", "waiting", **here) == {}
    assert (scrape.value("subprocess_slots", **here) or 0) >= 1
    assert scrape.value("subprocesses", **here) == 0

    assert scrape.by("worker", "worker_up") == {first.address: 1, second.address: 1}
    assert scrape.by("state", "worker_state", **here) == {"alive": 1}
    assert (scrape.value("heartbeats_total", **here) or 0) >= 1
    asked = scrape.by("method", "rpc_duration_seconds_count", **here)
    assert asked["prepare"] == 5
    names = {metric.name for metric in (*OF_WORKER.values(), *OF_SUPERVISOR.values())}
    bare = {name.removesuffix("_bucket").removesuffix("_count") for name, _ in scrape.values}
    assert {name.removesuffix("_sum").removesuffix("_created") for name in bare} <= names

    collected = serving.ask.post(
        "/v1/virtualenvs/gc", json={"max_bytes": 0, "worker_ip": first.address}
    ).json()["list"][0]
    second.end(signal.SIGKILL)
    after = serving.scrape()
    assert after.by("reason", "evictions_total", **here) == {"over limit": 1}
    freed = after.by("reason", "evicted_bytes_total", **here)
    assert freed == {"over limit": collected["evict"][0]["freed_bytes"]}
    assert after.by("state", "environments", **here) == {}
    assert after.by("worker", "worker_up") == {first.address: 1}
    assert after.value("worker_up", **there) == 0
    assert after.by("source", jobs, outcome="ready", **there) == {}
    assert after.by("source", jobs, outcome="ready", **here) == sources
    assert (
        after.value("rpc_failures_total", method="measure", code="worker_unavailable", **there) == 1
    )
    scraped_names = {name for name, _ in after.values}
    for query in expressions(dashboard()):
        assert names_in(query) <= scraped_names, query


@pytest.mark.uv
def test_the_log_of_a_worker_names_each_launch_and_shows_no_credential(serving: Serving) -> None:
    worker, index = serving.first, serving.index
    secret = {
        "packages": ["no-such-package"],
        "index_url": index.require_auth("reader", PASSWORD),
    }
    assert serving.launch("bad", worker=worker, virtualenv=secret) == "failed"
    assert serving.launch("off", worker=worker, enable_virtual_env=False) == "ready"
    eventually(lambda: len(records(worker)) >= 4, lambda: worker.said)

    assert PASSWORD not in worker.said
    event_stream: dict[str, list[dict[str, Any]]] = {"bad": [], "off": []}
    for record in records(worker):
        assert record["worker"] == worker.address
        event_stream[record["model"]].append(record)
    listed = serving.ask.get("/v1/jobs").json()["list"]
    for model, ends in (("bad", "failed"), ("off", "ready")):
        [job_id] = [each["job_id"] for each in listed if each["model_name"] == model]
        begun, end = event_stream[model]
        assert begun["job"] == end["job"] == job_id
        assert (begun["message"], end["outcome"]) == ("the launch begins", ends)
        assert 0 <= end["duration_seconds"] < 600
    assert event_stream["bad"][1]["level"] == "warning"
    assert event_stream["bad"][1]["code"] == "resolution_failed"
    assert "no-such-package" in event_stream["bad"][1]["message"]
    assert event_stream["off"][1]["source"] == "host"


def scraped() -> FakeSupervisor:
    """A supervisor that tells every metric there is."""
    parts = []
    for known in (OF_SUPERVISOR, OF_WORKER):
        part = MetricRegistry()
        for metric in known.values():
            labels = [f"a {name}" for name in metric.labels]
            if metric.kind is Kind.HISTOGRAM:
                part.observe(metric, *labels, value=metric.buckets[0])
            else:
                part.add(metric, *labels, by=2.0)
        parts.append(part.report().to_dict())
    own, of_worker = parts
    answer = {
        "supervisor": own,
        "list": [{**of_worker, "worker_address": each} for each in (ADDRESS, "10.0.0.9:1")],
        "unreachable": [],
    }
    return FakeSupervisor(measure=answer)


async def test_both_forms_say_the_same_and_have_every_metric_with_its_type_and_meaning() -> None:
    async with browser(app_of(scraped())) as ask:
        text = await ask.get("/metrics")
        asked = f"{OPEN_METRICS};version=1.0.0,text/plain;version=0.0.4;q=0.5"
        open_metrics = await ask.get("/metrics", headers={"Accept": asked})
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert open_metrics.headers["content-type"].startswith(OPEN_METRICS)
    families = {each.name: each for each in read_text(text.text)}
    other = read_open_metrics(open_metrics.text)  # type: ignore[no-untyped-call]
    assert families.keys() == {each.name for each in other}
    for known, of_each_worker in ((OF_SUPERVISOR, ()), (OF_WORKER, ("worker",))):
        for metric in known.values():
            family = families[metric.name.removesuffix("_total")]
            assert (family.type, family.documentation) == (metric.kind.value, metric.help)
            labels = {name for each in family.samples for name in each.labels} - {"le"}
            assert labels == {*of_each_worker, *metric.labels}
            if of_each_worker:
                workers = {each.labels["worker"] for each in family.samples}
                assert workers == {ADDRESS, "10.0.0.9:1"}


async def test_the_buckets_of_a_histogram_count_all_that_is_not_above_them() -> None:
    async with browser(app_of(scraped())) as ask:
        answer = await ask.get("/metrics")
    [family] = [
        each for each in read_text(answer.text) if each.name.endswith("_rpc_duration_seconds")
    ]
    buckets = [each for each in family.samples if each.name.endswith("_bucket")]
    assert [each.labels["le"] for each in buckets][-2:] == ["30.0", "+Inf"]
    assert {each.value for each in buckets} == {1.0}


async def test_what_a_worker_of_a_later_release_says_more_is_left_out() -> None:
    later = MetricRegistry()
    later.set(STARTED, value=1.0)
    data = through_json(later.report().to_dict())
    data["families"].append({**data["families"][0], "name": "xinference_venv_of_later"})
    own = MetricRegistry()
    own.set(UP, ADDRESS, value=1.0)
    told = {**data, "worker_address": ADDRESS}
    answer = {"supervisor": own.report().to_dict(), "list": [told], "unreachable": []}
    async with browser(app_of(FakeSupervisor(measure=answer))) as ask:
        text = (await ask.get("/metrics")).text
    assert {each.name for each in read_text(text)} == {UP.name, STARTED.name}
