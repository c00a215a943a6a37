from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import check_record, through_json
from xinference_venv.inventory.jobs import (
    EVENTS_KEPT,
    EVENTS_KEPT_OF_ENDED,
    JobEvent,
    JobJournal,
    Phase,
    PreparedEnvironment,
)

LAST = [Phase.READY, Phase.FAILED, Phase.CANCELLED]
phases = st.sampled_from(Phase)
texts = st.text(max_size=4)
counts = st.none() | st.integers(0)
events = st.builds(
    JobEvent,
    seq=st.integers(),
    at=st.floats(0, 1e11),
    phase=phases,
    message=texts,
    done=counts,
    total=counts,
    done_bytes=counts,
    total_bytes=counts,
    bytes_per_second=counts,
    seconds_left=counts,
)
results = st.builds(
    PreparedEnvironment,
    enabled=st.booleans(),
    python=texts,
    env_id=st.none() | texts,
    lease_id=st.none() | texts,
    uv_calls=st.integers(0),
    warnings=st.lists(texts, max_size=2).map(tuple),
)


@given(events | results)
def test_events_and_results_come_back_from_json(record: JobEvent | PreparedEnvironment) -> None:
    assert type(record).from_dict(through_json(record.to_dict())) == record


def test_events_and_results_are_read_whole_or_refused() -> None:
    event = JobEvent(seq=1, at=1.5, phase=Phase.INSTALLING, message="installing", done=3, total=9)
    progress = (
        *("done", "total", "done_bytes", "total_bytes", "worker_address"),
        *("bytes_per_second", "seconds_left"),
    )
    check_record(event, may_be_absent=progress)
    result = PreparedEnvironment(
        enabled=True,
        python="/env/bin/python",
        env_id="0123",
        path="/home/v4/m/vllm/3.11",
        real_path="/home/store/envs/0123",
        lease_id="a-lease",
        lock_digest="0123abcd",
        uv_calls=4,
        warnings=("a warning",),
    )
    needed = {"python"}
    check_record(result, may_be_absent=result.to_dict().keys() - needed)


def test_a_new_job_is_queued() -> None:
    journal = JobJournal()
    assert journal.phase is Phase.QUEUED
    assert journal.since(0) == []


def test_the_last_phases_are_the_three_that_end_a_job() -> None:
    assert [phase for phase in Phase if phase.is_last] == LAST


@pytest.mark.parametrize("last", LAST)
@pytest.mark.parametrize("later", Phase)
def test_nothing_follows_an_ending_event(last: Phase, later: Phase) -> None:
    journal = JobJournal()
    journal.add(1.0, Phase.RESOLVING, "resolving")
    ending = journal.add(2.0, last, "the end")
    assert journal.add(3.0, later, "too late") is None
    assert journal.phase is last
    assert journal.events[-1] is ending
    assert journal.next_seq == 3


@pytest.mark.parametrize("before", Phase)
def test_only_a_ready_job_is_taken_back(before: Phase) -> None:
    journal = JobJournal()
    ending = journal.add(2.0, before, "so far")
    taken = journal.take_back(3.0, "taken back")
    if before is Phase.READY:
        assert taken == JobEvent(seq=2, at=3.0, phase=Phase.CANCELLED, message="taken back")
        assert (journal.phase, journal.next_seq) == (Phase.CANCELLED, 3)
        assert journal.events == [ending, taken]
        assert journal.take_back(4.0, "twice") is None
    else:
        assert (taken, journal.phase, journal.events) == (None, before, [ending])


@given(st.lists(phases))
def test_events_are_numbered_in_order_up_to_the_ending_one(added: list[Phase]) -> None:
    journal = JobJournal()
    for at, phase in enumerate(added):
        event = journal.add(at, phase, "it happened", done=at)
        assert event is None or event is journal.events[-1]
    ended = next((at + 1 for at, phase in enumerate(added) if phase.is_last), len(added))
    assert [event.seq for event in journal.events] == list(range(1, ended + 1))
    order = list(Phase)
    reached = [order.index(phase) for phase in added[:ended]]
    furthest = [order[max(reached[: at + 1])] for at in range(ended)]
    assert [event.phase for event in journal.events] == furthest
    assert [event.done for event in journal.events] == list(range(ended))


@given(st.integers(0, 12), st.integers(-1, 14))
def test_who_asks_gets_each_event_after_the_number_it_has(count: int, seen: int) -> None:
    journal = JobJournal()
    for at in range(count):
        journal.add(at, Phase.INSTALLING, "installing")
    assert [event.seq for event in journal.since(seen)] == list(range(max(seen, 0) + 1, count + 1))


def test_the_seconds_of_each_phase_add_up_to_the_last_event() -> None:
    journal = JobJournal()
    journal.add(10.0, Phase.RESOLVING, "resolving")
    assert journal.seconds == {}
    journal.add(12.5, Phase.INSTALLING, "installing")
    journal.add(12.75, Phase.INSTALLING, "installing")
    journal.add(13.0, Phase.VERIFYING, "verifying")
    # The clock was set back, which takes nothing away.
    journal.add(9.0, Phase.VERIFYING, "verifying")
    journal.add(9.5, Phase.READY, "ready")
    assert journal.seconds == {
        Phase.RESOLVING: 2.5,
        Phase.INSTALLING: 0.5,
        Phase.VERIFYING: 0.5,
    }


def test_an_event_has_its_time_its_words_and_its_progress() -> None:
    numbers = ("done", "total", "done_bytes", "total_bytes", "bytes_per_second", "seconds_left")
    progress = {name: number for number, name in enumerate(numbers, start=1)}
    assert JobJournal().add(1.5, Phase.DOWNLOADING, "downloading", **progress) == JobEvent(
        seq=1,
        at=1.5,
        phase=Phase.DOWNLOADING,
        message="downloading",
        done=1,
        total=2,
        done_bytes=3,
        total_bytes=4,
        bytes_per_second=5,
        seconds_left=6,
    )


def test_a_talkative_job_keeps_its_first_and_its_latest_events() -> None:
    journal = JobJournal()
    journal.add(0.0, Phase.QUEUED, "queued")
    for at in range(EVENTS_KEPT + 500):
        journal.add(at, Phase.INSTALLING, "installing")
        assert len(journal.events) == min(at + 2, EVENTS_KEPT)
    journal.add(9.0, Phase.READY, "ready")
    kept = [event.seq for event in journal.events]
    latest = EVENTS_KEPT + 502
    assert kept == [1, *range(latest - EVENTS_KEPT + 2, latest + 1)]
    assert journal.phase is Phase.READY
    assert [event.seq for event in journal.since(latest - 2)] == [latest - 1, latest]


@pytest.mark.parametrize("count", [0, 1, 2, EVENTS_KEPT_OF_ENDED, EVENTS_KEPT_OF_ENDED + 7])
def test_of_a_job_that_ended_long_ago_the_first_and_the_last_events_are_kept(count: int) -> None:
    journal = JobJournal()
    for at in range(count):
        journal.add(float(at), Phase.INSTALLING, "installing")
    every = list(journal.events)
    journal.shorten()
    assert journal.events == [*every[:1], *every[1:][-EVENTS_KEPT_OF_ENDED:]]


def test_a_phase_never_comes_after_a_later_one() -> None:
    journal = JobJournal()
    for phase in (Phase.QUEUED, Phase.RESOLVING, Phase.QUEUED, Phase.INSTALLING, Phase.DOWNLOADING):
        journal.add(0.0, phase, phase.value)
    assert [each.phase for each in journal.events] == [
        *(Phase.QUEUED, Phase.RESOLVING, Phase.RESOLVING),
        *(Phase.INSTALLING, Phase.INSTALLING),
    ]
    journal.add(0.0, Phase.CANCELLED, "cancelled")
    assert journal.phase is Phase.CANCELLED
