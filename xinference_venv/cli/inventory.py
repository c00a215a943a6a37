"""`list`, `packages`, `explain`, `remove`, `models`, `workers`: what is there, and removing it."""

from __future__ import annotations

import time

import click
from rich.console import RenderableType
from rich.text import Text

from xinference_venv._util.humanize import printable
from xinference_venv._util.records import to_plain
from xinference_venv.cli import completion_candidates
from xinference_venv.cli.common import (
    check_found,
    cluster_option,
    json_option,
    on_cluster,
    on_workers,
    selected,
    selection,
    show,
    with_client,
)
from xinference_venv.cli.render import environments
from xinference_venv.cli.render.cluster import differing, skipped, unreachable_error, workers_of
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.inventory import removal_error
from xinference_venv.inventory.reports import EnvironmentPackages, ExplainedPackages
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.provenance import Tree


@click.group(invoke_without_command=True)
@cluster_option
@json_option
@click.pass_context
def workers(ctx: click.Context, as_json: bool) -> int:
    """List the workers of a cluster: state, release, jobs, free disk, when last heard.

    A worker is suspect when some of its heartbeats did not come, and gone after half a minute
    without any. Gone for a minute, no command asks it or counts it as missing; after a day it is
    forgotten.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    _check_cluster()
    listed = with_client(lambda client: client.supervisor.list_workers())
    document = {"list": to_plain(listed)}
    return show(document, lambda: workers_of(listed), as_json)


@workers.command()
@click.argument("worker", metavar="ID|ADDRESS")
@cluster_option
@json_option
def forget(worker: str, as_json: bool) -> int:
    """Take a worker that is not alive out of the cluster; should it come back, it joins again."""
    _check_cluster()
    forgotten = with_client(lambda client: client.supervisor.forget_worker(worker))
    text = Text(f"forgotten: {printable(forgotten.worker_address)}")
    return show(forgotten.to_dict(), lambda: [text], as_json)


def _check_cluster() -> None:
    if not on_cluster():
        raise click.UsageError("Name the --supervisor of the cluster.")


@click.command("list")
@click.argument("model", shell_complete=completion_candidates.models, required=False)
@selection
@json_option
def list_(
    model: str | None,
    engine: str | None,
    python_version: str | None,
    worker_ip: str | None,
    as_json: bool,
) -> int:
    """List the environments that are there: all, or those of MODEL."""
    wanted = selected(model, engine, python_version, worker_ip)
    answer = with_client(lambda client: client.supervisor.list_virtual_envs(wanted))

    def rendered() -> list[RenderableType]:
        listed = environments.listed(answer, time.time(), workers=on_cluster())
        return [*listed, *differing(answer), *skipped(answer, workers=on_cluster())]

    return show(answer, rendered, as_json)


@click.command()
@click.argument("model", shell_complete=completion_candidates.models)
@selection
@json_option
def packages(
    model: str,
    engine: str | None,
    python_version: str | None,
    worker_ip: str | None,
    as_json: bool,
) -> int:
    """List the packages of MODEL's environments, each with where it is from and why."""
    answer = _packages(model, selected(model, engine, python_version, worker_ip))
    return show(answer, lambda: environments.packages_of(answer, workers=on_cluster()), as_json)


def _packages(model: str, wanted: Selection) -> Gathered[EnvironmentPackages]:
    """The packages of a model's environments; raises `NotFound` when there are none."""
    answer = with_client(lambda client: client.supervisor.list_virtual_env_packages(wanted))
    check_found(answer, answer.list, f"environment of {model!r}")
    return answer


@click.command("show")
@click.argument("model", shell_complete=completion_candidates.models)
@selection
@json_option
def show_(
    model: str,
    engine: str | None,
    python_version: str | None,
    worker_ip: str | None,
    as_json: bool,
) -> int:
    """Draw MODEL's environments: the view, the trees of packages it leads to, who shares them."""
    answer = _packages(model, selected(model, engine, python_version, worker_ip))
    return show(answer, lambda: environments.drawn(answer, workers=on_cluster()), as_json)


@click.command()
@click.argument("model", shell_complete=completion_candidates.models)
@selection
@json_option
def explain(
    model: str,
    engine: str | None,
    python_version: str | None,
    worker_ip: str | None,
    as_json: bool,
) -> int:
    """Show what brought each package of MODEL's environments, and what of the host is not shown."""
    answer = _packages(model, selected(model, engine, python_version, worker_ip))
    explained = answer.of(
        ExplainedPackages(listed=each, tree=Tree.of(each.distributions)) for each in answer.list
    )
    return show(explained, lambda: environments.explained(answer, workers=on_cluster()), as_json)


@click.command()
@click.argument("model", shell_complete=completion_candidates.models, required=False)
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
    worker_ip: str | None,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Remove the environments of MODEL, without confirmation; refused while they are in use.

    On a cluster each worker removes all of its own or refuses.
    """
    if (model is None) is not everything:
        raise click.UsageError("Give either MODEL or --all.")
    wanted = selected(model, engine, python_version, worker_ip)
    answer = with_client(
        lambda client: client.supervisor.remove_virtual_env(wanted, dry_run=dry_run, force=force)
    )
    if model is not None:
        touched = [entry for report in answer.list for entry in report.matching]
        check_found(answer, touched, f"environment of {model!r}")
    refused = [
        (environments.where_of(report, on_cluster()), entry)
        for report in answer.list
        for entry in report.plan.refuse
    ]
    refusal = None if dry_run else removal_error(refused, force="--force")
    error = refusal or unreachable_error(answer)
    return show(answer, lambda: environments.removed(answer, workers=on_cluster()), as_json, error)


@click.command()
@on_workers
@json_option
def models(worker_ip: str | None, as_json: bool) -> int:
    """List the models of the catalogue: built in, and of your own specification files.

    On a cluster, those that one of its workers knows.
    """
    entries = with_client(lambda client: client.supervisor.list_models(worker_ip))
    return show({"list": to_plain(entries)}, lambda: environments.models(entries), as_json)
