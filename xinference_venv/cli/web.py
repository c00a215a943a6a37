"""`web`: the REST API and the web page, over a cluster or over actors of its own process."""

from __future__ import annotations

import logging
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
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
from xinference_venv.errors import InvalidInput
from xinference_venv.session import serve

if TYPE_CHECKING:
    from xinference_venv.rest.serving import Served
    from xinference_venv.rest.tokens import Tokens

WEB_PORT = 9798
_NEEDED = ("fastapi", "prometheus_client", "uvicorn")
_log = logging.getLogger(__name__)


@click.command()
@cluster_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=WEB_PORT, show_default=True)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Who may do what: lines 'sha256:DIGEST SCOPE...'; see docs/rest.md. Needed unless it"
    " listens on the loopback address.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0.0, min_open=True, max=1e6),
    default=50.0,
    show_default=True,
    help="So many requests a second each client may send; four times as many at once.",
)
@log_option
@json_option
def web(
    host: str, port: int, token_file: Path | None, rate: float, log_format: str, as_json: bool
) -> int:
    """Serve the REST API and the web page until SIGTERM or Ctrl-C.

    Without --supervisor it manages the environments of this host, by itself.
    """
    if any(find_spec(each) is None for each in _NEEDED):
        raise InvalidInput(
            "the REST API and the web page need packages that are not installed",
            {"hint": "pip install 'xinference-venv[web]'"},
        )
    from xinference_venv.rest.app import create_app
    from xinference_venv.rest.limits import Limits
    from xinference_venv.rest.serving import check_exposure, hosts_of, served

    tokens = None if token_file is None else _read(token_file)
    check_exposure(host, tokens)
    limits = Limits(rate=rate, burst=max(1, round(4 * rate)))
    supervisor = supervisor_address()
    start_logging(log_format)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Served]:
        from xinference_venv.client import local_client, remote_client

        of_whom = local_client() if supervisor is None else remote_client(supervisor)
        async with of_whom as client:
            app = create_app(client, tokens=tokens, hosts=hosts_of(host), limits=limits)
            async with served(app, host, port) as server:
                yield server

    def ready(address: str) -> None:
        say_address("web", address, as_json)
        _log.info("the page is at %s/, the REST API below %s/v1", address, address)

    serve(opened, ready)
    return 0


def _read(path: Path) -> Tokens:
    from xinference_venv.rest.tokens import Tokens

    try:
        with path.open(encoding="utf-8") as file:
            mode = path.stat().st_mode
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InvalidInput(f"the token file {str(path)!r} can't be read: {why}") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InvalidInput(
            f"others may write to the token file {str(path)!r}, and give themselves a token",
            {"hint": f"chmod go-w {path}"},
        )
    return Tokens.parse(text)
