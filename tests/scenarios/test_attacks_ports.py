"""Another user of the machine and the ports of ours: no code runs, no secret shows."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.daemons import Daemon, Daemons, daemons, eventually
from tests.index import Index
from tests.scenarios.attackers import (
    STRANGER,
    VICTIM,
    as_user,
    folder_of,
    frame_that_makes,
    listening,
    needs_root,
    run_as,
    send_as,
)
from xinference_venv.client import connect
from xinference_venv.settings import WIRE_KEY_VARIABLE


@pytest.fixture
def serving(tmp_path: Path, environ: dict[str, str]) -> Iterator[Daemons]:
    """Starts processes that have no key."""
    del environ[WIRE_KEY_VARIABLE]
    with daemons(tmp_path / "daemons", environ) as running:
        yield running


def _attack(daemon: Daemon, proof: Path) -> list[str]:
    """What each port of a process answers to a message that runs code."""
    pid = daemon.process.pid
    eventually(lambda: bool(listening(pid)), lambda: daemon.said)
    return [send_as(STRANGER, address, frame_that_makes(proof)) for address in listening(pid)]


@needs_root
def test_another_user_runs_no_code_through_the_ports_of_a_local_server(
    serving: Daemons, tmp_path: Path
) -> None:
    proof = tmp_path / "proof"
    web = serving.start("web", "--port", "0").ready()
    answers = _attack(web, proof)
    # That of the REST API, and the actors' own.
    assert len(answers) == 2
    assert not proof.exists()


@needs_root
@pytest.mark.uv
def test_another_user_runs_no_code_through_the_port_of_a_launch(
    serving: Daemons, tmp_path: Path, index: Index
) -> None:
    proof = tmp_path / "proof"
    spec = tmp_path / "glow.json"
    spec.write_text(
        '[{"model_name": "glow", "virtualenv": {"packages": ["lantern"],'
        f' "inherit_pip_config": false, "index_url": "{index.url}"}}}}]'
    )
    index.hang("/simple/lantern/")
    launch = serving.start("launch", "glow", "--spec", str(spec))
    index.wait_for_request("/simple/lantern/", timeout=60)
    assert _attack(launch, proof) == ["b''"]
    assert not proof.exists()


@needs_root
def test_a_supervisor_that_is_started_insecure_is_as_open_as_its_help_says(
    serving: Daemons, tmp_path: Path
) -> None:
    """What shows that the attack of the other tests works where nothing keeps it off."""
    proof = tmp_path / "proof"
    _attack(serving.start("supervisor", "--port", "0", "--insecure").ready(), proof)
    eventually(proof.exists)


@pytest.mark.parametrize(
    "words",
    [
        ("supervisor", "--port", "0"),
        ("supervisor", "--port", "0", "--host", "127.0.0.2"),
        ("worker", "--supervisor", "127.0.0.1:1"),
    ],
)
def test_supervisor_and_worker_do_not_start_without_a_key(
    serving: Daemons, words: tuple[str, ...]
) -> None:
    refused = serving.start(*words)
    assert refused.process.wait(60) == 2
    assert "without a key, whoever reaches 127.0.0." in refused.said
    assert "--insecure" in refused.said


_LOOKS = """
import os, sys
pid = sys.argv[1]
for name in ("environ", "maps", "mem", "fd"):
    try:
        path = f"/proc/{pid}/{name}"
        os.listdir(path) if name == "fd" else open(path, "rb").read(1)
        print(name, "opens")
    except (PermissionError, FileNotFoundError):
        # The second where the system shows no processes of others (hidepid of proc(5)).
        pass
"""


@needs_root
def test_processes_of_the_same_user_see_neither_the_variables_nor_the_memory_of_ours(
    environ: Mapping[str, str],
) -> None:
    with folder_of(VICTIM) as home:
        variables = {
            **{name: value for name, value in environ.items() if "PYENV" not in name},
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "UV_CACHE_DIR": str(home / "cache"),
            "XINFERENCE_HOME": str(home / "xinference"),
        }
        command = [sys.executable, "-m", "xinference_venv", "web", "--port", "0"]
        with subprocess.Popen(
            as_user(VICTIM, *command), env=variables, cwd="/", stdout=subprocess.PIPE, text=True
        ) as web:
            try:
                assert web.stdout is not None
                assert " at " in web.stdout.readline()
                looked = run_as(VICTIM, _LOOKS, str(web.pid))
                itself = run_as(VICTIM, _LOOKS, "self")
                assert web.poll() is None
            finally:
                web.terminate()
    assert (looked.returncode, looked.stdout) == (0, "")
    # What is looked for can be seen where nothing keeps it off.
    assert "environ opens" in itself.stdout


def test_no_secret_stays_in_the_variables_that_the_system_shows(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    secrets = {
        WIRE_KEY_VARIABLE: "key-of-the-cluster",
        "PIP_INDEX_URL": "http://user:password-of-an-index@127.0.0.1:1/simple",
        "NOT_SECRET": "shown",
    }
    with daemons(tmp_path / "daemons", {**environ, **secrets}) as running:
        supervisor = running.supervisor()
        shown = Path(f"/proc/{supervisor.process.pid}/environ").read_bytes()
        # It has the key still: who has it is answered.
        asked = subprocess.run(
            [sys.executable, "-m", "xinference_venv", "workers", "--json"],
            env={**environ, **secrets, "XINFERENCE_VENV_SUPERVISOR": supervisor.address},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert b"NOT_SECRET=shown" in shown.split(b"\0")
    assert f"{WIRE_KEY_VARIABLE}=".encode() in shown.split(b"\0")
    assert b"key-of-the-cluster" not in shown
    assert b"password-of-an-index" not in shown
    assert asked.returncode == 0, asked.stderr
    assert os.environ[WIRE_KEY_VARIABLE] not in shown.decode()


# The start of a frame of who says to have the key: xoscar reads what it announces, and then checks.
_HALF_A_FRAME = struct.pack("<BQH", 2, 60_000, 0) + b"x" * 30_000


async def test_connections_without_the_key_hold_up_no_one_who_has_it(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    """As far as xoscar allows: it has neither bounds nor deadlines for connections."""
    with daemons(tmp_path / "daemons", environ) as running, ExitStack() as held:
        supervisor = running.supervisor()
        host, _, port = supervisor.address.rpartition(":")
        async with connect(supervisor.address) as client:
            assert await client.supervisor.list_workers() == ()
            process = psutil.Process(supervisor.process.pid)
            before = process.memory_info().rss
            for number in range(1300):
                made = held.enter_context(socket.create_connection((host, int(port)), timeout=10))
                if number % 6 == 0:
                    made.sendall(_HALF_A_FRAME)
            # They are held for as long as the test: who waited for one would wait for ever.
            for _ in range(5):
                assert await client.supervisor.list_workers() == ()
            grown = process.memory_info().rss - before
            assert grown < 50 << 20, f"{grown >> 20} MiB"
        assert len(supervisor.said.splitlines()) <= 3, supervisor.said
