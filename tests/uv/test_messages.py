from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xinference_venv.inventory.jobs import Phase
from xinference_venv.uv.messages import (
    InstallProgress,
    Progress,
    bytes_in,
    has_no_solution,
    interpreter_size,
    uncached_name,
    way_out,
)

SIZES = {"numpy": 18_000_000, "six": 11_000}

# What uv 0.13.9 says, without a terminal, of an install of three packages and a source build.
LINES = [
    "Resolved 3 packages in 12ms",
    "   Building pkg==1.0",
    "Downloading numpy (17.2MiB)",
    "Downloading setuptools (1.2MiB)",
    " Downloaded setuptools",
    "      Built pkg==1.0",
    " Downloaded numpy",
    "Prepared 3 packages in 1.20s",
    "Installed 3 packages in 15ms",
    " + numpy==2.4.6",
    " + pkg==1.0",
    " + six==1.17.0",
]


def steps(lines: list[str], total: int = 3) -> list[Progress]:
    progress = InstallProgress(total=total, sizes=SIZES)
    return [step for line in lines if (step := progress.read(line)) is not None]


def test_an_install_is_followed_from_download_to_end() -> None:
    assert [(step.phase, step.message, step.done, step.done_bytes) for step in steps(LINES)] == [
        (Phase.DOWNLOADING, "Building pkg==1.0", 0, 0),
        (Phase.DOWNLOADING, "Downloading numpy (17.2MiB)", 0, 0),
        (Phase.DOWNLOADING, "Downloading setuptools (1.2MiB)", 0, 0),
        (Phase.DOWNLOADING, "Downloaded setuptools", 1, 1_258_291),
        (Phase.DOWNLOADING, "Downloaded numpy", 2, 19_258_291),
        (Phase.INSTALLING, "Prepared 3 packages in 1.20s", 2, 18_011_000),
        (Phase.INSTALLING, "Installed 3 packages in 15ms", 3, 18_011_000),
    ]
    # Of a download what is fetched, of an install all that is installed.
    totals = [step.total_bytes for step in steps(LINES)]
    assert totals == [0, 18_000_000, *[19_258_291] * 3, *[18_011_000] * 2]
    assert {step.total for step in steps(LINES)} == {3}


def test_bytes_are_those_that_arrive_within_what_is_fetched() -> None:
    progress = InstallProgress(total=3, sizes=SIZES)
    progress.read("Downloading numpy (17.2MiB)")
    arrived = [progress.received(count) for count in (1_000_000, 1_000_000, 9_000_000, 18_100_000)]
    assert [each and (each.phase, each.message, each.done_bytes) for each in arrived] == [
        (Phase.DOWNLOADING, "Downloading numpy (17.2MiB)", 1_000_000),
        None,
        (Phase.DOWNLOADING, "Downloading numpy (17.2MiB)", 9_000_000),
        # What the connection itself takes is not of the wheel, but small ones may be.
        (Phase.DOWNLOADING, "Downloading numpy (17.2MiB)", 18_100_000),
    ]
    assert progress.read("Prepared 3 packages in 1.20s") is not None
    assert progress.received(20_000_000) is None


def test_what_is_fetched_without_a_word_is_a_download_as_well() -> None:
    progress = InstallProgress(total=1, sizes={"six": 11_000})
    assert progress.received(0) is None
    step = progress.received(5_000)
    assert step is not None
    assert (step.phase, step.done_bytes) == (Phase.DOWNLOADING, 5_000)


@pytest.mark.parametrize(
    ("shown", "size"),
    [("17.2MiB", 18_035_507), ("12KiB", 12_288), ("1.5 GiB", 1_610_612_736), ("7B", 7), ("x", 0)],
)
def test_a_size_as_uv_shows_it(shown: str, size: int) -> None:
    assert bytes_in(shown) == size


def test_the_line_of_an_interpreter_says_how_large_it_is() -> None:
    line = "Downloading cpython-3.12.8-linux-x86_64-gnu (download) (29.1MiB)"
    assert interpreter_size(line) == interpreter_size(line.replace(" (download)", "")) == 30_513_562
    assert interpreter_size("Installed Python 3.12.8 in 3.20s") is None


def test_a_package_that_is_reported_twice_counts_once() -> None:
    told = [" Downloaded numpy", " Downloaded numpy"]
    assert [(step.done, step.done_bytes) for step in steps(told)] == [(1, 18_000_000)] * 2


@pytest.mark.parametrize(
    ("lines", "was_cached", "fetched_bytes"),
    [
        (LINES, False, 18_011_000),
        (["Installed 3 packages in 15ms"], True, 0),
        ([" Downloaded numpy", "Prepared 1 package in 2ms", "Installed 3 packages"], False, 18e6),
        (["Prepared 1 package in 2ms", "Installed 3 packages in 15ms"], False, 0),
    ],
)
def test_what_was_not_cached_is_recognized_by_what_uv_prepared(
    lines: list[str], was_cached: bool, fetched_bytes: float
) -> None:
    progress = InstallProgress(total=3, sizes=SIZES)
    for line in lines:
        progress.read(line)
    assert (progress.was_cached, progress.fetched_bytes) == (was_cached, fetched_bytes)


@pytest.mark.parametrize(
    "line",
    ["", "warning: Downloading is slow", "Downloading", "error: no", " + numpy==1", "\ud800"],
)
def test_what_can_not_be_read_changes_nothing(line: str) -> None:
    assert steps([line]) == []


@given(
    st.lists(
        st.sampled_from(["numpy", "six", "a", "b"]).flatmap(
            lambda name: st.sampled_from(
                [f"Downloading {name} (1.0MiB)", f" Downloaded {name}", f"   Building {name}==1.0"]
            )
        )
        | st.text(max_size=30)
    ),
    st.integers(0, 5),
)
def test_counts_only_grow_and_stay_within_their_totals(said: list[str], total: int) -> None:
    ending = [f"Prepared {total} packages in 1.20s", f"Installed {total} packages in 15ms"]
    seen = steps([*said, *ending], total)
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    fetched = [step.done_bytes for step in seen if step.phase is Phase.DOWNLOADING]
    assert fetched == sorted(fetched)
    assert all(step.done_bytes <= step.total_bytes for step in seen)
    assert all(step.total == total and step.done <= total for step in seen)
    assert (seen[-1].done, seen[-1].done_bytes) == (total, seen[-1].total_bytes)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("DEBUG Identified uncached distribution: torch==2.8.0+cu128", "torch"),
        ("DEBUG Identified uncached distribution: a-b.c @ https://x/y.whl", "a-b.c"),
        ("DEBUG Registry requirement already cached: torch==2.8.0", None),
        ("Would download 3 packages", None),
        ("", None),
    ],
)
def test_a_line_names_what_is_not_in_the_cache(line: str, name: str | None) -> None:
    assert uncached_name(line) == name


# What is advised when there is no solution: one thing, and not what uv advises already.

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
    assert hint.startswith("check name and version")


def test_a_conflict_over_a_host_has_a_way_around_the_host() -> None:
    assert "--inherit none" in (way_out(_CONFLICT, over_host=True) or "")
    assert way_out(_CONFLICT, over_host=False) == "ask for other versions"


def test_where_uv_gives_a_hint_there_is_no_second_one() -> None:
    assert way_out(f"{_CONFLICT}\n\nhint: the network was disabled", over_host=True) is None


def test_an_index_that_fails_is_no_missing_solution() -> None:
    words = "Failed to fetch: http://127.0.0.1:9/simple/wick/"
    assert not has_no_solution(words)
    assert way_out(words, over_host=True) is None
