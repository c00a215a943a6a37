"""A server before an index, which counts the pages asked for and lets each answer wait.

    python benchmarks/slow_index.py URL SECONDS [as-pypi]

With ``as-pypi`` its pages and files hold as long as PyPI says of its own, whatever the index says:
an installer asks again for all of which it is told nothing, so most mirrors are asked more often
than PyPI. It is a process of its own, so that its work is not counted as that of who asks: an
installer that asks for more pages would seem to take more processor time than it does. It prints
its URL, and ends when its standard input does.
"""

from __future__ import annotations

import http.client
import http.server
import os
import shutil
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

_SENT_ON = ("Accept", "If-None-Match", "If-Modified-Since", "Range")
_OF_FILES = ("Content-Length", "Content-Range", "Accept-Ranges")
_SENT_BACK = ("Content-Type", "Cache-Control", "ETag", "Last-Modified", *_OF_FILES)
_COUNT = "/-/requests"
_FILES = "/-/files/"
# Where PyPI's pages say that its files are.
_HOST_OF_FILES = "files.pythonhosted.org"
_PAGES_HOLD = "max-age=600, public"
_FILES_HOLD = "max-age=365000000, immutable, public"


@dataclass(kw_only=True)
class SlowIndex:
    """The server, as who has started it sees it; `latency` is in seconds."""

    upstream: str
    latency: float
    as_pypi: bool = False
    url: str = ""

    @contextmanager
    def serving(self) -> Iterator[SlowIndex]:
        """Serve on a port of its own until the end."""
        command = [sys.executable, __file__, self.upstream, str(self.latency)]
        command += ["as-pypi"] if self.as_pypi else []
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


def _handler(
    upstream: str, latency: float, *, as_pypi: bool
) -> type[http.server.BaseHTTPRequestHandler]:
    parts = urlsplit(upstream)
    trust = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    numbers = count(1)
    asked = [0]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            # One of each for each connection of uv, as if uv had it itself.
            self.upstream = http.client.HTTPSConnection(parts.netloc, context=trust)
            self.files = http.client.HTTPSConnection(_HOST_OF_FILES, context=trust)

        def finish(self) -> None:
            self.upstream.close()
            self.files.close()
            super().finish()

        def do_GET(self) -> None:
            if self.path == _COUNT:
                self._answer_with(str(asked[0]).encode())
                return
            time.sleep(latency)
            if self.path.startswith(_FILES):
                with self._asked(self.files, f"/{self.path.removeprefix(_FILES)}") as found:
                    self._start(found, _FILES_HOLD)
                    shutil.copyfileobj(found, self.wfile)
                return
            asked[0] = next(numbers)
            with self._asked(self.upstream, f"{parts.path}{self.path}") as found:
                page = found.read()
                if as_pypi:
                    # The files come from here, too.
                    page = page.replace(f"https://{_HOST_OF_FILES}/".encode(), _FILES.encode())
                self._start(found, _PAGES_HOLD, length=len(page))
                self.wfile.write(page)

        def do_HEAD(self) -> None:
            time.sleep(latency)
            with self._asked(self.files, f"/{self.path.removeprefix(_FILES)}") as found:
                self._start(found, _FILES_HOLD)

        def _asked(self, where: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
            names = {name: self.headers[name] for name in _SENT_ON if self.headers[name]}
            where.request(self.command, path, headers=names)
            return where.getresponse()

        def _start(
            self, found: http.client.HTTPResponse, holds: str, length: int | None = None
        ) -> None:
            sent = {name: found.headers[name] for name in _SENT_BACK if found.headers[name]}
            if length is not None:
                sent["Content-Length"] = str(length)
            self.send_response(found.status)
            if as_pypi:
                sent["Cache-Control"] = holds
            for name, value in sent.items():
                self.send_header(name, value)
            self.end_headers()

        def _answer_with(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def main(arguments: Sequence[str]) -> None:
    """Serve until the standard input ends."""
    upstream, latency, *as_pypi = arguments
    handler = _handler(upstream, float(latency), as_pypi=bool(as_pypi))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
