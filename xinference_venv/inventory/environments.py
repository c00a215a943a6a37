"""Environments with their workers, as a listing of a host or a cluster has them.

Times are in seconds since the epoch, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from xinference_venv._util.records import Record, inline
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.inventory import EnvEntry
from xinference_venv.inventory.skipped import SkippedItem
from xinference_venv.planning.key import EnvKey


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment(Record, name="environment"):
    """An environment of a worker; `actor_ip_address` is its address as Xinference names it."""

    entry: EnvEntry = field(metadata=inline())
    actor_ip_address: str
    worker_address: str

    @classmethod
    def at(cls, worker_address: str, entry: EnvEntry) -> Self:
        """An entry of the worker at an address."""
        return cls(entry=entry, actor_ip_address=worker_address, worker_address=worker_address)


@dataclass(frozen=True, kw_only=True, slots=True)
class Differing(Record, name="differing replicas"):
    """A model whose replicas were not built from one lock: the workers of each lock's digest."""

    key: EnvKey = field(metadata=inline())
    locks: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSkippedItem(Record, name="skipped item of a worker"):
    """A file or folder of a worker's store that could not be read, judged or deleted, and why."""

    item: SkippedItem = field(metadata=inline())
    worker_address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Environments(Gathered[Environment], name="environments"):
    """The environments of all workers that answered."""

    differing: tuple[Differing, ...] = ()
    skipped: tuple[WorkerSkippedItem, ...] = ()


def differing(entries: Iterable[Environment]) -> tuple[Differing, ...]:
    """The keys of a cluster's listing whose ready replicas were not built from one lock.

    Each with the workers of every lock digest: hosts that differ in platform or packages, or a
    launch that was refreshed on some of them.
    """
    found: dict[EnvKey, dict[str, tuple[str, ...]]] = {}
    for each in entries:
        digest = each.entry.lock_digest
        if each.entry.state is EnvState.READY and digest:
            locks = found.setdefault(each.entry.key, {})
            locks[digest] = (*locks.get(digest, ()), each.worker_address)
    return tuple(Differing(key=key, locks=locks) for key, locks in found.items() if len(locks) > 1)
