"""The server: an application at an address of this host, until a signal ends it."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from xinference_venv.errors import InvalidInput
from xinference_venv.rest.connections import BoundedConnection, Connections, RareLines
from xinference_venv.rest.tokens import Tokens

# So long requests may still run after the server was asked to stop.
_END_SECONDS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A server that runs; `address` is its URL."""

    address: str


class _Server(uvicorn.Server):
    """A server that leaves the signals to who runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, tokens: Tokens | None) -> None:
    """Raises `InvalidInput` where strangers could do anything."""
    if tokens is None and not is_loopback(host):
        raise InvalidInput(
            f"without tokens, anyone who can reach {host} could remove every environment",
            {"hint": "give a --token-file, or listen on 127.0.0.1"},
        )


def hosts_of(host: str) -> frozenset[str] | None:
    """The names that requests may call a server on a loopback address by; None: any."""
    if not is_loopback(host):
        return None
    literal = f"[{host}]" if ":" in host else host
    return frozenset({literal, "localhost", "127.0.0.1", "[::1]"})


@asynccontextmanager
async def served(
    app: FastAPI, host: str, port: int, *, connections: Connections | None = None
) -> AsyncIterator[Served]:
    """Serve an application at an address; port 0 is one that is free. `connections` has its bounds.

    Raises `InvalidInput` when nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise InvalidInput(
            f"can't listen at {host}:{port}: {error.strerror or error}",
            {"hint": "allowed is an address of this machine, with a port that is free"},
        ) from error
    bounds = connections or Connections()
    protocol = type("_Connection", (BoundedConnection,), {"bounds": bounds})
    logging.getLogger("uvicorn.error").addFilter(rare := RareLines())
    with listening:
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            timeout_keep_alive=bounds.deadlines.idle,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_END_SECONDS,
            # Who asks is who connects: a header could say anything.
            proxy_headers=False,
        )
        server = _Server(config)
        shown = f"[{host}]" if ":" in host else host
        serving = asyncio.create_task(server.serve([listening]))
        try:
            yield Served(address=f"http://{shown}:{listening.getsockname()[1]}")
        finally:
            # Who follows a launch would keep the server otherwise.
            app.state.supervisor.closing.set()
            server.should_exit = True
            await asyncio.wait([serving])
            logging.getLogger("uvicorn.error").removeFilter(rare)
