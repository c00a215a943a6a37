"""What is there, who uses it, what may go: entries, filters, removal plans.

Comes in: entries that the store and the worker's jobs gave. Comes out: listings and plans, which
are values to look at before anything happens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Self

from xinference_venv.canonical import Fields
from xinference_venv.env import EnvKey, EnvState
from xinference_venv.lease import Lease


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvEntry:
    """One environment as a key finds it.

    `size_bytes` counts the environment's own files, links not followed; None when unknown.
    `shared_with` are the other keys that mean the same environment. Times are in seconds since
    the epoch. `reason` says why a broken one is broken.
    """

    key: EnvKey
    path: str
    real_path: str
    state: EnvState
    env_id: str | None = None
    reason: str | None = None
    size_bytes: int | None = None
    python: str | None = None
    installed: int = 0
    inherited: int = 0
    leases: tuple[Lease, ...] = ()
    shared_with: tuple[EnvKey, ...] = ()
    created: float | None = None
    last_used: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the first five keys are named as Xinference names them."""
        return {
            **self.key.to_dict(),
            "path": self.path,
            "real_path": self.real_path,
            "state": self.state.value,
            "env_id": self.env_id,
            "reason": self.reason,
            "size_bytes": self.size_bytes,
            "python": self.python,
            "installed": self.installed,
            "inherited": self.inherited,
            "leases": [each.to_dict() for each in self.leases],
            "shared_with": [each.to_dict() for each in self.shared_with],
            "created": self.created,
            "last_used": self.last_used,
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """The way back; raises `InvalidRecord`."""
        fields = Fields("environment entry", data)
        return cls(
            key=EnvKey.from_dict(data),
            path=fields.text("path"),
            real_path=fields.text("real_path"),
            state=fields.choice("state", EnvState, EnvState),
            env_id=fields.optional_text("env_id"),
            reason=fields.optional_text("reason"),
            size_bytes=fields.optional_integer("size_bytes"),
            python=fields.optional_text("python"),
            installed=fields.integer("installed", 0),
            inherited=fields.integer("inherited", 0),
            leases=fields.each("leases", Lease.from_dict),
            shared_with=fields.each("shared_with", EnvKey.from_dict),
            created=fields.optional_number("created"),
            last_used=fields.optional_number("last_used"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvFilter:
    """Which entries are meant; None means any. A Python version ``3.12`` means ``3.12.1`` too."""

    model_name: str | None = None
    model_engine: str | None = None
    python_version: str | None = None

    def matches(self, key: EnvKey) -> bool:
        """Whether a key is meant."""
        wanted = self.python_version
        return (
            (self.model_name is None or key.model_name == self.model_name)
            and (self.model_engine is None or key.model_engine == self.model_engine)
            and (
                wanted is None
                or key.python_version == wanted
                or key.python_version.startswith(f"{wanted}.")
            )
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RemovalPlan:
    """What a removal would do: remove, remove with the files kept for their holders, refuse."""

    remove: tuple[EnvEntry, ...]
    detach: tuple[EnvEntry, ...]
    refuse: tuple[EnvEntry, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "remove": [each.to_dict() for each in self.remove],
            "detach": [each.to_dict() for each in self.detach],
            "refuse": [each.to_dict() for each in self.refuse],
        }


def plan_removal(entries: Iterable[EnvEntry], wanted: EnvFilter, *, force: bool) -> RemovalPlan:
    """What removing the matching entries means.

    An environment in use is refused; with `force` its key goes at once, and its files when the
    last holder is gone. What a key that stays shares keeps its files without any force: it is
    the key that goes. An environment that is being built is its job's, and refused.
    """
    remove, detach, refuse = [], [], []
    for entry in entries:
        if not wanted.matches(entry.key):
            continue
        stays = any(not wanted.matches(key) for key in entry.shared_with)
        if entry.state is EnvState.BUILDING or (entry.leases and not stays and not force):
            refuse.append(entry)
        elif entry.leases:
            detach.append(entry)
        else:
            remove.append(entry)
    return RemovalPlan(remove=tuple(remove), detach=tuple(detach), refuse=tuple(refuse))


def building_entry(key: EnvKey, path: str) -> EnvEntry:
    """The entry of a key whose first environment is being built."""
    return EnvEntry(key=key, path=path, real_path=str(PurePath(path)), state=EnvState.BUILDING)
