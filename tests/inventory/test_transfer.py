from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xinference_venv.inventory.transfer import Transfer

MIB = 1 << 20


def after(*counts: tuple[float, int]) -> Transfer:
    transfer = Transfer()
    for now, done in counts:
        transfer.count(done, now)
    return transfer


def test_before_a_second_has_passed_there_is_no_rate() -> None:
    assert after().bytes_per_second is None
    assert after((0.0, MIB)).bytes_per_second is None
    assert after((0.0, 0), (0.9, MIB)).bytes_per_second is None
    assert after().seconds_left(MIB) is None


def test_the_rate_is_what_came_by_the_time_it_took_and_the_rest_takes_as_long() -> None:
    transfer = after((0.0, 0), (1.0, 2 * MIB), (2.0, 4 * MIB))
    assert transfer.bytes_per_second == 2 * MIB
    assert transfer.seconds_left(10 * MIB) == 3
    assert transfer.seconds_left(4 * MIB) == transfer.seconds_left(0) == 0


def test_the_rate_is_of_the_last_ten_seconds() -> None:
    fast = [(float(at), at * 10 * MIB) for at in range(20)]
    slow = [(20.0 + at, 190 * MIB + at * MIB) for at in range(13)]
    assert after(*fast).bytes_per_second == 10 * MIB
    assert after(*fast, *slow).bytes_per_second == MIB


def test_what_came_before_the_last_ten_seconds_does_not_count_however_seldom_it_is_asked() -> None:
    assert after((0.0, 0), (1.0, 90 * MIB), (11.0, 100 * MIB)).bytes_per_second == MIB
    assert after((0.0, 0), (1.0, 90 * MIB), (13.0, 102 * MIB)).bytes_per_second == MIB
    assert after((0.0, 0), (1.5, 90 * MIB), (11.0, 99 * MIB)).bytes_per_second == 9 * MIB


def test_what_has_arrived_takes_no_time_however_slowly_it_came() -> None:
    assert after((0.0, 0), (2.0, 2)).seconds_left(2) == 0
    assert after((0.0, 0), (2.0, 2)).seconds_left(3) == 1


def test_where_nothing_arrives_no_time_is_left_to_tell() -> None:
    stalled = [(float(at), MIB) for at in range(20)]
    transfer = after((0.0, 0), *stalled)
    assert transfer.bytes_per_second == 0
    assert transfer.seconds_left(2 * MIB) is None


def test_a_count_that_falls_and_a_clock_that_was_set_back_are_no_less_than_nothing() -> None:
    transfer = after((0.0, 0), (5.0, 5 * MIB), (4.0, MIB))
    assert transfer.bytes_per_second == MIB


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 1 << 40)), max_size=30))
def test_whatever_is_counted_the_rate_is_not_negative(counts: list[tuple[float, int]]) -> None:
    transfer = after(*counts)
    assert (transfer.bytes_per_second or 0) >= 0
    assert (transfer.seconds_left(1 << 40) or 0) >= 0
