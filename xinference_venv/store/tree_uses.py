"""Which trees the environments of a home show, and the bytes that each has for itself and shares.

Read from records alone; no tree is walked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cached_property

from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.store.store import Store


class TreeUses:
    """Which trees the environments of a home show, and what these take."""

    def __init__(self, *, store: Store, env_ids: Collection[str]) -> None:
        self._store = store
        self._env_ids = env_ids
        self._sizes: dict[str, int | None] = {}
        self._trees: dict[str, tuple[str, ...]] = {}

    @cached_property
    def broken(self) -> frozenset[str]:
        """The trees that are marked as broken."""
        return self._store.broken_trees()

    @cached_property
    def _bytes(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """The bytes of every tree, and the same with 0 for what one environment alone shows."""
        sizes = {folder: self.size_of(folder) or 0 for folder in self.users}
        shared = {
            folder: sizes[folder] if len(env_ids) > 1 else 0
            for folder, env_ids in self.users.items()
        }
        return sizes, shared

    @cached_property
    def users(self) -> Mapping[str, tuple[str, ...]]:
        """The ids of the environments that show each tree, by the name of its folder."""
        users: dict[str, list[str]] = defaultdict(list)
        for env_id in self._env_ids:
            for folder in self._trees_of(env_id):
                users[folder].append(env_id)
        return {folder: tuple(env_ids) for folder, env_ids in users.items()}

    def bytes_of(self, env_id: str) -> tuple[int, int]:
        """The bytes of the trees that one of these environments alone shows, and of those that
        others show as well; bytecode included, as far as it was compiled here.
        """
        # A listing may have a thousand environments with a hundred trees each.
        trees = self._trees_of(env_id)
        total, shared = (sum(map(sizes.__getitem__, trees)) for sizes in self._bytes)
        return total - shared, shared

    def size_of(self, folder: str) -> int | None:
        """The bytes of a tree; of a joined one those that its members do not have."""
        if folder not in self._sizes:
            self._sizes[folder] = self._read_size(folder)
        return self._sizes[folder]

    def _read_size(self, folder: str) -> int | None:
        packages, layout = self._store.packages, self._store.layout
        tree, size = layout.package(folder), None
        if (package := packages.record(folder)) is not None:
            size = package.size_bytes
        elif (joined := self._store.joined.record(folder)) is not None:
            tree, size = layout.joined_tree(folder), joined.size_bytes
        return None if size is None else size + packages.bytecode_bytes(tree)

    def _trees_of(self, env_id: str) -> tuple[str, ...]:
        if env_id not in self._trees:
            try:
                self._trees[env_id] = self._store.trees_of(env_id)
            except (InvalidRecord, StoreError):
                self._trees[env_id] = ()
        return self._trees[env_id]
