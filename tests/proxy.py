"""A small proxy for HTTP that remembers whom it was asked for, and may want credentials."""

from __future__ import annotations

import base64
import select
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_SECONDS = 60.0


@dataclass(kw_only=True)
class Proxy:
    """A running proxy: `asked` are the hosts or URLs that it was asked for."""

    port: int
    login: str
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The proxy's URL, with credentials if it wants any."""
        at = f"{self.login}@" if self.login else ""
        return f"http://{at}127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy

    def do_CONNECT(self) -> None:
        if not self._is_allowed():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), _SECONDS) as other:
            self.send_response_only(200)
            self.end_headers()
            ends = {self.connection: other, other: self.connection}
            while True:
                ready, _, _ = select.select(list(ends), [], [], _SECONDS)
                for end in ready:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    ends[end].sendall(data)
                if not ready:
                    return

    def do_GET(self) -> None:
        if not self._is_allowed():
            return
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.path, timeout=_SECONDS) as answer:
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.read())

    def _is_allowed(self) -> bool:
        self.proxy.asked.append(self.path)
        wanted = base64.b64encode(self.proxy.login.encode()).decode()
        if not self.proxy.login or self.headers["Proxy-Authorization"] == f"Basic {wanted}":
            return True
        self.send_response_only(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.end_headers()
        return False

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        pass


@contextmanager
def running_proxy(login: str = "") -> Iterator[Proxy]:
    """A proxy that wants this ``user:password``, or none."""

    class Handler(_Handler):
        proxy: Proxy

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.proxy = Proxy(port=server.server_port, login=login)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield Handler.proxy
        finally:
            server.shutdown()
            thread.join()
