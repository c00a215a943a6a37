"""Make an environment with files of its own, as callers that write into it expect.

Comes in: a lock, and where its environment is to be. Comes out: that environment, composed of
copies of what the store of packages has, with the layer of links to the host. What is written
into a file of it reaches neither the store nor uv's cache, nor another environment.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xinference_venv._util.humanize import counted
from xinference_venv._util.tasks import finish_in_thread
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.import_proof import ProofFailure
from xinference_venv.planning.lock import EnvLock, Role
from xinference_venv.planning.overlay import shown_names
from xinference_venv.service.assemble import Assembly, Contents
from xinference_venv.service.import_prover import cut_off_by, mixtures_of
from xinference_venv.service.phases import in_phase
from xinference_venv.settings import InheritMode, ViewKind
from xinference_venv.store.envs.inspect import site_packages_of
from xinference_venv.store.envs.layer import add_scripts, link_data_files, make_layer, show_layer
from xinference_venv.store.paths import VENV_NAME
from xinference_venv.uv.installer import Builder

_log = logging.getLogger(__name__)


class UnusableError(Exception):
    """Distributions of the host do not work next to what is installed; `reasons` by name."""

    def __init__(self, failures: Sequence[ProofFailure]) -> None:
        super().__init__(failures)
        self.reasons = {name: str(each) for each in failures for name in each.release}


@dataclass(frozen=True, kw_only=True, slots=True)
class Installation:
    """Makes environments of one spec with real files; of the host what is `tolerated` need not
    work.
    """

    assembly: Assembly
    tolerated: frozenset[str] = frozenset()

    async def make(self, lock: EnvLock, builder: Builder) -> None:
        """Make the builder's environment, and put into it what the lock says and the host's layer.

        Raises the errors of `BuildFailed`, and `UnusableError` before anything is made.
        """
        composing = replace(
            self.assembly,
            spec=replace(self.assembly.spec, inherit=InheritMode.NONE, view=ViewKind.FILES),
        )
        alone = replace(
            lock, inherit=InheritMode.NONE, distributions=tuple(lock.with_role(Role.INSTALLED))
        )
        _log.info("installing %s", counted(len(lock.packages), "package"))
        contents = await self._gather(composing, alone, builder.scratch)
        failures = await finish_in_thread(self._not_working, lock, contents)
        if failures:
            raise UnusableError(failures)
        composed = builder.env.with_name(f"{builder.env.name}-composed")
        await composing.compose(contents, composed)
        disk = self.assembly.store.disk
        await finish_in_thread(disk.rename, composed / VENV_NAME, builder.env)
        await finish_in_thread(disk.discard, composed, self.assembly.store.layout.trash)
        if self.assembly.spec.sees_host:
            await in_phase(Phase.COMPOSING, finish_in_thread(self._show_host, lock, builder.env))

    async def _gather(self, composing: Assembly, lock: EnvLock, folder: Path) -> Contents:
        """The packages of a lock; one that is damaged in the store is fetched again."""
        while True:
            contents = await composing.gather(lock, folder)
            damaged = await finish_in_thread(self._damaged, contents)
            if not damaged:
                return contents
            for fault in damaged:
                _log.warning("it is installed again, since it is damaged in the store: %s", fault)

    def _not_working(self, lock: EnvLock, contents: Contents) -> tuple[ProofFailure, ...]:
        """What of the host does not work with packages that lie before it on the search path."""
        store, host = self.assembly.store, self.assembly.host
        names = {each.name for each in lock.with_role(Role.INHERITED)} - self.tolerated
        inherited = [each for name in sorted(names) if (each := host.by_name.get(name)) is not None]
        compiled = [each for each in inherited if each.compiled]
        return (
            *mixtures_of(contents.packages, compiled, store),
            *cut_off_by(contents.packages, inherited, store),
        )

    def _damaged(self, contents: Contents) -> list[str]:
        """What is wrong with packages that the store had, which are marked as broken by this."""
        packages_of_store = self.assembly.store.packages
        there = (
            each.key.folder for each in contents.packages if each.key.name not in contents.unpacked
        )
        suspects = (each for each in there if not packages_of_store.has_all_sizes(each))
        checks = map(packages_of_store.verify, suspects)
        return [check.faults[0] for check in checks if check.faults]

    def _show_host(self, lock: EnvLock, staged: Path) -> None:
        """Make the layer of the host, and add what of the host lies elsewhere."""
        disk, host = self.assembly.store.disk, self.assembly.host
        names = shown_names(lock, host, self.assembly.spec.alone)
        make_layer(disk, staged, host, names, unowned=lock.inherit is InheritMode.HOST)
        shown = [each for each in host.distributions if each.name in names]
        show_layer(disk, site_packages_of(staged), host.interpreter.search_path)
        add_scripts(staged, shown)
        link_data_files(disk, staged, host.interpreter, shown)
