"""What counts as progress of a process, and what does not."""

from __future__ import annotations

import pytest

from xinference_venv.inventory.stalls import Done, StallWatch


@pytest.mark.parametrize("done", [Done(heard=1), Done(written=1 << 16), Done(cpu=0.05)])
def test_a_word_a_block_of_bytes_and_some_computing_are_progress(done: Done) -> None:
    watch = StallWatch(since=100.0)
    assert watch.looked(Done(), 130.0) == 30.0
    assert watch.looked(done, 160.0) == 0.0
    assert watch.looked(done, 190.0) == 30.0


def test_a_byte_now_and_then_is_none() -> None:
    watch = StallWatch(since=0.0)
    for second in range(0, 120, 5):
        watch.looked(Done(written=second, cpu=second / 10_000), float(second))
    assert watch.looked(Done(written=120, cpu=0.012), 120.0) == 120.0


def test_small_steps_add_up() -> None:
    watch = StallWatch(since=0.0)
    assert watch.looked(Done(cpu=0.03), 30.0) == 30.0
    assert watch.looked(Done(cpu=0.06), 60.0) == 0.0


def test_a_child_whose_work_is_counted_no_more_does_not_hide_that_of_the_next() -> None:
    watch = StallWatch(since=0.0)
    watch.looked(Done(cpu=50.0), 30.0)
    watch.looked(Done(cpu=1.0), 60.0)
    assert watch.looked(Done(cpu=1.1), 90.0) == 0.0
    watch.looked(Done(cpu=1.1, written=1 << 20), 120.0)
    watch.looked(Done(cpu=1.1, written=10), 150.0)
    assert watch.looked(Done(cpu=1.1, written=10 + (1 << 16)), 180.0) == 0.0
