"""`web`: who may start it where, and that it ends cleanly."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

from tests.daemons import daemons
from xinference_venv.cli import main
from xinference_venv.errors import InvalidInput
from xinference_venv.rest.server import check_exposure, is_loopback
from xinference_venv.rest.tokens import Tokens

LINE = f"sha256:{'0' * 64} virtualenv:list\n"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_without_tokens_only_the_loopback_address_will_do(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    check_exposure(host, Tokens.parse(LINE))
    if loopback:
        check_exposure(host, None)
    else:
        with pytest.raises(InvalidInput, match="without tokens"):
            check_exposure(host, None)


def test_what_it_lacks_is_named_so_that_an_index_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("xinference_venv.cli.web_server.find_spec", lambda _: None)
    assert main(["web"]) == 2
    hint = capsys.readouterr().err
    program, _, requirements = hint.rpartition(" -m pip install ")
    assert program.endswith(sys.executable)
    named = {Requirement(each).name for each in shlex.split(requirements)}
    assert named == {"fastapi", "uvicorn", "pydantic", "prometheus-client"}


def test_it_refuses_to_start_where_strangers_could_do_anything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["web", "--host", "0.0.0.0"]) == 2
    assert "--token-file" in capsys.readouterr().err


def test_a_token_file_that_others_may_write_to_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tokens"
    file.write_text(LINE)
    file.chmod(0o666)
    assert main(["web", "--token-file", str(file)]) == 2
    assert "others may write" in capsys.readouterr().err


def test_a_token_file_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["web", "--token-file", str(tmp_path / "none")]) == 2
    assert "can't be read: No such file" in capsys.readouterr().err


def test_it_serves_a_cluster_and_says_when_that_is_gone(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    with daemons(tmp_path / "d", environ) as running:
        supervisor = running.supervisor()
        web = running.start("web", "--port", "0", "--supervisor", supervisor.address).ready()
        with httpx.Client(base_url=web.address, timeout=30.0) as ask:
            assert ask.get("/health").json() == {"status": "alive"}
            alone = ask.get("/ready")
            assert (alone.status_code, alone.json()["message"]) == (503, "there is no worker")
            worker = running.worker(supervisor)
            assert ask.get("/ready").json() == {"status": "ready", "workers": 1, "alive": 1}
            [known] = ask.get("/v1/workers").json()["list"]
            assert known["worker_address"] == worker.address
            supervisor.end()
            gone = ask.get("/ready")
            assert (gone.status_code, gone.json()["code"]) == (503, "worker_unavailable")
            assert ask.get("/health").status_code == 200
        assert web.end() == 0
        assert "Traceback" not in web.said


def test_a_supervisor_serves_its_cluster_itself(tmp_path: Path, environ: Mapping[str, str]) -> None:
    with daemons(tmp_path / "d", environ) as running:
        supervisor = running.start("supervisor", "--port", "0", "--web-port", "0").ready()
        assert supervisor.process.stdout is not None
        what, _, address = supervisor.process.stdout.readline().strip().partition(" at ")
        assert what == "web"
        worker = running.worker(supervisor)
        with httpx.Client(base_url=address, timeout=30.0) as ask:
            assert ask.get("/ready").json() == {"status": "ready", "workers": 1, "alive": 1}
            [known] = ask.get("/v1/workers").json()["list"]
            assert known["worker_address"] == worker.address
            refused = ask.delete("/v1/virtualenvs", params={"model_name": "absent"})
            assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
            assert "text/html" in ask.get("/").headers["content-type"]
        assert supervisor.end() == 0
        assert "Traceback" not in supervisor.said


def test_a_supervisor_does_not_serve_where_strangers_could_do_anything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["supervisor", "--web-port", "0", "--web-host", "0.0.0.0"]) == 2
    assert "--token-file" in capsys.readouterr().err
