"""Names for the completion of a shell: models and workers, quickly and without a word.

Comes in: the variables of the process, and the cluster that is meant. Comes out: names, fewer
of them where somebody does not answer in time; nothing raises.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xinference_venv.catalog.load import built_in_catalog, load_catalog
from xinference_venv.config import Settings
from xinference_venv.difference import name_of
from xinference_venv.env import EnvKey
from xinference_venv.errors import InvalidInput, VirtualEnvError
from xinference_venv.store.key_places import key_places
from xinference_venv.store.layout import Layout

if TYPE_CHECKING:
    from xinference_venv.client import Client

SECONDS = 0.5
"""So long a shell waits for a supervisor."""


def model_names(environ: Mapping[str, str], supervisor: str | None) -> list[str]:
    """The models of the catalogue, and those that have an environment here or on the cluster."""
    there = {key.model_name for key, _ in _environments(environ, supervisor)}
    return sorted({*_catalogue(_settings(environ)), *there})


def environment_names(environ: Mapping[str, str], supervisor: str | None) -> list[str]:
    """The environments that are here or on the cluster, as `EnvName.parse` reads them."""
    return sorted(name_of(key, worker) for key, worker in _environments(environ, supervisor))


def worker_names(supervisor: str | None) -> list[str]:
    """The addresses of a cluster's workers, and the IPs that several of them share."""
    if supervisor is None:
        return []
    addresses = {each["worker_address"] for each in _asked(supervisor, _workers)}
    return sorted(addresses | {each.rpartition(":")[0] for each in addresses})


def _settings(environ: Mapping[str, str]) -> Settings | None:
    try:
        return Settings.from_environ(environ, home_directory=os.path.expanduser("~"))
    except InvalidInput:
        return None


def _catalogue(settings: Settings | None) -> list[str]:
    try:
        folder = None if settings is None else Path(settings.spec_dir)
        return list(load_catalog(folder, ()).models)
    except (VirtualEnvError, OSError):
        return list(built_in_catalog().models)


def _environments(
    environ: Mapping[str, str], supervisor: str | None
) -> list[tuple[EnvKey, str | None]]:
    """The keys of environments, each with its worker on a cluster."""
    if supervisor is not None:
        listed = _asked(supervisor, _listed)
        return [(EnvKey.from_dict(each), each["worker_address"]) for each in listed]
    settings = _settings(environ)
    if settings is None:
        return []
    try:
        return [(each.key, None) for each in key_places(Layout(Path(settings.virtualenv_dir)))]
    except OSError:
        return []


async def _listed(client: Client) -> list[dict[str, Any]]:
    answer = await client.supervisor.list_virtual_envs()
    found: list[dict[str, Any]] = answer["list"]
    return found


async def _workers(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await client.supervisor.list_workers()
    return found


def _asked(
    supervisor: str, ask: Callable[[Client], Awaitable[list[dict[str, Any]]]]
) -> list[dict[str, Any]]:
    """What a supervisor says in time, else nothing."""
    host, _, port = supervisor.rpartition(":")
    try:
        # Importing xoscar takes as long as nobody should wait for one that is not there.
        socket.create_connection((host, int(port)), timeout=SECONDS).close()
    except (OSError, ValueError):
        return []
    from xinference_venv.client import remote_client

    async def work() -> list[dict[str, Any]]:
        # What xoscar leaves behind of a call that was given up would be told in the shell.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with remote_client(supervisor) as client, asyncio.timeout(SECONDS):
            return await ask(client)

    try:
        return asyncio.run(work())
    except (VirtualEnvError, TimeoutError, OSError):
        return []
