"""The membership of a cluster: each event in each state of a worker, and all of them at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.inventory.test_cluster_state import registration
from xinference_venv.errors import InvalidInput, NotFound
from xinference_venv.inventory.cluster_state import (
    FORGOTTEN_SECONDS,
    HEARTBEAT_SECONDS,
    ClusterState,
    Member,
    WorkerSnapshot,
    WorkerState,
)

HERE, THERE = "10.0.0.1:7000", "10.0.0.9:7001"
ALIVE, SUSPECT, GONE = WorkerState
# Seconds of silence after which a worker is in each state, and one that is not asked any more.
SILENCE = {"alive": 0.0, "suspect": 10.0, "gone": 40.0, "long gone": 100.0}
BACK = f"the worker at {HERE} is back"
MISSED = f"the worker at {HERE} has missed heartbeats"
LOST = f"the worker at {HERE} is gone: no heartbeat for half a minute"
LEFT = f"the worker at {HERE} has left"
RESTARTED = f"the worker at {HERE} was restarted"
MOVED = f"the worker w1 has joined: {THERE} on host, release 0.1.0"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What must come of an event: where the worker is, its state, and the news since before."""

    address: str | None = HERE
    state: WorkerState = ALIVE
    news: tuple[str, ...] = ()


Event = Callable[[ClusterState, float], None]


def is_heard(cluster: ClusterState, now: float) -> None:
    assert cluster.heartbeat(HERE, "first", WorkerSnapshot(), now)


def an_older_self_is_heard(cluster: ClusterState, now: float) -> None:
    assert not cluster.heartbeat(HERE, "before", WorkerSnapshot(), now)


def registers_again(cluster: ClusterState, now: float) -> None:
    cluster.register(registration(HERE, worker_id="w1"), now)


def is_restarted(cluster: ClusterState, now: float) -> None:
    again = registration(HERE, worker_id="w1", incarnation="second", started=200.0)
    cluster.register(again, now)


def is_restarted_elsewhere(cluster: ClusterState, now: float) -> None:
    moved = registration(THERE, worker_id="w1", incarnation="second", started=200.0)
    cluster.register(moved, now)


def an_older_self_registers(cluster: ClusterState, now: float) -> None:
    for address in (HERE, THERE):
        before = registration(address, worker_id="w1", incarnation="before", started=1.0)
        with pytest.raises(InvalidInput, match="was restarted since"):
            cluster.register(before, now)


def its_clock_is_set_back_and_it_is_restarted(cluster: ClusterState, now: float) -> None:
    before = registration(HERE, worker_id="w1", incarnation="second", started=1.0)
    cluster.register(before, now)


def leaves(cluster: ClusterState, now: float) -> None:
    cluster.leave(HERE, "first")


def leaves_twice(cluster: ClusterState, now: float) -> None:
    cluster.leave(HERE, "first")
    cluster.leave(HERE, "first")


def an_older_self_leaves(cluster: ClusterState, now: float) -> None:
    cluster.leave(HERE, "before")


def nothing(cluster: ClusterState, now: float) -> None:
    pass


def is_forgotten(cluster: ClusterState, now: float) -> None:
    cluster.forget("w1", now)


STATES = {"alive": ALIVE, "suspect": SUSPECT, "gone": GONE, "long gone": GONE}
NEWS = {"alive": (), "suspect": (MISSED,), "gone": (LOST,), "long gone": (LOST,)}
CASES: Sequence[tuple[str, Event, Outcome]] = [
    case
    for silence in SILENCE
    for case in [
        (silence, nothing, Outcome(state=STATES[silence], news=NEWS[silence])),
        (silence, an_older_self_is_heard, Outcome(state=STATES[silence], news=NEWS[silence])),
        (silence, an_older_self_leaves, Outcome(state=STATES[silence], news=NEWS[silence])),
        (silence, is_heard, Outcome()),
        (silence, registers_again, Outcome()),
        (silence, is_restarted, Outcome(news=(RESTARTED,))),
        (silence, is_restarted_elsewhere, Outcome(address=THERE, news=(LEFT, MOVED))),
        (silence, leaves, Outcome(address=None, news=(LEFT,))),
        (silence, leaves_twice, Outcome(address=None, news=(LEFT,))),
    ]
] + [
    *(
        (silence, an_older_self_registers, Outcome(state=STATES[silence], news=NEWS[silence]))
        for silence in ("alive", "suspect")
    ),
    *(
        (silence, its_clock_is_set_back_and_it_is_restarted, Outcome(news=(RESTARTED,)))
        for silence in ("gone", "long gone")
    ),
    *(
        (silence, is_forgotten, Outcome(address=None, news=(LEFT,)))
        for silence in ("suspect", "gone", "long gone")
    ),
]


@pytest.mark.parametrize(("silence", "event", "outcome"), CASES)
def test_what_comes_of_each_event_in_each_state_of_a_worker(
    silence: str, event: Event, outcome: Outcome
) -> None:
    cluster = ClusterState()
    cluster.register(registration(HERE, worker_id="w1"), 0.0)
    cluster.news(0.0)
    now = SILENCE[silence]
    event(cluster, now)
    assert [*cluster.members] == ([] if outcome.address is None else [outcome.address])
    for member in cluster.members.values():
        assert member.state(now) is outcome.state
    assert tuple(cluster.news(now)) == outcome.news
    assert cluster.news(now) == []


@pytest.mark.parametrize("silence", ["suspect", "gone", "long gone"])
@pytest.mark.parametrize("event", [is_heard, registers_again])
def test_one_that_was_missed_and_is_heard_again_is_reported_as_back(
    silence: str, event: Event
) -> None:
    cluster = ClusterState()
    cluster.register(registration(HERE, worker_id="w1"), 0.0)
    now = SILENCE[silence]
    cluster.news(now)
    event(cluster, now)
    assert cluster.news(now) == [BACK]


@pytest.mark.parametrize("event", [is_heard, registers_again, is_restarted])
def test_a_supervisor_that_was_restarted_knows_whoever_registers(event: Event) -> None:
    cluster = ClusterState()
    if event is is_heard:
        # It is asked to register, and does.
        assert not cluster.heartbeat(HERE, "first", WorkerSnapshot(), 5.0)
        event = registers_again
    event(cluster, 5.0)
    assert [*cluster.members] == [HERE]


IDS, ADDRESSES = ("w0", "w1", "w2", ""), tuple(f"10.0.0.{number}:7000" for number in range(4))


class ClusterMachine(RuleBasedStateMachine):
    """Workers that start, move, send heartbeats, leave and are forgotten in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = ClusterState()
        self.now = 0.0
        self.starts = 0
        self.newest: dict[str, float] = {}

    @rule(worker_id=st.sampled_from(IDS), address=st.sampled_from(ADDRESSES))
    def a_worker_starts(self, worker_id: str, address: str) -> None:
        self.starts += 1
        started = registration(
            address,
            worker_id=worker_id,
            incarnation=f"incarnation {self.starts}",
            started=float(self.starts),
        )
        there = self.cluster.members.get(address)
        own = [
            each
            for each in self.cluster.members.values()
            if worker_id and each.registration.worker_id == worker_id
        ]
        drained = any(each.draining for each in [*own, *([there] if there else [])])
        self.cluster.register(started, self.now)
        assert self.cluster.members[address].registration == started
        assert self.cluster.members[address].draining is drained
        if worker_id:
            self.newest[worker_id] = started.started

    @precondition(lambda self: self.cluster.members)
    @rule(data=st.data())
    def a_worker_registers_again(self, data: st.DataObject) -> None:
        member = self.drawn(data)
        self.cluster.register(member.registration, self.now)
        assert member.heard == self.now

    @precondition(lambda self: self.starts)
    @rule(worker_id=st.sampled_from(IDS[:3]), address=st.sampled_from(ADDRESSES))
    def an_older_self_takes_no_place_of_a_newer_one_unless_that_is_gone(
        self, worker_id: str, address: str
    ) -> None:
        before = dict(self.cluster.members)
        older = registration(address, worker_id=worker_id, incarnation="older", started=0.5)
        concerned = [
            each
            for each in before.values()
            if address == each.registration.address or worker_id == each.registration.worker_id
        ]
        if any(each.state(self.now) is not GONE for each in concerned):
            with pytest.raises(InvalidInput):
                self.cluster.register(older, self.now)
            assert self.cluster.members == before

    @precondition(lambda self: self.cluster.members)
    @rule(data=st.data())
    def a_worker_is_heard(self, data: st.DataObject) -> None:
        member = self.drawn(data)
        joined = member.registration
        assert self.cluster.heartbeat(
            joined.address, joined.incarnation, WorkerSnapshot(), self.now
        )
        assert member.state(self.now) is ALIVE

    @rule(address=st.sampled_from(ADDRESSES))
    def another_incarnation_is_heard_and_leaves(self, address: str) -> None:
        before = dict(self.cluster.members)
        assert not self.cluster.heartbeat(address, "never", WorkerSnapshot(), self.now)
        self.cluster.leave(address, "never")
        assert self.cluster.members == before

    @precondition(lambda self: self.cluster.members)
    @rule(data=st.data())
    def a_worker_leaves(self, data: st.DataObject) -> None:
        joined = self.drawn(data).registration
        for _ in range(2):
            self.cluster.leave(joined.address, joined.incarnation)
            assert joined.address not in self.cluster.members

    @precondition(lambda self: self.cluster.members)
    @rule(data=st.data())
    def a_worker_is_forgotten_unless_it_is_alive(self, data: st.DataObject) -> None:
        member = self.drawn(data)
        address = member.registration.address
        if member.state(self.now) is ALIVE:
            with pytest.raises(InvalidInput):
                self.cluster.forget(address, self.now)
        else:
            assert self.cluster.forget(address, self.now) is member
            assert address not in self.cluster.members

    @precondition(lambda self: self.cluster.members)
    @rule(data=st.data(), draining=st.booleans())
    def a_worker_is_drained(self, data: st.DataObject, draining: bool) -> None:
        member = self.drawn(data)
        self.cluster.drain(member.registration.address, draining=draining)
        assert member.draining is draining

    @rule(seconds=st.sampled_from([HEARTBEAT_SECONDS, 7.0, 31.0, 61.0, FORGOTTEN_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def the_old_ones_are_forgotten(self) -> None:
        self.cluster.forget_old(self.now)
        ages = [self.now - each.heard for each in self.cluster.members.values()]
        assert all(age <= FORGOTTEN_SECONDS for age in ages)

    @rule()
    def news_are_told_once(self) -> None:
        self.cluster.news(self.now)
        assert self.cluster.news(self.now) == []

    def drawn(self, data: st.DataObject) -> Member:
        return self.cluster.members[data.draw(st.sampled_from(sorted(self.cluster.members)))]

    @invariant()
    def each_worker_is_one_member_at_its_address(self) -> None:
        members = self.cluster.members
        assert all(each.registration.address == address for address, each in members.items())
        named = [each.registration for each in members.values() if each.registration.worker_id]
        assert len({each.worker_id for each in named}) == len(named)
        assert all(each.started == self.newest[each.worker_id] for each in named)

    @invariant()
    def members_are_in_the_order_in_which_they_were_heard(self) -> None:
        heard = [each.heard for each in self.cluster.members.values()]
        assert heard == sorted(heard)

    @invariant()
    def a_question_is_for_some_of_the_living_or_for_all(self) -> None:
        if not self.cluster.members:
            with pytest.raises(NotFound):
                self.cluster.asked(None, self.now)
            return
        asked, gone = self.cluster.asked(None, self.now)
        assert asked
        assert len(asked) + len(gone) == len(self.cluster.members)
        living = [e for e in self.cluster.members.values() if e.state(self.now) is ALIVE]
        assert all(each in asked for each in living)
        with suppress(NotFound):
            chosen = self.cluster.choose([], None, self.now)
            assert not any(each.draining for each in chosen)
            assert all(each.state(self.now) is not GONE for each in chosen)


TestClusterMachine = ClusterMachine.TestCase
