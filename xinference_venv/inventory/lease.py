"""Who uses an environment: leases, and the judgement whether their holders still live.

A lease is bound to a process by its pid and its start, so a pid that was given to another
process is no holder. Judging fails closed: what can't be proved gone counts as alive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from xinference_venv._util.humanize import printable
from xinference_venv._util.records import Record, inline
from xinference_venv.planning.key import EnvKey
from xinference_venv.sentences import sentence


class Holder(StrEnum):
    """The judgement over the process that holds a lease."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"

    @property
    def counts(self) -> bool:
        """Whether a lease of such a holder counts: one that can't be judged may live."""
        return self is not Holder.GONE


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessIdentity(Record, name="process identity"):
    """One process for all time: the host, its boot, the pid, and when the process started.

    `start` is compared for equality only; it is in clock ticks since boot where the system
    tells them, so that setting the clock does not change it, and empty where the system hides
    it. In a time namespace of its own (time_namespaces(7)), an ``@`` and the namespace follow.
    `namespace` names what the pid is counted in: a machine, whatever its host name and through
    all its boots, or one run of a container; None where the system has no such thing.
    """

    host: str
    boot: str
    pid: int
    start: str
    namespace: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease(Record, name="lease", version=1):
    """A process that uses an environment; `created` is in seconds since the epoch."""

    lease_id: str
    env_id: str
    model_name: str
    model_uid: str | None
    process: ProcessIdentity
    created: float

    def bound_to(self, process: ProcessIdentity) -> Lease:
        """The same lease, held by another process from now on."""
        return replace(self, process=process)

    def __str__(self) -> str:
        return sentence(
            "{who} (process {pid} on {host})",
            who=printable(self.model_uid or self.model_name),
            pid=self.process.pid,
            host=printable(self.process.host),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedLease(Lease):
    """A lease that counts, and how its holder was judged: alive, or unknown."""

    holder: Holder = Holder.ALIVE

    @classmethod
    def of(cls, lease: Lease, holder: Holder) -> Self:
        """A lease with the judgement over its holder."""
        return cls(
            lease_id=lease.lease_id,
            env_id=lease.env_id,
            model_name=lease.model_name,
            model_uid=lease.model_uid,
            process=lease.process,
            created=lease.created,
            holder=holder,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseEntry(Record, name="lease entry"):
    """A lease as a listing shows it: how its holder was judged, and which keys mean what it holds.

    Without a key, the lease alone keeps its environment.
    """

    lease: Lease = field(metadata=inline())
    holder: Holder
    keys: tuple[EnvKey, ...] = ()


def judge(
    holder: ProcessIdentity, here: ProcessIdentity, start_of: Callable[[int], str | None]
) -> Holder:
    """Whether the holder lives, asked from the process `here`.

    `start_of(pid)` gives the start of the process that has this pid now, empty when that is
    hidden, or None when no process has it. A process of another host or namespace can't
    be judged, nor one of which either side does not know the namespace; one of an earlier boot
    is gone.
    """
    if (holder.host, holder.namespace) != (here.host, here.namespace):
        # Another machine of the same name, or another container, now or before.
        return Holder.UNKNOWN
    if holder.boot != here.boot:
        return Holder.GONE
    start = start_of(holder.pid)
    if start is None:
        return Holder.GONE
    if not (start and holder.start):
        return Holder.UNKNOWN
    if start == holder.start:
        return Holder.ALIVE
    if start.partition("@")[2] != holder.start.partition("@")[2]:
        # Each time namespace sees another start of one and the same process.
        return Holder.UNKNOWN
    return Holder.GONE


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLease(Record, name="lease of a worker"):
    """A lease of a worker, and the keys that mean what it holds."""

    entry: LeaseEntry = field(metadata=inline())
    worker_address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseReport(Record, name="release report"):
    """What became of leases that were to be released.

    `refused` are held by living processes; `deleted` are the ids of environments that nothing
    needed any more.
    """

    released: tuple[LeaseEntry, ...] = ()
    refused: tuple[LeaseEntry, ...] = ()
    absent: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    worker_address: str
