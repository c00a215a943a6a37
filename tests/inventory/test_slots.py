"""Who runs, who waits and for what, when jobs share a few places."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from xinference_venv.inventory.slots import Ask, SlotState


def ask(job: str, doing: str = "installing") -> Ask:
    return Ask(job=job, doing=doing, resolving=doing == "resolving")


def test_who_asks_while_there_are_places_starts_at_once() -> None:
    slots = SlotState(places=2)
    assert slots.asked(1, ask("a")) == [1]
    assert slots.asked(2, ask("a")) == [2]
    assert slots.asked(3, ask("b")) == []
    assert slots.left(1) == [3]


def test_resolving_never_takes_the_last_place() -> None:
    slots = SlotState(places=3)
    assert slots.asked(1, ask("slow", "resolving")) == [1]
    assert slots.asked(2, ask("slower", "resolving")) == [2]
    assert slots.asked(3, ask("third", "resolving")) == []
    assert slots.asked(4, ask("ready", "installing")) == [4]
    assert slots.left(4) == []
    assert slots.left(1) == [3]


def test_with_one_place_what_is_resolved_comes_before_what_is_to_be() -> None:
    slots = SlotState(places=1)
    assert slots.asked(1, ask("a", "resolving")) == [1]
    assert slots.asked(2, ask("b", "resolving")) == []
    assert slots.asked(3, ask("c", "verifying")) == []
    assert slots.left(1) == [3]
    assert slots.left(3) == [2]


def test_a_job_that_has_places_waits_for_one_that_has_none() -> None:
    slots = SlotState(places=2)
    slots.asked(1, ask("greedy"))
    slots.asked(2, ask("greedy"))
    slots.asked(3, ask("greedy"))
    slots.asked(4, ask("modest"))
    assert slots.left(1) == [4]
    assert slots.left(2) == [3]


def test_who_waits_learns_for_whom_and_what_they_do() -> None:
    slots = SlotState(places=2)
    slots.asked(1, ask("glow", "resolving"))
    slots.asked(2, ask("lamp", "resolving"))
    assert slots.reason(1) is None
    assert slots.reason(2) == "waiting for one of 2 places for processes; taken by glow (resolving)"
    slots.asked(3, ask("wick", "resolving"))
    assert "; 1 ahead" in str(slots.reason(3))
    slots.left(3)
    assert slots.reason(3) is None


def test_who_is_to_resolve_waits_for_those_who_resolve_and_anyone_else_for_all() -> None:
    slots = SlotState(places=2)
    slots.asked(1, ask("glow", "resolving"))
    slots.asked(2, ask("lamp", "installing"))
    slots.asked(3, ask("wick", "resolving"))
    assert str(slots.reason(3)).endswith("; taken by glow (resolving)")
    slots.asked(4, ask("lens", "installing"))
    assert "; taken by glow (resolving), lamp (installing)" in str(slots.reason(4))


def test_who_may_resolve_but_has_no_place_waits_for_all() -> None:
    slots = SlotState(places=1)
    slots.asked(1, ask("lamp", "installing"))
    slots.asked(2, ask("wick", "resolving"))
    assert slots.reason(2) == "waiting for one of 1 place for processes; taken by lamp (installing)"


def test_one_that_is_withdrawn_takes_no_place() -> None:
    slots = SlotState(places=1)
    slots.asked(1, ask("a"))
    slots.asked(2, ask("b"))
    slots.asked(3, ask("c"))
    assert slots.left(2) == []
    assert slots.left(1) == [3]


@given(
    places=st.integers(1, 4),
    events=st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=40),
)
def test_no_place_is_free_while_one_that_may_have_it_waits_and_all_come_through(
    places: int, events: list[tuple[str, bool, bool]]
) -> None:
    slots = SlotState(places=places)
    running: set[int] = set()
    begun: set[int] = set()
    for ticket, (job, resolving, ends) in enumerate(events):
        doing = "resolving" if resolving else "installing"
        granted = slots.asked(ticket, ask(job, doing))
        if ends and running:
            granted += slots.left(first := min(running))
            running.remove(first)
        running.update(granted)
        begun.update(granted)
        assert len(running) <= places
    while running:
        running.remove(first := min(running))
        granted = slots.left(first)
        running.update(granted)
        begun.update(granted)
    assert begun == set(range(len(events)))


def test_a_second_place_to_resolve_in_leaves_one_for_another_job() -> None:
    state = SlotState(places=5)
    started = [
        ticket
        for number, job in enumerate(["slow", "slow", "tardy", "tardy", "good"])
        for ticket in state.asked(number, Ask(job=job, doing="resolving", resolving=True))
    ]
    assert started == [0, 1, 2, 4]
    assert state.left(4) == []
    assert state.left(0) == [3]


def test_a_job_that_resolves_alone_where_places_are_few_does_so_one_after_the_other() -> None:
    state = SlotState(places=3)
    ask = Ask(job="a", doing="resolving", resolving=True)
    assert state.asked(0, ask) == [0]
    assert state.asked(1, ask) == []
    assert state.left(0) == [1]


def later(job: str) -> Ask:
    return Ask(job=job, doing="installing", background=True)


def test_what_is_done_ahead_of_need_comes_after_all_others() -> None:
    slots = SlotState(places=2)
    slots.asked(1, ask("a"))
    slots.asked(2, ask("b"))
    assert slots.asked(3, later("ahead")) == []
    assert slots.asked(4, ask("b")) == []
    assert slots.left(1) == [4]
    assert slots.left(2) == []
    assert slots.left(4) == [3]


def test_what_is_done_ahead_of_need_leaves_a_place_for_what_is_needed() -> None:
    slots = SlotState(places=3)
    assert slots.asked(1, later("ahead")) == [1]
    assert slots.asked(2, later("ahead")) == [2]
    assert slots.asked(3, later("further")) == []
    assert slots.asked(4, ask("needed")) == [4]
    # Where there is only one it is taken, if nobody else wants it.
    assert SlotState(places=1).asked(1, later("ahead")) == [1]


def test_what_was_done_ahead_of_need_and_is_needed_comes_in_its_turn() -> None:
    slots = SlotState(places=2)
    slots.asked(1, ask("a"))
    slots.asked(2, later("ahead"))
    assert slots.asked(3, later("further")) == []
    assert slots.hurried("ahead") == [2]
    assert slots.asked(4, ask("a")) == []
    assert slots.left(1) == [4]
    assert slots.hurried("unknown") == []


@pytest.mark.parametrize("doing", ["resolving", "installing"])
@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("times", [1, 2])
def test_a_process_that_ends_or_is_cancelled_in_whatever_state_leaves_its_place_once(
    doing: str, background: bool, times: int
) -> None:
    own = replace(ask("own", doing), background=background)
    # It runs: who waits gets its place, once.
    slots = SlotState(places=1)
    assert slots.asked(1, own) == [1]
    assert slots.asked(2, ask("other")) == []
    assert [slots.left(1) for _ in range(times)] == [[2], []][:times]
    assert slots.asked(3, ask("third")) == []
    # It waits: the one that runs goes on, and nobody starts in its place.
    slots = SlotState(places=1)
    slots.asked(1, ask("other"))
    assert slots.asked(2, own) == []
    assert [slots.left(2) for _ in range(times)] == [[]] * times
    assert slots.reason(2) is None
    assert slots.left(1) == []
    # It is not known.
    assert slots.left(9) == []


class SlotMachine(RuleBasedStateMachine):
    """Processes that ask, end, are withdrawn and hurried in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = SlotState(places=3)
        self.tickets = 0
        self.asks: dict[int, Ask] = {}
        self.running: set[int] = set()

    def start(self, granted: list[int]) -> None:
        assert len(granted) == len(set(granted))
        assert not self.running & set(granted)
        assert set(granted) <= self.asks.keys()
        self.running |= set(granted)

    @rule(job=st.sampled_from("abc"), resolving=st.booleans(), background=st.booleans())
    def asks_for_a_place(self, job: str, resolving: bool, background: bool) -> None:
        self.tickets += 1
        doing = "resolving" if resolving else "installing"
        self.asks[self.tickets] = replace(ask(job, doing), background=background)
        self.start(self.slots.asked(self.tickets, self.asks[self.tickets]))

    @precondition(lambda self: self.asks)
    @rule(data=st.data(), times=st.integers(1, 2))
    def ends_or_is_withdrawn(self, data: st.DataObject, times: int) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.asks)))
        del self.asks[ticket]
        self.running.discard(ticket)
        for _ in range(times):
            self.start(self.slots.left(ticket))

    @rule(job=st.sampled_from("abc"))
    def is_hurried(self, job: str) -> None:
        for ticket, each in self.asks.items():
            if each.job == job:
                self.asks[ticket] = replace(each, background=False)
        self.start(self.slots.hurried(job))

    @invariant()
    def there_are_no_more_than_places_and_one_is_left_by_who_resolves(self) -> None:
        assert len(self.running) <= 3
        assert sum(self.asks[each].resolving for each in self.running) <= 2

    @invariant()
    def who_waits_is_told_for_what_and_nobody_waits_for_nothing(self) -> None:
        waiting = self.asks.keys() - self.running
        assert all(self.slots.reason(each) for each in waiting)
        assert all(self.slots.reason(each) is None for each in self.running)
        if len(self.running) < 3:
            needed = [self.asks[each] for each in waiting if not self.asks[each].background]
            assert all(each.resolving for each in needed)
        if not self.running:
            assert not waiting


TestSlotMachine = SlotMachine.TestCase
