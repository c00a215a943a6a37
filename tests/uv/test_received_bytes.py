"""The bytes that a process receives, as the kernel counts them."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from xinference_venv.uv.received_bytes import ReceivedBytes, received_in

SIZE = 300_000
_READ = """
import socket, sys
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
left = int(sys.argv[2])
while left:
    left -= len(peer.recv(min(left, 65536)))
print("read", flush=True)
sys.stdin.readline()
peer.close()
print("closed", flush=True)
sys.stdin.readline()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sock_diag(7) is Linux's")


def test_what_a_process_has_received_is_counted_and_stays_when_its_connection_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with subprocess.Popen(
            [sys.executable, "-c", _READ, str(port), str(SIZE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as reader:
            assert reader.stdin is not None and reader.stdout is not None
            counted = ReceivedBytes(pid=reader.pid)
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"x" * SIZE)
                assert reader.stdout.readline() == b"read\n"
                assert counted.now() == SIZE
                reader.stdin.write(b"\n")
                reader.stdin.flush()
                assert reader.stdout.readline() == b"closed\n"
            assert counted.now() == SIZE
            reader.stdin.write(b"\n")
        assert counted.now() == SIZE


def test_what_others_receive_is_theirs() -> None:
    with subprocess.Popen(["sleep", "60"]) as idle:
        assert ReceivedBytes(pid=idle.pid).now() == 0
        idle.kill()


def test_a_process_that_is_gone_has_received_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert ReceivedBytes(pid=ended.pid).now() == 0


@pytest.mark.parametrize("answer", [b"", b"\0" * 3, b"\0" * 64, b"\xff" * 400])
def test_an_answer_that_is_none_says_nothing(answer: bytes) -> None:
    assert list(received_in(answer)) == []
