"""Two machines of a network, as network namespaces: who has no key gets nothing from the other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemons import eventually
from tests.scenarios.attackers import SEND, frame_that_makes
from xinference_venv.settings import WIRE_KEY_VARIABLE


def _may_make_networks() -> bool:
    if os.getuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"try-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode != 0:
        return False
    subprocess.run(["ip", "netns", "del", name], check=True)
    return True


pytestmark = pytest.mark.skipif(
    not _may_make_networks(), reason="it takes root and network namespaces"
)

SERVER, ATTACKER = "10.213.77.1", "10.213.77.2"


@dataclass(frozen=True, kw_only=True)
class Networks:
    """A machine with servers, and another one on the same network."""

    server: str
    attacker: str
    environ: Mapping[str, str]

    @contextmanager
    def running(self, *words: str) -> Iterator[str]:
        """A command line on the first machine, until the end; gives the address that it says."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.server, sys.executable, "-m", "xinference_venv", *words],
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split(" at ")[1].strip()
        finally:
            process.terminate()
            process.communicate()

    def attack(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a Python program on the second machine."""
        command = ["ip", "netns", "exec", self.attacker, sys.executable, "-I", "-c", program]
        return subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def networks(environ: Mapping[str, str], tmp_path: Path) -> Iterator[Networks]:
    one, other = f"one-{os.getpid()}", f"other-{os.getpid()}"
    ends = (f"v1-{os.getpid()}", f"v2-{os.getpid()}")

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    for name in (one, other):
        ip("netns", "add", name)
    try:
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in ((one, ends[0], SERVER), (other, ends[1], ATTACKER)):
            ip("link", "set", end, "netns", name)
            for words in (
                ("addr", "add", f"{address}/24", "dev", end),
                ("link", "set", end, "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("-n", name, *words)
        yield Networks(
            server=one, attacker=other, environ={**environ, "XINFERENCE_HOME": str(tmp_path)}
        )
    finally:
        for name in (one, other):
            ip("netns", "del", name)


def _send(networks: Networks, address: str, proof: Path) -> str:
    host, _, port = address.rpartition(":")
    return networks.attack(SEND, host, port, frame_that_makes(proof).hex()).stdout.strip()


def test_over_a_network_who_has_no_key_runs_no_code(networks: Networks, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    with networks.running("supervisor", "--host", SERVER, "--port", "7001") as address:
        assert _send(networks, address, proof) == "b''"
    assert not proof.exists()
    with networks.running(
        "supervisor", "--host", SERVER, "--port", "7002", "--insecure"
    ) as address:
        # It has a key in its variables, and uses it.
        assert _send(networks, address, proof) == "b''"
    assert not proof.exists()


def test_over_a_network_an_insecure_supervisor_is_as_open_as_its_help_says(
    networks: Networks, tmp_path: Path
) -> None:
    """What shows that the attack works where nothing keeps it off."""
    proof = tmp_path / "proof"
    environ = {**networks.environ}
    del environ[WIRE_KEY_VARIABLE]
    open_to_all = Networks(server=networks.server, attacker=networks.attacker, environ=environ)
    words = ("supervisor", "--host", SERVER, "--port", "7003", "--insecure")
    with open_to_all.running(*words) as address:
        _send(open_to_all, address, proof)
        eventually(proof.exists)


_REACHES = """
import socket, sys
for port in sys.argv[2:]:
    with socket.socket() as trying:
        trying.settimeout(5)
        print(trying.connect_ex((sys.argv[1], int(port))) == 0)
"""


def test_what_listens_on_the_loopback_address_is_reached_from_no_other_machine(
    networks: Networks,
) -> None:
    with networks.running("web", "--port", "7004") as url:
        assert url == "http://127.0.0.1:7004"
        listening = subprocess.run(
            ["ip", "netns", "exec", networks.server, "ss", "-Hltn"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        ports = [line.split()[3].rpartition(":")[2] for line in listening.splitlines()]
        # That of the API, and the actors' own.
        assert len(ports) == 2
        assert networks.attack(_REACHES, SERVER, *ports).stdout.split() == ["False", "False"]
