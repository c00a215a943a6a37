"""Fill an empty environment in its place with real files, as callers that write into it expect.

Comes in: a lock, and a builder whose empty environment is staged. Comes out: the environment,
with what uv installed and the layer of links to the host.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from xinference_venv._util.tasks import finish_in_thread
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.overlay import shown_names
from xinference_venv.planning.source_builds import with_places
from xinference_venv.service.assemble import Assembly
from xinference_venv.service.free_space import check_free_space
from xinference_venv.service.phases import in_phase
from xinference_venv.settings import InheritMode
from xinference_venv.store.envs.inspect import site_packages_of
from xinference_venv.store.envs.launcher import write_launcher
from xinference_venv.store.envs.layer import add_scripts, link_data_files, make_layer, show_layer
from xinference_venv.store.envs.placement import check_placement
from xinference_venv.uv.installer import Builder

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Installation:
    """Makes environments of one spec with real files."""

    assembly: Assembly

    async def make(self, lock: EnvLock, builder: Builder) -> None:
        """Make an empty environment, and put into it what the lock says and the host's layer."""
        staged = builder.env
        store = self.assembly.store
        await in_phase(Phase.INSTALLING, builder.make_empty())
        _log.info("installing %d packages", len(lock.packages))
        placed = with_places(lock, str(store.layout.wheels))
        room = check_free_space(placed, builder, store.layout.root)
        await in_phase(Phase.INSTALLING, room)
        site_packages = site_packages_of(staged)
        await in_phase(Phase.INSTALLING, builder.install(placed, _log.debug))
        # Nothing of the host and nothing of ours is there while wheels are installed: a wheel
        # could have the launcher's name, and uv would write through links:
        # https://github.com/astral-sh/uv/pull/21699
        await in_phase(Phase.INSTALLING, asyncio.to_thread(check_placement, staged, site_packages))
        await finish_in_thread(self._furnish, lock, staged)
        if self.assembly.spec.sees_host:
            await finish_in_thread(self._show_host, lock, staged)

    def _furnish(self, lock: EnvLock, staged: Path) -> None:
        """What of an environment is not uv's: the launcher and the layer of the host."""
        disk, spec, host = self.assembly.store.disk, self.assembly.spec, self.assembly.host
        write_launcher(disk, staged, spec.interpreter)
        if spec.sees_host:
            make_layer(
                disk,
                staged,
                host,
                shown_names(lock, host, spec.alone),
                unowned=lock.inherit is InheritMode.HOST,
            )

    def _show_host(self, lock: EnvLock, staged: Path) -> None:
        """Let the layer be seen, and add what of the host lies elsewhere."""
        disk, host = self.assembly.store.disk, self.assembly.host
        names = shown_names(lock, host, self.assembly.spec.alone)
        shown = [each for each in host.distributions if each.name in names]
        show_layer(disk, site_packages_of(staged), host.interpreter.search_path)
        add_scripts(disk, staged, shown)
        link_data_files(disk, staged, host.interpreter, shown)
