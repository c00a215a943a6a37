"""`exec`, `lock`: an environment that is ready, to run a command in or to write down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xinference_venv.cli import shell_complete
from xinference_venv.cli.common import (
    check_found,
    check_worker_option,
    echo,
    look_here,
    on_cluster,
    print_parts,
    selection,
    with_client,
)
from xinference_venv.errors import NotFound
from xinference_venv.inventory.selection import Selection

if TYPE_CHECKING:
    from xinference_venv.inventory.reports import EnvironmentLock


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("model", shell_complete=shell_complete.models)
@click.argument("command", metavar="-- COMMAND", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--engine", help="The one of this engine, like vllm.")
@click.option("--python-version", help="The one of this Python, like 3.11.")
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
    wanted = Selection(model_name=model, model_engine=engine, python_version=python_version)
    look_here(lambda here: here.run_in(here.one_to_run_in(wanted), words))
    raise AssertionError("the command has taken the place of this process")


@click.command()
@click.argument("model", shell_complete=shell_complete.models)
@selection
def lock(wanted: Selection) -> int:
    """Print the lock of MODEL's environment: a pylock.toml (PEP 751).

    It names each package that is installed with its hash. What is inherited from the host is no
    part of it and stands in comments above. On a cluster it is that of all workers that have the
    environment, or of the one of --worker where their locks differ.
    """
    found = _of_cluster(wanted) if on_cluster() else _of_this_host(wanted)
    key = found.environment.entry.key
    if found.lock is None:
        raise NotFound(f"the lock of {key} can't be read", {"hint": "launch the model again"})
    echo(found.lock.pylock_text(key), nl=False)
    return 0


def _of_this_host(wanted: Selection) -> EnvironmentLock:
    check_worker_option()
    return look_here(lambda here: here.lock_of(here.one_ready(wanted)))


def _of_cluster(wanted: Selection) -> EnvironmentLock:
    from xinference_venv.cli.render.cluster import unreachable
    from xinference_venv.inventory.diff import check_selected
    from xinference_venv.inventory.env import EnvState
    from xinference_venv.inventory.inventory import check_has_lock

    answer = with_client(lambda client: client.supervisor.list_virtual_env_locks(wanted))
    check_has_lock(each.environment.entry for each in answer.list)
    ready = [each for each in answer.list if each.environment.entry.state is EnvState.READY]
    model = str(wanted.model_name)
    check_found(answer, ready, f"environment of {model!r} that is ready", model)
    entries = [each.environment.entry for each in ready]
    # Replicas of one lock are one environment, which several workers have.
    if len({(str(each.key), each.env_id) for each in entries}) > 1:
        check_selected(model, [each.environment for each in ready], workers=True)
    print_parts(unreachable(answer), err=True)
    return ready[0]
