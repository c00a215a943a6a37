"""The command line: words in, one result on standard output, an exit code that means something.

Every command works through a client of the actors of this process; what people read is made in
`console` and `progress`.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console, RenderableType
from rich.text import Text

from xinference_venv import console
from xinference_venv.actor_class import ActorClass
from xinference_venv.catalog.load import read_model_spec
from xinference_venv.cli_help import HelpfulGroup
from xinference_venv.errors import (
    InUse,
    InvalidInput,
    JobCancelled,
    NotFound,
    StoreError,
    UnknownModel,
    VirtualEnvError,
)
from xinference_venv.inventory import EnvEntry
from xinference_venv.progress import following
from xinference_venv.request import InheritMode, LaunchRequest
from xinference_venv.session import Stopped, launch_model, with_client

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group(cls=HelpfulGroup, context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Make and manage the Python environments of models on this host.

    Every model gets exactly the packages that it asks for, and uses those of this host where
    they fit. An environment is never half made and never changed under a running process.

    \b
      xinference-venv models                    which models are known
      xinference-venv launch MODEL --dry-run    what would be installed
      xinference-venv launch MODEL              make its environment
      xinference-venv list                      what is there, and who uses it
      xinference-venv explain MODEL             what brought each of its packages
      xinference-venv remove MODEL              remove it

    `xinference-venv COMMAND --help` says more of each.
    """


def _json_option(command: _Command) -> _Command:
    text = "Print one JSON document instead, errors included."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def _selection(command: _Command) -> _Command:
    """The options that narrow a model's environments."""
    command = click.option("--python-version", help="Only of this Python, like 3.11.")(command)
    return click.option("--engine", help="Only of this engine, like vllm.")(command)


@commands.command()
@click.argument("model")
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--engine", help="The engine that serves the model, like vllm or transformers.")
@click.option("--format", "model_format", help="The format of the model's files, like gptq.")
@click.option("--python-version", help="Like 3.11 or 3.11.7; by default that of this program.")
@click.option(
    "--enable-virtual-env/--disable-virtual-env",
    default=None,
    help="Make an environment or use the host as it is; by default the environment variable"
    " XINFERENCE_ENABLE_VIRTUAL_ENV decides.",
)
@click.option(
    "--virtual-env-package",
    "-vp",
    "packages",
    metavar="PKG",
    multiple=True,
    help="A package as pip writes it; it replaces the model's of the same name. Can be repeated.",
)
@click.option(
    "--virtual-env-find-link",
    "find_links",
    metavar="DIR",
    multiple=True,
    help="A folder of wheels to look in as well. Can be repeated.",
)
@click.option(
    "--inherit",
    type=click.Choice([mode.value for mode in InheritMode]),
    help="How much of the host the model sees: all that fits, exactly what it needs, or nothing.",
)
@click.option(
    "--must-import",
    metavar="NAME",
    multiple=True,
    help="A distribution that must be importable beside what is asked for.",
)
@click.option(
    "--import-check",
    metavar="MODULE",
    multiple=True,
    help="A module that a fresh interpreter must import before anything is published.",
)
@click.option("--refresh", is_flag=True, help="Resolve anew, even if nothing has changed.")
@click.option(
    "--spec",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON in Xinference's model format that describes MODEL.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be installed.")
@click.option(
    "--run",
    "target",
    metavar="MODULE:CLASS",
    help="Start a process in the environment and create this xoscar actor in it, with NAME=VALUE"
    " as its arguments; stay until Ctrl-C or the end of the process.",
)
@click.option(
    "--path",
    "paths",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    multiple=True,
    help="A folder to look for MODULE in, after the environment's packages. Can be repeated.",
)
@_json_option
def launch(
    model: str,
    arguments: tuple[str, ...],
    engine: str | None,
    model_format: str | None,
    python_version: str | None,
    enable_virtual_env: bool | None,
    packages: tuple[str, ...],
    find_links: tuple[str, ...],
    inherit: str | None,
    must_import: tuple[str, ...],
    import_check: tuple[str, ...],
    refresh: bool,
    spec: Path | None,
    dry_run: bool,
    target: str | None,
    paths: tuple[str, ...],
    as_json: bool,
) -> int:
    """Make the environment of MODEL, or find it made, and say where it is."""
    if target is None and (arguments or paths):
        raise click.UsageError("NAME=VALUE and --path are for --run.")
    if target is not None and dry_run:
        raise click.UsageError("--dry-run and --run exclude each other.")
    actor = None if target is None else ActorClass.parse(target, arguments, paths)
    request = LaunchRequest.from_dict(
        {
            "model_name": model,
            "model_engine": engine,
            "model_format": model_format,
            "python_version": python_version,
            "virtualenv": None if spec is None else _virtualenv_block(spec, model),
            "enable_virtual_env": enable_virtual_env,
            "virtual_env_packages": packages,
            "virtual_env_find_links": find_links,
            "inherit": inherit,
            "must_import": must_import,
            "import_check": import_check,
            "refresh": refresh,
        }
    )
    if dry_run:
        plan = with_client(lambda client: client.supervisor.plan(request.to_dict()))
        _show(plan, lambda: console.planned(plan), as_json)
        return 0

    def show(outcome: console.LaunchOutcome) -> None:
        _show(outcome.to_dict(), lambda: console.launched(outcome), as_json)

    watching = nullcontext(_ignore) if as_json else following(console.open_console(stderr=True))
    status = with_client(
        lambda client: launch_model(client, request, following=watching, show=show, actor=actor)
    )
    if status:
        click.echo(f"error: the process of {model} ended with exit status {status}", err=True)
    return 1 if status else 0


@commands.command("list")
@click.argument("model", required=False)
@_selection
@_json_option
def list_(model: str | None, engine: str | None, python_version: str | None, as_json: bool) -> None:
    """List the environments that are there: all, or those of MODEL."""
    answer = with_client(
        lambda client: client.supervisor.list_virtual_envs(
            model, engine, python_version=python_version
        )
    )
    _show(answer, lambda: console.listed(answer, time.time()), as_json)


@commands.command()
@click.argument("model")
@_selection
@_json_option
def packages(model: str, engine: str | None, python_version: str | None, as_json: bool) -> None:
    """List the packages of MODEL's environments, each with where it is from and why."""
    answer = with_client(
        lambda client: client.supervisor.list_virtual_env_packages(model, engine, python_version)
    )
    _check_found(answer, answer["list"], f"environment of {model!r}")
    _show(answer, lambda: console.packages_of(answer), as_json)


@commands.command()
@click.argument("model")
@_selection
@_json_option
def explain(model: str, engine: str | None, python_version: str | None, as_json: bool) -> None:
    """Show what brought each package of MODEL's environments, and what of the host is not shown."""
    answer = with_client(
        lambda client: client.supervisor.list_virtual_env_packages(model, engine, python_version)
    )
    _check_found(answer, answer["list"], f"environment of {model!r}")
    _show(answer, lambda: console.explained(answer), as_json)


@commands.command()
@click.argument("model", required=False)
@click.option("--all", "everything", is_flag=True, help="Remove the environments of every model.")
@_selection
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option(
    "--force",
    is_flag=True,
    help="Remove what is in use as well; its files stay until its last process has ended.",
)
@_json_option
def remove(
    model: str | None,
    everything: bool,
    engine: str | None,
    python_version: str | None,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Remove the environments of MODEL, without asking back; refused while they are in use."""
    if (model is None) is not everything:
        raise click.UsageError("Give either MODEL or --all.")
    answer = with_client(
        lambda client: client.supervisor.remove_virtual_env(
            model, engine, python_version, dry_run=dry_run, force=force
        )
    )
    if model is not None:
        parts = ("remove", "detach", "refuse")
        touched = [entry for report in answer["list"] for part in parts for entry in report[part]]
        _check_found(answer, touched, f"environment of {model!r}")
    if not dry_run:
        _check_not_refused(answer)
    _show(answer, lambda: console.removed(answer), as_json)


@commands.command()
@_json_option
def models(as_json: bool) -> None:
    """List the models that are known: built in, and of your own specifications."""
    entries = with_client(lambda client: client.supervisor.list_models())
    _show({"list": entries}, lambda: console.models(entries), as_json)


@commands.command()
@click.argument("model")
@_selection
@click.option("--count", type=click.IntRange(min=1), default=1, help="So many, newest first.")
@_json_option
def logs(
    model: str, engine: str | None, python_version: str | None, count: int, as_json: bool
) -> None:
    """Show what uv said while MODEL's environments were made."""
    answer = with_client(
        lambda client: client.supervisor.logs(model, engine, python_version, count=count)
    )
    _check_found(answer, answer["list"], f"log of {model!r}")
    _show(answer, lambda: console.logs(answer), as_json)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default this process's; returns the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in words
    # An unusual name on a terminal without UTF-8 is no reason to fail.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = commands.main(words, prog_name="xinference-venv", standalone_mode=False)
    except click.Abort:
        return _report(JobCancelled("interrupted"), as_json)
    except click.ClickException as error:
        if as_json:
            return _report(InvalidInput(error.format_message()), as_json)
        error.show()
        return error.exit_code
    except Stopped as stopped:
        name = signal.Signals(stopped.number).name
        _report(JobCancelled(f"cancelled by {name}; nothing of it is left"), as_json)
        return 128 + stopped.number
    except VirtualEnvError as error:
        return _report(error, as_json)
    except OSError as error:
        return _report(StoreError(str(error) or type(error).__name__), as_json)
    return code or 0


def _ignore(_: object) -> None:
    """Nobody watches."""


def _virtualenv_block(spec: Path, model: str) -> dict[str, Any]:
    """The block of the model in a specification file; raises `UnknownModel`."""
    by_name = {entry.model_name: entry for entry in read_model_spec(spec)}
    if model not in by_name:
        raise UnknownModel(
            f"{spec} has no model {model!r}", {"hint": f"it has: {', '.join(by_name) or 'none'}"}
        )
    return by_name[model].virtualenv.to_dict()


def _check_found(answer: dict[str, Any], found: Sequence[object], what: str) -> None:
    # While a worker did not answer, nobody can say what is not there.
    if not found and not answer["unreachable"]:
        raise NotFound(
            f"there is no {what} that matches", {"hint": "`xinference-venv list` shows what is"}
        )


def _check_not_refused(answer: dict[str, Any]) -> None:
    refused = [EnvEntry.from_dict(each) for report in answer["list"] for each in report["refuse"]]
    if refused:
        raise InUse(
            "; ".join(f"{entry.key} is {console.use_of(entry)}" for entry in refused),
            {
                "holders": [lease.to_dict() for entry in refused for lease in entry.leases],
                "hint": "end what uses it, or let go of it with --force",
            },
        )


def _show(value: object, rendered: Callable[[], Sequence[RenderableType]], as_json: bool) -> None:
    """Print the result on standard output, as JSON or for people."""
    if as_json:
        click.echo(json.dumps(value, indent=2))
        return
    _print(console.open_console(), rendered())


def _report(error: VirtualEnvError, as_json: bool) -> int:
    """Print an error where it belongs; returns its exit code."""
    if as_json:
        click.echo(json.dumps({"error": error.to_dict()}, indent=2))
    else:
        _print(console.open_console(stderr=True), console.failed(error))
    return error.exit_code


def _print(shown: Console, parts: Sequence[RenderableType]) -> None:
    for part in parts:
        # Tables fold their cells; a line is left whole, so that a path can be copied.
        shown.print(part, soft_wrap=isinstance(part, Text))
