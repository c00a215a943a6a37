"""`launch`: make the environment of a model, and run a model in it on request."""

from __future__ import annotations

from pathlib import Path

import click

from xinference_venv.cli import shell_complete
from xinference_venv.cli.common import (
    cluster_option,
    echo,
    json_option,
    on_cluster,
    show,
    with_client,
    workers_option,
)
from xinference_venv.cli.launching import launch_model, launch_on_workers
from xinference_venv.cli.render import launch as rendering
from xinference_venv.cli.render.progress import watching
from xinference_venv.cli.verbosity import is_quiet
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.runtime.actor_spec import ActorClass
from xinference_venv.service.spec_file import with_spec_file
from xinference_venv.settings import InheritMode, ViewKind


@click.command()
@click.argument("model", shell_complete=shell_complete.models)
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--engine", help="The engine that serves the model, like vllm or transformers.")
@click.option("--format", "model_format", help="The format of the model's files, like gptq.")
@click.option(
    "--size-in-billions",
    "model_size",
    metavar="N",
    help="The size of the model in billions of parameters, where it has several.",
)
@click.option("--quantization", help="The quantization of the model's files, like int4.")
@click.option(
    "--any-engine",
    is_flag=True,
    help="Accept an engine or format that neither the catalogue nor the model knows.",
)
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
    "--view",
    type=click.Choice([kind.value for kind in ViewKind]),
    help="Links into packages that all environments share, or files of its own, for a model that"
    " writes into its packages.",
)
@click.option(
    "--constraint",
    "constraints",
    metavar="BOUND",
    multiple=True,
    help="Versions that whatever is installed must have, like 'numpy<3'. Can be repeated.",
)
@click.option(
    "--override",
    "overrides",
    metavar="BOUND",
    multiple=True,
    help="A requirement that replaces every other one of its name. Can be repeated.",
)
@click.option(
    "--exclude",
    metavar="NAME",
    multiple=True,
    help="A distribution that is left out, whatever requires it. Can be repeated.",
)
@click.option(
    "--build-constraint",
    "build_constraints",
    metavar="BOUND",
    multiple=True,
    help="Versions of what builds from source use, like 'setuptools<81'. Can be repeated.",
)
@click.option(
    "--must-import",
    metavar="NAME",
    multiple=True,
    help="A distribution that must be importable together with what is requested.",
)
@click.option(
    "--import-check",
    metavar="MODULE",
    multiple=True,
    help="A module that a fresh interpreter must import before anything is published.",
)
@click.option(
    "--no-proof",
    is_flag=True,
    help="Do not import what is compiled against packages of the host before it is published.",
)
@click.option("--refresh", is_flag=True, help="Resolve again, even if nothing has changed.")
@click.option(
    "--spec",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON in Xinference's model format that describes MODEL.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be installed.")
@workers_option(
    "Launch on the workers of a cluster at this IP (all of them) or address; by default on one,"
    " the least busy."
)
@click.option(
    "--workers",
    "count",
    metavar="N",
    type=click.IntRange(min=1),
    help="Launch on N workers, the least busy ones first.",
)
@click.option("--all-workers", "everywhere", is_flag=True, help="Launch on every worker.")
@click.option(
    "--require",
    metavar="N",
    type=click.IntRange(min=1),
    help="At least N workers must become ready, or the launch fails; by default all.",
)
@click.option(
    "--download-only",
    is_flag=True,
    help="Prepare packages and environment in advance, at low priority: after all other"
    " launches of the host, with little of its processors.",
)
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
@cluster_option
@json_option
def launch(
    model: str,
    arguments: tuple[str, ...],
    engine: str | None,
    model_format: str | None,
    model_size: str | None,
    quantization: str | None,
    any_engine: bool,
    python_version: str | None,
    enable_virtual_env: bool | None,
    packages: tuple[str, ...],
    find_links: tuple[str, ...],
    inherit: str | None,
    view: str | None,
    constraints: tuple[str, ...],
    overrides: tuple[str, ...],
    exclude: tuple[str, ...],
    build_constraints: tuple[str, ...],
    must_import: tuple[str, ...],
    import_check: tuple[str, ...],
    no_proof: bool,
    refresh: bool,
    spec: Path | None,
    dry_run: bool,
    workers: tuple[str, ...],
    count: int | None,
    everywhere: bool,
    require: int | None,
    download_only: bool,
    target: str | None,
    paths: tuple[str, ...],
    as_json: bool,
) -> int:
    """Make the environment of MODEL, or use the one that is ready, and print where it is.

    Nothing is left in use, except by --run. On a cluster that prepares its workers for the
    launches to come; equal hosts get identical environments.
    """
    if not on_cluster() and (workers or count or everywhere or require):
        raise click.UsageError(
            "--worker, --workers, --all-workers and --require are for a cluster: name its"
            " --supervisor."
        )
    if everywhere and (workers or count):
        raise click.UsageError("--all-workers can't be combined with --worker and --workers.")
    if on_cluster() and target is not None:
        raise click.UsageError(
            "--run starts a process of this host: the models of a cluster are started by its"
            " workers' own hosts."
        )
    if dry_run and (len(workers) > 1 or count or everywhere or require):
        raise click.UsageError("--dry-run plans on one worker: name it with --worker.")
    if target is None and (arguments or paths):
        raise click.UsageError("NAME=VALUE and --path are for --run.")
    if target is not None and dry_run:
        raise click.UsageError("--dry-run can't be combined with --run.")
    if download_only and (target is not None or dry_run):
        raise click.UsageError("--download-only can't be combined with --run and --dry-run.")
    actor = None if target is None else ActorClass.parse(target, arguments, paths)
    request = LaunchRequest.from_dict(
        {
            "model_name": model,
            "model_engine": engine,
            "model_format": model_format,
            "model_size_in_billions": model_size,
            "quantization": quantization,
            "any_engine": any_engine,
            "python_version": python_version,
            "enable_virtual_env": enable_virtual_env,
            "virtual_env_packages": packages,
            "virtual_env_find_links": find_links,
            "inherit": inherit,
            "view": view,
            "constraints": constraints,
            "overrides": overrides,
            "exclude": exclude,
            "build_constraints": build_constraints,
            "must_import": must_import,
            "import_check": import_check,
            "no_proof": no_proof,
            "refresh": refresh,
        }
    )
    if spec is not None:
        request = with_spec_file(request, spec)
    if dry_run:
        where = workers[0] if workers else None
        plan = with_client(lambda client: client.supervisor.plan(request, where))
        return show(
            plan.explained(), lambda: rendering.planned(plan, workers=on_cluster()), as_json
        )
    watched = watching(as_json=as_json)
    if on_cluster():
        outcome = with_client(
            lambda client: launch_on_workers(
                client,
                request,
                workers=workers,
                count=count,
                everywhere=everywhere,
                require=require,
                background=download_only,
                following=watched,
            )
        )
        show(outcome.document(), lambda: rendering.launched_on(outcome), as_json)
        if outcome.not_ready and not (as_json or is_quiet()):
            echo(f"warning: not ready on {', '.join(outcome.not_ready)}", err=True)
        return 0

    def tell(outcome: rendering.LaunchOutcome) -> None:
        show(outcome.document(), lambda: rendering.launched(outcome), as_json)

    status = with_client(
        lambda client: launch_model(
            client, request, following=watched, show=tell, actor=actor, background=download_only
        )
    )
    if status:
        echo(f"error: the process of {model} ended with exit status {status}", err=True)
    return 1 if status else 0
