"""Trees finished by a process of their own and its forks are those that threads finish."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.store.packages.conftest import Unpack
from tests.wheels import build_wheel
from xinference_venv.errors import InstallFailed
from xinference_venv.planning.package import PackageKey, PackageRecord
from xinference_venv.store.packages.finish_trees import Shares, finish_trees, share_out
from xinference_venv.store.packages.package_tree import Installed, MovedTree
from xinference_venv.store.packages.record_file import RecordRow
from xinference_venv.store.packages.tree_files import StagedTree

KEY = PackageKey(name="lamp", version="1.0", digest="a" * 64)


def run(shares: Shares, file: Path) -> list[StagedTree] | None:
    """What the process gives that finishes shares."""
    command = shares.command(file, shares.trees[0].env / "lib" / "python3" / "site-packages")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert done.returncode in (0, 3), done.stderr
    return shares.result(done.returncode, done.stdout)


@pytest.mark.uv
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("keys", [{}, {"lamp": KEY}])
def test_a_process_gives_the_same_trees_as_threads(
    unpack: Unpack, wheels: Path, tmp_path: Path, keys: Mapping[str, PackageKey], apart: bool
) -> None:
    build_wheel(
        wheels,
        "lamp",
        "1.0",
        modules={"lamp/__init__.py": "open(__file__ + '/../../wick/a')\n"},
        entry_points={"lamp": "lamp:main"},
        requires=["wick>=1"],
    )
    build_wheel(wheels, "wick", "1.0")
    moved = unpack.move(*wheels.iterdir(), keys=keys).trees.values()
    shares = Shares(shares=[[each] for each in moved] if apart else [list(moved)])
    assert shares.names == "lamp, wick"
    made = run(shares, tmp_path / "shares.json")
    assert made is not None
    assert by_name(made) == by_name(unpack.split(*wheels.iterdir(), keys=keys).trees.values())
    # They can go into the store as they are.
    records = unpack.store.packages.add(made)
    assert {each.key.name for each in records} == {"lamp", "wick"}


def by_name(trees: Iterable[StagedTree]) -> dict[str, PackageRecord]:
    return {each.record.key.name: each.record for each in trees}


@pytest.mark.uv
def test_what_a_process_refuses_is_raised_as_threads_raise_it(
    unpack: Unpack, wheels: Path, tmp_path: Path
) -> None:
    evil = build_wheel(wheels, "evil", "1.0", modules={"sitecustomize.py": "x = 1\n"})
    good = build_wheel(wheels, "good", "1.0")
    with pytest.raises(InstallFailed) as by_threads:
        finish_trees(unpack.move(evil).trees.values())
    moved = unpack.move(evil, good).trees
    shares = Shares(shares=[[moved["good"]], [moved["evil"]]])
    with pytest.raises(InstallFailed, match="Python would run it at every start") as by_process:
        run(shares, tmp_path / "shares.json")
    assert by_process.value.to_dict() == by_threads.value.to_dict()


@pytest.mark.parametrize(
    ("exit_status", "output"), [(-9, "{}\n"), (1, ""), (0, ""), (3, ""), (0, "{}\n{}\n")]
)
def test_a_process_that_was_ended_gives_nothing(exit_status: int, output: str) -> None:
    assert Shares(shares=[[tree("lamp", 1)]]).result(exit_status, output) is None


@pytest.mark.uv
def test_a_fork_that_is_killed_ends_the_process_as_a_shell_says_it(
    unpack: Unpack, wheels: Path, tmp_path: Path
) -> None:
    wheel_names = ("lamp", "wick")
    moved = unpack.move(*(build_wheel(wheels, name, "1.0") for name in wheel_names)).trees
    shares = Shares(shares=[[moved[name]] for name in wheel_names])
    command = shares.command(tmp_path / "shares.json", moved["lamp"].env / "lib" / "python3")
    killing = command[4].replace("import sys\n", f"import sys\n{_KILL_THE_LAST}", 1)
    done = subprocess.run(
        [*command[:4], killing, *command[5:]], capture_output=True, text=True, check=False, env={}
    )
    assert done.returncode == 128 + signal.SIGKILL, done.stderr
    assert shares.result(done.returncode, done.stdout) is None


_KILL_THE_LAST = """
import os, signal
fork, forks = os.fork, []
def killed():
    forks.append(fork())
    if len(forks) == 2 and forks[1] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return forks[-1]
os.fork = killed
"""


def tree(name: str, files: int, size: int = 0) -> MovedTree:
    site = {f"{name}/{number}.py": RecordRow("", "", size) for number in range(files)}
    installed = Installed(
        name=name,
        version="1",
        metadata=f"{name}-1.dist-info",
        site=site,
        data={},
        elsewhere=(),
        unpacked_ns=0,
    )
    return MovedTree(folder=Path(name), env=Path("env"), key=None, installed=installed)


def names(shares: Shares) -> list[str]:
    return [Shares(shares=[each]).names for each in shares.shares]


def test_little_is_not_shared_out() -> None:
    assert names(share_out([tree("a", 3000), tree("b", 3000)], 8)) == ["a, b"]
    assert share_out([], 8).trees == []


def test_a_share_for_each_processor_is_about_as_large_as_the_others() -> None:
    trees = [tree("a", 20_000), tree("b", 9_000), tree("c", 8_000), tree("d", 2_000)]
    assert names(share_out(trees, 2)) == ["a", "b, c, d"]
    assert names(share_out(trees, 1)) == ["a, b, c, d"]
    assert names(share_out(trees, 64)) == ["a", "b", "c", "d"]


def test_bytes_count_as_far_as_they_are_read() -> None:
    of_many_bytes = [tree("a", 1000, 1024 * 1024), tree("b", 1000, 1024 * 1024)]
    of_large_files = [tree("a", 1000, 2**30), tree("b", 1000, 2**30)]
    assert len(share_out(of_many_bytes, 2).shares) == 2
    assert len(share_out(of_large_files, 2).shares) == 1
