"""Where a file or a link is made before it takes its place: beside it, in its maker's name.

Comes in: the place. Comes out: a name for the time being, by which a sweep knows whether its
maker may still live.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from pathlib import Path

from xinference_venv.canonical import digest_of
from xinference_venv.lease import Holder, ProcessIdentity, judge
from xinference_venv.store.identity import process_start, this_process

_NAME = re.compile(
    r"\..+\.(?P<where>[0-9a-f]{12})-(?P<pid>[0-9]{1,9})-(?P<start>[0-9.]*)-[0-9a-f]{8}"
)


def place_beside(path: Path) -> Path:
    """A new place in the same folder, hidden, with a name that says which process uses it."""
    maker = this_process()
    unique = uuid.uuid4().hex[:8]
    return path.with_name(f".{path.name}.{_where(maker)}-{maker.pid}-{maker.start}-{unique}")


def maker_of(name: str) -> Holder | None:
    """Whether the process lives that made something beside; None for any other name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    here = this_process()
    if found["where"] != _where(here):
        return Holder.UNKNOWN
    return judge(replace(here, pid=int(found["pid"]), start=found["start"]), here, process_start)


def _where(process: ProcessIdentity) -> str:
    """In what the process's pid is counted."""
    return digest_of([process.host, process.namespace])[:12]
