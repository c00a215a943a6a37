"""A small HTTP server whose clock is late, over TLS if need be, with a certificate of its own."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

HOURS = 3 * 3600


def self_signed(folder: Path) -> ssl.SSLContext:
    """What it takes to serve as 127.0.0.1 with a certificate that nobody else signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("makes a certificate with openssl")
    path = folder / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-keyout", "-", "-out", "-"]
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def signed_by_an_authority(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """What it takes to serve as 127.0.0.1, and the certificate of the authority that signed it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("makes certificates with openssl")
    authority, key, leaf = (str(folder / name) for name in ("ca.pem", "ca.key", "leaf.pem"))
    made = [*_new(openssl), "-subj", "/CN=a company", "-keyout", key, "-out", authority]
    subprocess.run(made, check=True, capture_output=True)
    _sign(openssl, folder, Path(leaf), "/CN=127.0.0.1", "subjectAltName=IP:127.0.0.1", "serverAuth")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)
    return context, Path(authority)


def client_certificate(folder: Path) -> Path:
    """Key and certificate of a client, signed by the authority that was made in this folder."""
    openssl = shutil.which("openssl")
    assert openssl is not None
    path = folder / "client.pem"
    _sign(openssl, folder, path, "/CN=ada", "subjectAltName=DNS:ada.example", "clientAuth")
    return path


def _new(openssl: str) -> list[str]:
    return [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]


def _sign(openssl: str, folder: Path, path: Path, subject: str, name: str, usage: str) -> None:
    authority, key = str(folder / "ca.pem"), str(folder / "ca.key")
    command = [*_new(openssl), "-CA", authority, "-CAkey", key, "-addext", name]
    command += ["-addext", "basicConstraints=critical,CA:FALSE"]
    command += ["-addext", f"extendedKeyUsage={usage}"]
    command += ["-subj", subject, "-keyout", "-", "-out", "-"]
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)


class Late(BaseHTTPRequestHandler):
    """Answers with a date of some hours ago."""

    def do_GET(self) -> None:
        self.send_response_only(200)
        self.send_header("Date", formatdate(time.time() - HOURS, usegmt=True))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nobody reads it."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Late) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
