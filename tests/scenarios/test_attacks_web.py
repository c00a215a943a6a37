"""Clients of the web port that mean harm: the API goes on to answer the others."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.daemons import Daemon, daemons
from tests.rest.conftest import Server, server

__all__ = ["server"]
"""The fixture of the tests of the API."""

BODY = b"POST /v1/virtualenvs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n"


@pytest.fixture
def web(tmp_path: Path, environ: Mapping[str, str]) -> Iterator[Daemon]:
    """A server for anybody on this machine, as a developer starts it."""
    with daemons(tmp_path / "d", environ) as running:
        yield running.start("web", "--port", "0").ready()


def _connect(address: str) -> socket.socket:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


@contextmanager
def _trickle(sockets: list[socket.socket]) -> Iterator[None]:
    """Send a byte a second on every connection, meanwhile."""
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(1.0):
            for each in sockets:
                try:
                    each.send(b"x")
                except OSError:
                    continue

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield
    finally:
        stop.set()
        sending.join()


def _answers(web: Daemon, times: int) -> None:
    """It answers before the deadline at which the first of those that hold it is cut."""
    for _ in range(times):
        assert httpx.get(f"{web.address}/health", timeout=5).status_code == 200


def test_idle_connections_half_sent_bodies_and_slow_senders_hold_no_one_up(web: Daemon) -> None:
    _answers(web, 2)
    process = psutil.Process(web.process.pid)
    before = process.memory_info().rss
    sockets: list[socket.socket] = []
    try:
        for _ in range(1100):
            sockets.append(_connect(web.address))
        half = [_connect(web.address) for _ in range(200)]
        sockets += half
        for each in half:
            each.settimeout(0.05)
            try:
                each.sendall(BODY + b"x" * 500_000)
            except OSError:
                continue
        slow = [_connect(web.address) for _ in range(50)]
        sockets += slow
        for each in slow:
            each.sendall(b"G")
        with _trickle(slow):
            for _ in range(5):
                _answers(web, 2)
                time.sleep(0.5)
        grown = process.memory_info().rss - before
        assert grown < 50 << 20, f"{grown >> 20} MiB"
        assert process.num_fds() < 700
    finally:
        for each in sockets:
            each.close()
    assert len(web.said.splitlines()) <= 3, web.said
    _answers(web, 2)


def test_who_sends_no_request_in_time_is_cut(web: Daemon) -> None:
    began = time.monotonic()
    silent, slow = _connect(web.address), _connect(web.address)
    with silent, slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        with _trickle([slow]), selectors.DefaultSelector() as ended:
            for each in (silent, slow):
                ended.register(each, selectors.EVENT_READ)
                while ended.select(timeout=30) == []:
                    pytest.fail("it is held open")
                with suppress(ConnectionResetError):
                    assert each.recv(1) == b""
                ended.unregister(each)
    assert time.monotonic() - began > 5


def test_a_flood_of_what_is_no_request_is_a_line_in_the_log(web: Daemon) -> None:
    for _ in range(50):
        with _connect(web.address) as sending:
            sending.sendall(b"\x00\x01\x02\r\n\r\n")
            sending.recv(100)
    assert web.said.count("Invalid HTTP request") <= 1


@pytest.mark.parametrize("given", ["", "Authorization: Bearer wrong\r\n"])
def test_a_body_is_not_awaited_before_the_token_is_known(server: Server, given: str) -> None:
    head = f"POST /v1/virtualenvs HTTP/1.1\r\nHost: localhost\r\n{given}"
    with _connect(server.url) as asked:
        # Less of the body is sent than is announced: who waits for all of it does not answer.
        asked.sendall(f"{head}Content-Length: 5000000\r\n\r\nx".encode())
        answer = b"".join(iter(lambda: asked.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 401 ")
    assert "\r\nconnection: close\r\n" in answer.lower()


def test_answers_are_neither_kept_nor_guessed_at_by_browsers(server: Server) -> None:
    for path in ("/v1/virtualenvs", "/v1/unknown", "/health"):
        headers = server.ask.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.skipif(os.getuid() != 0, reason="it takes root to give a file to another user")
def test_a_token_file_of_another_user_is_refused(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("sha256:" + "0" * 64 + " virtualenv:list\n")
    os.chown(tokens, 65534, 65534)
    tokens.chmod(0o600)
    with daemons(tmp_path / "d", environ) as running:
        refused = running.start("web", "--port", "0", "--token-file", str(tokens))
        assert refused.process.wait(60) == 2
        assert "belongs to user 65534" in refused.said
