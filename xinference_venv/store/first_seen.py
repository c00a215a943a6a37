"""Since when a home has been where it is: ages are not counted from before.

Comes in: the folders of a store. Comes out: a time. What is baked into a container's image, or
unpacked from an archive, has dates of long ago when it is first used; nothing of it is unused for
as long as that.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from xinference_venv._util.records import Record
from xinference_venv.errors import InvalidRecord, StoreError
from xinference_venv.store.atomic import Disk
from xinference_venv.store.host_files import mount_of
from xinference_venv.store.paths import StorePaths

_NAME = "first-seen.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstSeen(Record, name="first sight of a home", version=1):
    """When a home was first seen at a `place`, in seconds since the epoch."""

    place: str
    since: float


def first_seen(layout: StorePaths, disk: Disk) -> float:
    """Since when the home has been where it is now, in seconds since the epoch.

    0 for one that was there before this was recorded.
    """
    place = _place(layout)
    path = layout.store / _NAME
    known = None
    with suppress(InvalidRecord, StoreError):
        if (data := disk.read_json(path)) is not None:
            known = FirstSeen.from_dict(data)
    if known is not None and known.place == place:
        return known.since
    was_there = known is None and place.startswith(_OF_FOLDER) and any(layout.keys.iterdir())
    since = 0.0 if was_there else time.time()
    # Where it can't be recorded, nothing is ever unused for long.
    with suppress(StoreError):
        disk.write_json(path, FirstSeen(place=place, since=since).to_dict(), durable=False)
    return since


_OF_FOLDER = "folder "


def _place(layout: StorePaths) -> str:
    """What tells a home from a copy of it: the container's own layer, else the folder's inode.

    The inodes of an overlay's folders may change whenever it is mounted; who made its own layer
    names a new one for each container.
    """
    mount = mount_of(layout.store)
    if mount is not None and mount.kind == "overlay" and (own := mount.options.get("upperdir")):
        return f"overlay {own}"
    return f"{_OF_FOLDER}{layout.store.stat().st_ino}"
