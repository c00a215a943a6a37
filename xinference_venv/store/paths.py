"""Where everything lies below the virtualenv directory; paths are computed, nothing is touched.

v4/{model_name}/{model_engine}/{python_version} -> store/envs/{id}/venv
v3/{model_name}/{python_version} -> store/envs/{id}/venv
store/envs packages joined broken staging trash stubs wheels locks leases logs keys hosts processes
store/resolutions relay
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xinference_venv.errors import StoreError
from xinference_venv.planning.key import EnvKey
from xinference_venv.sentences import sentence

BYTECODE = "__pycache__"
RECORD_NAME = "xinference-venv.json"
LOCK_NAME = "xinference-venv.lock.json"
OWN_FILES_NAME = "xinference-venv.files.json"
BROKEN_NAME = "xinference-venv-broken.json"
IN_PLACE_RECORD_NAME = "xinference-venv-in-place.json"
PACKAGE_RECORD_NAME = "xinference-venv.package.json"
JOINED_RECORD_NAME = "xinference-venv.joined.json"
NEEDS_NAME = "xinference-venv.needs.json"
COMPILED_NAME = "xinference-venv.compiled"
VIEW_RECORD_NAME = "xinference-venv.view.json"
LAYER_NAME = "inherited"
VENV_NAME = "venv"
VIEW_NAME = "view"


@dataclass(frozen=True)
class StorePaths:
    """Paths below `root`, the ``virtualenv`` directory of a home."""

    root: Path

    def key_link(self, key: EnvKey) -> Path:
        """The link by which a key's environment is found; proved to lie inside the root."""
        return self.inside(self.root.joinpath(*key.parts))

    def env(self, env_id: str) -> Path:
        """The directory of an environment."""
        return self._entry(self.envs, env_id)

    def venv(self, env_id: str) -> Path:
        """The virtual environment of an environment, which its key's link leads to."""
        return self.env(env_id) / VENV_NAME

    def leases_of(self, env_id: str) -> Path:
        """The folder of an environment's leases."""
        return self._entry(self.leases, env_id)

    def lease(self, env_id: str, lease_id: str) -> Path:
        """The file of a lease."""
        return self._entry(self.leases_of(env_id), f"{lease_id}.json")

    def built_wheels(self, sha256: str) -> Path:
        """The folder of a wheel that was built from source."""
        return self._entry(self.wheels, sha256)

    @staticmethod
    def alternative_id(env_id: str, number: int) -> str:
        """The name of another environment of the same lock; 0 gives the lock's own."""
        return f"{env_id}x{number}" if number else env_id

    @staticmethod
    def own_id(env_id: str) -> str:
        """The id that the lock of an environment gives, also for one with an alternative id."""
        return env_id.partition("x")[0]

    def package(self, folder: str) -> Path:
        """The tree of a package, by its folder's name."""
        return self._entry(self.packages, folder)

    def joined_tree(self, folder: str) -> Path:
        """A joined tree, by its folder's name."""
        return self._entry(self.joined, folder)

    def _entry(self, folder: Path, name: str) -> Path:
        """What a name means in a folder: never the folder itself, nor what lies deeper."""
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise StoreError(
                sentence("{name} names no entry of {folder}", name=repr(name), folder=folder)
            )
        return folder / name

    def inside(self, path: Path) -> Path:
        """The path itself when it lies inside the root as written; raises `StoreError`."""
        if not path.is_relative_to(self.root) or path == self.root or ".." in path.parts:
            raise StoreError(
                sentence("{path} does not lie inside {root}", path=path, root=self.root)
            )
        if "\0" in str(path):
            raise StoreError(sentence("{path} can't be a path", path=repr(str(path))))
        return path

    @cached_property
    def store(self) -> Path:
        """Everything that is ours alone."""
        return self.root / "store"

    @cached_property
    def envs(self) -> Path:
        """The environments, one directory each, named by id."""
        return self.store / "envs"

    @cached_property
    def packages(self) -> Path:
        """The trees of packages, named by `PackageKey.folder`."""
        return self.store / "packages"

    @cached_property
    def joined(self) -> Path:
        """Joined trees, named by `JoinPlan.folder`."""
        return self.store / "joined"

    @cached_property
    def broken(self) -> Path:
        """An empty file for each tree, of a package or joined, that may be broken: so that one
        look tells of all.
        """
        return self.store / "broken"

    @property
    def staging(self) -> Path:
        """What is being built; swept at start."""
        return self.store / "staging"

    @property
    def trash(self) -> Path:
        """What is being deleted; swept at start."""
        return self.store / "trash"

    @property
    def stubs(self) -> Path:
        """Stub wheels, a folder for each host digest."""
        return self.store / "stubs"

    @property
    def wheels(self) -> Path:
        """Wheels that were built from source, a folder for each sha256."""
        return self.store / "wheels"

    @property
    def relay(self) -> Path:
        """Wheels that were fetched for other workers, each named by its sha256."""
        return self.store / "relay"

    def relayed_wheel(self, sha256: str) -> Path:
        """A wheel that was fetched for other workers."""
        return self._entry(self.relay, sha256)

    @property
    def locks(self) -> Path:
        """Lock files between processes."""
        return self.store / "locks"

    @cached_property
    def leases(self) -> Path:
        """Leases, a folder for each environment."""
        return self.store / "leases"

    @property
    def logs(self) -> Path:
        """The output of uv, a file for each job."""
        return self.store / "logs"

    @cached_property
    def keys(self) -> Path:
        """A record for each key."""
        return self.store / "keys"

    @property
    def hosts(self) -> Path:
        """Facts of host interpreters."""
        return self.store / "hosts"

    @property
    def resolutions(self) -> Path:
        """Locks of recent resolutions, a file for each question."""
        return self.store / "resolutions"

    @property
    def processes(self) -> Path:
        """A record for each uv process that runs."""
        return self.store / "processes"

    @property
    def uv_cache(self) -> Path:
        """Uv's cache where its own can't be linked from here, or may not be written to."""
        return self.store / "uv-cache"

    @property
    def temporary(self) -> Path:
        """Temporary files of uv and builds on a host that has no other place for them."""
        return self.store / "tmp"

    @property
    def proofs(self) -> Path:
        """What was proved of environments, an empty file for each."""
        return self.store / "proofs"

    def worker_id(self, number: int) -> Path:
        """The id of one of the workers of this home."""
        return self.store / f"worker-{number}.json"

    def worker_id_lock(self, number: int) -> Path:
        """The lock that a worker with this id holds while it lives."""
        return self.locks / f"worker-{number}.lock"

    @property
    def old_sizes(self) -> Path:
        """What was measured of the directories that older versions left."""
        return self.store / "old-sizes.json"

    @property
    def model_index(self) -> Path:
        """The models of the catalogue as they were last listed."""
        return self.store / "models.json"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every folder that a store has."""
        return (
            *(self.envs, self.packages, self.joined),
            *(self.staging, self.trash, self.stubs, self.wheels),
            *(self.locks, self.leases, self.logs, self.keys, self.hosts, self.processes),
            *(self.proofs, self.resolutions, self.relay),
        )
