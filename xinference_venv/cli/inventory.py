"""What is there and what may go: `list`, `packages`, `explain`, `remove`, `models`."""

from __future__ import annotations

import time
from typing import Any

import click

from xinference_venv import console
from xinference_venv.cli.common import check_found, json_option, selection, show
from xinference_venv.errors import InUse
from xinference_venv.inventory import EnvEntry
from xinference_venv.session import with_client


@click.command("list")
@click.argument("model", required=False)
@selection
@json_option
def list_(model: str | None, engine: str | None, python_version: str | None, as_json: bool) -> None:
    """List the environments that are there: all, or those of MODEL."""
    answer = with_client(
        lambda client: client.supervisor.list_virtual_envs(
            model, engine, python_version=python_version
        )
    )
    show(answer, lambda: console.listed(answer, time.time()), as_json)


@click.command()
@click.argument("model")
@selection
@json_option
def packages(model: str, engine: str | None, python_version: str | None, as_json: bool) -> None:
    """List the packages of MODEL's environments, each with where it is from and why."""
    answer = with_client(
        lambda client: client.supervisor.list_virtual_env_packages(model, engine, python_version)
    )
    check_found(answer, answer["list"], f"environment of {model!r}")
    show(answer, lambda: console.packages_of(answer), as_json)


@click.command()
@click.argument("model")
@selection
@json_option
def explain(model: str, engine: str | None, python_version: str | None, as_json: bool) -> None:
    """Show what brought each package of MODEL's environments, and what of the host is not shown."""
    answer = with_client(
        lambda client: client.supervisor.list_virtual_env_packages(model, engine, python_version)
    )
    check_found(answer, answer["list"], f"environment of {model!r}")
    show(answer, lambda: console.explained(answer), as_json)


@click.command()
@click.argument("model", required=False)
@click.option("--all", "everything", is_flag=True, help="Remove the environments of every model.")
@selection
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option(
    "--force",
    is_flag=True,
    help="Remove what is in use as well; its files stay until its last process has ended.",
)
@json_option
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
        check_found(answer, touched, f"environment of {model!r}")
    if not dry_run:
        _check_not_refused(answer)
    show(answer, lambda: console.removed(answer), as_json)


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the models that are known: built in, and of your own specifications."""
    entries = with_client(lambda client: client.supervisor.list_models())
    show({"list": entries}, lambda: console.models(entries), as_json)


def _check_not_refused(answer: dict[str, Any]) -> None:
    refused = [EnvEntry.from_dict(each) for report in answer["list"] for each in report["refuse"]]
    if refused:
        users = [user.to_dict() for entry in refused for user in entry.users]
        raise InUse(
            "; ".join(f"{entry.key} is {console.use_of(entry)}" for entry in refused),
            {
                "holders": [lease.to_dict() for entry in refused for lease in entry.leases],
                "users": users,
                "hint": "end what uses it; an unmanaged one can't be let go of before"
                if users
                else "end what uses it, or let go of it with --force",
            },
        )
