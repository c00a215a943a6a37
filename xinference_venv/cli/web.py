"""`web`: the REST API and the web page, over a cluster or over actors of its own process."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xinference_venv.cli.common import (
    cluster_option,
    json_option,
    say_address,
    supervisor_address,
)
from xinference_venv.cli.logging_option import log_option, start_logging
from xinference_venv.cli.web_server import WEB_PORT, WebServer, web_options
from xinference_venv.session import serve

if TYPE_CHECKING:
    from xinference_venv.rest.serving import Served

_log = logging.getLogger(__name__)


@click.command()
@cluster_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=WEB_PORT, show_default=True)
@web_options
@log_option
@json_option
def web(
    host: str, port: int, token_file: Path | None, rate: float, log_format: str, as_json: bool
) -> int:
    """Serve the REST API and the web page until SIGTERM or Ctrl-C.

    Without --supervisor it manages the environments of this host, by itself. The supervisor of a
    cluster can serve them, too: `xinference-venv supervisor --web-port`.
    """
    server = WebServer.configured(host=host, port=port, token_file=token_file, rate=rate)
    supervisor = supervisor_address()
    start_logging(log_format)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Served]:
        from xinference_venv.client import local_client, remote_client

        of_whom = local_client() if supervisor is None else remote_client(supervisor)
        async with of_whom as client, server.over(client) as served:
            yield served

    def ready(served: Served) -> None:
        say_address("web", served.address, as_json)
        _log.info("the page is at %s/, the REST API below %s/v1", served.address, served.address)

    serve(opened, ready)
    return 0
