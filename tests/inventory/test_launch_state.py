"""Launches on several workers, driven by a clock and workers that are made up."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv.errors import (
    DeadlineExceeded,
    JobCancelled,
    ResolutionFailed,
    VirtualEnvError,
    WorkerUnavailable,
)
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.jobs import EVENTS_KEPT, JobEvent, Phase, PreparedEnvironment
from xinference_venv.inventory.launch_state import (
    AGAIN_SECONDS,
    GRACE_SECONDS,
    AskForNews,
    CancelJob,
    Instruction,
    Instructions,
    LaunchState,
    TakeBack,
    jobs_of_launches,
)
from xinference_venv.inventory.replicas import Replica
from xinference_venv.inventory.reports import JobReport, JobSummary

WAY = [
    Phase.QUEUED,
    Phase.PROBING,
    Phase.RESOLVING,
    Phase.DOWNLOADING,
    Phase.INSTALLING,
    Phase.VERIFYING,
    Phase.PUBLISHING,
]
BEFORE_DOWNLOADING, FROM_DOWNLOADING = WAY[:3], WAY[3:]
NO_SOLUTION = ResolutionFailed("no solution")
AWAY = WorkerUnavailable("no answer")
LATE = DeadlineExceeded("no answer in time")
# After this long without a heartbeat a worker is given up.
GONE_SECONDS = 30.0


def told(
    phase: Phase, *, seq: int = 1, lease: str | None = None, error: VirtualEnvError | None = None
) -> JobReport:
    """What a worker says of its job, in one event."""
    event = JobEvent(seq=seq, at=1.0, phase=phase, message=phase.value)
    made = PreparedEnvironment(python="p", env_id="e", lease_id=lease) if lease else None
    return JobReport(
        job_id="j",
        phase=phase,
        events=(event,),
        result=made,
        error=None if error is None else Failure.of(error),
    )


def ready(address: str, seq: int = 9) -> JobReport:
    return told(Phase.READY, seq=seq, lease=f"lease of {address}")


def failed(seq: int = 9) -> JobReport:
    return told(Phase.FAILED, seq=seq, error=NO_SOLUTION)


def cancelled(seq: int = 9) -> JobReport:
    return told(Phase.CANCELLED, seq=seq, error=JobCancelled("it was cancelled"))


def launch(*addresses: str, require: int | None = None, found: bool = False) -> LaunchState:
    """A launch that was begun; one that was `found` again was begun by another supervisor."""
    state = LaunchState(
        require=require or len(addresses),
        replicas={each: Replica(worker_address=each, incarnation="1") for each in addresses},
        unheard=set(addresses) if found else set(),
    )
    assert state.begin({}, at=0.0) == tuple(AskForNews(address=each, since=0) for each in addresses)
    return state


def phases(state: LaunchState) -> dict[str, Phase]:
    return {address: each.phase for address, each in state.replicas.items()}


def has_ended(state: LaunchState) -> bool:
    return state.outcome is not None


def is_over(state: LaunchState) -> bool:
    return state.is_over


def cancels(instructions: Instructions) -> set[str]:
    return {each.address for each in instructions if isinstance(each, CancelJob)}


def taken_back(instructions: Instructions) -> list[str]:
    return [each.address for each in instructions if isinstance(each, TakeBack)]


def test_a_worker_is_asked_for_what_it_has_not_reported_yet() -> None:
    state = launch("a")
    following = state.heard("a", told(Phase.RESOLVING, seq=7), at=0.0)
    assert following == (AskForNews(address="a", since=7),)
    assert state.report("j", 0).phase is Phase.RESOLVING
    assert state.heard("a", ready("a"), at=0.0) == ()
    assert state.outcome is Phase.READY
    assert state.is_over


@pytest.mark.parametrize("phase", BEFORE_DOWNLOADING)
def test_when_one_fails_those_that_do_not_download_are_cancelled(phase: Phase) -> None:
    state = launch("a", "b")
    state.heard("a", told(phase), at=0.0)
    assert cancels(state.heard("b", failed(), at=0.0)) == {"a"}
    assert not has_ended(state)
    assert state.heard("a", cancelled(), at=0.0) == ()
    assert state.outcome is Phase.FAILED
    assert state.is_over


@pytest.mark.parametrize("phase", FROM_DOWNLOADING)
@pytest.mark.parametrize("how", ["failed", "dead", "restarted"])
def test_when_one_fails_those_that_download_finish_and_their_leases_are_given_back(
    phase: Phase, how: str
) -> None:
    state = launch("a", "b")
    state.heard("a", told(phase), at=0.0)
    if how == "failed":
        following = state.heard("b", failed(), at=0.0)
    elif how == "dead":
        following = state.unanswered("b", AWAY, is_gone=True, now=0.0, at=0.0)
    else:
        following = state.restarted("b", at=0.0)
    assert following == ()
    # The caller is not kept waiting, and the worker is followed on.
    assert has_ended(state)
    assert not is_over(state)
    assert "it finishes its downloads" in state.events[-1].message
    assert taken_back(state.heard("a", ready("a"), at=0.0)) == ["a"]
    assert not is_over(state)
    assert state.taken_back("a", at=0.0) == ()
    assert is_over(state)
    assert state.outcome is Phase.FAILED
    assert phases(state) == {"a": Phase.CANCELLED, "b": Phase.FAILED}


@pytest.mark.parametrize("phase", WAY)
def test_a_cancelled_launch_cancels_each_worker_once_and_waits_for_it(phase: Phase) -> None:
    state = launch("a")
    state.heard("a", told(phase), at=0.0)
    assert state.cancel(at=0.0) == (CancelJob(address="a"),)
    assert state.cancel(at=0.0) == ()
    assert not has_ended(state)
    assert state.heard("a", cancelled(), at=0.0) == ()
    assert state.outcome is Phase.CANCELLED
    assert state.report("j", 0).error == Failure.of(
        JobCancelled("it was cancelled", {"worker_address": "a"})
    )


@pytest.mark.parametrize("phase", WAY)
def test_a_worker_that_became_ready_while_it_was_cancelled_keeps_no_lease(phase: Phase) -> None:
    state = launch("a")
    state.heard("a", told(phase), at=0.0)
    state.cancel(at=0.0)
    assert taken_back(state.heard("a", ready("a"), at=0.0)) == ["a"]
    assert not has_ended(state)
    assert state.report("j", 0).phase is Phase.PUBLISHING
    state.taken_back("a", at=0.0)
    assert state.outcome is Phase.CANCELLED


def test_a_cancelled_launch_gives_back_what_is_ready_though_enough_are() -> None:
    state = launch("a", "b", require=1)
    state.heard("a", ready("a"), at=0.0)
    following = state.cancel(at=0.0)
    assert (cancels(following), taken_back(following)) == ({"b"}, ["a"])


def test_a_launch_that_failed_can_still_be_cancelled_where_it_goes_on() -> None:
    state = launch("a", "b")
    state.heard("a", told(Phase.DOWNLOADING), at=0.0)
    state.heard("b", failed(), at=0.0)
    assert state.cancel(at=0.0) == (CancelJob(address="a"),)
    state.heard("a", cancelled(), at=0.0)
    assert state.is_over
    assert state.outcome is Phase.FAILED


def test_cancelling_what_has_ended_well_changes_nothing() -> None:
    state = launch("a")
    state.heard("a", ready("a"), at=0.0)
    assert state.cancel(at=0.0) == ()
    assert state.outcome is Phase.READY


def test_a_worker_that_can_not_be_cancelled_fails_its_part_and_is_not_heard_any_more() -> None:
    state = launch("a", "b")
    state.cancel(at=0.0)
    state.heard("b", cancelled(), at=0.0)
    assert state.failed("a", AWAY, at=0.0) == ()
    assert state.outcome is Phase.FAILED
    assert state.heard("a", ready("a"), at=0.0) == ()
    assert state.unanswered("a", AWAY, is_gone=False, now=0.0, at=0.0) == ()
    assert phases(state) == {"a": Phase.FAILED, "b": Phase.CANCELLED}


@pytest.mark.parametrize("phase", WAY)
def test_a_worker_that_refuses_is_asked_again_until_it_was_away_for_too_long(phase: Phase) -> None:
    state = launch("a")
    state.heard("a", told(phase, seq=4), at=0.0)
    again = (AskForNews(address="a", since=4, pause=AGAIN_SECONDS),)
    assert state.unanswered("a", AWAY, is_gone=False, now=100.0, at=0.0) == again
    assert state.unanswered("a", AWAY, is_gone=False, now=100.0 + GRACE_SECONDS, at=0.0) == again
    assert state.unanswered("a", AWAY, is_gone=False, now=100.1 + GRACE_SECONDS, at=0.0) == ()
    assert (state.outcome, state.is_over) == (Phase.FAILED, True)


def test_a_worker_that_refuses_before_it_reported_anything_is_asked_again_for_all() -> None:
    assert launch("a").unanswered("a", AWAY, is_gone=False, now=0.0, at=0.0) == (
        AskForNews(address="a", since=0, pause=AGAIN_SECONDS),
    )


def test_an_answer_ends_the_absence_of_a_worker() -> None:
    state = launch("a")
    state.unanswered("a", AWAY, is_gone=False, now=0.0, at=0.0)
    state.heard("a", told(Phase.RESOLVING), at=0.0)
    state.unanswered("a", AWAY, is_gone=False, now=100.0, at=0.0)
    assert not has_ended(state)


def test_a_worker_that_only_hangs_is_waited_for_until_it_is_given_up() -> None:
    state = launch("a")
    for moment in range(0, 3600, 60):
        assert state.unanswered("a", LATE, is_gone=False, now=float(moment), at=0.0)
    assert state.unanswered("a", LATE, is_gone=True, now=3600.0, at=0.0) == ()
    error = state.report("j", 0).error
    assert error is not None
    assert error.code == "deadline_exceeded"


def test_a_worker_whose_job_could_not_be_started_counts_as_failed_at_once() -> None:
    state = LaunchState(
        require=2,
        replicas={each: Replica(worker_address=each, incarnation="1") for each in "ab"},
    )
    following = state.begin({"b": AWAY}, at=5.0)
    assert following == (AskForNews(address="a", since=0), CancelJob(address="a"))
    assert state.events == [
        JobEvent(seq=1, at=5.0, phase=Phase.FAILED, message="no answer", worker_address="b")
    ]


def begins_without_it(state: LaunchState) -> Instructions:
    state.replicas["a"] = replace(state.replicas["a"], phase=Phase.DOWNLOADING)
    return state.begin({"b": AWAY}, at=7.0)


@pytest.mark.parametrize(
    "lose",
    [
        begins_without_it,
        lambda state: state.heard("b", failed(), at=7.0),
        lambda state: state.failed("b", AWAY, at=7.0),
        lambda state: state.restarted("b", at=7.0),
        lambda state: state.unanswered("b", AWAY, is_gone=True, now=0.0, at=7.0),
    ],
)
def test_a_worker_that_goes_on_though_others_failed_says_so_once(
    lose: Callable[[LaunchState], Instructions],
) -> None:
    state = launch("a", "b")
    state.heard("a", told(Phase.DOWNLOADING, seq=4), at=0.0)
    assert taken_back(lose(state)) == []
    state.heard("a", told(Phase.INSTALLING, seq=5), at=8.0)
    words = "other workers failed; it finishes its downloads, which are kept"
    [said] = [each for each in state.events if each.message == words]
    assert (said.at, said.phase, said.worker_address) == (7.0, Phase.DOWNLOADING, "a")
    assert [each.seq for each in state.events] == list(range(1, len(state.events) + 1))
    assert {each.worker_address for each in state.events} == {"a", "b"}


def test_a_worker_that_goes_on_says_so_too_if_it_is_found_downloading_by_another_supervisor() -> (
    None
):
    state = launch("a", "b", found=True)
    state.heard("b", failed(), at=0.0)
    state.heard("a", told(Phase.DOWNLOADING), at=7.0)
    assert "it finishes its downloads" in state.events[-1].message
    assert state.events[-1].at == 7.0


def test_a_worker_that_was_restarted_is_named() -> None:
    state = launch("a")
    state.restarted("a", at=7.0)
    error = state.report("j", 0).error
    assert error is not None
    assert error.code == "worker_unavailable"
    assert error.message == "the worker at a was restarted during the launch"


def test_who_wants_a_launch_is_known_from_the_start_or_from_a_worker() -> None:
    found = launch("a", "b", found=True)
    assert found.report("j", 0).asked_by is None
    found.heard("a", replace(told(Phase.RESOLVING), asked_by="ada@host"), at=0.0)
    found.heard("b", told(Phase.RESOLVING), at=0.0)
    assert found.report("j", 0).asked_by == "ada@host"
    begun = LaunchState(require=1, replicas=dict(found.replicas), asked_by="bob@host")
    begun.heard("a", replace(told(Phase.RESOLVING), asked_by="ada@host"), at=0.0)
    assert begun.report("j", 0).asked_by == "bob@host"


def test_a_report_has_the_job_its_workers_and_the_events_after_a_number_that_was_given() -> None:
    state = launch("a", "b")
    state.heard("a", told(Phase.RESOLVING), at=0.0)
    state.heard("b", told(Phase.PROBING), at=0.0)
    report = state.report("j", 1)
    assert report.job_id == "j"
    assert {each.worker_address: each.phase for each in report.workers} == phases(state)
    # A number that was not given yet is of before a restart: all is news.
    for since, numbers in ((0, [1, 2]), (1, [2]), (2, []), (3, [1, 2]), (99, [1, 2])):
        assert [each.seq for each in state.report("j", since).events] == numbers


@pytest.mark.parametrize("phase", WAY)
def test_a_supervisor_that_was_restarted_does_not_cancel_what_downloads(phase: Phase) -> None:
    state = launch("a", "b", found=True)
    assert state.heard("b", failed(), at=0.0) == ()
    # It is not known yet how far the other one is.
    assert not has_ended(state)
    following = state.heard("a", told(phase), at=0.0)
    assert cancels(following) == ({"a"} if phase in BEFORE_DOWNLOADING else set())


def test_a_supervisor_that_was_restarted_gives_back_what_became_ready_meanwhile() -> None:
    state = launch("a", "b", found=True)
    state.heard("b", failed(), at=0.0)
    assert taken_back(state.heard("a", ready("a"), at=0.0)) == ["a"]


def test_a_launch_that_was_found_again_can_be_cancelled_before_anything_was_heard() -> None:
    state = launch("a", "b", found=True)
    assert cancels(state.cancel(at=0.0)) == {"a", "b"}


def test_with_enough_ready_a_failure_is_named_and_nothing_is_given_back() -> None:
    state = launch("a", "b", require=1)
    assert state.heard("b", failed(), at=0.0) == ()
    assert state.heard("a", ready("a"), at=0.0) == ()
    report = state.report("j", 0)
    assert (report.phase, report.error) == (Phase.READY, None)
    assert report.result is not None
    assert report.result.lease_id == "lease of a"
    assert phases(state) == {"a": Phase.READY, "b": Phase.FAILED}


@pytest.mark.parametrize(
    "result",
    [
        None,
        PreparedEnvironment(enabled=False, python="p"),
        PreparedEnvironment(python="p", env_id="e"),
        PreparedEnvironment(python="p", lease_id="l"),
    ],
)
def test_a_ready_part_without_a_lease_is_taken_back_as_those_that_have_one(
    result: PreparedEnvironment | None,
) -> None:
    state = launch("a", "b", "c")
    state.heard("a", replace(told(Phase.READY), result=result), at=0.0)
    state.heard("b", ready("b"), at=0.0)
    assert state.heard("c", failed(), at=0.0) == (
        TakeBack(address="a"),
        TakeBack(address="b"),
    )
    state.taken_back("a", at=0.0)
    assert not has_ended(state)
    state.taken_back("b", at=0.0)
    assert (state.outcome, state.is_over) == (Phase.FAILED, True)
    assert phases(state) == {"a": Phase.CANCELLED, "b": Phase.CANCELLED, "c": Phase.FAILED}
    assert [each.result for each in state.replicas.values()] == [None, None, None]


def test_events_are_numbered_as_they_come_and_the_oldest_go() -> None:
    state = launch("a")
    for seq in range(1, EVENTS_KEPT + 11):
        state.heard("a", told(Phase.RESOLVING, seq=seq), at=0.0)
    numbers = [each.seq for each in state.report("j", 0).events]
    assert numbers == list(range(11, EVENTS_KEPT + 11))
    # A number that was not given yet is of before a restart: all is news.
    assert len(state.report("j", EVENTS_KEPT + 100).events) == EVENTS_KEPT
    assert [each.seq for each in state.report("j", EVENTS_KEPT + 9).events] == [EVENTS_KEPT + 10]


class CountedReplicas(dict[str, Replica]):
    """Counts how often a worker is looked up."""

    looks = 0

    def __getitem__(self, address: str) -> Replica:
        self.looks += 1
        return super().__getitem__(address)


@pytest.mark.parametrize(
    ("before", "event"),
    [
        (told(Phase.RESOLVING), lambda state, name: state.heard(name, failed(), at=0.0)),
        (told(Phase.DOWNLOADING), lambda state, name: state.heard(name, failed(), at=0.0)),
        (told(Phase.DOWNLOADING), lambda state, name: state.failed(name, AWAY, at=0.0)),
        (
            told(Phase.DOWNLOADING),
            lambda state, name: state.heard(name, told(Phase.INSTALLING, seq=2), at=0.0),
        ),
        (ready("w"), lambda state, name: state.taken_back(name, at=0.0)),
    ],
)
def test_what_a_worker_costs_a_launch_that_is_lost_does_not_grow_with_their_number(
    before: JobReport, event: Callable[[LaunchState, str], Instructions]
) -> None:
    def looks_for_each(count: int) -> float:
        names = [f"w{number}" for number in range(count)]
        state = launch("first", *names)
        for name in names:
            state.heard(name, before, at=0.0)
        state.heard("first", failed(), at=0.0)
        state.replicas = counted = CountedReplicas(state.replicas)
        for name in names:
            event(state, name)
        return counted.looks / count

    assert looks_for_each(400) <= looks_for_each(40) + 1


@pytest.mark.parametrize("earlier", WAY)
@pytest.mark.parametrize("later", WAY)
def test_a_workers_phase_never_runs_backwards(earlier: Phase, later: Phase) -> None:
    state = launch("a")
    state.heard("a", told(later), at=0.0)
    state.heard("a", told(earlier, seq=2), at=0.0)
    assert phases(state) == {"a": max(earlier, later, key=list(Phase).index)}


def row(address: str, phase: Phase, *, job_id: str = "j") -> JobSummary:
    """A job as its worker lists it."""
    return JobSummary(
        job_id=job_id,
        worker_address=address,
        model_name="glow",
        model_engine=None,
        phase=phase,
        message=phase.value,
        started=1.0,
        changed=2.0,
        error=None,
    )


def test_a_job_is_listed_with_the_end_that_its_launch_gave_it() -> None:
    state = launch("a", "b", "c", require=3)
    state.heard("a", ready("a"), at=3.0)
    state.heard("c", told(Phase.DOWNLOADING), at=3.0)
    state.unanswered("b", AWAY, is_gone=True, now=0.0, at=4.0)
    state.taken_back("a", at=5.0)
    rows = [row("a", Phase.READY), row("c", Phase.INSTALLING), row("a", Phase.READY, job_id="k")]
    listed = jobs_of_launches(rows, {"j": state, "unlisted": launch("a")})
    assert [(each.worker_address, each.phase, each.message) for each in listed] == [
        (
            "a",
            Phase.CANCELLED,
            "ready on a, released again: the launch failed elsewhere or was cancelled",
        ),
        # What has not ended the worker knows best.
        ("c", Phase.INSTALLING, "installing"),
        ("a", Phase.READY, "ready"),
        ("b", Phase.FAILED, "no answer"),
    ]
    assert [each.changed for each in listed] == [2.0, 2.0, 2.0, 4.0]
    assert [each.error and each.error.code for each in listed] == [
        "job_cancelled",
        None,
        None,
        "worker_unavailable",
    ]


def test_a_job_that_ended_well_is_listed_as_its_worker_lists_it() -> None:
    state = launch("a")
    state.heard("a", replace(ready("a"), events=()), at=3.0)
    listed = replace(row("a", Phase.READY), changed=None)
    assert jobs_of_launches([listed], {"j": state}) == (listed,)


# All of it at once, at random


@dataclass(kw_only=True)
class MadeUpWorker:
    """Goes through `way`, a phase a second, then meets its `fate`."""

    address: str
    way: Sequence[Phase]
    fate: str
    place: int = 0
    is_cancelled: bool = False
    has_lease: bool = False

    def news(self, state: LaunchState, now: float) -> Instructions:
        """What it says when it is asked, as an event of the launch."""
        if self.place < len(self.way) and not self.is_cancelled:
            self.place += 1
            phase = self.way[self.place - 1]
            return state.heard(self.address, told(phase, seq=self.place), at=now)
        if self.fate in ("dead", "hangs"):
            error = AWAY if self.fate == "dead" else LATE
            gone = now > GONE_SECONDS
            return state.unanswered(self.address, error, is_gone=gone, now=now, at=now)
        if self.fate == "restarted":
            return state.restarted(self.address, at=now)
        if self.is_cancelled:
            return state.heard(self.address, cancelled(self.place + 1), at=now)
        if self.fate == "fails":
            return state.heard(self.address, failed(self.place + 1), at=now)
        self.has_lease = True
        return state.heard(self.address, ready(self.address, self.place + 1), at=now)

    def cancel(self, state: LaunchState, now: float) -> Instructions:
        """It is cancelled, if it can be reached."""
        if self.fate in ("dead", "hangs") and self.place == len(self.way):
            return state.failed(self.address, AWAY, at=now)
        self.is_cancelled = True
        return ()

    def release(self, state: LaunchState, now: float) -> Instructions:
        assert self.has_lease
        self.has_lease = False
        return state.taken_back(self.address, at=now)


@dataclass(kw_only=True)
class World:
    """Carries instructions out, each a second after it was given."""

    state: LaunchState
    workers: Mapping[str, MadeUpWorker]
    now: float = 0.0
    waiting: list[tuple[float, int, Instruction]] = field(default_factory=list)
    numbers: Iterable[int] = field(default_factory=count)

    def give(self, instructions: Instructions) -> None:
        for each in instructions:
            pause = each.pause if isinstance(each, AskForNews) else 0.0
            heapq.heappush(self.waiting, (self.now + 1.0 + pause, next(iter(self.numbers)), each))

    def step(self) -> None:
        self.now, _, instruction = heapq.heappop(self.waiting)
        worker = self.workers[instruction.address]
        match instruction:
            case AskForNews():
                self.give(worker.news(self.state, self.now))
            case CancelJob():
                self.give(worker.cancel(self.state, self.now))
            case TakeBack():
                self.give(worker.release(self.state, self.now))


FATES = ("ready", "fails", "dead", "hangs", "restarted")


@given(
    parts=st.lists(
        st.tuples(st.integers(0, len(WAY)), st.sampled_from(FATES)), min_size=1, max_size=5
    ),
    cancel_after=st.none() | st.integers(0, 40),
    data=st.data(),
)
def test_every_launch_ends_and_only_one_that_is_ready_keeps_leases(
    parts: list[tuple[int, str]], cancel_after: int | None, data: st.DataObject
) -> None:
    require = data.draw(st.integers(1, len(parts)))
    workers = {
        f"w{place}": MadeUpWorker(address=f"w{place}", way=WAY[:phases], fate=fate)
        for place, (phases, fate) in enumerate(parts)
    }
    state = LaunchState(
        require=require,
        replicas={each: Replica(worker_address=each, incarnation="1") for each in workers},
    )
    world = World(state=state, workers=workers)
    world.give(state.begin({}, at=0.0))
    steps = 0
    was_cancelled = False
    while world.waiting:
        if steps == cancel_after:
            was_cancelled = state.outcome is None
            world.give(state.cancel(at=world.now))
        # Whoever runs is asked: nothing is forgotten.
        asked = [each.address for _, _, each in world.waiting if isinstance(each, AskForNews)]
        assert len(asked) == len(set(asked))
        running = {address for address, each in phases_of(state) if not each.is_last}
        assert running <= set(asked)
        world.step()
        steps += 1
        assert steps < 2000
    assert state.is_over
    enough = sum(fate == "ready" for _, fate in parts) >= require
    if not was_cancelled:
        assert state.outcome is (Phase.READY if enough else Phase.FAILED)
    kept = {address for address, each in workers.items() if each.has_lease}
    if state.outcome is Phase.READY:
        assert kept == {address for address, each in phases_of(state) if each is Phase.READY}
        assert len(kept) >= require
    else:
        assert kept == set()
        assert all(each in (Phase.FAILED, Phase.CANCELLED) for _, each in phases_of(state))
        assert state.report("j", 0).error is not None


def phases_of(state: LaunchState) -> Iterable[tuple[str, Phase]]:
    return phases(state).items()


def test_a_worker_that_has_packages_to_install_finishes_before_a_byte_has_come() -> None:
    state = launch("a", "b")
    event = JobEvent(seq=1, at=1.0, phase=Phase.RESOLVING, message="3 to install", done=0, total=3)
    state.heard("a", replace(told(Phase.RESOLVING), events=(event,)), at=1.0)
    assert cancels(state.heard("b", failed(), at=2.0)) == set()
    assert has_ended(state)
    assert not is_over(state)


def test_of_very_many_workers_each_is_asked_again_after_a_pause() -> None:
    def pause(count: int) -> float:
        state = launch(*(f"w{number}" for number in range(count)))
        [asked] = state.heard("w0", told(Phase.DOWNLOADING), at=1.0)
        assert isinstance(asked, AskForNews)
        return asked.pause

    assert pause(8) == pause(99) == 0.0
    assert pause(100) == 0.2
    # Each reports every second what it downloads: a supervisor takes part of that.
    assert pause(1000) == 2.0
