"""Which environments go, so that the others fit: planned here, applied elsewhere.

Comes in: what each environment takes and who uses it, a policy, the time. Comes out: an
`EvictionPlan`, a value to look at before anything happens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from xinference_venv._util.records import Record, inline
from xinference_venv.errors import InvalidInput
from xinference_venv.inventory.lease import Lease
from xinference_venv.planning.key import EnvKey
from xinference_venv.sentences import sentence


class EvictionReason(StrEnum):
    """Why an environment goes."""

    UNNEEDED = "unneeded"
    """No key refers to it and no process uses it."""
    UNUSED = "unused"
    """None of its keys was launched for longer than the policy allows."""
    OVER_LIMIT = "over limit"
    """It is the least recently used one while all together take more than the policy allows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvictionPolicy:
    """What may stay: `max_bytes` for all environments, `older_than` seconds since a launch.

    None means no limit. What is not needed goes whatever the policy says.
    """

    max_bytes: int | None = None
    older_than: float | None = None

    def __post_init__(self) -> None:
        for name, limit in (("max_bytes", self.max_bytes), ("older_than", self.older_than)):
            if limit is not None and (isinstance(limit, bool) or not 0 <= limit < math.inf):
                raise InvalidInput(
                    sentence(
                        "Invalid {name} {limit} of an eviction policy", name=name, limit=repr(limit)
                    ),
                    {"hint": sentence("Allowed: numbers from 0 on, in bytes and in seconds.")},
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvUsage(Record, name="usage of an environment"):
    """One environment, who uses it, and what it takes.

    `keys` are all that refer to it, `leases` those that count, `busy` says that a launch of one of
    its keys is under way. `last_used` is when the latest of its keys was launched, in seconds
    since the epoch. `size_bytes` are those of its own files; `shared_bytes` what of them an
    environment before it in `walk_order` has as well. Both are 0 until they are measured.
    """

    env_id: str
    keys: tuple[EnvKey, ...]
    leases: tuple[Lease, ...]
    busy: bool
    last_used: float
    size_bytes: int = 0
    shared_bytes: int = 0

    @property
    def in_use(self) -> bool:
        """Whether it must stay."""
        return self.busy or bool(self.leases)

    @property
    def added_bytes(self) -> int:
        """The bytes that it adds to those of the environments before it in `walk_order`."""
        return self.size_bytes - self.shared_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Eviction(Record, name="eviction"):
    """One environment that goes, and why."""

    usage: EnvUsage = field(metadata=inline())
    reason: EvictionReason


@dataclass(frozen=True, kw_only=True, slots=True)
class EvictionPlan:
    """What goes, in this order; what would go if it were not in use; bytes before and after.

    The bytes are those of all environments, a file that several have counted once.
    """

    evict: tuple[Eviction, ...]
    in_use: tuple[EnvUsage, ...]
    bytes_before: int
    bytes_after: int


def walk_order(usages: Iterable[EnvUsage]) -> list[EnvUsage]:
    """In the order in which they are worth keeping: in use, lately used, not needed.

    Whatever a policy evicts is an end of this order, so the bytes that each one adds to those
    before it are the bytes that its going takes from the total.
    """
    return sorted(usages, key=lambda each: (not each.in_use, not each.keys, -each.last_used))


def plan_eviction(
    usages: Iterable[EnvUsage], policy: EvictionPolicy, *, now: float, since: float = -math.inf
) -> EvictionPlan:
    """What a policy evicts at the time `now`, in seconds since the epoch.

    `usages` were measured in `walk_order`. The least recently used goes first, and nothing that
    is in use. Nothing is unused for longer than `since`, when the home was first seen where it is:
    what an image brings along has dates of long ago.
    """
    order = walk_order(usages)
    before = after = sum(each.added_bytes for each in order)
    limit = before if policy.max_bytes is None else policy.max_bytes
    oldest = -math.inf if policy.older_than is None else now - policy.older_than
    evict = []
    for usage in reversed(order):
        if usage.in_use:
            break
        if not usage.keys:
            reason = EvictionReason.UNNEEDED
        elif max(usage.last_used, since) < oldest:
            reason = EvictionReason.UNUSED
        elif after > limit:
            reason = EvictionReason.OVER_LIMIT
        else:
            break
        evict.append(Eviction(usage=usage, reason=reason))
        after -= usage.added_bytes
    in_use = (
        each
        for each in order
        if each.in_use and (after > limit or max(each.last_used, since) < oldest)
    )
    return EvictionPlan(
        evict=tuple(evict), in_use=tuple(in_use), bytes_before=before, bytes_after=after
    )
