"""Launches through a real server: prepared, followed, listed, explained, removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemons import eventually
from tests.rest.conftest import Server
from tests.rest.fakes import FakeSupervisor, app_of, browser, event
from xinference_venv.errors import WorkerUnavailable
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.reports import CollectionReport, JobReport
from xinference_venv.rest.schemas.of_records import model_of

pytestmark = pytest.mark.uv


def _events(text: str) -> list[dict[str, Any]]:
    """What a client of server-sent events understands."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if "data" in fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


def _follow(server: Server, job_id: str, **headers: str) -> Iterator[dict[str, Any]]:
    answer = server.ask.get(f"/v1/jobs/{job_id}/events", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    yield from _events(answer.text)


def test_a_launch_from_its_request_to_its_removal(server: Server) -> None:
    ask = server.ask
    body = server.launch("a-model", "small==1.0")

    planned = ask.post("/v1/virtualenvs/plan", json=body)
    assert planned.status_code == 200
    names = {each["name"] for each in planned.json()["lock"]["distributions"]}
    assert {"small", "smaller"} <= names
    assert ask.get("/v1/virtualenvs").json()["list"] == []

    accepted = ask.post("/v1/virtualenvs", json=body)
    assert accepted.status_code == 202
    job_id = accepted.json()["job_id"]
    assert accepted.headers["Location"] == f"/v1/jobs/{job_id}"
    *steps, end = _follow(server, job_id)
    assert [each["id"] for each in steps] == [str(number + 1) for number in range(len(steps))]
    assert steps[-1]["data"]["phase"] == "ready"
    assert (end["event"], end["data"]["phase"]) == ("end", "ready")
    resumed = list(_follow(server, job_id, **{"Last-Event-ID": "3"}))
    assert resumed == [*steps[3:], end]
    ended = ask.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "end"})
    assert ended.status_code == 204
    assert [each["job_id"] for each in ask.get("/v1/jobs").json()["list"]] == [job_id]
    model_of(JobReport).model_validate_json(ask.get(f"/v1/jobs/{job_id}").content, strict=True)

    # Nothing is left in use.
    eventually(lambda: ask.get("/v1/leases").json()["list"] == [])
    [entry] = ask.get("/v1/virtualenvs", params={"model_name": "a-model"}).json()["list"]
    assert entry["actor_ip_address"] == entry["worker_address"]
    [explained] = ask.get("/v1/virtualenvs/explain", params={"model_name": "a-model"}).json()[
        "list"
    ]
    tree = explained["tree"]
    [below] = [each for each in tree if each["name"] == "smaller"]
    assert tree[below["parent"]]["name"] == "small"
    [log] = ask.get("/v1/logs", params={"model_name": "a-model"}).json()["list"]
    assert "small==1.0" in log["text"]
    where = {"worker_address": log["worker_address"]}
    part = ask.get(f"/v1/logs/{log['log_id']}", params=where).json()
    assert (part["text"], part["ended"]) == (log["text"], True)
    [verified] = ask.post("/v1/virtualenvs/verify", json={"hashes": True}).json()["list"]
    assert verified["faults"] == []

    model = {"model_name": "a-model"}
    assert ask.delete("/v1/virtualenvs", params={**model, "dry_run": "true"}).json()["result"]
    assert len(ask.get("/v1/virtualenvs").json()["list"]) == 1
    assert ask.delete("/v1/virtualenvs", params=model).json()["result"] is True
    assert ask.delete("/v1/virtualenvs", params=model).status_code == 404
    collected = ask.post("/v1/virtualenvs/gc", json={})
    model_of(Gathered[CollectionReport]).model_validate_json(collected.content, strict=True)


def test_several_models_are_brought_ahead_of_need_and_one_that_is_none_stops_no_other(
    server: Server,
) -> None:
    one, other = (server.launch(name, "small==1.0") for name in ("a-model", "b-model"))
    body = {"models": [one, {"model_name": "absent"}, other]}
    accepted = server.ask.post("/v1/prefetch", json=body)
    assert accepted.status_code == 202
    first, absent, last = accepted.json()["list"]
    for each in (first, last):
        *_, end = _follow(server, each["job_id"])
        assert end["data"]["phase"] == "ready"
    followed = absent["job_id"] and server.ask.get(f"/v1/jobs/{absent['job_id']}").json()
    assert (absent["error"] or followed["error"])["code"] == "unknown_model"
    eventually(lambda: server.ask.get("/v1/leases").json()["list"] == [])
    assert server.ask.post("/v1/prefetch", json={"models": []}).status_code == 422


def test_what_has_no_solution_fails_with_uvs_own_words(server: Server) -> None:
    body = server.launch("a-model", "small==9")
    planned = server.ask.post("/v1/virtualenvs/plan", json=body)
    assert (planned.status_code, planned.json()["code"]) == (409, "resolution_failed")
    job_id = server.ask.post("/v1/virtualenvs", json=body).json()["job_id"]
    *_, end = _follow(server, job_id)
    assert end["data"]["error"]["code"] == "resolution_failed"
    assert "small" in end["data"]["error"]["message"]
    cancelled = server.ask.delete(f"/v1/jobs/{job_id}")
    assert (cancelled.status_code, cancelled.json()["phase"]) == (200, "failed")


async def test_an_environment_in_use_is_refused_with_its_holders() -> None:
    from tests import fakes

    entry = fakes.entry(None, fakes.lease()).to_dict()
    report = {"remove": [], "unlink": [], "refuse": [entry], "done": [], "dry_run": False}
    supervisor = FakeSupervisor()
    supervisor.answers["remove_virtual_env"] = supervisor.gathered(
        {**report, "worker_address": "10.0.0.1:4000"}
    )
    async with browser(app_of(supervisor)) as ask:
        answer = await ask.delete("/v1/virtualenvs", params={"model_name": "a-model"})
        tried = await ask.delete(
            "/v1/virtualenvs", params={"model_name": "a-model", "dry_run": "true"}
        )
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    held = {**fakes.lease().to_dict(), "holder": "alive"}
    assert answer.json()["details"]["holders"] == [held]
    assert (tried.status_code, tried.json()["result"]) == (200, False)


async def test_a_stream_that_loses_the_supervisor_says_so_and_where_to_go_on() -> None:
    class Restarting(FakeSupervisor):
        def _wait(self, job: str, since: int, timeout: float) -> Any:
            if timeout:
                return WorkerUnavailable("no answer")
            ended: dict[str, Any] = {"result": None, "error": None, "workers": []}
            return {"job_id": job, "phase": "queued", "events": [event(4, "queued")], **ended}

    async with browser(app_of(Restarting())) as ask:
        answer = await ask.get("/v1/jobs/abc/events")
    first, lost = _events(answer.text)
    assert (first["event"], first["id"]) == ("job", "4")
    assert first["data"]["message"] == "a line\nand another"
    assert (lost["event"], lost["id"]) == ("lost", "4")
    assert lost["data"]["code"] == "worker_unavailable"
