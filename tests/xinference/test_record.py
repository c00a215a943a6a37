"""What is remembered of an environment, and what a call has to respect of that."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests import fakes
from xinference_venv.inventory.in_place import InPlaceRecord
from xinference_venv.planning.requirements import Origin
from xinference_venv.xinference.record import (
    Call,
    still_asked,
    with_call,
    without_missing,
)

RECORD = InPlaceRecord(
    asked=("lantern<2",),
    calls=("first",),
    contents=("lantern-1.0.dist-info",),
    host_fingerprint="a host",
    interpreter=fakes.interpreter(),
    lock=fakes.lock(fakes.wheel_package("lantern")),
)

_names = st.sampled_from(["lantern", "oil", "wick"])


def test_a_record_goes_through_json() -> None:
    fakes.check_record(
        replace(RECORD, lock=fakes.lock()), may_be_absent={"version", "asked", "calls", "contents"}
    )


def test_a_call_respects_what_earlier_ones_asked_for() -> None:
    seen = fakes.host(fakes.distribution("lantern", "1.0"), fakes.distribution("oil", "1.0"))
    assert still_asked(["lantern<2", "oil"], [fakes.line("wick", "wick")], seen) == (
        "lantern<2",
        "oil",
    )


def test_a_call_does_not_respect_what_it_asks_for_itself() -> None:
    seen = fakes.host(fakes.distribution("lantern", "1.0"))
    assert still_asked(["lantern<2"], [fakes.line("lantern>2", "lantern")], seen) == ()


def test_a_call_does_not_respect_what_was_changed_or_removed_since() -> None:
    seen = fakes.host(fakes.distribution("lantern", "3.0"))
    assert still_asked(["lantern<2", "oil"], [], seen) == ()


def test_what_a_call_asked_for_is_kept_without_credentials() -> None:
    lines = (
        fakes.line("lantern[wide]<2", "lantern"),
        fakes.line("oil @ https://me:tops3cret@host.example/oil-1.0-py3-none-any.whl", "oil"),
        fakes.line("xoscar==0.9", "xoscar", Origin.PROCESS),
    )
    asked, calls = with_call(None, Call(digest="now", lines=lines, held=()), {"oil": "1.0"})
    assert asked == ("lantern<2", "oil==1.0")
    assert calls == ("now",)


def test_earlier_calls_hold_while_a_new_one_only_adds() -> None:
    call = Call(digest="now", lines=(fakes.line("oil", "oil"),), held=("lantern<2",))
    assert with_call(RECORD, call, {}) == (("lantern<2", "oil"), ("first", "now"))


def test_no_earlier_call_holds_when_a_new_one_replaces_what_it_asked_for() -> None:
    call = Call(digest="now", lines=(fakes.line("lantern>=2", "lantern"),), held=())
    assert with_call(RECORD, call, {}) == (("lantern>=2",), ("now",))


@given(earlier=st.sets(_names), new=st.sets(_names), there=st.sets(_names))
def test_what_is_held_was_asked_is_there_and_is_not_asked_again(
    earlier: set[str], new: set[str], there: set[str]
) -> None:
    seen = fakes.host(*map(fakes.distribution, sorted(there)))
    held = still_asked(sorted(earlier), [fakes.line(name, name) for name in sorted(new)], seen)
    assert set(held) == (earlier & there) - new


def test_what_a_distribution_lacks_is_not_required_unless_it_is_asked_for() -> None:
    lamp = fakes.distribution("lamp", "1.0", "shade", "wick", "glass ; extra == 'wide'")
    seen = fakes.host(lamp, fakes.distribution("wick"), fakes.distribution("table", "1.0", "lamp"))
    relaxed = without_missing(seen, ["lamp", "table"], [fakes.line("oil", "oil")])
    assert relaxed.by_name["lamp"].requires == ("wick", "glass ; extra == 'wide'")
    for asked in ("lamp", "table"):
        assert without_missing(seen, ["lamp", "table"], [fakes.line(asked, asked)]) == seen
    assert without_missing(seen, [], []) == seen
