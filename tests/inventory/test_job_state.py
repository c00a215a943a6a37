"""A job on a worker: whatever happens in whatever phase, its lease is its result's or nobody's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests import fakes
from xinference_venv.inventory.job_state import (
    AGAIN_SECONDS,
    UNBOUND_LEASE_SECONDS,
    GiveBack,
    JobState,
)
from xinference_venv.inventory.jobs import Phase
from xinference_venv.inventory.lease import Lease

RUNNING = [phase for phase in Phase if not phase.is_last]


def lease(name: str = "a") -> Lease:
    return replace(fakes.lease(), lease_id=name)


def job(phase: Phase, *, leased: bool = False, taking: bool = False) -> JobState:
    """A job in a phase, perhaps with a lease, perhaps with a thread that may take one."""
    state = JobState()
    state.happened(1.0, phase, phase.value)
    if leased:
        state.thread_began()
        assert state.thread_ended([lease()]) == ()
    if taking:
        state.thread_began()
    return state


Event = Callable[[JobState], Sequence[GiveBack]]


def fails(state: JobState) -> Sequence[GiveBack]:
    """It fails, by a deadline or anything else, and says so when its lease is given back."""
    return (*state.give_up(), *state.happened(2.0, Phase.FAILED, "failed"))


def is_cancelled(state: JobState) -> Sequence[GiveBack]:
    return (*state.give_up(), *state.happened(2.0, Phase.CANCELLED, "cancelled"))


def is_cancelled_twice(state: JobState) -> Sequence[GiveBack]:
    # Who cancels again while the first one waits for the lease ends it at once.
    return (*state.give_up(), *is_cancelled(state), *is_cancelled(state))


def is_cancelled_before_its_first_step(state: JobState) -> Sequence[GiveBack]:
    return state.happened(2.0, Phase.CANCELLED, "cancelled")


def fails_and_is_cancelled(state: JobState) -> Sequence[GiveBack]:
    return (*state.give_up(), *is_cancelled(state))


ENDS: dict[Event, Phase] = {
    fails: Phase.FAILED,
    is_cancelled: Phase.CANCELLED,
    is_cancelled_twice: Phase.CANCELLED,
    is_cancelled_before_its_first_step: Phase.CANCELLED,
    fails_and_is_cancelled: Phase.CANCELLED,
}


@pytest.mark.parametrize("phase", RUNNING)
@pytest.mark.parametrize("event", ENDS)
def test_a_job_that_ends_without_a_result_gives_its_lease_back_once(
    phase: Phase, event: Event
) -> None:
    state = job(phase, leased=True)
    assert event(state) == (GiveBack(lease=lease()),)
    assert state.journal.phase is ENDS[event]
    assert not state.is_clear
    state.given_back(lease())
    assert (state.lease, state.is_clear) == (None, True)


@pytest.mark.parametrize("phase", RUNNING)
@pytest.mark.parametrize("event", ENDS)
def test_a_job_that_has_no_lease_has_none_to_give_back(phase: Phase, event: Event) -> None:
    state = job(phase)
    assert event(state) == ()
    assert (state.journal.phase, state.is_clear) == (ENDS[event], True)


@pytest.mark.parametrize("phase", RUNNING)
@pytest.mark.parametrize("event", ENDS)
@pytest.mark.parametrize("taken", [True, False])
def test_a_lease_that_is_just_being_taken_is_given_back_when_the_thread_ends(
    phase: Phase, event: Event, taken: bool
) -> None:
    state = job(phase, taking=True)
    assert event(state) == ()
    assert not state.is_clear
    ended = state.thread_ended([lease()] if taken else [])
    assert ended == ((GiveBack(lease=lease()),) if taken else ())
    assert state.is_clear is not taken
    state.given_back(lease())
    assert (state.lease, state.is_clear) == (None, True)


@pytest.mark.parametrize("phase", RUNNING)
@pytest.mark.parametrize("event", ENDS)
def test_a_lease_that_others_take_for_a_job_which_has_ended_is_given_back(
    phase: Phase, event: Event
) -> None:
    # The build that it began goes on for those that joined it.
    state = job(phase)
    event(state)
    state.thread_began()
    assert state.thread_ended([lease("late")]) == (GiveBack(lease=lease("late")),)
    assert state.lease is None


@pytest.mark.parametrize("phase", RUNNING)
def test_a_ready_job_whose_caller_is_gone_gives_its_lease_back_after_ten_minutes(
    phase: Phase,
) -> None:
    state = job(phase, leased=True)
    later = GiveBack(lease=lease(), after=UNBOUND_LEASE_SECONDS)
    assert state.happened(2.0, Phase.READY, "ready") == (later,)
    assert UNBOUND_LEASE_SECONDS == 600.0
    assert state.lease == lease()
    state.given_back(lease())
    assert state.lease is None


@pytest.mark.parametrize("event", ENDS)
def test_what_comes_after_a_job_is_ready_changes_nothing(event: Event) -> None:
    state = job(Phase.PUBLISHING, leased=True)
    state.happened(2.0, Phase.READY, "ready")
    assert event(state) == ()
    assert (state.journal.phase, state.lease) == (Phase.READY, lease())


def test_a_ready_job_that_is_taken_back_gives_its_lease_back_at_once() -> None:
    state = job(Phase.PUBLISHING, leased=True)
    state.happened(2.0, Phase.READY, "ready")
    assert state.taken_back(3.0, "failed elsewhere") == (GiveBack(lease=lease()),)
    assert (state.journal.phase, state.is_clear) == (Phase.CANCELLED, False)
    state.given_back(lease())
    assert (state.lease, state.is_clear) == (None, True)
    assert state.taken_back(4.0, "twice") is None


def test_a_ready_job_without_a_lease_is_taken_back_too() -> None:
    state = job(Phase.PROBING)
    state.happened(2.0, Phase.READY, "ready")
    assert state.taken_back(3.0, "failed elsewhere") == ()
    assert (state.journal.phase, state.is_clear) == (Phase.CANCELLED, True)


@pytest.mark.parametrize("event", [None, *ENDS])
def test_what_is_not_ready_is_not_taken_back(event: Event | None) -> None:
    state = job(Phase.RESOLVING, leased=True)
    if event is not None:
        event(state)
    phase = state.journal.phase
    assert state.taken_back(3.0, "failed elsewhere") is None
    assert state.journal.phase is phase


def test_a_ready_job_on_the_host_itself_has_no_lease() -> None:
    assert job(Phase.PROBING).happened(2.0, Phase.READY, "ready") == ()


def test_a_lease_that_can_not_be_given_back_is_tried_again_until_it_can() -> None:
    state = job(Phase.RESOLVING, leased=True)
    is_cancelled(state)
    for _ in range(3):
        again = GiveBack(lease=lease(), after=AGAIN_SECONDS)
        assert state.not_given_back(lease()) == (again,)
        assert (state.lease, state.is_clear) == (lease(), False)
    state.given_back(lease())
    assert state.is_clear


def test_a_job_that_was_given_up_is_not_clear_before_the_last_of_its_threads_has_ended() -> None:
    state = job(Phase.RESOLVING, taking=True)
    state.thread_began()
    state.give_up()
    state.thread_ended([])
    assert not state.is_clear
    state.thread_ended([])
    assert state.is_clear


def test_what_happens_is_kept_with_its_time_its_message_and_its_progress() -> None:
    state = JobState()
    state.happened(3.5, Phase.DOWNLOADING, "downloading torch", done=1, total=4)
    [event] = state.journal.events
    assert (event.at, event.message, event.done, event.total) == (3.5, "downloading torch", 1, 4)


def test_a_job_keeps_its_first_lease_and_gives_back_every_other() -> None:
    state = job(Phase.RESOLVING, leased=True, taking=True)
    others = [lease("b"), lease("c")]
    assert state.thread_ended(others) == tuple(GiveBack(lease=each) for each in others)
    assert state.lease == lease()
    state.given_back(lease("b"))
    assert state.lease == lease()


def test_a_ready_job_that_is_taken_back_is_clear_once_its_lease_is_given_back() -> None:
    machine = JobMachine()
    machine.starts_a_thread()
    machine.ends_a_thread(leases=1)
    machine.becomes_ready()
    machine.is_taken_back()
    machine.time_passes(works=True)
    machine.every_lease_is_the_jobs_or_on_its_way_back()
    assert machine.state.is_clear


class JobMachine(RuleBasedStateMachine):
    """A job to which anything happens in any order; leases are taken and given back around it."""

    def __init__(self) -> None:
        super().__init__()
        self.state = JobState()
        self.now = 0.0
        self.numbers = 0
        self.threads = 0
        self.on_disk: set[str] = set()
        self.tasks: list[tuple[float, Lease]] = []
        self.phases: list[Phase] = []

    def run(self, instructions: Sequence[GiveBack]) -> None:
        self.tasks += [(self.now + each.after, each.lease) for each in instructions]

    @precondition(lambda self: not self.state.journal.phase.is_last)
    @rule(phase=st.sampled_from(RUNNING))
    def goes_on(self, phase: Phase) -> None:
        self.run(self.state.happened(self.now, phase, phase.value))

    @rule()
    def starts_a_thread(self) -> None:
        self.threads += 1
        self.state.thread_began()

    @precondition(lambda self: self.threads)
    @rule(leases=st.integers(0, 2))
    def ends_a_thread(self, leases: int) -> None:
        self.threads -= 1
        taken = [lease(f"{self.numbers + each}") for each in range(leases)]
        self.numbers += leases
        self.on_disk |= {each.lease_id for each in taken}
        self.run(self.state.thread_ended(taken))

    @precondition(lambda self: not self.state.is_given_up)
    @rule()
    def becomes_ready(self) -> None:
        self.run(self.state.happened(self.now, Phase.READY, "ready"))

    @rule()
    def is_given_up(self) -> None:
        first = self.state.give_up()
        assert self.state.give_up() == ()
        self.run(first)

    @rule(phase=st.sampled_from([Phase.FAILED, Phase.CANCELLED]))
    def ends(self, phase: Phase) -> None:
        self.run(self.state.happened(self.now, phase, phase.value))

    @rule()
    def is_taken_back(self) -> None:
        self.run(self.state.taken_back(self.now, "failed elsewhere") or ())

    @precondition(lambda self: self.tasks)
    @rule(works=st.booleans())
    def time_passes(self, works: bool) -> None:
        self.tasks.sort(key=lambda each: each[0])
        self.now, due = self.tasks.pop(0)
        if works:
            self.on_disk.discard(due.lease_id)
            self.state.given_back(due)
            # Of a ready job that is taken back it is to be given back at once and in some minutes,
            # when it is gone.
            self.tasks = [each for each in self.tasks if each[1] != due]
        else:
            self.run(self.state.not_given_back(due))

    @invariant()
    def phases_never_run_backwards_and_one_end_is_the_last(self) -> None:
        phase = self.state.journal.phase
        order = list(Phase)
        if self.phases:
            before = self.phases[-1]
            assert (
                phase is before
                or (not before.is_last and order.index(phase) > order.index(before))
                or (before is Phase.READY and phase is Phase.CANCELLED)
            )
        self.phases.append(phase)

    @invariant()
    def every_lease_is_the_jobs_or_on_its_way_back(self) -> None:
        returning = {each.lease_id for _, each in self.tasks}
        own = set() if self.state.lease is None else {self.state.lease.lease_id}
        assert self.on_disk == returning | own
        if self.state.is_given_up:
            assert own <= returning
        assert self.state.is_clear is (
            self.state.is_given_up and not self.threads and not self.tasks
        )

    def teardown(self) -> None:
        while self.threads:
            self.ends_a_thread(leases=1)
        if not self.state.journal.phase.is_last:
            self.ends(Phase.CANCELLED)
        while self.tasks:
            self.time_passes(works=True)
        assert self.on_disk == set()
        assert self.state.lease is None


TestJobMachine = JobMachine.TestCase
