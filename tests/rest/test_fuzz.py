"""Hostile names, packages and places through a real server: refused, and nothing is harmed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.daemons import eventually
from tests.rest.conftest import TOKEN, Server

pytestmark = pytest.mark.uv

_HOSTILE = (
    *("..", ".", "../canary", "../../canary", "a/../../canary", "/etc", "a\0b", "-h", "--help"),
    *("$(touch canary)", "`touch canary`", ";touch canary", "~", "\\..\\canary", "a\nb", "\u202e"),
    *("file:///etc/passwd", "-r /etc/passwd", "--index-url=http://127.0.0.1:1", "store", "v4"),
    *("a @ file:///etc/passwd", "a @ git+ext::sh -c 'touch canary'", "e" * 300, "\ud7ff", ""),
)
_TEXTS = st.one_of(st.sampled_from(_HOSTILE), st.text(max_size=20))


def _tree(folder: Path) -> dict[str, bytes | str]:
    """All that lies below a folder but what a server makes of its own, with the contents."""
    return {
        str(path): path.read_bytes() if path.is_file() else "folder"
        for path in folder.rglob("*")
        if "virtualenv" not in path.parts and "d" not in path.relative_to(folder).parts[:1]
    }


def _managed(server: Server) -> set[str]:
    home = server.home / "virtualenv"
    return {
        str(path.relative_to(home)) for layer in ("v3", "v4") for path in (home / layer).rglob("*")
    }


def test_hostile_names_and_packages_leave_the_store_as_it_was(
    server: Server, tmp_path: Path
) -> None:
    ask = server.ask
    job = ask.post("/v1/virtualenvs", json=server.launch("unharmed", "small")).json()["job_id"]
    eventually(lambda: ask.get(f"/v1/jobs/{job}").json()["phase"] == "ready")
    (tmp_path / "canary").write_text("sings")
    (server.home / "canary").mkdir()
    before, managed = _tree(tmp_path), _managed(server)

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(name=_TEXTS, engine=_TEXTS, package=_TEXTS, version=_TEXTS)
    def attack(name: str, engine: str, package: str, version: str) -> None:
        params = {"model_name": name, "model_engine": engine}
        answers = [
            ask.get("/v1/virtualenvs", params={**params, "python_version": version}),
            ask.get("/v1/virtualenvs/explain", params=params),
            ask.get("/v1/logs", params=params),
            ask.request("GET", f"/v1/logs/{_quoted(name)}", params={"worker_address": engine}),
            ask.get(f"/v1/jobs/{_quoted(name)}"),
            ask.delete(f"/v1/leases/{_quoted(name)}", params={"force": "true"}),
        ]
        if name != "unharmed":
            answers.append(ask.delete("/v1/virtualenvs", params={**params, "force": "true"}))
        block: dict[str, Any] = {"packages": [package], "find_links": [name], "index_url": engine}
        for body in (
            {"model_name": name, "model_engine": engine, "virtualenv": {"packages": ["small"]}},
            {"model_name": "m", "python_version": version, "virtualenv": {"packages": ["small"]}},
            {"model_name": "m", "virtualenv": block},
            {"model_name": "m", "virtual_env_packages": [package], "must_import": [name]},
            {"model_name": "m", "virtual_env_find_links": [name], "import_check": [package]},
        ):
            answers.append(ask.post("/v1/virtualenvs/plan", json=body))
        for answer in answers:
            assert answer.status_code in (200, 404, 405, 409, 422, 500), answer.text
            if answer.status_code == 500:
                assert answer.json()["code"] in ("uv_failed", "build_failed"), answer.text

    attack()
    assert _tree(tmp_path) == before
    assert _managed(server) == managed
    [entry] = ask.post("/v1/virtualenvs/verify", json={"hashes": True}).json()["list"]
    assert (entry["model_name"], entry["faults"]) == ("unharmed", [])


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


_CONFIGURATION = """\
# Whether requirements, folders and numbers of workers can be meant no schema can say.
[[operations]]
include-path = ["/v1/virtualenvs", "/v1/virtualenvs/plan", "/v1/requirements"]
include-method = "POST"
checks.positive_data_acceptance.enabled = false
"""


def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(_CONFIGURATION)
    options = ["--max-examples", "5", "--seed", "1", "--phases", "fuzzing,stateful"]
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration)),
            *("run", f"{server.url}/openapi.json", *options),
            *("--header", f"Authorization: Bearer {TOKEN}", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
