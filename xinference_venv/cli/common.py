"""How the long-running commands write their log, on standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console, RenderableType
from rich.text import Text

from xinference_venv._util.humanize import printable_lines
from xinference_venv._util.records import Record
from xinference_venv.cli import completion_candidates, session
from xinference_venv.cli.completion_candidates import SUPERVISOR
from xinference_venv.cli.help import SUPERVISOR_VARIABLE
from xinference_venv.cli.render import environments
from xinference_venv.cli.render.cluster import unreachable, unreachable_workers
from xinference_venv.cli.render.documents import Serving, WebPage
from xinference_venv.errors import InvalidInput, VirtualEnvError
from xinference_venv.inventory import gathered
from xinference_venv.inventory.diff import EnvironmentDifference
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.selection import Selection
from xinference_venv.observability.logging import LogFormat, formatter_of

if TYPE_CHECKING:
    from xinference_venv.client import Client


_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])


def log_option(command: _Command) -> _Command:
    """The option that says how the log is written; `start_logging` takes its value."""
    return click.option(
        "--log-format",
        type=click.Choice([each.value for each in LogFormat]),
        default=LogFormat.TEXT.value,
        show_default=True,
        help="The log on standard error: lines for people, or a JSON document for each record.",
    )(command)


def start_logging(log_format: str) -> None:
    """Write what this program, and what it stands on, logs from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter_of(LogFormat(log_format)))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("xinference_venv").setLevel(logging.INFO)


def json_option(command: _Command) -> _Command:
    text = "Print one JSON document instead, errors included."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def cluster_option(command: _Command) -> _Command:
    """The option that selects a cluster; `with_client` knows its value."""
    return click.option(
        "--supervisor",
        metavar="HOST:PORT",
        envvar=SUPERVISOR_VARIABLE,
        callback=_remember,
        expose_value=False,
        help="Work on the cluster of this supervisor;"
        f" {SUPERVISOR_VARIABLE} sets it for all commands.",
    )(command)


def on_workers(command: _Command) -> _Command:
    """The options that narrow a command to a cluster's workers at one place."""
    text = "Only on the workers of a cluster at this IP (all of them) or address."
    option = click.option(
        "--worker",
        "worker_ip",
        shell_complete=completion_candidates.workers,
        metavar="IP_OR_ADDRESS",
        help=text,
    )
    return cluster_option(option(command))


def selection(command: _Command) -> _Command:
    """The options that narrow a model's environments; `selected` makes a `Selection` of them."""
    command = on_workers(command)
    command = click.option("--python-version", help="Only of this Python, like 3.11.")(command)
    return click.option("--engine", help="Only of this engine, like vllm.")(command)


def selected(
    model: str | None, engine: str | None, python_version: str | None, worker: str | None
) -> Selection:
    """What an argument and the options of `selection` mean."""
    return Selection(
        model_name=model, model_engine=engine, python_version=python_version, worker=worker
    )


def check_address(
    context: click.Context, option: click.Parameter, address: str | None
) -> str | None:
    """Refuse what is no address of a supervisor."""
    host, _, port = (address or "").rpartition(":")
    if address is not None and not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidInput(
            f"{address!r} is no address of a supervisor", {"hint": "allowed is HOST:PORT"}
        )
    return address


def _remember(context: click.Context, option: click.Parameter, address: str | None) -> None:
    context.meta[SUPERVISOR] = check_address(context, option, address)


def supervisor_address() -> str | None:
    """The supervisor of the selected cluster, None without one."""
    found: str | None = click.get_current_context().meta.get(SUPERVISOR)
    return found


def on_cluster() -> bool:
    """Whether output has to name the worker of each item."""
    return supervisor_address() is not None


def with_client(work: Callable[[Client], Awaitable[_T]]) -> _T:
    """The result of work with a client of the selected cluster, or of this process."""
    check_worker_option()
    return session.with_client(work, supervisor=supervisor_address())


def check_worker_option() -> None:
    """Refuse to look for workers where there is no cluster."""
    if not on_cluster() and click.get_current_context().params.get("worker_ip") is not None:
        raise click.UsageError("--worker is for a cluster: name its --supervisor.")


def check_found(answer: Gathered[_T], found: Sequence[object], what: str) -> None:
    """Raises `NotFound`, or `WorkerUnavailable` while that is not known for sure."""
    gathered.check_found(answer, found, what, hint="`xinference-venv list` shows what is")


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text that may come from anywhere, with what does not print as escapes."""
    click.echo(printable_lines(text), err=err, nl=nl)


def show(
    value: Record | Mapping[str, object],
    rendered: Callable[[], Sequence[RenderableType]],
    as_json: bool,
    error: VirtualEnvError | None = None,
) -> int:
    """Print a result on standard output, as JSON or for people; returns the exit code.

    For people, unreachable workers and the error go to standard error; the JSON document has
    both.
    """
    if as_json:
        document = value.to_dict() if isinstance(value, Record) else value
        failure = {} if error is None else {"error": error.to_dict()}
        echo(json.dumps({**document, **failure}, indent=2))
    else:
        print_parts(environments.open_console(), rendered())
        shown = environments.open_console(stderr=True)
        if isinstance(value, Gathered):
            print_parts(shown, unreachable(value))
        elif isinstance(value, EnvironmentDifference):
            print_parts(shown, unreachable_workers(value.unreachable))
        print_parts(shown, [] if error is None else environments.failed(error))
    return 0 if error is None else error.exit_code


def say_address(what: str, address: str, as_json: bool, web: str | None = None) -> None:
    """Tell where a process that stays can be reached, as soon as it can; `web` is its page."""
    page = {} if web is None else WebPage(web=web).to_dict()
    if as_json:
        document = {**Serving(process=what, address=address).to_dict(), **page}
        echo(json.dumps(document, indent=2))
        return
    for name, place in {what: address, **page}.items():
        echo(f"{name} at {place}")


def report(error: VirtualEnvError, as_json: bool) -> int:
    """Print an error where it belongs; returns its exit code."""
    if as_json:
        echo(json.dumps({"error": error.to_dict()}, indent=2))
    else:
        print_parts(environments.open_console(stderr=True), environments.failed(error))
    return error.exit_code


def print_parts(shown: Console, parts: Sequence[RenderableType]) -> None:
    for part in parts:
        # Tables fold their cells; a line is left whole, so that a path can be copied.
        shown.print(part, soft_wrap=isinstance(part, Text))
