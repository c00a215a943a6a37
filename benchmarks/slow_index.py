"""A server before an index, which counts what is asked for and lets each answer wait.

    python benchmarks/slow_index.py URL SECONDS

It is a process of its own, so that its work is not counted as that of who asks: an installer that
asks for more pages would seem to take more processor time than it does. It prints its URL, and ends
when its standard input does.
"""

from __future__ import annotations

import http.client
import http.server
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

_SENT_ON = ("Accept", "Accept-Encoding", "If-None-Match", "If-Modified-Since", "Range")
_SENT_BACK = ("Content-Type", "Content-Encoding", "Cache-Control", "ETag", "Last-Modified")
_COUNT = "/-/requests"


@dataclass(kw_only=True)
class SlowIndex:
    """The server, as who has started it sees it; `latency` is in seconds."""

    upstream: str
    latency: float
    url: str = ""

    @contextmanager
    def serving(self) -> Iterator[SlowIndex]:
        """Serve on a port of its own until the end."""
        command = [sys.executable, __file__, self.upstream, str(self.latency)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            self.url = process.stdout.readline().strip()
            try:
                yield self
            finally:
                process.stdin.close()

    @property
    def requests(self) -> int:
        """How many pages were asked for until now."""
        asking = http.client.HTTPConnection(urlsplit(self.url).netloc)
        try:
            asking.request("GET", _COUNT)
            return int(asking.getresponse().read())
        finally:
            asking.close()


def _handler(upstream: str, latency: float) -> type[http.server.BaseHTTPRequestHandler]:
    parts = urlsplit(upstream)
    trust = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    numbers = count(1)
    asked = [0]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            # One for each connection of uv, as if uv had it itself.
            self.upstream = http.client.HTTPSConnection(parts.netloc, context=trust)

        def finish(self) -> None:
            self.upstream.close()
            super().finish()

        def do_GET(self) -> None:
            if self.path == _COUNT:
                self._answer(200, {}, str(asked[0]).encode())
                return
            asked[0] = next(numbers)
            time.sleep(latency)
            names = {name: self.headers[name] for name in _SENT_ON if self.headers[name]}
            self.upstream.request("GET", f"{parts.path}{self.path}", headers=names)
            found = self.upstream.getresponse()
            sent = {name: found.headers[name] for name in _SENT_BACK if found.headers[name]}
            self._answer(found.status, sent, found.read())

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def main(arguments: Sequence[str]) -> None:
    """Serve until the standard input ends."""
    upstream, latency = arguments
    handler = _handler(upstream, float(latency))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
