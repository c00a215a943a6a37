"""What goes so that the others fit, decided over facts alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import fakes
from xinference_venv.errors import InvalidInput
from xinference_venv.inventory.eviction import (
    EnvUsage,
    EvictionPlan,
    EvictionPolicy,
    EvictionReason,
    plan_eviction,
    walk_order,
)

NOW = 1_000_000.0
DAY = 86_400.0


def usage(env_id: str, *, used: float, size: int = 100, **changes: Any) -> EnvUsage:
    """An environment that one key means, last used so many days ago."""
    made = EnvUsage(
        env_id=env_id,
        keys=(fakes.key(env_id),),
        leases=(),
        busy=False,
        last_used=NOW - used * DAY,
        size_bytes=size,
    )
    return replace(made, **changes)


def went(plan: EvictionPlan) -> list[tuple[str, EvictionReason]]:
    return [(each.usage.env_id, each.reason) for each in plan.evict]


def plan(*usages: EnvUsage, **limits: Any) -> EvictionPlan:
    return plan_eviction(usages, EvictionPolicy(**limits), now=NOW)


def test_without_limits_only_what_no_one_needs_goes() -> None:
    made = plan(usage("old", used=999), usage("lost", used=0, keys=()))
    assert went(made) == [("lost", EvictionReason.UNNEEDED)]
    assert (made.bytes_before, made.bytes_after) == (200, 100)


def test_the_least_recently_used_goes_until_the_rest_fits() -> None:
    all_of_them = [usage(name, used=used) for name, used in (("b", 2), ("c", 3), ("a", 1))]
    over = EvictionReason.OVER_LIMIT
    assert went(plan(*all_of_them, max_bytes=300)) == []
    assert went(plan(*all_of_them, max_bytes=299)) == [("c", over)]
    assert went(plan(*all_of_them, max_bytes=100)) == [("c", over), ("b", over)]
    assert went(plan(*all_of_them, max_bytes=0)) == [("c", over), ("b", over), ("a", over)]


def test_what_was_not_used_for_long_goes_whatever_it_takes() -> None:
    just, over = usage("a", used=30, size=0), usage("b", used=31, size=0)
    made = plan(just, over, older_than=30 * DAY)
    assert went(made) == [("b", EvictionReason.UNUSED)]
    made = plan(replace(just, busy=True), replace(over, busy=True), older_than=30 * DAY)
    assert [each.env_id for each in made.in_use] == ["b"]


@pytest.mark.parametrize("use", [{"leases": (fakes.lease(),)}, {"busy": True}])
def test_what_is_in_use_stays_and_is_named(use: dict[str, Any]) -> None:
    running = usage("old", used=99, **use)
    new = usage("new", used=1)
    limits: dict[str, Any]
    for limits in ({"max_bytes": 50}, {"max_bytes": 0, "older_than": DAY}):
        made = plan(running, new, **limits)
        assert went(made) == [("new", EvictionReason.OVER_LIMIT)]
        assert made.in_use == (running,)
        assert made.bytes_after == 100
    assert plan(running, new, max_bytes=100).in_use == ()
    assert plan(running, new).in_use == ()
    assert plan(running, replace(new, keys=(), **use), max_bytes=0).evict == ()


def test_a_file_that_two_have_counts_once_and_goes_with_the_last_one() -> None:
    kept = usage("kept", used=1, size=100)
    sharing = usage("sharing", used=2, size=100, shared_bytes=90)
    assert sharing.added_bytes == 10
    made = plan(kept, sharing, max_bytes=109)
    assert (made.bytes_before, made.bytes_after) == (110, 100)
    assert went(made) == [("sharing", EvictionReason.OVER_LIMIT)]


def test_a_plan_is_plain_json() -> None:
    [eviction] = plan(usage("old", used=2), max_bytes=0).evict
    data = fakes.through_json(eviction.to_dict())
    assert data["reason"] == "over limit"
    assert data["keys"] == [fakes.key("old").to_dict()]
    assert (data["size_bytes"], data["shared_bytes"], data["leases"]) == (100, 0, [])


@pytest.mark.parametrize("limit", [-1, math.nan, math.inf, True])
def test_a_limit_is_a_number_from_0_on(limit: float) -> None:
    for name in ("max_bytes", "older_than"):
        with pytest.raises(InvalidInput) as caught:
            EvictionPolicy(**{name: limit})  # type: ignore[arg-type]
        assert caught.value.message == f"Invalid {name} {limit!r} of an eviction policy"
        assert caught.value.hint


usages = st.lists(
    st.builds(
        lambda number, used, size, needed, leased, busy: usage(
            f"env-{number}",
            used=used,
            size=size,
            keys=(fakes.key(f"m{number}"),) if needed else (),
            leases=(fakes.lease(),) if leased else (),
            busy=busy,
        ),
        st.integers(0, 10**9),
        st.integers(-2, 40),
        st.integers(0, 1000),
        *(st.booleans(), st.booleans(), st.booleans()),
    ),
    max_size=12,
    unique_by=lambda each: each.env_id,
)
policies = st.builds(
    EvictionPolicy,
    max_bytes=st.none() | st.integers(0, 5000),
    older_than=st.none() | st.floats(0, 50 * DAY),
)


@given(usages, policies)
def test_a_plan_keeps_to_its_policy_and_takes_no_more(
    there: list[EnvUsage], policy: EvictionPolicy
) -> None:
    made = plan_eviction(there, policy, now=NOW)
    gone = [each.usage for each in made.evict]
    stays = [each for each in there if each not in gone]
    oldest = NOW - (math.inf if policy.older_than is None else policy.older_than)

    assert not any(each.in_use for each in gone)
    assert made.bytes_after == sum(each.added_bytes for each in stays)
    for each in stays:
        assert each.in_use or (each.keys and each.last_used >= oldest)
    if policy.max_bytes is not None and made.bytes_after > policy.max_bytes:
        assert all(each.in_use for each in stays)
    # Nothing stays that was used before something that goes, and nothing goes in vain.
    assert walk_order(there) == [*walk_order(stays), *reversed(gone)]
    for eviction in made.evict:
        if eviction.reason is EvictionReason.OVER_LIMIT:
            earlier = gone[: gone.index(eviction.usage)]
            left = made.bytes_before - sum(other.added_bytes for other in earlier)
            assert policy.max_bytes is not None and left > policy.max_bytes
    assert plan_eviction(stays, policy, now=NOW).evict == ()
    assert all(each.in_use for each in made.in_use)


@given(usages)
def test_what_is_in_use_is_kept_before_what_is_not(there: list[EnvUsage]) -> None:
    order = [each.in_use for each in walk_order(there)]
    assert order == sorted(order, reverse=True)


def test_nothing_is_unused_for_longer_than_its_home_is_known() -> None:
    old = [usage("a", used=400)]
    policy = EvictionPolicy(older_than=30 * DAY)
    assert went(plan_eviction(old, policy, now=NOW, since=NOW - 29 * DAY)) == []
    gone = plan_eviction(old, policy, now=NOW, since=NOW - 31 * DAY)
    assert went(gone) == [("a", EvictionReason.UNUSED)]
