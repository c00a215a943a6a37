"""Importing what is compiled against packages of the host, before an environment is published.

Comes in: the packages of an environment, its lock, and the environment as it is staged. Comes
out: what does not work there. What was proved once of a package and the host's takes no process
again, in whatever environment they meet.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from xinference_venv._util.records import digest_of, to_plain
from xinference_venv.errors import DeadlineExceeded
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.host import HostDistribution, HostFacts
from xinference_venv.planning.import_proof import (
    ImportProof,
    ProofFailure,
    explain_failure,
    find_library_faults,
    find_proofs,
    inherited_compiled,
    libraries_elsewhere,
)
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.overlay import shown_names
from xinference_venv.planning.package import PackageRecord
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.sentences import sentence
from xinference_venv.service.phases import ReportProgress
from xinference_venv.store.envs.launcher import LAUNCHER_NAME
from xinference_venv.store.envs.proofs import is_proved, keep_proof
from xinference_venv.store.host.elf import is_of_the_system, system_folders
from xinference_venv.store.packages.record_file import read_file_list, shared_objects
from xinference_venv.store.store import Store, interpreter_facts
from xinference_venv.uv.interpreters import import_modules
from xinference_venv.uv.subprocess import ProcessRunner

PROOF_SECONDS = 300.0
"""So long an import may take: torch on a slow disk takes a minute."""
_AT_ONCE = 2
_MISSING_LIBRARY = re.compile(r"(lib[^\s:]+\.so[.\d]*): cannot open shared object file")


@dataclass(frozen=True, kw_only=True)
class ImportProver:
    """Proves environments of one spec; `door` starts the interpreters, `say` hears of each."""

    store: Store
    door: ProcessRunner
    spec: EnvSpec
    host: HostFacts
    say: ReportProgress

    async def find_failures(
        self,
        packages: Sequence[PackageRecord],
        lock: EnvLock,
        venv: Path,
        failed: Collection[str] = (),
    ) -> tuple[ProofFailure, ...]:
        """What does not work in an environment; packages that `failed` before are imported again
        even if nothing of the host is next to them any more.
        """
        if not self.spec.prove_imports:
            return ()
        proofs, faults = await asyncio.to_thread(self._look, packages, lock, failed)
        if faults:
            return faults
        interpreter = digest_of(to_plain(interpreter_facts(self.spec.interpreter.base_executable)))
        python = str(venv / "bin" / LAUNCHER_NAME)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def prove(proof: ImportProof) -> ProofFailure | None:
            pairs = proof.pairs(interpreter)
            async with limit:
                proved = await asyncio.to_thread(self._all_proved, pairs)
                if proved and pairs:
                    return None
                failure = await self._import(proof, python)
            if failure is None:
                await asyncio.to_thread(self._keep, pairs)
            return failure

        found = await asyncio.gather(*map(prove, proofs))
        return tuple(each for each in found if each is not None)

    async def _import(self, proof: ImportProof, python: str) -> ProofFailure | None:
        against = ", ".join(each.name for each in proof.against)
        why = (
            sentence(", compiled against the host's {against}", against=against) if against else ""
        )
        self.say(
            Phase.VERIFYING,
            sentence("importing {modules}{why}", modules=", ".join(proof.modules), why=why),
        )
        try:
            output = await import_modules(self.door, python, proof.modules, deadline=PROOF_SECONDS)
        except DeadlineExceeded as error:
            output = f"importing {', '.join(proof.modules)}: {error.message}"
        if output is None:
            return None
        missing = _MISSING_LIBRARY.search(output)
        of_system = missing is not None and is_of_the_system(missing[1])
        return explain_failure(proof, output, of_system=of_system)

    def _all_proved(self, pairs: Sequence[str]) -> bool:
        return all(is_proved(self.store.disk, self.store.layout, pair) for pair in pairs)

    def _keep(self, pairs: Sequence[str]) -> None:
        for pair in pairs:
            keep_proof(self.store.disk, self.store.layout, pair)

    def _look(
        self, packages: Sequence[PackageRecord], lock: EnvLock, failed: Collection[str]
    ) -> tuple[tuple[ImportProof, ...], tuple[ProofFailure, ...]]:
        """What has to be imported, and libraries that the host has in another version than needed;
        blocks on the disk.
        """
        installed = {library for each in packages for library in each.libraries}
        linked = {library for each in packages for library in each.linked_libraries} - installed
        libraries: dict[HostDistribution, tuple[str, ...]] = {}
        if linked and self.spec.sees_host:
            visible = shown_names(lock, self.host, self.spec.alone)
            libraries = {
                each: _libraries_of(each)
                for each in self.host.distributions
                if each.compiled and each.name in visible
            }
        providers = {name: each for each, names in libraries.items() for name in names}
        proofs = find_proofs(packages, lock, self.host, providers=providers, failed=failed)
        folders = system_folders(self.door.environment)
        needed = {
            library: records
            for library, records in libraries_elsewhere(packages).items()
            if not any(os.path.exists(f"{folder}/{library}") for folder in folders)
        }
        inherited = inherited_compiled(lock, self.host)
        of_inherited = {each: libraries.get(each, ()) for each in inherited}
        return proofs, find_library_faults(needed, of_inherited)


@lru_cache(maxsize=10_000)
def _libraries_of(each: HostDistribution) -> tuple[str, ...]:
    """The names of a host distribution's shared objects, by which others need them.

    Its inode tells whether it was installed again.
    """
    files = read_file_list(each.location, each.name, each.metadata)
    names = (os.path.basename(path) for path in shared_objects(each.location, files))
    return tuple(dict.fromkeys(name for name in names if name.startswith("lib")))
