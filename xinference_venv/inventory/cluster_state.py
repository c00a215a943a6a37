"""The workers of a cluster as the supervisor knows them: who registered, who was heard when.

Comes in: registrations and heartbeats, with the time as an argument. Comes out: who is asked,
what missing heartbeats mean, which of them are alike. A state object, without loop, clock or wire.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from xinference_venv._util.records import Record
from xinference_venv.errors import IncompatibleVersion, InvalidInput, NotFound
from xinference_venv.sentences import sentence

PROTOCOL = 2
"""Raised when a worker of the release before could not be asked any more."""
HEARTBEAT_SECONDS = 2.0
# Heartbeats that fail to come until a worker is suspected, until it is given up, and until it does
# not count as missing any more.
_SUSPECT_AFTER = 3
_GONE_AFTER = 15
_LONG_GONE_AFTER = 30
FORGOTTEN_SECONDS = 24 * 3600.0


class WorkerState(StrEnum):
    """`SUSPECT`: some heartbeats did not come; `GONE`: so many that it is not waited for."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    GONE = "gone"


_NEWS = {
    WorkerState.ALIVE: "is back",
    WorkerState.SUSPECT: "has missed heartbeats",
    WorkerState.GONE: "is gone: no heartbeat for half a minute",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration(Record, name="worker registration"):
    """What a worker says of itself when it joins.

    `incarnation` is new for each start of a worker, `started` its time in seconds since the
    epoch on the worker's clock; `heartbeat` is the seconds between heartbeats, None for a worker
    of the supervisor's own process, which sends none. `worker_id` stays the same when the worker
    is started again, be it at another address; an earlier release has none.
    """

    address: str
    incarnation: str
    started: float
    protocol: int
    release: str
    host_name: str
    heartbeat: float | None
    worker_id: str = ""

    @property
    def ip(self) -> str:
        """The host part of the address."""
        return self.address.rpartition(":")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSnapshot(Record, name="snapshot of a worker"):
    """What a heartbeat says of its host: jobs that run, and bytes that are free on its disk."""

    jobs: int = 0
    free_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerStatus(Record, name="status of a worker"):
    """A worker; `snapshot` is what its last heartbeat carried, `snapshot_age` is in seconds.

    One that is `draining` gets no new launches but those that name it.
    """

    worker_address: str
    state: WorkerState
    host_name: str
    release: str
    incarnation: str
    snapshot: WorkerSnapshot | None
    snapshot_age: float | None
    worker_id: str = ""
    draining: bool = False


@dataclass(kw_only=True)
class Member:
    """A registered worker; `heard` is when it last was, on the supervisor's monotonic clock."""

    registration: Registration
    heard: float
    snapshot: WorkerSnapshot | None = None
    models: frozenset[str] | None = None
    """The models that it has environments of, None where that is not known."""
    draining: bool = False

    def state(self, now: float) -> WorkerState:
        """Its state by the age of its last heartbeat."""
        missed = self._missed(now)
        if missed < _SUSPECT_AFTER:
            return WorkerState.ALIVE
        return WorkerState.SUSPECT if missed < _GONE_AFTER else WorkerState.GONE

    def is_long_gone(self, now: float) -> bool:
        """Whether it is neither asked any more nor counted as missing."""
        return self._missed(now) >= _LONG_GONE_AFTER

    def _missed(self, now: float) -> float:
        """How many heartbeats did not come; a worker of the supervisor's process sends none."""
        heartbeat = self.registration.heartbeat
        return 0.0 if heartbeat is None else (now - self.heard) / heartbeat

    def describe(self, now: float) -> WorkerStatus:
        """The worker as it is listed."""
        return WorkerStatus(
            worker_address=self.registration.address,
            state=self.state(now),
            host_name=self.registration.host_name,
            release=self.registration.release,
            incarnation=self.registration.incarnation,
            snapshot=self.snapshot,
            snapshot_age=None if self.snapshot is None else now - self.heard,
            worker_id=self.registration.worker_id,
            draining=self.draining,
        )


@dataclass(kw_only=True)
class ClusterState:
    """All workers by address. What it forgets at a restart, the next heartbeats bring back.

    `members` are in the order in which they were heard, the last one at the end.
    """

    members: OrderedDict[str, Member] = field(default_factory=OrderedDict)
    _addresses: dict[str, str] = field(default_factory=dict)
    """Where the workers with an id were last."""
    _known: dict[str, tuple[str, WorkerState]] = field(default_factory=dict)

    def register(self, registration: Registration, now: float) -> None:
        """Add a worker, or a newer incarnation of it, at whatever address it was before.

        Raises `IncompatibleVersion`, and `InvalidInput` for an incarnation that was replaced.
        """
        if registration.protocol != PROTOCOL:
            raise IncompatibleVersion(
                sentence(
                    "the worker at {address} speaks protocol {protocol} (release {release}),"
                    " this supervisor protocol {own_protocol}",
                    address=registration.address,
                    protocol=registration.protocol,
                    release=registration.release,
                    own_protocol=PROTOCOL,
                ),
                {"hint": sentence("install releases of the same protocol on both")},
            )
        there = self.members.get(registration.address)
        elsewhere = self._elsewhere(registration)
        for other in (there, elsewhere):
            # Where one is gone who registers is there, although its clock was set back since.
            if (
                other is not None
                and other.state(now) is not WorkerState.GONE
                and _is_newer(other.registration, registration)
            ):
                raise InvalidInput(
                    sentence(
                        "the worker at {address} was restarted since, at {new_address}",
                        address=registration.address,
                        new_address=other.registration.address,
                    ),
                    {"hint": sentence("if these are two workers, give each its own --worker-id")},
                )
        if elsewhere is not None:
            del self.members[elsewhere.registration.address]
        if there is not None and there.registration.incarnation == registration.incarnation:
            there.registration, there.heard = registration, now
        else:
            # One that crashed and is started again is drained as before.
            draining = any(each.draining for each in (there, elsewhere) if each is not None)
            self.members[registration.address] = Member(
                registration=registration, heard=now, draining=draining
            )
        self.members.move_to_end(registration.address)
        if registration.worker_id:
            self._addresses[registration.worker_id] = registration.address

    def heartbeat(
        self, address: str, incarnation: str, snapshot: WorkerSnapshot, now: float
    ) -> bool:
        """Note that a worker lives; False when it is not known and has to register."""
        member = self.members.get(address)
        if member is None or member.registration.incarnation != incarnation:
            return False
        member.heard, member.snapshot = now, snapshot
        self.members.move_to_end(address)
        return True

    def note_models(self, address: str, incarnation: str, models: Iterable[str]) -> None:
        """Note of which models a worker has environments; one that is not known says it again."""
        member = self.members.get(address)
        if member is not None and member.registration.incarnation == incarnation:
            member.models = frozenset(models)

    def may_have(self, model: str, now: float) -> list[Member]:
        """The living workers that may have an environment of a model."""
        return [
            member
            for member in self.members.values()
            if member.state(now) is WorkerState.ALIVE
            and (member.models is None or model in member.models)
        ]

    def leave(self, address: str, incarnation: str) -> None:
        """Take out a worker that ends; another incarnation of it stays."""
        member = self.members.get(address)
        if member is not None and member.registration.incarnation == incarnation:
            del self.members[address]

    def _elsewhere(self, registration: Registration) -> Member | None:
        """The worker of this id at another address."""
        address = self._addresses.get(registration.worker_id)
        member = None if address is None else self.members.get(address)
        if member is None or member.registration.worker_id != registration.worker_id:
            # Another one has its address now, or it was taken out.
            return None
        return member if address != registration.address else None

    def forget(self, wanted: str, now: float) -> Member:
        """Take out the worker of an id or at an address or IP, which must not be alive.

        Of several at an IP it is the one that is not alive. One that is back nevertheless
        registers again. Raises `NotFound` and `InvalidInput`.
        """
        member = self._named(wanted, lambda each: each.state(now) is not WorkerState.ALIVE)
        address = member.registration.address
        if member.state(now) is WorkerState.ALIVE:
            raise InvalidInput(
                sentence("the worker at {address} is alive", address=address),
                {"hint": sentence("stop it, then it leaves by itself")},
            )
        del self.members[address]
        return member

    def drain(self, wanted: str, *, draining: bool) -> Member:
        """Give the worker of an id or at an address or IP no new launches but those that name it,
        or again such as others get. Raises `NotFound`, and `InvalidInput` for an IP of several.
        """
        member = self._named(wanted)
        member.draining = draining
        return member

    def _named(self, wanted: str, fits: Callable[[Member], bool] = lambda _: True) -> Member:
        """The worker of an id or at an address, or the only one at an IP; of several there those
        that fit count, if any does. Raises `NotFound` and `InvalidInput`.
        """
        for address, member in self.members.items():
            if wanted and wanted in (address, member.registration.worker_id):
                return member
        there = [each for each in self.members.values() if wanted == each.registration.ip]
        chosen = list(filter(fits, there)) or there
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            addresses = sorted(each.registration.address for each in chosen)
            raise InvalidInput(
                sentence("{count} workers are at {ip}", count=len(chosen), ip=wanted),
                {"hint": sentence("name one of: {named}", named=", ".join(addresses))},
            )
        raise NotFound(
            sentence("there is no worker {wanted}", wanted=repr(wanted)),
            {"hint": sentence("there are: {listed}", listed=self.listed)},
        )

    def forget_old(self, now: float) -> None:
        """Take out the workers without a heartbeat for a day."""
        forgotten = []
        for address, member in self.members.items():
            if member.registration.heartbeat is None:
                continue
            if now - member.heard <= FORGOTTEN_SECONDS:
                break
            forgotten.append(address)
        for address in forgotten:
            del self.members[address]

    def select(self, wanted: str | None) -> list[Member]:
        """The workers of an IP (all of them) or at an address, or all; raises `NotFound`."""
        chosen = [
            member
            for address, member in sorted(self.members.items())
            if wanted is None or wanted in (address, member.registration.ip)
        ]
        if not chosen:
            raise NotFound(
                sentence("there is no worker")
                if wanted is None
                else sentence("there is no worker at {address}", address=repr(wanted)),
                {
                    "hint": sentence("there are: {listed}", listed=self.listed),
                    "workers": sorted(self.members),
                },
            )
        return chosen

    def asked(self, wanted: str | None, now: float) -> tuple[list[Member], list[Member]]:
        """Whom a question is for, as `select`, and who of these is gone for so long that it is
        not asked; when all are, or one is named by its address, they are asked all the same.
        """
        chosen = self.select(wanted)
        gone = [member for member in chosen if member.is_long_gone(now)]
        if len(gone) == len(chosen):
            return chosen, []
        return [member for member in chosen if not member.is_long_gone(now)], gone

    def choose(self, wanted: list[str], count: int | None, now: float) -> list[Member]:
        """The workers of a launch: the named ones, `count` of these, the least busy first.

        No name means any. A worker that is gone or drained is chosen only if it was named. Raises
        `NotFound` and `InvalidInput`.
        """
        if wanted:
            named = {
                member.registration.address: member
                for each in wanted
                for member in self.select(each)
            }
            chosen = list(named.values())
        else:
            there = [
                member for member in self.select(None) if member.state(now) is not WorkerState.GONE
            ]
            if not there:
                raise NotFound(
                    sentence("every worker is gone"),
                    {"hint": sentence("there were: {listed}", listed=self.listed)},
                )
            chosen = [member for member in there if not member.draining]
            if not chosen:
                names = ", ".join(each.registration.address for each in there)
                raise NotFound(
                    sentence("every worker is drained"),
                    {
                        "hint": sentence(
                            "name one that is to launch all the same, of {names}", names=names
                        )
                    },
                )
        if count is None:
            return chosen
        if not 1 <= count <= len(chosen):
            raise InvalidInput(
                sentence(
                    "{count} workers are asked for, and there are {chosen_count}: {listed}",
                    count=count,
                    chosen_count=len(chosen),
                    listed=self.listed,
                )
            )
        order = list(WorkerState)
        return sorted(chosen, key=lambda each: (order.index(each.state(now)), _busy(each)))[:count]

    def news(self, now: float) -> list[str]:
        """What became of the workers since the last call, in words: a line for each.

        A worker of the supervisor's own process neither joins nor leaves.
        """
        lines = []
        remote = {
            address: member
            for address, member in self.members.items()
            if member.registration.heartbeat is not None
        }
        for address in sorted(self._known.keys() - remote.keys()):
            lines.append(f"the worker at {address} has left")
        for address, member in remote.items():
            registration, state = member.registration, member.state(now)
            before = self._known.get(address)
            if before is None:
                lines.append(
                    f"the worker {registration.worker_id or 'without an id'} has joined: {address}"
                    f" on {registration.host_name}, release {registration.release}"
                )
            elif before[0] != registration.incarnation:
                lines.append(f"the worker at {address} was restarted")
            elif before[1] is not state:
                lines.append(f"the worker at {address} {_NEWS[state]}")
        self._known = {
            address: (member.registration.incarnation, member.state(now))
            for address, member in remote.items()
        }
        return lines

    @property
    def listed(self) -> str:
        """The addresses in words."""
        return ", ".join(sorted(self.members)) or "none"


def _is_newer(there: Registration, joining: Registration) -> bool:
    """Whether a worker is a later incarnation of one that joins."""
    return there.incarnation != joining.incarnation and there.started > joining.started


def _busy(member: Member) -> tuple[int, str]:
    running = 0 if member.snapshot is None else member.snapshot.jobs
    return (running, member.registration.address)
