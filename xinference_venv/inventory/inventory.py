"""What is there, who uses it, what may go: entries, removal plans, refusals while in use.

Comes in: entries that the store and the worker's jobs gave. Comes out: listings and plans, which
are values to look at before anything happens, and the error of a change that is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from xinference_venv._util.humanize import printable
from xinference_venv._util.records import Record, inline
from xinference_venv.errors import InUse, InvalidInput, StoreError
from xinference_venv.inventory.env import EnvState
from xinference_venv.inventory.lease import Holder, JudgedLease, Lease, LeaseEntry
from xinference_venv.planning.key import EnvKey
from xinference_venv.sentences import joined, sentence

_USERS_NAMED = 5
_SHOWN_OF_ID = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectoryUser(Record, name="user of a directory"):
    """A process that uses a directory without a lease, and how that was seen, like "memory map".

    `command` is its command line as people may see it: shortened, without credentials. `pid` is 0
    for one that is known by its lock alone: it is in another container, on another host, or was
    forked by a process that has ended since.
    """

    pid: int
    command: str
    seen_in: tuple[str, ...] = ()

    def __str__(self) -> str:
        ways = ", ".join(self.seen_in)
        if not self.pid:
            return sentence(
                "a process whose number is not known here, seen by its {ways}", ways=ways
            )
        command = f" ({self.command})" if self.command else ""
        return sentence(
            "process {pid}{command}, seen in its {ways}", pid=self.pid, command=command, ways=ways
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvEntry(Record, name="environment entry"):
    """One environment as a key finds it, one that the drop-in for Xinference changes in its
    place, or an unmanaged directory that an older version left.

    `size_bytes` counts the environment's own files and the trees of packages that it alone shows,
    bytecode included; None when unknown. `shared_bytes` are those of trees that others show as
    well. `changed_on_host` names what it inherits and the host has otherwise since: processes
    see what the host has now.
    `shared_with` are the other keys that refer to the same environment. Times are in seconds since
    the epoch. `reason` says why a broken one is broken, or that an unmanaged one is a link.

    Of the last two, `layout` says of which version its place is (``v1`` to ``v4``), and `users`
    are the processes that use it; nothing is known of `unknown_users` others, whom the system
    does not let us look at.
    """

    key: EnvKey = field(metadata=inline())
    path: str
    real_path: str
    state: EnvState
    env_id: str | None = None
    lock_digest: str | None = None
    reason: str | None = None
    size_bytes: int | None = None
    shared_bytes: int = 0
    python: str | None = None
    installed: int = 0
    inherited: int = 0
    leases: tuple[JudgedLease, ...] = ()
    shared_with: tuple[EnvKey, ...] = ()
    layout: str | None = None
    users: tuple[DirectoryUser, ...] = ()
    unknown_users: int = 0
    created: float | None = None
    last_used: float | None = None
    changed_on_host: tuple[str, ...] = ()

    @property
    def has_known_packages(self) -> bool:
        """Whether it is known what brought its packages."""
        return self.env_id is not None or self.state is EnvState.IN_PLACE

    @property
    def total_bytes(self) -> int | None:
        """What it takes together with what it shares."""
        return None if self.size_bytes is None else self.size_bytes + self.shared_bytes

    @property
    def use(self) -> str:
        """Who uses it, in words; empty when it is unused."""
        holders = [*map(str, self.leases), *map(str, self.users)]
        return sentence("in use by {holders}", holders=joined(holders)) if holders else ""

    @property
    def hindrance(self) -> str:
        """Why it can't go, in words: it is being built, or who uses it."""
        return sentence("being built") if self.state is EnvState.BUILDING else self.use


@dataclass(frozen=True, kw_only=True, slots=True)
class RemovalPlan(Record, name="removal plan"):
    """What a removal would do: remove, remove with the files kept for their holders, refuse."""

    remove: tuple[EnvEntry, ...]
    unlink: tuple[EnvEntry, ...]
    refuse: tuple[EnvEntry, ...]


def plan_removal(
    entries: Iterable[EnvEntry], wanted: Callable[[EnvKey], bool], *, force: bool
) -> RemovalPlan:
    """What removing the entries of all wanted keys means.

    An environment in use is refused; with `force` its key goes at once, and its files when the
    last holder is gone. What a key that stays shares keeps its files without any force: it is
    the key that goes. An environment that is being built is its job's, and refused; so is an
    unmanaged directory in use, since nothing of it can go and leave the files.
    """
    remove, unlink, refuse = [], [], []
    for entry in entries:
        if not wanted(entry.key):
            continue
        stays = any(not wanted(key) for key in entry.shared_with)
        fixed = entry.state is EnvState.BUILDING or entry.users
        if fixed or (entry.leases and not stays and not force):
            refuse.append(entry)
        elif entry.leases:
            unlink.append(entry)
        else:
            remove.append(entry)
    return RemovalPlan(remove=tuple(remove), unlink=tuple(unlink), refuse=tuple(refuse))


def building_entry(key: EnvKey, path: str) -> EnvEntry:
    """The entry of a key whose first environment is being built."""
    return EnvEntry(key=key, path=path, real_path=str(PurePath(path)), state=EnvState.BUILDING)


def is_release_refused(holder: Holder | None, *, force: bool) -> bool:
    """Whether a lease stays: its holder lives, and the release is not forced. None: it is gone."""
    return holder is Holder.ALIVE and not force


# The one place that words "refused, since it is in use"; `force` is how the caller says it.


def users_error(
    what: str, users: Sequence[DirectoryUser], *, hint: str, consequence: str = ""
) -> InUse:
    """The error of a change that is refused, since processes without a lease use a directory.

    `what` names the directory, `consequence` what the change would do to these processes.
    """
    named = [str(each) for each in users[:_USERS_NAMED]]
    if len(users) > _USERS_NAMED:
        named.append(sentence("and {count} more", count=len(users) - _USERS_NAMED))
    return InUse(
        sentence(
            "{what} is in use by {named}{consequence}",
            what=what,
            named=joined(named),
            consequence=consequence,
        ),
        {"users": [each.to_dict() for each in users], "hint": hint},
    )


def leases_error(what: str, leases: Sequence[Lease]) -> InUse:
    """The error of a change that is refused, since leases on an environment count."""
    return InUse(
        sentence("{what} is in use by {named}", what=what, named=joined(map(str, leases))),
        {"holders": [each.to_dict() for each in leases]},
    )


def check_has_lock(found: Iterable[EnvEntry]) -> None:
    """Check that what was found is not only what is changed in its place, which has no lock.

    Raises `InvalidInput`.
    """
    found = list(found)
    in_place = [each for each in found if each.state is EnvState.IN_PLACE]
    if not in_place or any(each.state is EnvState.READY for each in found):
        return
    key = in_place[0].key
    raise InvalidInput(
        sentence(
            "{key} is an environment of Xinference, which the drop-in changes in its place:"
            " it has no lock",
            key=key,
        ),
        {
            "hint": sentence(
                "`xinference-venv packages {model}` shows what it has", model=key.model_name
            )
        },
    )


def removal_error(
    refused: Sequence[tuple[str, EnvEntry]], *, force: str
) -> InUse | StoreError | None:
    """The error of a removal that leaves environments, or None; each comes with what its line
    begins with, like its worker. Where nothing uses them, it is one of the disk.
    """
    if not refused:
        return None
    why = joined(
        sentence("{where}{why}", where=where, why=_why_it_stays(entry)) for where, entry in refused
    )
    if not any(entry.hindrance for _, entry in refused):
        return StoreError(
            why,
            {
                "hint": sentence(
                    "this user must be able to write there: see the folder's owner, mode and"
                    " file system"
                )
            },
        )
    users = [user.to_dict() for _, entry in refused for user in entry.users]
    if all(entry.state is EnvState.IN_PLACE for _, entry in refused if entry.users) and users:
        hint = sentence("unload the models that run in it first")
    elif users:
        hint = sentence("end what uses it; what an older version left can't be removed before")
    elif any(entry.state is EnvState.BUILDING for _, entry in refused):
        hint = sentence("wait until it is built, or cancel its job")
    else:
        hint = sentence("end what uses it, or remove it with {force}", force=force)
    return InUse(
        why,
        {
            "holders": [lease.to_dict() for _, entry in refused for lease in entry.leases],
            "users": users,
            "hint": hint,
        },
    )


def _why_it_stays(entry: EnvEntry) -> str:
    """Why an environment could not be removed: who uses it, or the error of the system."""
    if entry.hindrance:
        return sentence("{key} is {hindrance}", key=entry.key, hindrance=entry.hindrance)
    reason = printable(entry.reason) if entry.reason else sentence("it could not be removed")
    return sentence("{key}: {reason}", key=entry.key, reason=reason)


def release_error(refused: Sequence[LeaseEntry], *, force: str) -> InUse | None:
    """The error of a release of leases whose holders live, or None."""
    if not refused:
        return None
    return InUse(
        joined(
            sentence("lease {id} is held by {lease}", id=short_id(each.lease), lease=each.lease)
            for each in refused
        ),
        {
            "holders": [each.to_dict() for each in refused],
            "hint": sentence(
                "end that process, or release the lease all the same with {force}", force=force
            ),
        },
    )


def short_id(lease: Lease) -> str:
    """The beginning of a lease's id that people see; where a lease is named, it is enough."""
    return lease.lease_id[:_SHOWN_OF_ID]
