"""What processes made beside its place and did not live to rename: a start deletes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from xinference_venv.lease import Holder
from xinference_venv.store.beside import maker_of
from xinference_venv.store.disk import Disk
from xinference_venv.store.key_places import folders_in, names_in
from xinference_venv.store.layout import Layout

# Nobody takes as long to write a file, not even a process of a host that can't be asked.
_STALE_SECONDS = 86400.0


def sweep_leftovers(layout: Layout, disk: Disk) -> None:
    """Delete what dead processes made beside its place, and the folders of keys without a key."""
    for folder in _folders(layout):
        for name in names_in(folder):
            maker = maker_of(name) if name.startswith(".") else None
            path = Path(folder, name)
            if maker is Holder.GONE or (maker is Holder.UNKNOWN and _is_stale(path)):
                disk.unlink(path)
    for folder in _folders_of_keys(layout.root):
        # Whoever makes a link there makes the folder again if it has to.
        disk.remove_empty(Path(folder))


def _folders(layout: Layout) -> Iterator[str]:
    """Every folder in which something is made beside, but those of a build."""
    yield from map(str, layout.folders)
    for parent in (layout.envs, layout.leases, layout.wheels):
        yield from (f"{parent}/{name}" for name in folders_in(str(parent)))
    yield from _folders_of_keys(layout.root)


def _folders_of_keys(root: Path) -> Iterator[str]:
    """The folders of the links of keys, each before the one that it lies in."""
    for model in folders_in(f"{root}/v4"):
        for engine in folders_in(f"{root}/v4/{model}"):
            yield f"{root}/v4/{model}/{engine}"
        yield f"{root}/v4/{model}"
    for model in folders_in(f"{root}/v3"):
        yield f"{root}/v3/{model}"
    yield from (f"{root}/v4", f"{root}/v3")


def _is_stale(path: Path) -> bool:
    try:
        return path.lstat().st_mtime < time.time() - _STALE_SECONDS
    except FileNotFoundError:
        return False
