"""How many processors a process may use, by what the kernel says of its control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xinference_venv._util.processors import usable_processors


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control groups of a process that may use 16 processors by its affinity."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16), raising=False)
    folder = tmp_path / "groups"
    folder.mkdir()
    return folder


def count(groups: Path, lines: str) -> int:
    process = groups.parent / "cgroup"
    process.write_text(lines)
    return usable_processors(process, groups)


def limit(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(text)


def test_without_groups_the_affinity_counts(groups: Path) -> None:
    assert count(groups, "") == 16
    assert usable_processors(groups / "gone", groups) == 16


@pytest.mark.parametrize(
    ("quota", "processors"),
    [
        *(("max 100000\n", 16), ("400000 100000\n", 4), ("150000 100000\n", 2)),
        *(("1000 100000\n", 1), ("9900000 100000\n", 16), ("none of it", 16), ("", 16)),
    ],
)
def test_a_quota_of_part_of_a_processor_counts_as_a_whole_one(
    groups: Path, quota: str, processors: int
) -> None:
    limit(groups / "a" / "b", quota)
    assert count(groups, "0::/a/b\n") == processors


def test_the_least_quota_of_all_groups_above_counts(groups: Path) -> None:
    limit(groups / "a", "300000 100000")
    limit(groups / "a" / "b", "500000 100000")
    assert count(groups, "0::/a/b\n") == 3


def test_in_a_container_what_is_mounted_is_its_own_group(groups: Path) -> None:
    limit(groups, "200000 100000")
    assert count(groups, "0::/../other\n") == 2
    assert count(groups, "0::/\n") == 2


def test_the_first_version_of_control_groups_bounds_as_well(groups: Path) -> None:
    folder = groups / "cpu,cpuacct" / "docker" / "x"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("200000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    lines = "5:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n"
    assert count(groups, lines) == 2
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert count(groups, lines) == 16
