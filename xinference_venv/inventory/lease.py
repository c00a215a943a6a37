"""Who uses an environment: leases, and the judgement whether their holders still live.

A lease is bound to a process by its pid and its start, so a pid that was given to another
process is no holder. Judging fails closed: what can't be proved gone counts as alive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from xinference_venv._util.humanize import printable
from xinference_venv._util.records import Fields
from xinference_venv.planning.key import EnvKey

LEASE_VERSION = 1


class Holder(StrEnum):
    """The judgement over the process that holds a lease."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessIdentity:
    """One process for all time: the host, its boot, the pid, and when the process started.

    `start` is compared for equality only; it is in clock ticks since boot where the system
    tells them, so that setting the clock does not change it, and empty where the system hides
    it. `namespace` names what the pid is counted in: a machine, whatever its host name and
    through all its boots, or one run of a container; None where the system does not tell.
    """

    host: str
    boot: str
    pid: int
    start: str
    namespace: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "host": self.host,
            "boot": self.boot,
            "pid": self.pid,
            "start": self.start,
            "namespace": self.namespace,
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The way back; raises `InvalidRecord`."""
        fields = Fields("process identity", data)
        return cls(
            host=fields.text("host"),
            boot=fields.text("boot"),
            pid=fields.integer("pid"),
            start=fields.text("start"),
            namespace=fields.optional_text("namespace"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
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
        who = self.model_uid or self.model_name
        return printable(f"{who} (process {self.process.pid} on {self.process.host})")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "version": LEASE_VERSION,
            "lease_id": self.lease_id,
            "env_id": self.env_id,
            "model_name": self.model_name,
            "model_uid": self.model_uid,
            "process": self.process.to_dict(),
            "created": self.created,
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The way back; raises `InvalidRecord`."""
        fields = Fields("lease", data)
        fields.check_version(LEASE_VERSION)
        return cls(
            lease_id=fields.text("lease_id"),
            env_id=fields.text("env_id"),
            model_name=fields.text("model_name"),
            model_uid=fields.optional_text("model_uid"),
            process=ProcessIdentity.from_dict(fields.mapping("process")),
            created=fields.number("created"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseEntry:
    """A lease as a listing shows it: how its holder was judged, and which keys mean what it holds.

    Without a key, the lease alone keeps its environment.
    """

    lease: Lease
    holder: Holder
    keys: tuple[EnvKey, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: those of the lease, `holder` and `keys`."""
        return {
            **self.lease.to_dict(),
            "holder": self.holder.value,
            "keys": [each.to_dict() for each in self.keys],
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The way back; raises `InvalidRecord`."""
        fields = Fields("lease entry", data)
        return cls(
            lease=Lease.from_dict(data),
            holder=fields.choice("holder", Holder, Holder),
            keys=fields.each("keys", EnvKey.from_dict),
        )


def judge(
    holder: ProcessIdentity, here: ProcessIdentity, start_of: Callable[[int], str | None]
) -> Holder:
    """Whether the holder lives, asked from the process `here`.

    `start_of(pid)` gives the start of the process that has this pid now, empty when that is
    hidden, or None when there is no such process. A process of another host or namespace can't
    be judged; one of an earlier boot is gone.
    """
    if holder.host != here.host:
        return Holder.UNKNOWN
    if holder.namespace != here.namespace and holder.namespace and here.namespace:
        # Another machine of the same name, or a container beside or before this one.
        return Holder.UNKNOWN
    if holder.boot != here.boot:
        return Holder.GONE
    start = start_of(holder.pid)
    if start is None:
        return Holder.GONE
    if not (start and holder.start):
        return Holder.UNKNOWN
    return Holder.ALIVE if start == holder.start else Holder.GONE
