"""What the tests of the store of packages share: wheels that uv has installed, taken apart."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from uv import find_uv_bin

from tests.store.conftest import make_venv
from xinference_venv.planning.package import PackageKey, PackageRecord
from xinference_venv.store.packages.finish_trees import Filled, finish_trees
from xinference_venv.store.packages.package_tree import Split, split_environment
from xinference_venv.store.packages.tree_files import StagedTree
from xinference_venv.store.store import Store


class Finished(NamedTuple):
    """The trees of packages by name, and who shares a path."""

    trees: dict[str, StagedTree]
    contested: tuple[str, ...]


def split_and_finish(
    env: Path, site: Path, keys: Mapping[str, PackageKey | None], into: Path
) -> Finished:
    """Whole trees of what is installed in an environment."""
    return finish(split_environment(env, site, keys, into))


def finish(split: Split) -> Finished:
    """The same, of trees that were not looked at yet."""
    trees = {each.record.key.name: each for each in finish_trees(split.trees.values())}
    return Finished(trees, split.contested)


class Unpack:
    """Installs wheels with the real uv into an environment, and takes it apart."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.staging = store.make_staging_folder("job")
        self.count = 0

    def split(self, *wheels: Path, keys: Mapping[str, PackageKey] | None = None) -> Finished:
        """The trees of wheels, staged."""
        return finish(self.move(*wheels, keys=keys))

    def move(self, *wheels: Path, keys: Mapping[str, PackageKey] | None = None) -> Split:
        """The trees of wheels, not looked at yet."""
        return self.fill(*wheels, keys=keys).split()

    def fill(self, *wheels: Path, keys: Mapping[str, PackageKey] | None = None) -> Filled:
        """An environment into which wheels were installed."""
        self.count += 1
        env = self.staging / f"env-{self.count}"
        site = make_venv(env)
        subprocess.run(
            [
                *(find_uv_bin(), "pip", "install", "--no-deps", "--no-index", "--no-config"),
                *("--quiet", "--python", str(env / "bin" / "python"), *map(str, wheels)),
            ],
            check=True,
            env={
                "PATH": os.environ["PATH"],
                "UV_CACHE_DIR": str(self.store.layout.root.parent / "uv-cache"),
            },
        )
        return Filled(
            env=str(env),
            site_packages=str(site),
            into=str(self.staging / f"trees-{self.count}"),
            packages=tuple({each.name.partition("-")[0].replace("_", "-") for each in wheels}),
            keys=keys or {},
        )

    def add(self, *wheels: Path) -> dict[str, PackageRecord]:
        """The packages of wheels, in the store."""
        trees = self.split(*wheels).trees
        self.store.packages.keep(self.staging, [tree.record.key.folder for tree in trees.values()])
        return {each.key.name: each for each in self.store.packages.add(trees.values())}

    def site(self, record: PackageRecord) -> Path:
        """The ``site`` of a package in the store."""
        return self.store.layout.package(record.key.folder) / "site"


@pytest.fixture
def unpack(store: Store) -> Unpack:
    return Unpack(store)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder
