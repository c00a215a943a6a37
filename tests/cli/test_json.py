"""What every command prints with ``--json``, for real, is what its schema says."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import jsonschema_rs
import pytest

from tests.cli.conftest import ACTORS, Run, Start, document_of, specify
from tests.daemons import PATIENCE_SECONDS, STARTED_NOW, Daemons, daemons
from tests.index import Index
from tests.wheels import build_wheel
from xinference_venv.cli.main import commands
from xinference_venv.cli.schemas import DOCUMENTS, schema_of

DOCS = Path(__file__).parents[2] / "docs"
# It prints a script and nothing else.
_WITHOUT = {"completion", "exec", "lock"}


def check(name: str, document: Any, *, failed: bool = False) -> Any:
    """The document, which its schema describes; one that failed is nothing but an error."""
    jsonschema_rs.validator_for(schema_of(name)).validate(document)
    assert (document.keys() == {"error"}) is failed
    return document


@pytest.fixture
def spec(index: Index, tmp_path: Path) -> Path:
    build_wheel(tmp_path / "wheels", "toy-model", "1.0", requires=["toy-dependency"])
    build_wheel(tmp_path / "wheels", "toy-dependency", "2.0")
    return specify(tmp_path / "toy.json", index, "toy", "toy-model")


@pytest.fixture
def serving(tmp_path: Path, environ: Mapping[str, str], index: Index) -> Iterator[Daemons]:
    variables = {**environ, "PIP_INDEX_URL": index.url}
    with daemons(tmp_path / "daemons", variables) as running:
        yield running


def test_every_command_has_the_option_and_a_schema() -> None:
    context = click.Context(commands)
    every = {name: commands.get_command(context, name) for name in commands.list_commands(context)}
    with_option = {
        name
        for name, command in every.items()
        if command is not None and any("--json" in each.opts for each in command.params)
    }
    assert with_option == every.keys() - _WITHOUT
    assert {name.partition("-")[0] for name in DOCUMENTS} == with_option


def test_the_schemas_of_the_documentation_are_those_of_the_code() -> None:
    written = {each.stem: each.read_text() for each in (DOCS / "schemas").glob("*.json")}
    made = {name: json.dumps(schema_of(name), indent=2) + "\n" for name in DOCUMENTS}
    assert written == made, "write them anew: python scripts/schemas.py docs/schemas"


def test_the_documentation_leads_to_every_schema() -> None:
    text = (DOCS / "json.md").read_text()
    assert set(re.findall(r"\(schemas/([a-z-]+)\.json\)", text)) == set(DOCUMENTS)


@pytest.mark.uv
def test_what_commands_print_on_one_host_is_what_their_schemas_say(
    run: Run, spec: Path, monkeypatch: pytest.MonkeyPatch, index: Index, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.url)

    def of(name: str, *words: str | Path, schema: str | None = None) -> Any:
        ran = run(name, *words, "--json")
        assert (ran.code, ran.err) == (0, "")
        return check(schema or name, ran.json)

    assert of("launch", "toy", "--spec", spec, "--dry-run", schema="launch-dry-run")["tree"]
    of("launch", "toy", "--spec", spec)
    of("launch", "toy", "--spec", spec, "--engine", "other", "--any-engine")
    of("launch", "toy", "--spec", spec, "--disable-virtual-env")
    [ahead] = of("prefetch", "toy", "--spec", spec)["models"]
    assert [each["state"] for each in ahead["workers"]] == ["ready"]
    bundle = tmp_path / "toy.tar"
    assert of("export", "toy", bundle, "--engine", "")["size_bytes"] == bundle.stat().st_size
    [imported] = of("import", bundle)["workers"]
    assert imported["state"] == "ready"
    assert len(of("list")["list"]) == 2
    of("packages", "toy")
    assert of("show", "toy")["list"][0]["view"]["trees"]
    explained = of("explain", "toy", "--engine", "other")["list"][0]
    above = {each["name"]: each["parent"] for each in explained["tree"]}
    assert explained["tree"][above["toy-dependency"]]["name"] == "toy-model"
    assert of("diff", "toy/-", "toy/other")["changes"] == []
    of("models")
    of("logs", "toy")
    job = of("jobs")["list"][0]
    assert of("cancel", job["job_id"])["list"][0]["state"] == "ready"
    of("leases")
    of("verify")
    of("gc")
    of("doctor")
    of("remove", "toy", "--dry-run")
    assert len(of("remove", "toy")["list"][0]["done"]) == 2


FAILING = [
    ("launch", "launch", ["absent"], 3),
    ("launch-dry-run", "launch", ["absent", "--dry-run"], 3),
    ("prefetch", "prefetch", ["toy", "--require", "1"], 2),
    ("export", "export", ["absent", "/absent/file"], 3),
    ("import", "import", ["/absent/file"], 2),
    ("list", "list", ["--python-version", "three"], 2),
    ("packages", "packages", ["absent"], 3),
    ("show", "show", ["absent"], 3),
    ("explain", "explain", ["absent"], 3),
    ("diff", "diff", ["absent", "absent"], 3),
    ("remove", "remove", ["absent"], 3),
    ("models", "models", ["--worker", "127.0.0.2"], 2),
    ("watch", "watch", ["--interval", "0"], 2),
    ("jobs", "jobs", ["--worker", "127.0.0.2"], 2),
    ("cancel", "cancel", ["absent-job"], 3),
    ("logs", "logs", ["absent"], 3),
    ("leases", "leases", ["absent"], 3),
    ("release", "release", ["absent-lease"], 3),
    ("doctor", "doctor", ["--worker", "127.0.0.2"], 2),
    ("verify", "verify", ["absent"], 3),
    ("gc", "gc", ["--max-bytes", "lots"], 2),
    ("supervisor", "supervisor", ["--host", "0.0.0.0"], 2),
    ("worker", "worker", ["--supervisor", "nowhere"], 2),
    ("workers", "workers", [], 2),
    ("web", "web", ["--token-file", "/absent"], 2),
    ("launch-supervisor", "launch", ["toy", "--supervisor", "127.0.0.1:1"], 8),
]


def test_each_document_fails_here_in_a_way() -> None:
    assert {name for name, *_ in FAILING} == set(DOCUMENTS)


@pytest.mark.uv
@pytest.mark.parametrize(("name", "command", "words", "code"), FAILING)
def test_a_command_that_fails_prints_the_error_and_nothing_else(
    run: Run, name: str, command: str, words: list[str], code: int
) -> None:
    ran = run(command, *words, "--json")
    assert (ran.code, ran.err) == (code, "")
    check(name, ran.json, failed=True)


@pytest.mark.uv
def test_what_commands_print_over_a_cluster_is_what_their_schemas_say(
    run: Run, serving: Daemons, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = serving.supervisor()
    monkeypatch.setenv("XINFERENCE_VENV_SUPERVISOR", supervisor.address)
    stays, dies = (serving.worker(supervisor, f"127.0.0.{each}") for each in (2, 3))
    while STARTED_NOW in run("list").err:
        """Until then nobody can say that all have answered."""
    launch = ("launch", "toy", "--spec", spec, "--all-workers", "--json")
    launched = check("launch-supervisor", run(*launch).json)
    assert [each["state"] for each in launched["workers"]] == ["ready", "ready"]
    check("workers", run("workers", "--json").json)
    check("models", run("models", "--json").json)
    one, other = (f"toy///{each.address}" for each in (stays, dies))
    assert check("diff", run("diff", one, other, "--json").json)["changes"] == []
    dies.process.kill()
    dies.process.wait()
    for name, words in {
        **dict.fromkeys(("list", "leases", "doctor", "verify"), ()),
        **dict.fromkeys(("packages", "explain", "logs"), ("toy",)),
        "gc": ("--dry-run",),
        "remove": ("toy", "--dry-run"),
    }.items():
        document = check(name, run(name, *words, "--json").json)
        assert [each["worker_address"] for each in document["unreachable"]] == [dies.address]
    watched = subprocess.Popen(
        [sys.executable, "-m", "xinference_venv", "watch", "--json"],
        env={**serving.environ, "XINFERENCE_VENV_SUPERVISOR": supervisor.address},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watched.stdout is not None
    try:
        seen = [check("watch", json.loads(watched.stdout.readline())) for _ in range(4)]
        assert {each["kind"] for each in seen} >= {"supervisor", "worker", "environment"}
    finally:
        watched.send_signal(signal.SIGINT)
        watched.communicate()


@pytest.mark.uv
def test_a_lease_that_is_held_is_described_refused_and_released(
    run: Run, start: Start, index: Index, tmp_path: Path
) -> None:
    build_wheel(
        tmp_path / "wheels",
        "toy-model",
        "1.0",
        modules={"toy_model/__init__.py": "", "toy_model/actors.py": ACTORS},
    )
    spec = specify(tmp_path / "toy.json", index, "toy", "toy-model", "xoscar")
    words = ("--spec", spec, "--run", "toy_model.actors:Toy", "--json", f"mark={tmp_path}/mark")
    launch = start("launch", "toy", *words)
    launched = check("launch", document_of(launch))
    assert launched["process"]["uid"] == "toy"
    [lease] = check("leases", run("leases", "--json").json)["list"]
    refused = run("release", lease["lease_id"], "--json")
    assert (refused.code, refused.json["error"]["code"]) == (4, "in_use")
    check("release", refused.json, failed=True)
    removal = run("remove", "toy", "--json")
    assert removal.code == 4
    assert check("remove", removal.json)["error"]["details"]["holders"]
    released = run("release", lease["lease_id"], "--force", "--json")
    [report] = check("release", released.json)["list"]
    assert [each["lease_id"] for each in report["released"]] == [lease["lease_id"]]
    launch.send_signal(signal.SIGTERM)
    assert launch.wait(PATIENCE_SECONDS) == 0


@pytest.mark.uv
def test_processes_that_stay_say_where_they_are(serving: Daemons) -> None:
    supervisor = serving.start("supervisor", "--port", "0", "--json")
    said = check("supervisor", document_of(supervisor.process))
    worker = serving.start("worker", "--supervisor", said["address"], "--json")
    assert check("worker", document_of(worker.process))["address"].startswith("127.0.0.1:")
    web = serving.start("web", "--supervisor", said["address"], "--port", "0", "--json")
    assert check("web", document_of(web.process))["address"].startswith("http://127.0.0.1:")
    assert [each.end() for each in (web, worker, supervisor)] == [0, 0, 0]
