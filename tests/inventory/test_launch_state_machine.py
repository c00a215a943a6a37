"""A launch on many: each event in each phase with what must come of it, and all of them at random.

A caller that is gone is no event of a launch: nothing waits for it, and the lease that it never
binds is the job's (`test_job_state.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.inventory.test_launch_state import (
    AWAY,
    BEFORE_DOWNLOADING,
    FROM_DOWNLOADING,
    LATE,
    WAY,
    cancelled,
    failed,
    has_ended,
    launch,
    phases,
    ready,
    taken_back,
    told,
)
from xinference_venv.errors import DeadlineExceeded
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.launch_state import (
    AGAIN_SECONDS,
    GRACE_SECONDS,
    AskForNews,
    CancelJob,
    Instruction,
    Instructions,
    LaunchState,
    TakeBack,
)
from xinference_venv.inventory.replicas import Replica

TOO_LONG = DeadlineExceeded("uv took longer than 3600 s and was ended")
AGAIN = AskForNews(address="a", since=1, pause=AGAIN_SECONDS)

Event = Callable[[LaunchState], Instructions]


# What happens to worker "a" of two, of which a launch requires both.


def fails(state: LaunchState) -> Instructions:
    return state.heard("a", failed(), at=0.0)


def passes_a_deadline(state: LaunchState) -> Instructions:
    report = replace(told(Phase.FAILED, seq=9), error=Failure.of(TOO_LONG))
    return state.heard("a", report, at=0.0)


def is_dead(state: LaunchState) -> Instructions:
    return state.unanswered("a", AWAY, is_gone=True, now=0.0, at=0.0)


def refuses_for_long(state: LaunchState) -> Instructions:
    assert state.unanswered("a", AWAY, is_gone=False, now=0.0, at=0.0) == (AGAIN,)
    return state.unanswered("a", AWAY, is_gone=False, now=GRACE_SECONDS + 0.1, at=0.0)


def hangs_until_it_is_given_up(state: LaunchState) -> Instructions:
    assert state.unanswered("a", LATE, is_gone=False, now=0.0, at=0.0) == (AGAIN,)
    return state.unanswered("a", LATE, is_gone=True, now=30.0, at=0.0)


def is_restarted(state: LaunchState) -> Instructions:
    return state.restarted("a", at=0.0)


def can_not_be_followed(state: LaunchState) -> Instructions:
    return state.failed("a", TOO_LONG, at=0.0)


def says_that_it_was_cancelled(state: LaunchState) -> Instructions:
    return state.heard("a", cancelled(), at=0.0)


ENDS: list[Event] = [
    *(fails, passes_a_deadline, is_dead, refuses_for_long, hangs_until_it_is_given_up),
    *(is_restarted, can_not_be_followed),
]


def refuses(state: LaunchState) -> Instructions:
    return state.unanswered("a", AWAY, is_gone=False, now=0.0, at=0.0)


def is_silent(state: LaunchState) -> Instructions:
    return state.unanswered("a", LATE, is_gone=False, now=3600.0, at=0.0)


def two(of_a: Phase, of_b: Phase, *, found: bool = False) -> LaunchState:
    """A launch on two workers in these phases; of one that was `found` again only "a" was heard."""
    state = launch("a", "b", found=found)
    state.heard("a", told(of_a), at=0.0)
    if not found:
        state.heard("b", told(of_b), at=0.0)
    return state


@pytest.mark.parametrize("of_a", WAY)
@pytest.mark.parametrize("of_b", BEFORE_DOWNLOADING)
@pytest.mark.parametrize("event", ENDS)
def test_when_a_worker_ends_badly_what_has_not_begun_to_download_is_cancelled(
    of_a: Phase, of_b: Phase, event: Event
) -> None:
    state = two(of_a, of_b)
    assert event(state) == (CancelJob(address="b"),)
    assert phases(state)["a"] is Phase.FAILED
    assert not has_ended(state)
    assert state.heard("b", cancelled(), at=0.0) == ()
    assert (state.outcome, state.is_over) == (Phase.FAILED, True)


@pytest.mark.parametrize("of_a", WAY)
@pytest.mark.parametrize("of_b", FROM_DOWNLOADING)
@pytest.mark.parametrize("event", ENDS)
def test_when_a_worker_ends_badly_what_downloads_goes_on_and_gives_its_lease_back(
    of_a: Phase, of_b: Phase, event: Event
) -> None:
    state = two(of_a, of_b)
    assert event(state) == ()
    assert (phases(state)["a"], state.outcome, state.is_over) == (
        *(Phase.FAILED, Phase.FAILED, False),
    )
    assert taken_back(state.heard("b", ready("b"), at=0.0)) == ["b"]
    assert state.taken_back("b", at=0.0) == ()
    assert (phases(state)["b"], state.is_over) == (Phase.CANCELLED, True)


@pytest.mark.parametrize("of_a", WAY)
@pytest.mark.parametrize("event", ENDS)
def test_when_a_worker_ends_badly_the_lease_of_one_that_is_ready_is_given_back(
    of_a: Phase, event: Event
) -> None:
    state = launch("a", "b")
    state.heard("a", told(of_a), at=0.0)
    assert state.heard("b", ready("b"), at=0.0) == ()
    assert taken_back(event(state)) == ["b"]
    assert not has_ended(state)
    assert state.taken_back("b", at=0.0) == ()
    assert (state.outcome, state.is_over) == (Phase.FAILED, True)


@pytest.mark.parametrize("of_a", WAY)
@pytest.mark.parametrize("event", ENDS)
def test_with_one_required_a_worker_that_ends_badly_changes_nothing_for_the_other(
    of_a: Phase, event: Event
) -> None:
    state = launch("a", "b", require=1)
    state.heard("a", told(of_a), at=0.0)
    assert event(state) == ()
    assert not has_ended(state)
    assert state.heard("b", ready("b"), at=0.0) == ()
    assert (state.outcome, state.is_over) == (Phase.READY, True)
    assert phases(state) == {"a": Phase.FAILED, "b": Phase.READY}


@pytest.mark.parametrize("of_a", WAY)
@pytest.mark.parametrize("of_b", WAY)
@pytest.mark.parametrize("event", [refuses, is_silent])
def test_a_worker_that_does_not_answer_is_asked_again_and_nothing_else_happens(
    of_a: Phase, of_b: Phase, event: Event
) -> None:
    state = two(of_a, of_b)
    assert event(state) == (AGAIN,)
    assert (phases(state), state.outcome) == ({"a": of_a, "b": of_b}, None)


@pytest.mark.parametrize("of_a", WAY)
@pytest.mark.parametrize("of_b", WAY)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("event", [*ENDS, says_that_it_was_cancelled])
def test_cancelling_cancels_each_worker_once_whatever_becomes_of_it_then(
    of_a: Phase, of_b: Phase, times: int, event: Event
) -> None:
    state = two(of_a, of_b)
    assert state.cancel(at=0.0) == (CancelJob(address="a"), CancelJob(address="b"))
    for _ in range(times - 1):
        assert state.cancel(at=0.0) == ()
    assert event(state) == ()
    assert not has_ended(state)
    # It had become ready before it heard of it.
    assert taken_back(state.heard("b", ready("b"), at=0.0)) == ["b"]
    assert state.cancel(at=0.0) == ()
    assert state.taken_back("b", at=0.0) == ()
    ended = Phase.CANCELLED if event is says_that_it_was_cancelled else Phase.FAILED
    assert (state.outcome, state.is_over) == (ended, True)


@pytest.mark.parametrize("of_a", WAY)
@pytest.mark.parametrize("event", ENDS)
def test_a_supervisor_that_was_restarted_cancels_no_one_whom_it_has_not_heard(
    of_a: Phase, event: Event
) -> None:
    state = two(of_a, Phase.QUEUED, found=True)
    assert event(state) == ()
    assert (phases(state)["a"], state.outcome) == (Phase.FAILED, None)


@pytest.mark.parametrize("of_a", WAY)
def test_a_supervisor_that_was_restarted_asks_on_and_gets_the_same_end(of_a: Phase) -> None:
    state = two(of_a, Phase.QUEUED, found=True)
    assert state.heard("b", ready("b"), at=0.0) == ()
    assert state.heard("a", ready("a"), at=0.0) == ()
    assert (state.outcome, state.is_over) == (Phase.READY, True)


# All of it at random


@dataclass(kw_only=True)
class Worker:
    """A worker's own job: how far it is, whether it was cancelled, and the lease that it took."""

    place: int = 0
    end: Phase | None = None
    is_cancelled: bool = False
    is_known: bool = True
    leases: set[str] = field(default_factory=set)

    @property
    def phase(self) -> Phase:
        return self.end or WAY[self.place]


class LaunchMachine(RuleBasedStateMachine):
    """Workers that do anything in any order, and a supervisor that may be restarted."""

    @initialize(count=st.integers(1, 4), data=st.data())
    def begin(self, count: int, data: st.DataObject) -> None:
        self.workers = {f"w{number}": Worker() for number in range(count)}
        self.require = data.draw(st.integers(1, count))
        self.now = 0.0
        self.was_cancelled = False
        self.was_restarted = False
        self.start({})

    def start(self, unheard: Mapping[str, Worker]) -> None:
        self.state = LaunchState(
            require=self.require,
            replicas={each: Replica(worker_address=each, incarnation="1") for each in self.workers},
            unheard=set(unheard),
        )
        self.pending: list[Instruction] = []
        self.given: set[tuple[type, str]] = set()
        self.seen: dict[str, Phase] = {}
        self.whole: Phase | None = None
        self.outcome: Phase | None = None
        self.give(self.state.begin({}, at=self.now))

    def give(self, instructions: Instructions) -> None:
        for each in instructions:
            if not isinstance(each, AskForNews):
                # Each once.
                assert (type(each), each.address) not in self.given
                self.given.add((type(each), each.address))
            self.pending.append(each)

    def take(self, kind: type[Instruction], data: st.DataObject) -> Instruction:
        found = [each for each in self.pending if isinstance(each, kind)]
        chosen = data.draw(st.sampled_from(found), label="instruction")
        self.pending.remove(chosen)
        return chosen

    def waits(self, kind: type[Instruction]) -> bool:
        return any(isinstance(each, kind) for each in self.pending)

    # What workers do

    @rule(data=st.data(), steps=st.integers(1, 3))
    def a_worker_goes_on(self, data: st.DataObject, steps: int) -> None:
        worker = self.workers[data.draw(st.sampled_from(sorted(self.workers)))]
        if worker.end is None:
            worker.place = min(worker.place + steps, len(WAY) - 1)

    @rule(data=st.data(), well=st.booleans())
    def a_worker_ends(self, data: st.DataObject, well: bool) -> None:
        address = data.draw(st.sampled_from(sorted(self.workers)))
        worker = self.workers[address]
        if worker.end is None and worker.is_known:
            worker.end = Phase.READY if well else Phase.FAILED
            if well:
                worker.leases.add(f"lease of {address}")

    @rule(data=st.data())
    def a_worker_is_restarted(self, data: st.DataObject) -> None:
        """Its job is gone, and the lease with the process that held it."""
        worker = self.workers[data.draw(st.sampled_from(sorted(self.workers)))]
        worker.is_known = False
        worker.leases.clear()

    # What is asked of them

    @precondition(lambda self: self.waits(AskForNews))
    @rule(data=st.data())
    def a_worker_is_asked(self, data: st.DataObject) -> None:
        asked = self.take(AskForNews, data)
        address, worker = asked.address, self.workers[asked.address]
        if not worker.is_known:
            self.give(self.state.restarted(address, at=self.now))
        elif worker.phase is Phase.READY:
            self.give(self.state.heard(address, ready(address), at=self.now))
        elif worker.phase is Phase.FAILED:
            self.give(self.state.heard(address, failed(), at=self.now))
        elif worker.phase is Phase.CANCELLED:
            self.give(self.state.heard(address, cancelled(), at=self.now))
        else:
            self.give(self.state.heard(address, told(worker.phase), at=self.now))

    @precondition(lambda self: self.waits(AskForNews))
    @rule(data=st.data(), late=st.booleans(), gone=st.booleans())
    def a_worker_does_not_answer(self, data: st.DataObject, late: bool, gone: bool) -> None:
        asked = self.take(AskForNews, data)
        if gone:
            # Who is given up gives back by itself what nobody binds.
            self.workers[asked.address].leases.clear()
            self.workers[asked.address].is_known = False
        error = LATE if late else AWAY
        given = self.state.unanswered(asked.address, error, is_gone=gone, now=self.now, at=self.now)
        self.give(given)
        if phases(self.state)[asked.address] is Phase.FAILED:
            self.workers[asked.address].leases.clear()
            self.workers[asked.address].is_known = False

    @precondition(lambda self: self.waits(CancelJob))
    @rule(data=st.data(), works=st.booleans())
    def a_worker_is_cancelled(self, data: st.DataObject, works: bool) -> None:
        address = self.take(CancelJob, data).address
        worker = self.workers[address]
        if works and worker.is_known:
            worker.is_cancelled = True
            if worker.end is None:
                worker.end = Phase.CANCELLED
        else:
            worker.leases.clear()
            worker.is_known = False
            self.give(self.state.failed(address, AWAY, at=self.now))

    @precondition(lambda self: self.waits(TakeBack))
    @rule(data=st.data())
    def a_part_is_taken_back(self, data: st.DataObject) -> None:
        address = self.take(TakeBack, data).address
        self.workers[address].leases.discard(f"lease of {address}")
        self.give(self.state.taken_back(address, at=self.now))

    # What happens to the launch

    @rule()
    def it_is_cancelled(self) -> None:
        self.was_cancelled |= self.state.outcome is None
        self.give(self.state.cancel(at=self.now))
        # Twice is the same as once.
        before = self.state.report("j", 0)
        assert self.state.cancel(at=self.now) == ()
        assert self.state.report("j", 0) == before

    @rule(seconds=st.sampled_from([0.1, 5.0, GRACE_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.state.outcome is None)
    @rule()
    def the_supervisor_is_restarted(self) -> None:
        self.was_restarted = True
        self.was_cancelled = False
        self.start(self.workers)

    # What always holds

    @invariant()
    def who_runs_is_asked_and_nobody_twice(self) -> None:
        asked = [each.address for each in self.pending if isinstance(each, AskForNews)]
        running = [address for address, each in phases(self.state).items() if not each.is_last]
        assert len(asked) == len(set(asked))
        assert set(running) <= set(asked)

    @invariant()
    def phases_never_run_backwards_and_no_part_has_two_ends(self) -> None:
        order = list(Phase)
        for address, phase in phases(self.state).items():
            before = self.seen.get(address, phase)
            taken_back = (before, phase) == (Phase.READY, Phase.CANCELLED)
            assert phase is before or taken_back or not before.is_last
            assert order.index(phase) >= order.index(before)
            self.seen[address] = phase
        whole = self.state.report("j", 0).phase
        if self.whole is not None:
            assert order.index(whole) >= order.index(self.whole)
        self.whole = whole

    @invariant()
    def there_is_one_outcome(self) -> None:
        if self.outcome is not None:
            assert self.state.outcome is self.outcome
        self.outcome = self.state.outcome
        if self.was_cancelled:
            assert self.outcome is not Phase.READY

    @invariant()
    def when_it_is_over_only_one_that_is_ready_has_leases(self) -> None:
        if not self.state.is_over:
            return
        assert self.state.outcome is not None
        kept = {address for address, each in self.workers.items() if each.leases}
        ready_ones = {
            address for address, each in phases(self.state).items() if each is Phase.READY
        }
        if self.state.outcome is Phase.READY:
            assert len(ready_ones) >= self.require
            assert kept <= ready_ones
        else:
            assert ready_ones == set()
            assert kept == set()

    def teardown(self) -> None:
        """Let all that was asked be answered: then it is over."""
        if not hasattr(self, "workers"):
            return
        for worker in self.workers.values():
            worker.end = worker.end or Phase.FAILED
        while self.pending:
            each = self.pending.pop(0)
            worker = self.workers[each.address]
            match each:
                case AskForNews() if not worker.is_known:
                    self.give(self.state.restarted(each.address, at=self.now))
                case AskForNews():
                    report = {Phase.READY: ready(each.address), Phase.FAILED: failed()}
                    told_now = report.get(worker.phase, cancelled())
                    self.give(self.state.heard(each.address, told_now, at=self.now))
                case TakeBack():
                    worker.leases.clear()
                    self.give(self.state.taken_back(each.address, at=self.now))
        assert self.state.is_over
        self.when_it_is_over_only_one_that_is_ready_has_leases()


TestLaunchMachine = LaunchMachine.TestCase
