from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import distribution, host, interpreter, lock, locked
from xinference_venv.host import HostDistribution, HostFacts
from xinference_venv.lock import Role
from xinference_venv.overlay import hidden_by, hidden_names, host_part, still_sound

NUMPY = distribution("numpy", "1.26.4")
TORCH = distribution("torch", "2.8.0", "numpy")
SIX = distribution("six")
THEN = host(NUMPY, TORCH, SIX)

# numpy is replaced, six is not shown, torch is.
LOCK = replace(
    lock(),
    distributions=(
        locked("numpy", version="2.0"),
        locked("numpy", Role.SHADOWED),
        locked("torch", Role.INHERITED),
        locked("six", Role.HIDDEN),
    ),
)


def test_what_is_installed_under_the_name_of_a_host_distribution_shadows_it() -> None:
    installed = {"torch": "2.9", "numpy": None, "new": "1"}
    part = host_part(hidden_by(installed, THEN), installed, THEN)
    assert [(each.name, each.role, each.version) for each in part] == [
        ("numpy", Role.SHADOWED, "1.26.4"),
        ("torch", Role.SHADOWED, "2.8.0"),
    ]
    assert hidden_by({}, THEN) == {}


def test_what_is_shadowed_or_hidden_is_not_shown() -> None:
    assert hidden_names(LOCK) == {"numpy", "six"}
    assert hidden_names(lock()) == frozenset()


@pytest.mark.parametrize(
    "now",
    [
        THEN,
        host(SIX, TORCH, NUMPY),
        host(NUMPY, TORCH, SIX, distribution("new")),
        host(TORCH),
        host(distribution("numpy", "2.1"), TORCH, distribution("six", "2.0", "torch>3")),
        host(NUMPY, TORCH, SIX, skipped=("old: no version",)),
    ],
)
def test_a_lock_holds_while_what_is_shown_is_unchanged(now: HostFacts) -> None:
    assert still_sound(LOCK, THEN, now)


@pytest.mark.parametrize(
    "now",
    [
        host(NUMPY, SIX),
        host(NUMPY, distribution("torch", "2.8.1", "numpy"), SIX),
        host(NUMPY, distribution("torch", "2.8.0", "numpy", "sympy"), SIX),
        host(NUMPY, distribution("torch", "2.8.0", "numpy", extras=("dev",)), SIX),
        host(NUMPY, distribution("torch", "2.8.0", "numpy", location="/elsewhere"), SIX),
        host(NUMPY, distribution("torch", "2.8.0", "numpy", metadata="torch.egg-info"), SIX),
        host(NUMPY, TORCH, SIX, interpreter=interpreter("3.11.8")),
        host(NUMPY, TORCH, SIX, interpreter=interpreter(tags=("py3-none-any",))),
        host(),
    ],
)
def test_a_lock_does_not_hold_when_what_is_shown_changed(now: HostFacts) -> None:
    assert not still_sound(LOCK, THEN, now)


changes = st.sampled_from(
    [
        lambda each: each,
        lambda each: replace(each, version="9"),
        lambda each: replace(each, requires=("six",)),
        lambda each: replace(each, location="/elsewhere"),
    ]
)


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), changes), unique_by=lambda pair: pair[0]),
    st.frozensets(st.sampled_from("abcdef")),
)
def test_only_changes_of_what_is_shown_count(
    drawn: list[tuple[str, object]], hidden: frozenset[str]
) -> None:
    then = [distribution(name) for name, _ in drawn]
    now: list[HostDistribution] = [
        change(distribution(name))  # type: ignore[operator]
        for name, change in drawn
    ]
    over = replace(lock(), distributions=tuple(locked(name, Role.HIDDEN) for name in hidden))
    unchanged = all(
        one == other for one, other in zip(then, now, strict=True) if one.name not in hidden
    )
    assert still_sound(over, host(*then), host(*now)) is unchanged
