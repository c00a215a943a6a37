"""What Xinference's own page (4.1, cache management and launch dialogue) asks of these routes.

The paths, parameters and fields below are those of its scripts: ``URLSearchParams`` turns an
engine that is null into the text ``null``, and ``worker_ip`` is what ``actor_ip_address`` said.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.daemons import eventually
from tests.rest.conftest import Server

pytestmark = pytest.mark.uv


def _launch(server: Server, body: dict[str, Any]) -> None:
    job_id = server.ask.post("/v1/virtualenvs", json=body).json()["job_id"]
    assert '"phase": "ready"' in server.ask.get(f"/v1/jobs/{job_id}/events").text
    eventually(lambda: server.ask.get("/v1/leases").json()["list"] == [])


def _search_params(item: dict[str, Any]) -> dict[str, str]:
    """The page's ``new URLSearchParams({...})`` of an environment that it shows."""
    event_stream = {
        "model_name": item["model_name"],
        "model_engine": item["model_engine"],
        "python_version": item["python_version"],
        "worker_ip": item["actor_ip_address"],
    }
    return {name: "null" if value is None else value for name, value in event_stream.items()}


def _listed(server: Server, **params: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.ask.get("/v1/virtualenvs", params=params).json()["list"]
    return found


def test_xinferences_page_lists_looks_into_and_deletes_environments(server: Server) -> None:
    _launch(server, server.launch("a-model", "small==1.0"))
    _launch(server, {**server.launch("a-model", "smaller==2.0"), "model_engine": "vllm"})
    items = _listed(server, model_name="a-model")
    assert [each["model_engine"] for each in items] == [None, "vllm"]
    for item in items:
        assert isinstance(item["size_bytes"], int)
        assert item["path"] != item["real_path"]

    shown = {}
    for item in items:
        answer = server.ask.get("/v1/virtualenvs/packages", params=_search_params(item)).json()
        assert answer["worker_ip"] == item["actor_ip_address"]
        assert (answer["model_name"], answer["model_engine"]) == ("a-model", item["model_engine"])
        for package in answer["packages"]:
            assert package.keys() == {"name", "version", "size_bytes"}
            assert package["size_bytes"] > 0
        shown[item["model_engine"]] = {each["name"] for each in answer["packages"]}
    assert shown[None] >= {"small", "smaller"}
    assert "smaller" in shown["vllm"]
    assert "small" not in shown["vllm"]

    # Without an engine is not with any.
    deleted = server.ask.delete("/v1/virtualenvs", params=_search_params(items[0]))
    assert (deleted.status_code, deleted.json()["result"]) == (200, True)
    # What it alone has is more now.
    assert [each["path"] for each in _listed(server)] == [items[1]["path"]]
    deleted = server.ask.delete("/v1/virtualenvs", params=_search_params(items[1]))
    assert deleted.json()["result"] is True
    assert _listed(server, model_name="a-model") == []
