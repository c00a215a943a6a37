"""`web`: the REST API and the web page, over a cluster or over actors of its own process."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xinference_venv._util.humanize import quoted
from xinference_venv.cli.common import (
    check_address,
    cluster_option,
    json_option,
    say_address,
    supervisor_address,
)
from xinference_venv.cli.help import SUPERVISOR_VARIABLE
from xinference_venv.cli.logging_option import log_option, start_logging
from xinference_venv.cli.session import serve
from xinference_venv.cli.verbosity import verbosity
from xinference_venv.cli.web_server import WEB_PORT, WebServer, web_options
from xinference_venv.errors import InvalidInput

if TYPE_CHECKING:
    from xinference_venv.rest.server import Served

_log = logging.getLogger(__name__)
_WORKER_ID = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@click.command()
@cluster_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    default=WEB_PORT,
    show_default=True,
    help="The port to listen at.",
)
@web_options
@log_option
@json_option
def web(host: str, port: int, token_file: Path | None, log_format: str, as_json: bool) -> int:
    """Serve the REST API and the web page until SIGTERM or Ctrl-C.

    Without --supervisor it manages the environments of this host, by itself. The supervisor of a
    cluster can serve them, too: `xinference-venv supervisor --web-port`.
    """
    server = WebServer.configured(host=host, port=port, token_file=token_file)
    supervisor = supervisor_address()
    start_logging(log_format, verbosity())

    @asynccontextmanager
    async def opened() -> AsyncIterator[Served]:
        from xinference_venv.client import connect, local_client

        of_whom = local_client() if supervisor is None else connect(supervisor)
        async with of_whom as client, server.over(client) as served:
            yield served

    def ready(served: Served) -> None:
        say_address("web", served.address, as_json)
        _log.info("the page is at %s/, the REST API below %s/v1", served.address, served.address)

    serve(opened, ready)
    return 0


SUPERVISOR_PORT = 9797


@dataclass(frozen=True, kw_only=True, slots=True)
class _Supervising:
    """A supervisor that runs: its address, and the URL of what it serves."""

    address: str
    web: str | None = None


_host = click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address that the others of the cluster reach this process at.",
)

_insecure = click.option(
    "--insecure",
    is_flag=True,
    help="Start without XOSCAR_AUTH_KEY: whoever reaches the port, other users of this machine"
    " included, can then run code as this user.",
)


@click.command()
@_host
@_insecure
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    default=SUPERVISOR_PORT,
    show_default=True,
    help="The port that workers and commands reach it at.",
)
@click.option(
    "--web-port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    help=f"Serve the REST API and the web page at this port as well, like {WEB_PORT}.",
)
@click.option(
    "--web-host",
    default="127.0.0.1",
    show_default=True,
    help="The address at which to serve them.",
)
@web_options
@log_option
@json_option
def supervisor(
    host: str,
    insecure: bool,
    port: int,
    web_port: int | None,
    web_host: str,
    token_file: Path | None,
    log_format: str,
    as_json: bool,
) -> int:
    """Run the supervisor of a cluster until SIGTERM or Ctrl-C.

    It keeps nothing: its workers go on without it, and register with the next one at its address.
    """
    web = None
    if web_port is not None:
        web = WebServer.configured(host=web_host, port=web_port, token_file=token_file)
    start_logging(log_format, verbosity())
    _check_host(host)

    @asynccontextmanager
    async def pool() -> AsyncIterator[_Supervising]:
        from xinference_venv.client import Client, supervisor_pool

        async with supervisor_pool(f"{host}:{port}", insecure=insecure) as actor:
            if web is None:
                yield _Supervising(address=actor.address)
                return
            async with web.over(Client(supervisor=actor)) as served:
                yield _Supervising(address=actor.address, web=served.address)

    serve(pool, lambda started: say_address("supervisor", started.address, as_json, started.web))
    return 0


def _check_worker_id(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _WORKER_ID.fullmatch(value):
        raise click.BadParameter(
            f"{quoted(value)} is not an id of a worker: allowed are 1 to 64 letters, digits, '.',"
            " '_' and '-', the first a letter or digit",
            ctx,
            param,
        )
    return value


@click.command()
@click.option(
    "--supervisor",
    "supervisor_address",
    metavar="HOST:PORT",
    envvar=SUPERVISOR_VARIABLE,
    callback=check_address,
    required=True,
    help="Where the supervisor of the cluster listens;"
    f" {SUPERVISOR_VARIABLE} sets it for all commands.",
)
@_host
@_insecure
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    default=0,
    help="By default one that is free.",
)
@click.option(
    "--worker-id",
    metavar="ID",
    callback=_check_worker_id,
    help="What the cluster knows this worker by, at whatever address it is started; by default an"
    " id that its home keeps.",
)
@log_option
@json_option
def worker(
    supervisor_address: str,
    host: str,
    insecure: bool,
    port: int,
    worker_id: str | None,
    log_format: str,
    as_json: bool,
) -> int:
    """Run the worker of this host until SIGTERM or Ctrl-C; its jobs are cancelled then.

    At its start it waits up to a minute for a supervisor that does not answer. Later it waits for
    as long as it takes: it goes on, and registers again with one that is restarted.
    """
    start_logging(log_format, verbosity())
    _check_host(host)

    def pool() -> AbstractAsyncContextManager[Any]:
        from xinference_venv.client import worker_pool

        return worker_pool(
            f"{host}:{port}", supervisor_address, worker_id=worker_id, insecure=insecure
        )

    serve(pool, lambda started: say_address("worker", started.address, as_json))
    return 0


def _check_host(host: str) -> None:
    """Refuse what others could not reach."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if address.is_unspecified:
        raise InvalidInput(
            f"--host {host} is not an address at which others can reach this process",
            {"hint": "name one address of this machine, best of a private network"},
        )
