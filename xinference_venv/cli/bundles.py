"""`export`, `import`: an environment in one file, for a cluster or host that has no index."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from xinference_venv._util.humanize import counted, size_text
from xinference_venv.cli import shell_complete
from xinference_venv.cli.common import (
    cluster_option,
    json_option,
    on_cluster,
    selection,
    show,
    with_client,
    workers_option,
)
from xinference_venv.cli.render import launch as rendering
from xinference_venv.cli.render.documents import Exported
from xinference_venv.cli.render.progress import ShowEvent, watching
from xinference_venv.cli.render.text import Part
from xinference_venv.errors import InvalidInput, VirtualEnvError
from xinference_venv.inventory.jobs import JobEvent, Phase
from xinference_venv.inventory.selection import Selection
from xinference_venv.planning.bundle import Bundle, BundleReader
from xinference_venv.service.bundle_file import next_part, open_bundle, writing_bundle

if TYPE_CHECKING:
    from xinference_venv.client import Client


@click.command()
@click.argument("model", shell_complete=shell_complete.models)
@click.argument("file", type=click.Path(path_type=Path))
@selection
@json_option
def export(
    wanted: Selection,
    file: Path,
    as_json: bool,
) -> int:
    """Write the lock of MODEL's environment and its wheels to FILE, for `import` elsewhere.

    The environment must be ready, here or on a worker of the cluster. Wheels that are not at hand
    any more are fetched again from where the lock says.
    """
    exported = with_client(
        lambda client: _export(
            client,
            wanted,
            file,
            watching(as_json=as_json),
        )
    )

    def lines() -> list[Part]:
        where = f" of {exported.worker_address}" if on_cluster() else ""
        return [
            f"{exported.file} has {exported.model_name}{where}:"
            f" {counted(exported.packages, 'wheel')}, {size_text(exported.size_bytes)}",
            f"  sha256  {exported.sha256}",
        ]

    return show(exported, lines, as_json)


async def _export(
    client: Client,
    wanted: Selection,
    file: Path,
    watching: AbstractContextManager[ShowEvent],
) -> Exported:
    environment = await client.one_ready(wanted)
    address = environment.worker_address
    with watching as show_event, writing_bundle(file) as written:

        def say(message: str, done: int, total: int) -> None:
            show_event(
                JobEvent(
                    seq=0,
                    at=time.time(),
                    phase=Phase.DOWNLOADING,
                    message=message,
                    done_bytes=done,
                    total_bytes=total,
                )
            )

        async for part in client.export(environment, say):
            await asyncio.to_thread(written.write, part)
        return Exported(
            file=str(file),
            model_name=environment.entry.key.model_name,
            model_engine=environment.entry.key.model_engine,
            worker_address=address,
            packages=environment.entry.installed,
            size_bytes=written.size,
            sha256=written.sha256,
        )


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@workers_option(
    "Only to the workers of a cluster at this IP (all of them) or address; by default to all."
)
@click.option(
    "--require",
    metavar="N",
    type=click.IntRange(min=1),
    help="At least N workers must take it, or the import fails; by default all.",
)
@cluster_option
@json_option
def import_(file: Path, workers: tuple[str, ...], require: int | None, as_json: bool) -> int:
    """Make the environment that FILE, written by `export`, holds; no index is asked.

    On this host, or on the workers of a cluster: each checks every hash. A host of another
    platform, without that Python, or without the packages that the environment inherits refuses it
    before its wheels are sent.
    """
    if not on_cluster() and (workers or require):
        raise click.UsageError("--worker and --require are for a cluster: name its --supervisor.")
    with open_bundle(file) as opened:
        try:
            bundle = _manifest(opened)
        except InvalidInput as wrong:
            raise InvalidInput(f"{file}: {wrong.message}", wrong.details) from None
        opened.seek(0)
        outcome, error = with_client(
            lambda client: _import(
                client,
                opened,
                bundle,
                workers=workers,
                require=require,
                watching=watching(as_json=as_json),
            )
        )
    return show(outcome.document(), lambda: rendering.launched_on(outcome), as_json, error)


def _manifest(opened: BinaryIO) -> Bundle:
    """What a bundle holds, read before anything of it is sent."""
    reader = BundleReader()
    while reader.bundle is None:
        part = next_part(opened)
        for _ in reader.feed(part):
            """Its wheels are for the workers."""
        if not part:
            return reader.check_whole()
    return reader.bundle


async def _import(
    client: Client,
    opened: BinaryIO,
    bundle: Bundle,
    *,
    workers: tuple[str, ...],
    require: int | None,
    watching: AbstractContextManager[ShowEvent],
) -> tuple[rendering.ClusterOutcome, VirtualEnvError | None]:
    began = time.monotonic()

    async def parts() -> AsyncIterator[bytes]:
        while part := await asyncio.to_thread(next_part, opened):
            yield part

    with watching as on_event:
        replicas, error = await client.import_bundle(
            parts(), bundle.size, workers=workers, require=require, on_event=on_event
        )
    outcome = rendering.ClusterOutcome(
        model_name=bundle.request.model_name,
        model_engine=bundle.request.model_engine,
        replicas=replicas,
        elapsed=time.monotonic() - began,
    )
    return outcome, error
