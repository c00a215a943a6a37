"""A real package index (PEP 503, PEP 658) on 127.0.0.1 that can be made to misbehave.

A folder of wheels and sdists comes in; uv gets pages, files and faults; what it asked for is
recorded. Faults are set while it runs, for paths that match a pattern of `fnmatch`
(``/simple/torch/``, ``/files/torch-*.whl``); of two that match, the one set last acts.
"""

from __future__ import annotations

import base64
import email
import hashlib
import html
import os
import socket
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

from packaging.utils import canonicalize_name
from uv import find_uv_bin


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fail:
    pattern: str
    status: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Hang:
    pattern: str
    gate: threading.Event


@dataclass(frozen=True, kw_only=True, slots=True)
class _Slow:
    pattern: str
    gate: threading.Event


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cut:
    pattern: str
    after_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Redirect:
    pattern: str
    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Replace:
    pattern: str
    body: bytes


_Fault = _Fail | _Hang | _Slow | _Cut | _Redirect | _Replace


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    """What the index learned of a file when it first saw it; ``metadata`` of wheels only."""

    path: Path
    project: str
    sha256: str
    metadata: bytes | None
    yanked: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        metadata = None
        if path.suffix == ".whl":
            project = path.name.split("-")[0]
            with zipfile.ZipFile(path) as archive:
                [inside] = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
                metadata = archive.read(inside)
        else:
            project = path.name.rpartition("-")[0]
        return cls(
            path=path,
            project=canonicalize_name(project),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            metadata=metadata,
        )

    @property
    def link(self) -> str:
        attributes = "" if self.yanked is None else f' data-yanked="{html.escape(self.yanked)}"'
        if self.metadata is not None:
            digest = hashlib.sha256(self.metadata).hexdigest()
            attributes += f' data-dist-info-metadata="sha256={digest}"'
            requires_python = email.message_from_bytes(self.metadata)["Requires-Python"]
            if requires_python is not None:
                attributes += f' data-requires-python="{html.escape(requires_python)}"'
        url = f"/files/{quote(self.path.name)}#sha256={self.sha256}"
        return f'<a href="{url}"{attributes}>{self.path.name}</a><br>\n'

    @property
    def bare_link(self) -> str:
        """The link that a plain listing of a folder has."""
        return f'<a href="/files/{quote(self.path.name)}">{self.path.name}</a><br>\n'


class Index:
    """Serves ``folder`` from entering the context to leaving it.

    Files may be added while it runs. The hash of a file is that of its first sight, as with an
    index that hashes at upload: a file changed later no longer matches the announced one.
    """

    def __init__(self, folder: Path) -> None:
        self.requests: list[str] = []
        """``GET /simple/torch/`` for each request, with `` authorized`` if it had credentials."""
        self._folder = folder
        self._files: dict[str, _File] = {}
        self._faults: list[_Fault] = []
        self._authorization: str | None = None
        self._hashes = True
        self.lengths = True
        """Whether answers say how long they are; else their end is that of the connection."""
        self._changed = threading.Condition()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._look_at_folder()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self.heal()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The URL for ``--default-index``."""
        return f"http://127.0.0.1:{self._server.server_port}/simple/"

    def clear(self) -> None:
        """Forget the requests so far."""
        with self._changed:
            self.requests.clear()

    def wait_for_request(self, pattern: str, timeout: float = 60.0) -> None:
        """Block until a path that matches was asked for, since the start or the last `clear`.

        In a coroutine: ``await asyncio.to_thread(index.wait_for_request, pattern)``. Raises
        `TimeoutError` after ``timeout`` seconds.
        """

        def seen() -> bool:
            return any(fnmatchcase(each.split(" ")[1], pattern) for each in self.requests)

        with self._changed:
            if not self._changed.wait_for(seen, timeout):
                raise TimeoutError(f"no request for {pattern} in {timeout} s: {self.requests}")

    def fail(self, pattern: str, status: int = 500) -> None:
        """Answer with an error status."""
        self._add(_Fail(pattern=pattern, status=status))

    def hang(self, pattern: str) -> None:
        """Take the request and send nothing until `release`."""
        self._add(_Hang(pattern=pattern, gate=threading.Event()))

    def release(self) -> None:
        """End every `hang`: requests that wait are answered."""
        with self._changed:
            for fault in self._faults:
                if isinstance(fault, _Hang):
                    fault.gate.set()
            self._faults = [each for each in self._faults if not isinstance(each, _Hang)]

    def slow(self, pattern: str, event: threading.Event) -> None:
        """Send half of the content, and the rest once ``event`` is set; `heal` sets it, too."""
        self._add(_Slow(pattern=pattern, gate=event))

    def cut(self, pattern: str, after_bytes: int) -> None:
        """Announce the full length, send ``after_bytes`` bytes of it and close the connection."""
        self._add(_Cut(pattern=pattern, after_bytes=after_bytes))

    def redirect(self, pattern: str, target: str) -> None:
        """Send whoever asks to another path, or to the same one again."""
        self._add(_Redirect(pattern=pattern, target=target))

    def replace(self, pattern: str, body: bytes) -> None:
        """Answer with this HTML, as a proxy does that wants a login first."""
        self._add(_Replace(pattern=pattern, body=body))

    def serve_tls(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on; ``url`` begins with ``https`` then."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def without_hashes(self) -> None:
        """Name files as the simplest servers do: without hashes, metadata and lengths."""
        self._hashes = False
        self.lengths = False

    def heal(self) -> None:
        """End all faults; credentials, once required, stay required."""
        with self._changed:
            for fault in self._faults:
                if isinstance(fault, _Hang | _Slow):
                    fault.gate.set()
            self._faults = []

    def yank(self, name: str, reason: str = "") -> None:
        """Mark a file as yanked (PEP 592)."""
        with self._changed:
            self._look_at_folder()
            self._files[name] = replace(self._files[name], yanked=reason)

    def require_auth(self, user: str, password: str) -> str:
        """Refuse requests without these credentials; the URL that carries them is returned."""
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._authorization = f"Basic {token}"
        return self.url.replace("//", f"//{quote(user, safe='')}:{quote(password, safe='')}@")

    def _add(self, fault: _Fault) -> None:
        with self._changed:
            self._faults.append(fault)

    def _look_at_folder(self) -> None:
        for path in sorted(self._folder.iterdir()):
            if path.name not in self._files and path.name.endswith((".whl", ".tar.gz")):
                self._files[path.name] = _File.read(path)

    def observe(self, method: str, path: str, authorization: str | None) -> bool:
        """Record a request; whether it may be answered."""
        line = f"{method} {path}" + (" authorized" if authorization else "")
        with self._changed:
            self.requests.append(line)
            self._changed.notify_all()
        return self._authorization in {None, authorization}

    def fault_for(self, path: str) -> _Fault | None:
        """The fault that acts on a path."""
        with self._changed:
            matching = (each for each in reversed(self._faults) if fnmatchcase(path, each.pattern))
            return next(matching, None)

    def content(self, path: str) -> tuple[str, bytes] | None:
        """Media type and content of a path, None if there is no such page or file."""
        with self._changed:
            self._look_at_folder()
            files = list(self._files.values())
        match path.strip("/").split("/"):
            case ["simple"]:
                projects = sorted({each.project for each in files})
                links = "".join(f'<a href="/simple/{each}/">{each}</a><br>\n' for each in projects)
                return _page(links)
            case ["simple", project]:
                links = "".join(
                    each.link if self._hashes else each.bare_link
                    for each in files
                    if each.project == project
                )
                return _page(links) if links else None
            case ["files", name]:
                for each in files:
                    if name == each.path.name:
                        return "application/octet-stream", each.path.read_bytes()
                    if name == f"{each.path.name}.metadata" and each.metadata is not None:
                        return "text/plain", each.metadata
        return None


def _page(links: str) -> tuple[str, bytes]:
    return (
        "text/html; charset=utf-8",
        f"<!DOCTYPE html>\n<html><body>\n{links}</body></html>".encode(),
    )


class _Server(ThreadingHTTPServer):
    # Requests that still run are joined by server_close, so nothing outlives the context.
    daemon_threads = False

    def __init__(self, index: Index) -> None:
        self.index = index
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close the connections that clients keep alive."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that was killed in the middle is what some tests are about.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Head and body are two writes, which the algorithm would part by 40 ms.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        index = self.server.index
        path = unquote(self.path)
        if not index.observe(self.command, path, self.headers.get("Authorization")):
            self._head(HTTPStatus.UNAUTHORIZED, "text/plain", 0)
            return
        fault = index.fault_for(path)
        if isinstance(fault, _Fail):
            self._head(fault.status, "text/plain", 0)
            return
        if isinstance(fault, _Redirect):
            self._head(HTTPStatus.FOUND, "text/plain", 0, location=fault.target)
            return
        if isinstance(fault, _Hang):
            fault.gate.wait()
        content = index.content(path)
        if isinstance(fault, _Replace):
            content = ("text/html", fault.body)
        if content is None:
            self._head(HTTPStatus.NOT_FOUND, "text/plain", 0)
            return
        media_type, body = content
        self._head(HTTPStatus.OK, media_type, len(body))
        if self.command == "HEAD":
            return
        match fault:
            case _Cut(after_bytes=after_bytes):
                self.wfile.write(body[:after_bytes])
                self.close_connection = True
            case _Slow(gate=gate):
                self.wfile.write(body[: len(body) // 2])
                gate.wait()
                self.wfile.write(body[len(body) // 2 :])
            case _:
                self.wfile.write(body)

    def _head(self, status: int, media_type: str, length: int, location: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        if self.server.index.lengths:
            self.send_header("Content-Length", str(length))
        else:
            self.send_header("Connection", "close")
        if location is not None:
            self.send_header("Location", location)
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        pass  # Index.requests is the log.


def dead_port() -> int:
    """A port of 127.0.0.1 on which nothing listens: to connect is refused at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def black_hole() -> Iterator[int]:
    """A port of 127.0.0.1 that never answers a connect, as a host behind a dropping firewall.

    Linux drops the first packet of a connection when the queue of those to be accepted is full.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting: list[socket.socket] = []
        try:
            while True:
                waiting.append(socket.socket())
                waiting[-1].settimeout(0.2)
                try:
                    waiting[-1].connect(listener.getsockname())
                except TimeoutError:
                    break
            yield int(listener.getsockname()[1])
        finally:
            for each in waiting:
                each.close()


def uv_pip(
    *arguments: str | Path, cache: Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the real ``uv pip`` for this interpreter, deaf to configuration, without retries."""
    return subprocess.run(
        [find_uv_bin(), "pip", *arguments, "--no-config", "--python", sys.executable],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(cache),
            "UV_CACHE_DIR": str(cache),
            "UV_HTTP_RETRIES": "0",
        },
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
