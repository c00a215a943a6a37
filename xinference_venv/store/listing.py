"""The entries of a store, read from the disk: keys, records, leases, foreign directories."""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from xinference_venv.env import EnvKey, EnvRecord, EnvState
from xinference_venv.errors import InvalidRecord
from xinference_venv.inventory import EnvEntry
from xinference_venv.store.store import Store


def entries_of(store: Store) -> list[EnvEntry]:
    """Every environment that a key finds, and every directory that older versions left."""
    links = list(store.links())
    sharing: dict[str, list[EnvKey]] = defaultdict(list)
    for key, env_id in links:
        sharing[env_id].append(key)
    managed = [_entry(store, key, env_id, sharing[env_id]) for key, env_id in links]
    foreign = [_foreign_entry(key, path) for key, path in store.foreign_directories()]
    return sorted([*managed, *foreign], key=lambda entry: entry.path)


def _entry(store: Store, key: EnvKey, env_id: str, sharing: list[EnvKey]) -> EnvEntry:
    record: EnvRecord | None = None
    reason: str | None = None
    try:
        record = store.env_record(env_id)
    except InvalidRecord as error:
        reason = str(error)
    used = store.key_record(key)
    real = store.layout.env(env_id)
    return EnvEntry(
        key=key,
        path=str(store.layout.key_link(key)),
        real_path=str(real),
        state=EnvState.BROKEN if record is None else EnvState.READY,
        env_id=env_id,
        reason=reason,
        size_bytes=None if record is None else record.size_bytes,
        python=None if record is None else record.python_version,
        installed=0 if record is None else record.installed,
        inherited=0 if record is None else record.inherited,
        leases=tuple(lease for lease, _ in store.leases.of(env_id)),
        shared_with=tuple(each for each in sharing if each != key),
        created=None if record is None else record.created,
        last_used=None if used is None else used.last_used,
    )


def _foreign_entry(key: EnvKey, path: Path) -> EnvEntry:
    return EnvEntry(
        key=key,
        path=str(path),
        real_path=os.path.realpath(path),
        state=EnvState.UNMANAGED,
        python=_python_of(path),
        size_bytes=_size_of(path),
        created=_created(path),
    )


def _created(path: Path) -> float | None:
    with suppress(FileNotFoundError):
        return path.stat().st_ctime
    return None


def _python_of(env: Path) -> str | None:
    """The Python version that a virtual environment's own configuration names."""
    try:
        text = (env / "pyvenv.cfg").read_text("utf-8", "replace")
    except OSError:
        return None
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+(?:\.\d+)*)", text, re.MULTILINE)
    return found[1] if found else None


def _size_of(root: Path) -> int:
    """Bytes of the regular files, a file with several names counted once.

    It may be removed meanwhile: what is gone has no size.
    """
    seen: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(FileNotFoundError):
                found = os.lstat(os.path.join(folder, name))
                if stat.S_ISREG(found.st_mode):
                    seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())
