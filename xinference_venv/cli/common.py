"""What the commands share: options, work on this host or on a cluster, printing of results."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from xinference_venv._util.humanize import printable_lines, similar_names
from xinference_venv._util.records import Record
from xinference_venv.cli import shell_complete
from xinference_venv.cli.help import SUPERVISOR_VARIABLE
from xinference_venv.cli.output import write
from xinference_venv.cli.render.text import Part, failed, lines_of
from xinference_venv.cli.shell_complete import SUPERVISOR
from xinference_venv.errors import InvalidInput, StoreError, VirtualEnvError
from xinference_venv.inventory import gathered
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.selection import Selection

if TYPE_CHECKING:
    from xinference_venv.client import Client
    from xinference_venv.service.this_host import ThisHost

_WIDE = "xinference_venv.wide"

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])


def json_option(command: _Command) -> _Command:
    text = "Print one JSON document instead, errors included."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


class _Output(click.Choice):  # type: ignore[type-arg]  # it has none before click 8.2
    """What `--output` may be: kubectl's ``-o json`` is refused with what it is called here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "json":
            self.fail("'json' is not 'wide'. --json prints JSON.", param, ctx)
        return str(super().convert(value, param, ctx))


def wide_option(command: _Command) -> _Command:
    """The option of commands that print a table; `show` follows it."""
    return click.option(
        "--output",
        "-o",
        type=_Output(["wide"]),
        callback=_remember_wide,
        expose_value=False,
        help="wide: every column of the table, also those that the terminal has no room for.",
    )(command)


def _remember_wide(context: click.Context, option: click.Parameter, value: str | None) -> None:
    context.meta[_WIDE] = value is not None


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


def workers_option(text: str) -> Callable[[_Command], _Command]:
    """The option that names some workers of a cluster, with its help; it can be repeated."""
    return click.option(
        "--worker",
        "workers",
        shell_complete=shell_complete.workers,
        metavar="IP_OR_ADDRESS",
        multiple=True,
        help=f"{text} Can be repeated.",
    )


def on_workers(command: _Command) -> _Command:
    """The options that narrow a command to a cluster's workers at one place."""
    text = "Only on the workers of a cluster at this IP (all of them) or address."
    option = click.option(
        "--worker",
        "worker_ip",
        shell_complete=shell_complete.workers,
        metavar="IP_OR_ADDRESS",
        help=text,
    )
    return cluster_option(option(command))


def selection(command: Callable[..., int]) -> Callable[..., int]:
    """The options that narrow a model's environments.

    The command is given, as `wanted`, the `Selection` that they mean with its argument ``model``.
    """

    @wraps(command)
    def select(
        *,
        model: str | None,
        engine: str | None,
        python_version: str | None,
        worker_ip: str | None,
        **others: Any,
    ) -> int:
        wanted = Selection(
            model_name=model, model_engine=engine, python_version=python_version, worker=worker_ip
        )
        return command(wanted=wanted, **others)

    python = click.option("--python-version", help="Only of this Python, like 3.11.")
    return click.option("--engine", help="Only of this engine, like vllm.")(
        python(on_workers(select))
    )


def check_address(
    context: click.Context, option: click.Parameter, address: str | None
) -> str | None:
    """Refuse what is not the address of a supervisor."""
    host, _, port = (address or "").rpartition(":")
    if address is not None and not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidInput(
            f"{address!r} is not the address of a supervisor", {"hint": "allowed is HOST:PORT"}
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
    from xinference_venv.cli import session

    check_worker_option()
    return session.with_client(work, supervisor=supervisor_address())


def look(here: Callable[[ThisHost], _T], there: Callable[[Client], Awaitable[_T]]) -> _T:
    """The result of a look at this host, without an actor, or at the selected cluster."""
    if on_cluster():
        return with_client(there)
    check_worker_option()
    return look_here(here)


def look_here(here: Callable[[ThisHost], _T]) -> _T:
    """The result of work with this host's store, without an actor."""
    from xinference_venv.service.this_host import ThisHost

    return here(ThisHost.open(os.environ))


def check_worker_option() -> None:
    """Refuse to look for workers where there is no cluster."""
    if not on_cluster() and click.get_current_context().params.get("worker_ip") is not None:
        raise click.UsageError("--worker is for a cluster: name its --supervisor.")


def check_found(
    answer: Gathered[_T],
    found: Sequence[object],
    what: str,
    model: str | None = None,
    *,
    listing: str = "`xinference-venv list` lists all environments",
) -> None:
    """Raises `NotFound`, or `WorkerUnavailable` while that is not known for sure.

    The hint names models that have environments and a name like that of the `model`, and the
    command whose `listing` has all.
    """
    if not found:
        gathered.check_found(answer, found, what, hint=f"{did_you_mean(model)}{listing}")


def did_you_mean(model: str | None) -> str:
    """Models that have environments and a name like that of `model`, as a question; or nothing."""
    from xinference_venv.cli.completion_candidates import models_with_environments

    names = [] if model is None else models_with_environments(os.environ, supervisor_address())
    similar = [each for each in similar_names(model or "", names) if each != model]
    return f"did you mean {' or '.join(similar)}? " if similar else ""


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text that may come from anywhere, with what does not print as escapes.

    Raises `StoreError` where what the output is written to takes no more.
    """
    write(printable_lines(text), err=err, nl=nl)


def show(
    value: Record | Mapping[str, object],
    rendered: Callable[[], Sequence[Part]],
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
        print_parts(rendered(), wide=click.get_current_context().meta.get(_WIDE, False))
        if isinstance(value, Gathered):
            from xinference_venv.cli.render.cluster import unreachable

            print_parts(unreachable(value), err=True)
        print_parts([] if error is None else failed(error), err=True)
    return 0 if error is None else error.exit_code


def say_address(what: str, address: str, as_json: bool, web: str | None = None) -> None:
    """Tell where a process that stays can be reached, as soon as it can; `web` is its page."""
    from xinference_venv.cli.render.documents import Serving, WebPage

    page = {} if web is None else WebPage(web=web).to_dict()
    if as_json:
        document = {**Serving(process=what, address=address).to_dict(), **page}
        echo(json.dumps(document, indent=2))
        return
    for name, place in {what: address, **page}.items():
        echo(f"{name} at {place}")


def report(error: VirtualEnvError, as_json: bool) -> int:
    """Print an error where it belongs; returns its exit code."""
    # An output that can't be written is what the error may be about.
    with suppress(StoreError):
        if as_json:
            echo(json.dumps({"error": error.to_dict()}, indent=2))
            return error.exit_code
    with suppress(StoreError):
        print_parts(failed(error), err=True)
    return error.exit_code


def print_parts(parts: Sequence[Part], *, err: bool = False, wide: bool = False) -> None:
    """Print lines, tables and trees.

    Tables fit the terminal, unless they are to be `wide`; a line is left whole, so that a path
    can be copied.
    """
    stream = sys.stderr if err else sys.stdout
    width = shutil.get_terminal_size().columns if stream.isatty() and not wide else None
    for line in lines_of(parts, width, coloured=_shows_colours(stream)):
        write(line, err=err)


def _shows_colours(stream: TextIO) -> bool:
    # https://no-color.org
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
