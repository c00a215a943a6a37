from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import line
from xinference_venv.planning.requirements import RequirementLine
from xinference_venv.uv.satisfies import contradicted
from xinference_venv.uv.search import keep_most

Conflicts = frozenset[frozenset[str]]


def most(
    stable: Sequence[str], candidates: Sequence[str], conflicts: Conflicts
) -> tuple[list[str], list[list[str]]]:
    """What is kept where names of a conflict can't all be; and what was asked."""
    asked: list[list[str]] = []

    async def solvable(names: Sequence[str]) -> bool:
        asked.append(list(names))
        return is_solvable(names, conflicts)

    return asyncio.run(keep_most(stable, candidates, solvable)), asked


def is_solvable(names: Sequence[str], conflicts: Conflicts) -> bool:
    return not any(conflict <= set(names) for conflict in conflicts)


CANDIDATES = "bcdefghij"
conflicts = st.frozensets(
    st.frozensets(st.sampled_from("a" + CANDIDATES), min_size=1, max_size=3).filter(
        lambda conflict: conflict != {"a"}
    ),
    max_size=5,
)


@given(st.lists(st.sampled_from(CANDIDATES), unique=True), conflicts)
def test_as_many_are_kept_as_stay_solvable(candidates: list[str], against: Conflicts) -> None:
    kept, asked = most(["a"], candidates, against)
    assert kept[0] == "a"
    assert set(kept[1:]) <= set(candidates)
    assert len(set(kept)) == len(kept)
    assert is_solvable(kept, against)
    for left_out in set(candidates) - set(kept):
        assert not is_solvable([*kept, left_out], against)
    # The last solution that was found is the one of what is kept.
    solved = [each for each in asked if is_solvable(each, against)]
    assert kept == (solved[-1] if solved else ["a"])


def test_with_nothing_to_add_nothing_is_asked() -> None:
    assert most(["a", "b"], [], frozenset()) == (["a", "b"], [])


def test_what_fits_together_is_asked_once() -> None:
    assert most(["a"], "bcd", frozenset()) == (["a", "b", "c", "d"], [["a", "b", "c", "d"]])


def test_one_that_does_not_fit_is_found_by_halving() -> None:
    many = [f"p{number}" for number in range(256)]
    kept, asked = most([], many, frozenset({frozenset({"p77"})}))
    assert sorted(kept) == sorted(set(many) - {"p77"})
    assert len(asked) <= 1 + 2 * 8


def test_what_is_stable_is_never_given_up() -> None:
    against = frozenset({frozenset("ab"), frozenset("cd")})
    assert most(["a"], ["b", "c", "d"], against)[0] == ["a", "c"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], False),
        ([line("torch", "torch")], False),
        ([line("numpy", "numpy")], False),
        ([line("numpy>=1.26", "numpy")], False),
        ([line("numpy==1.26.4", "numpy")], False),
        ([line("numpy[extra]==1.26.4", "numpy")], False),
        ([line("numpy>=2", "numpy")], True),
        ([line("numpy==1.26.3", "numpy")], True),
        ([line("numpy>=1", "numpy"), line("numpy<1.20", "numpy")], True),
        ([line("NumPy>=2", "numpy")], True),
        ([line("torch>=3", "torch")], False),
        ([line("numpy @ https://host.example/numpy.zip", "numpy")], True),
        ([line("numpy @ file:/wheels/numpy-1.26.4-py3-none-any.whl", "numpy")], True),
        ([line("https://host.example/numpy-1.26.4-py3-none-any.whl", "numpy")], True),
        ([line("file:/wheels/numpy-1.26.4-py3-none-any.whl", "numpy")], True),
        ([line("git+https://host.example/numpy.git", None)], False),
    ],
)
def test_a_request_contradicts_the_hosts_version_if_it_excludes_it(
    lines: list[RequirementLine], expected: bool
) -> None:
    assert contradicted("numpy", "1.26.4", lines) is expected


@pytest.mark.parametrize(
    ("version", "specifier", "expected"),
    [
        ("2.8.0a0+34c6371d24.nv25.8", ">=2.7", False),
        ("2.8.0a0+34c6371d24.nv25.8", ">=2.8", True),
        ("2.8.0a0+34c6371d24.nv25.8", "==2.8.0a0+34c6371d24.nv25.8", False),
        ("2.8.0+cu128", "==2.8.0", False),
        ("2.8.0+cu128", "==2.8.0+cpu", True),
        ("2.8.0rc1", ">2", False),
    ],
)
def test_local_and_pre_release_builds_of_the_host_count_as_what_they_are(
    version: str, specifier: str, expected: bool
) -> None:
    assert contradicted("torch", version, [line(f"torch{specifier}", "torch")]) is expected
