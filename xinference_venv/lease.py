"""Who uses an environment: leases, and the judgement whether their holders still live.

A lease is bound to a process by its pid and its start, so a pid that was given to another
process is no holder. Judging fails closed: what can't be proved gone counts as alive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from xinference_venv.canonical import Fields

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
    tells them, so that setting the clock does not change it.
    """

    host: str
    boot: str
    pid: int
    start: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"host": self.host, "boot": self.boot, "pid": self.pid, "start": self.start}

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The way back; raises `InvalidRecord`."""
        fields = Fields("process identity", data)
        return cls(
            host=fields.text("host"),
            boot=fields.text("boot"),
            pid=fields.integer("pid"),
            start=fields.text("start"),
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
        return f"{who} (process {self.process.pid} on {self.process.host})"

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
        return cls(
            lease_id=fields.text("lease_id"),
            env_id=fields.text("env_id"),
            model_name=fields.text("model_name"),
            model_uid=fields.optional_text("model_uid"),
            process=ProcessIdentity.from_dict(fields.mapping("process")),
            created=fields.number("created"),
        )


def judge(
    holder: ProcessIdentity, here: ProcessIdentity, start_of: Callable[[int], str | None]
) -> Holder:
    """Whether the holder lives, asked from the process `here`.

    `start_of(pid)` gives the start of the process that has this pid now, or None when there is
    none. A process of another host can't be judged; one of an earlier boot is gone.
    """
    if holder.host != here.host:
        return Holder.UNKNOWN
    if holder.boot != here.boot:
        return Holder.GONE
    return Holder.ALIVE if start_of(holder.pid) == holder.start else Holder.GONE
