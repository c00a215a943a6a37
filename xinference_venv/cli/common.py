"""What the commands share: options, how a result is shown, what an empty answer means."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console, RenderableType
from rich.text import Text

from xinference_venv import console
from xinference_venv.errors import NotFound, VirtualEnvError

_Command = TypeVar("_Command", bound=Callable[..., Any])


def json_option(command: _Command) -> _Command:
    text = "Print one JSON document instead, errors included."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def selection(command: _Command) -> _Command:
    """The options that narrow a model's environments."""
    command = click.option("--python-version", help="Only of this Python, like 3.11.")(command)
    return click.option("--engine", help="Only of this engine, like vllm.")(command)


def check_found(answer: dict[str, Any], found: Sequence[object], what: str) -> None:
    # While a worker did not answer, nobody can say what is not there.
    if not found and not answer["unreachable"]:
        raise NotFound(
            f"there is no {what} that matches", {"hint": "`xinference-venv list` shows what is"}
        )


def show(value: object, rendered: Callable[[], Sequence[RenderableType]], as_json: bool) -> None:
    """Print the result on standard output, as JSON or for people."""
    if as_json:
        click.echo(json.dumps(value, indent=2))
        return
    print_parts(console.open_console(), rendered())


def report(error: VirtualEnvError, as_json: bool) -> int:
    """Print an error where it belongs; returns its exit code."""
    if as_json:
        click.echo(json.dumps({"error": error.to_dict()}, indent=2))
    else:
        print_parts(console.open_console(stderr=True), console.failed(error))
    return error.exit_code


def print_parts(shown: Console, parts: Sequence[RenderableType]) -> None:
    for part in parts:
        # Tables fold their cells; a line is left whole, so that a path can be copied.
        shown.print(part, soft_wrap=isinstance(part, Text))
