"""`exec`, `lock`: an environment that is ready, to run a command in or to write down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xinference_venv.cli import shell_complete
from xinference_venv.cli.common import look_here, selected

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _Command = TypeVar("_Command", bound=Callable[..., Any])


def _one_environment(command: _Command) -> _Command:
    """The options that say which of a model's environments is meant."""
    command = click.option("--python-version", help="The one of this Python, like 3.11.")(command)
    return click.option("--engine", help="The one of this engine, like vllm.")(command)


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("model", shell_complete=shell_complete.models)
@click.argument("command", metavar="-- COMMAND", nargs=-1, required=True, type=click.UNPROCESSED)
@_one_environment
def exec_(
    model: str, command: tuple[str, ...], engine: str | None, python_version: str | None
) -> int:
    """Run a command in MODEL's environment on this host: exec [OPTIONS] MODEL -- COMMAND.

    The environment is in use as long as the command runs: this process becomes the command, so
    signals reach it and its exit code is that of this program. `python` is the environment's, and
    its programs come first on PATH. 127: the command was not found, 126: it can't be run.
    """
    words = command[1:] if command[0] == "--" else command
    if not words or (words is command and words[0].startswith("-")):
        raise click.UsageError("Options come before MODEL: exec [OPTIONS] MODEL -- COMMAND")
    wanted = selected(model, engine, python_version, None)
    look_here(lambda here: here.run_in(here.one_to_run_in(wanted), words))
    raise AssertionError("the command has taken the place of this process")


@click.command()
@click.argument("model", shell_complete=shell_complete.models)
@_one_environment
def lock(model: str, engine: str | None, python_version: str | None) -> int:
    """Print the lock of MODEL's environment on this host: a pylock.toml (PEP 751).

    It names each package that is installed with its hash. What is inherited from the host is no
    part of it and stands in comments above.
    """
    wanted = selected(model, engine, python_version, None)
    click.echo(look_here(lambda here: here.pylock(here.one_ready(wanted))), nl=False)
    return 0
