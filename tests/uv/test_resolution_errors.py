"""What is advised when there is no solution: one thing, and not what uv advises already."""

from __future__ import annotations

import pytest

from xinference_venv.uv.resolution_errors import has_no_solution, way_out

_NONE = "No solution found when resolving dependencies\n  cause: Because "
_CONFLICT = f"{_NONE}a depends on b==1 and you require b==2, your requirements are unsatisfiable."


@pytest.mark.parametrize(
    "place", ["was not found in the package registry", "was not found in the provided locations"]
)
@pytest.mark.parametrize("over_host", [True, False])
def test_a_package_that_is_nowhere_is_a_matter_of_its_name_or_the_index(
    place: str, over_host: bool
) -> None:
    hint = way_out(f"{_NONE}wick {place} and you require wick==1", over_host=over_host)
    assert hint is not None
    assert hint.startswith("see whether the name is right")


def test_a_conflict_over_a_host_has_a_way_around_the_host() -> None:
    assert "--inherit none" in (way_out(_CONFLICT, over_host=True) or "")
    assert way_out(_CONFLICT, over_host=False) is None


def test_where_uv_gives_a_hint_there_is_no_second_one() -> None:
    assert way_out(f"{_CONFLICT}\n\nhint: the network was disabled", over_host=True) is None


def test_an_index_that_fails_is_no_missing_solution() -> None:
    words = "Failed to fetch: http://127.0.0.1:9/simple/wick/"
    assert not has_no_solution(words)
    assert way_out(words, over_host=True) is None
