"""Whether a lock fits, decided over sizes alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import wheel_package
from xinference_venv.errors import StoreError
from xinference_venv.inventory.disk_space import (
    Need,
    check_quota,
    check_space,
    needs_of,
    packed_bytes,
)

GB = 10**9


def package(name: str, size: int | None) -> dict[str, Any]:
    made = wheel_package(name)
    [wheel] = made["wheels"]
    wheel["size"] = size
    return made


TORCH = package("torch", 3 * GB)
NUMPY = package("numpy", 1 * GB)
DIRECT = {name: each for name, each in package("direct", 4 * GB).items() if name != "index"}


def bytes_at(**changes: Any) -> dict[str, int]:
    asked: dict[str, Any] = {"home": "/home", "cache": "/cache", "links": True, "uncached": None}
    needs = needs_of([TORCH, NUMPY, DIRECT], **{**asked, **changes})
    return {need.place: need.packed_bytes for need in needs}


def test_while_no_one_knows_what_uv_has_everything_is_needed() -> None:
    assert bytes_at() == {"/home": 8 * GB}
    assert bytes_at(links=False) == {"/home": 8 * GB, "/cache": 8 * GB}


def test_what_uv_has_takes_nothing_where_it_is_linked_and_a_copy_elsewhere() -> None:
    assert bytes_at(uncached={"torch"}) == {"/home": 3 * GB}
    assert bytes_at(uncached={"torch"}, links=False) == {"/home": 8 * GB, "/cache": 3 * GB}
    assert bytes_at(uncached=set()) == {"/home": 0}


def test_of_what_comes_by_url_no_one_knows_whether_uv_has_it() -> None:
    assert bytes_at(uncached={"direct"}) == {"/home": 0}


def test_a_size_that_is_not_known_takes_nothing_and_of_several_wheels_the_smallest_counts() -> None:
    several = {"name": "a", "wheels": [{"size": 5}, {"size": 3}]}
    assert packed_bytes([several, package("b", None), {"name": "c", "sdist": {"size": 9}}]) == 3
    assert packed_bytes([{"name": "a", "wheels": [{"size": 5}, {}]}]) == 0


def test_what_does_not_fit_is_refused_with_numbers_and_a_way_out() -> None:
    with pytest.raises(StoreError) as caught:
        check_space([Need(place="/srv/home", packed_bytes=2_800_000_000)], lambda _: 1_200_000_000)
    error = caught.value
    assert error.message == ("the environment needs about 5.22 GiB in /srv/home, 1.12 GiB are free")
    assert "gc" in str(error.hint) and "--prune-uv-cache" in str(error.hint)
    assert error.details["needed_bytes"] == 5_600_000_000
    assert error.details["free_bytes"] == 1_200_000_000


def test_each_place_is_looked_at() -> None:
    free = {"/home": 10, "/cache": 4}
    needs = [Need(place="/home", packed_bytes=10), Need(place="/cache", packed_bytes=5)]
    with pytest.raises(StoreError, match="in /cache"):
        check_space(needs, free.__getitem__)
    free["/cache"] = 5
    check_space(needs, free.__getitem__)
    # Some file systems say nothing of what is free.
    free["/home"] = 0
    check_space(needs, free.__getitem__)


def test_what_a_quota_leaves_no_space_for_is_refused_however_much_is_free() -> None:
    asked: list[tuple[str, int]] = []

    def left_at(place: str, wanted: int) -> int:
        asked.append((place, wanted))
        return {"/home": wanted, "/cache": 3 * 2**20}[place]

    needs = [Need(place="/home", packed_bytes=7), Need(place="/cache", packed_bytes=4 * 2**20)]
    with pytest.raises(StoreError) as caught:
        check_quota(needs, left_at)
    assert asked == [("/home", 7), ("/cache", 4 * 2**20)]
    assert caught.value.message == (
        "the environment needs about 8.00 MiB in /cache, a quota leaves about 3.00 MiB, whatever"
        " else is free"
    )
    assert "quota raised" in str(caught.value.hint)
    assert caught.value.details["needed_bytes"] == 8 * 2**20
    assert caught.value.details["free_bytes"] == 3 * 2**20


def test_a_quota_that_leaves_just_enough_is_enough() -> None:
    check_quota([Need(place="/home", packed_bytes=7)], lambda _, wanted: wanted)


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_only_what_can_never_work_is_refused(packed: int, free: int) -> None:
    """Nothing is smaller unpacked than packed; and no free byte may mean that nobody counts."""
    assert Need(place="/", packed_bytes=packed).fits(free) is (free == 0 or packed <= free)
