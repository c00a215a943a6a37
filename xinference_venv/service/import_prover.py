"""Importing what is compiled against packages of the host, before an environment is published.

Comes in: the packages of an environment, its lock, and the environment as it is staged. Comes
out: what does not work there, also of the host what files of a package are in the way of. What was
proved once of a package and the host's takes no process again, in whatever environment they meet.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from xinference_venv._util.records import digest_of, to_plain
from xinference_venv.errors import DeadlineExceeded
from xinference_venv.inventory.jobs import Phase
from xinference_venv.planning.host import HostDistribution, HostFacts
from xinference_venv.planning.import_proof import (
    ImportProof,
    ProofFailure,
    explain_failure,
    find_cut_off,
    find_library_faults,
    find_mixtures,
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
from xinference_venv.store.envs.file_copies import is_shared_object
from xinference_venv.store.envs.launcher import LAUNCHER_NAME
from xinference_venv.store.envs.proofs import is_proved, keep_proof
from xinference_venv.store.host.elf import is_of_the_system, system_folders
from xinference_venv.store.packages.record_file import (
    RecordRow,
    read_file_list,
    read_record,
    shared_objects,
)
from xinference_venv.store.packages.tree_files import SITE
from xinference_venv.store.store import Store, interpreter_facts
from xinference_venv.uv.interpreters import import_modules
from xinference_venv.uv.subprocess import ProcessRunner

PROOF_SECONDS = 300.0
"""So long an import may take: torch on a slow disk takes a minute."""
_AT_ONCE = 2
_INIT = "/__init__.py"
# How a package says that other folders of the search path have parts of it.
_EXTENDS_PATH = re.compile(rb"extend_path|declare_namespace")
_Paths = TypeVar("_Paths", bound=Collection[str])
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
        """What has to be imported; libraries that the host has in another version than needed, and
        what of it would be of two builds. Blocks on the disk.
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
        faults = (
            *find_library_faults(needed, of_inherited),
            *mixtures_of(packages, inherited, self.store),
        )
        return proofs, faults


def mixtures_of(
    packages: Sequence[PackageRecord], inherited: Sequence[HostDistribution], store: Store
) -> tuple[ProofFailure, ...]:
    """The inherited distributions that would be of two builds; see `find_mixtures`. Blocks on the
    disk.
    """
    compiled = [each for each in packages if each.compiled]
    return find_mixtures(*_compared(compiled, inherited, store, _digests_of_shared_objects))


def cut_off_by(
    packages: Sequence[PackageRecord], inherited: Sequence[HostDistribution], store: Store
) -> tuple[ProofFailure, ...]:
    """The inherited distributions of which packages before them hide a part; see `find_cut_off`.
    Blocks on the disk.
    """
    return find_cut_off(*_compared(packages, inherited, store, _regular_packages))


def _compared(
    packages: Sequence[PackageRecord],
    inherited: Sequence[HostDistribution],
    store: Store,
    read: Callable[[Path, str], _Paths],
) -> tuple[dict[PackageRecord, _Paths], dict[HostDistribution, _Paths]]:
    """What is read of packages and of inherited distributions that have a name in common."""
    names = {name.name for each in packages for name in each.top_level}
    theirs = {
        each: read(Path(each.location), each.metadata)
        for each in inherited
        if not names.isdisjoint(each.entries)
    }
    tops = {path.partition("/")[0] for paths in theirs.values() for path in paths}
    ours = {
        each: read(store.layout.package(each.key.folder) / SITE, each.metadata)
        for each in packages
        if any(name.name in tops for name in each.top_level)
    }
    return ours, theirs


def _digests_of_shared_objects(site: Path, metadata: str) -> Mapping[str, str]:
    return {row.path: row.digest for row in _rows(site, metadata) if is_shared_object(row.path)}


def _regular_packages(site: Path, metadata: str) -> Collection[str]:
    """The folders of regular packages, but for those that may have parts elsewhere."""
    inits = [row.path for row in _rows(site, metadata) if row.path.endswith(_INIT)]
    return {path.removesuffix(_INIT) for path in inits if not _extends_path(site / path)}


def _extends_path(init: Path) -> bool:
    try:
        return _EXTENDS_PATH.search(init.read_bytes()) is not None
    except OSError:
        return False


def _rows(site: Path, metadata: str) -> Sequence[RecordRow]:
    """The rows of a RECORD; none where it can't be read."""
    try:
        return read_record(site / metadata)
    except (OSError, ValueError):
        return ()


@lru_cache(maxsize=10_000)
def _libraries_of(each: HostDistribution) -> tuple[str, ...]:
    """The names of a host distribution's shared objects, by which others need them.

    Its inode tells whether it was installed again.
    """
    files = read_file_list(each.location, each.name, each.metadata)
    names = (os.path.basename(path) for path in shared_objects(each.location, files))
    return tuple(dict.fromkeys(name for name in names if name.startswith("lib")))
