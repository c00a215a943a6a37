"""Names for the completion of a shell: models and workers, quickly and without messages.

Comes in: the variables of the process, and the selected cluster. Comes out: names, fewer
of them where a process does not answer in time; nothing raises.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from xinference_venv.errors import InvalidInput, VirtualEnvError
from xinference_venv.inventory.cluster_state import WorkerStatus
from xinference_venv.inventory.diff import name_of
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.selection import EVERY
from xinference_venv.planning.key import EnvKey
from xinference_venv.service.local_names import local_environment_keys, local_model_names
from xinference_venv.service.places import read_settings
from xinference_venv.settings import Settings

if TYPE_CHECKING:
    from xinference_venv.client import Client

_T = TypeVar("_T")
SECONDS = 0.5
"""So long a shell waits for a supervisor."""


def model_names(environ: Mapping[str, str], supervisor: str | None) -> list[str]:
    """The models of the catalogue, and those that have an environment here or on the cluster."""
    there = models_with_environments(environ, supervisor)
    return sorted({*local_model_names(_settings(environ)), *there})


def models_with_environments(environ: Mapping[str, str], supervisor: str | None) -> list[str]:
    """The models that have an environment here or on the cluster."""
    return sorted({key.model_name for key, _ in _environments(environ, supervisor)})


def environment_names(environ: Mapping[str, str], supervisor: str | None) -> list[str]:
    """The environments that are here or on the cluster, as `parse_name` reads them."""
    return sorted(name_of(key, worker) for key, worker in _environments(environ, supervisor))


def worker_names(supervisor: str | None) -> list[str]:
    """The addresses of a cluster's workers, and the IPs that several of them share."""
    if supervisor is None:
        return []
    addresses = {each.worker_address for each in _asked(supervisor, _workers)}
    return sorted(addresses | {each.rpartition(":")[0] for each in addresses})


def _settings(environ: Mapping[str, str]) -> Settings | None:
    try:
        return read_settings(environ)
    except InvalidInput:
        return None


def _environments(
    environ: Mapping[str, str], supervisor: str | None
) -> list[tuple[EnvKey, str | None]]:
    """The keys of environments, each with its worker on a cluster."""
    if supervisor is not None:
        listed = _asked(supervisor, _listed)
        return [(each.entry.key, each.worker_address) for each in listed]
    settings = _settings(environ)
    if settings is None:
        return []
    return [(key, None) for key in local_environment_keys(settings)]


async def _listed(client: Client) -> tuple[Environment, ...]:
    return (await client.supervisor.list_virtual_envs(EVERY)).list


async def _workers(client: Client) -> tuple[WorkerStatus, ...]:
    return await client.supervisor.list_workers()


def _asked(supervisor: str, ask: Callable[[Client], Awaitable[tuple[_T, ...]]]) -> tuple[_T, ...]:
    """The answer of a supervisor if it comes in time, else nothing."""
    host, _, port = supervisor.rpartition(":")
    try:
        # Importing xoscar takes too long to do it for a supervisor that is not there.
        socket.create_connection((host, int(port)), timeout=SECONDS).close()
    except (OSError, ValueError):
        return ()
    import asyncio

    from xinference_venv.client import connect

    async def work() -> tuple[_T, ...]:
        # xoscar leaves a task of an abandoned call, whose error would be printed in the shell
        # (measured with xoscar 0.12).
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with connect(supervisor) as client, asyncio.timeout(SECONDS):
            return await ask(client)

    try:
        return asyncio.run(work())
    except (VirtualEnvError, TimeoutError, OSError):
        return ()
